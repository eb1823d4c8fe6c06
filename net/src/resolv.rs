//! The machine's `resolv.conf`, bound into containers on its own network, and the one of containers on the bridge.
//!
//! A bind mount holds on to the file, not to its name, so the file is never replaced: it has one size, and one write
//! changes all of it. Who reads while it is written sees the old or the new text of a page in memory.

use crate::limits;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file and what is in it.
#[derive(Debug)]
pub struct Resolv {
    path: PathBuf,
    written: Option<String>,
}

impl Resolv {
    /// Nothing written yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), written: None }
    }

    /// Makes it name `servers` (the first few, each once) and search `domains`, in this order.
    pub fn set<'a>(
        &mut self,
        servers: &[IpAddr],
        domains: impl IntoIterator<Item = &'a str>,
    ) -> io::Result<()> {
        let text = render(servers, domains);
        if self.written.as_ref() == Some(&text) {
            return Ok(());
        }
        let write = || {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            let padded = format!("{text:\n<width$}", width = limits::RESOLV_BYTES);
            file.write_all_at(padded.as_bytes(), 0)
        };
        write().map_err(|error| {
            io::Error::new(error.kind(), format!("{} not written: {error}", self.path.display()))
        })?;
        self.written = Some(text);
        Ok(())
    }
}

/// The time servers, an address a line, for the unit `time`, which reads them anew each time: beside, then in place.
pub fn write_time_servers(path: &Path, servers: &[IpAddr]) -> io::Result<()> {
    let text: String = servers.iter().map(|server| format!("{server}\n")).collect();
    let beside = path.with_extension("new");
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&beside, text)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o644))?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| io::Error::new(error.kind(), format!("{} not written: {error}", path.display())))
}

/// Of domains that others named, those that are searched: each once, and no more than C libraries read.
pub fn searched(domains: impl IntoIterator<Item = String>) -> Vec<String> {
    let (mut searched, mut characters) = (Vec::new(), 0);
    for domain in domains {
        let fits =
            characters + domain.len() < limits::SEARCH_CHARACTERS && searched.len() < limits::SEARCH_DOMAINS;
        if fits && !searched.contains(&domain) {
            characters += domain.len() + 1;
            searched.push(domain);
        }
    }
    searched
}

fn render<'a>(servers: &[IpAddr], domains: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::from("# Written by Berth's network agent.\n");
    let mut seen: Vec<IpAddr> = Vec::new();
    for server in servers {
        if !seen.contains(server) && seen.len() < limits::NAME_SERVERS {
            seen.push(*server);
            text += &format!("nameserver {server}\n");
        }
    }
    let domains: Vec<&str> = domains.into_iter().collect();
    if !domains.is_empty() {
        text += &format!("search {}\n", domains.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn each_server_once_and_no_more_than_are_read() {
        let ip = |n: u8| IpAddr::from([10, 0, 2, n]);
        let text = render(&[ip(3), ip(3), ip(4), ip(5), ip(6)], Some("lan"));
        assert_eq!(
            text,
            "# Written by Berth's network agent.\nnameserver 10.0.2.3\nnameserver 10.0.2.4\nnameserver 10.0.2.5\nsearch lan\n"
        );
        let longest = render(
            &["fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(); 1],
            Some("x".repeat(253).as_str()),
        );
        assert!(longest.len() + 2 * 60 < limits::RESOLV_BYTES);
    }

    #[test]
    fn domains_are_searched_as_far_as_libraries_read() {
        let of = |domains: &[&str]| searched(domains.iter().map(|domain| (*domain).to_owned()));
        assert_eq!(of(&["a", "b", "a"]), ["a", "b"]);
        assert_eq!(of(&["1", "2", "3", "4", "5", "6", "7"]).len(), 6);
        let long = "x".repeat(200);
        assert_eq!(of(&[&long, &"y".repeat(60), "short"]), [long.as_str(), "short"]);
        let all = searched((0..9).map(|n| format!("{n}").repeat(40)));
        let servers = ["fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(); 1];
        let text = render(&servers, all.iter().map(String::as_str));
        assert!(text.len() + 2 * 60 < limits::RESOLV_BYTES);
    }

    #[test]
    fn who_has_it_open_sees_it_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net/resolv.conf");
        let mut resolv = Resolv::new(&path);
        resolv.set(&[IpAddr::from([10, 0, 2, 3])], Some("a.very.long.domain.example")).unwrap();
        let open = fs::File::open(&path).unwrap();
        resolv.set(&[IpAddr::from([192, 0, 2, 1])], None).unwrap();
        let mut text = String::new();
        (&open).read_to_string(&mut text).unwrap();
        assert_eq!(text.trim_end(), "# Written by Berth's network agent.\nnameserver 192.0.2.1");
        assert_eq!(text.len(), limits::RESOLV_BYTES);
    }
}
