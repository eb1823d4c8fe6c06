//! The client as the TUF project's conformance suite wants to call it (its `CLIENT-CLI.md`). Plain HTTP to a server on
//! this machine, with no care for anything else: it is a test's.

use berth_tuf::fetch::{Fetch, FetchError};
use berth_tuf::state::Folder;
use berth_tuf::time::{Clock, Time};
use berth_tuf::{Client, Error, names};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

struct Http {
    metadata: String,
    targets: String,
}

fn get(base: &str, path: &str) -> Result<Box<dyn Read>, FetchError> {
    let failed = |error: std::io::Error| FetchError::Failed(error.to_string());
    let rest = base.trim_end_matches('/').strip_prefix("http://");
    let (host, folder) = rest.and_then(|rest| rest.split_once('/')).ok_or(FetchError::Missing)?;
    let mut stream = std::net::TcpStream::connect(host).map_err(failed)?;
    write!(stream, "GET /{folder}/{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").map_err(failed)?;
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status).map_err(failed)?;
    let mut length = u64::MAX;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).map_err(failed)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(u64::MAX);
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    match status.split(' ').nth(1) {
        Some("200") => Ok(Box::new(reader.take(length))),
        Some("403" | "404") => Err(FetchError::Missing),
        _ => Err(FetchError::Failed(status)),
    }
}

impl Fetch for Http {
    fn metadata(&mut self, file: &str, _: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        get(&self.metadata, file)
    }

    fn target(&mut self, path: &str, _: u64, _: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        get(&self.targets, path)
    }
}

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
    let mut fetch = Http {
        metadata: arguments.option("metadata-url").to_owned(),
        targets: arguments.option("target-base-url").to_owned(),
    };
    client.refresh(&mut fetch)?;
    for name in &arguments.targets {
        download(&mut client, &mut fetch, name, Path::new(arguments.option("target-dir")))?;
    }
    Ok(())
}

fn download(
    client: &mut Client<Folder>,
    fetch: &mut Http,
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
