//! Client and fetcher as the TUF project's conformance suite wants to call them (its `CLIENT-CLI.md`).

use berth_fetch::{Pace, Server};
use berth_tuf::state::Folder;
use berth_tuf::time::{Clock, Time};
use berth_tuf::{Client, Error, names};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

struct Arguments {
    options: HashMap<String, String>,
    targets: Vec<String>,
    words: Vec<String>,
}

impl Arguments {
    fn read() -> Self {
        let mut all = Self { options: HashMap::new(), targets: Vec::new(), words: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some("target-name") => all.targets.extend(words.next()),
                Some(name) => {
                    all.options.insert(name.to_owned(), words.next().unwrap_or_default());
                }
                None => all.words.push(word),
            }
        }
        all
    }

    fn option(&self, name: &str) -> &str {
        self.options.get(name).map(String::as_str).unwrap_or_default()
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(arguments.option("metadata-dir"));
    let anchor = folder.join("trusted-root");
    let command = arguments.words.first().map(String::as_str);
    if command == Some("init") {
        std::fs::copy(arguments.words.get(1).ok_or("no root given")?, &anchor)?;
    }
    let clock = Clock { now: Time::of_system(), built: Time::default() };
    let mut client = Client::open(Folder::open(&folder)?, &std::fs::read(&anchor)?, &clock)?;
    if command == Some("init") {
        return Ok(());
    }
    // The suite names two folders of one repository.
    let metadata = arguments.option("metadata-url").trim_end_matches('/');
    let address = metadata.strip_suffix("/metadata").ok_or("an address that does not end in /metadata")?;
    let mut fetch = Server::new(address, None, berth_units::model::Proxy::default(), Pace::default())?;
    client.refresh(&mut fetch)?;
    for name in &arguments.targets {
        download(&mut client, &mut fetch, name, Path::new(arguments.option("target-dir")))?;
    }
    Ok(())
}

fn download(
    client: &mut Client<Folder>,
    fetch: &mut Server,
    name: &str,
    folder: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let target = client.target(fetch, name)?.ok_or(format!("no target {name}"))?;
    let path = folder.join(names::encode(name));
    if let Ok(content) = std::fs::read(&path) {
        let mut checker = berth_tuf::target::Checker::new(&target.hashes);
        checker.update(&content);
        if checker.finish(Some(target.length), &target.hashes).is_ok() {
            return Ok(());
        }
    }
    let mut content = Vec::new();
    client.open_target(fetch, &target)?.read_to_end(&mut content)?;
    Ok(std::fs::write(path, content)?)
}

fn main() -> ExitCode {
    match run(&Arguments::read()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let kind = if error.downcast_ref::<Error>().is_some() { "refused" } else { "failed" };
            eprintln!("{kind}: {error}");
            ExitCode::FAILURE
        }
    }
}
