//! A web server for a folder, on loopback only, for demonstrations and tests: GET, ranges that go to the end, nothing else.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of a request's head.
const HEAD_BYTES: u64 = 16 * 1024;
/// How long a client may say nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Files {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Files {
    /// Serves a folder at a port that is free.
    pub fn serve(folder: &Path) -> Result<Files> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for a web server")?;
        let port = listener.local_addr()?.port();
        let ended = Arc::new(AtomicBool::new(false));
        let (end, folder) = (ended.clone(), folder.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let folder = folder.clone();
                std::thread::spawn(move || answer(&stream, &folder));
            }
        });
        Ok(Files { port, ended })
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address as a guest on QEMU's user network sees it.
    pub fn address_for_guest(&self) -> String {
        format!("http://10.0.2.2:{}", self.port)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes it; it is gone when the port answers no more.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// One request, one answer. What goes wrong ends the connection, and the client sees that.
fn answer(stream: &TcpStream, folder: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut head = BufReader::new(stream).take(HEAD_BYTES);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let mut from = 0;
    loop {
        let mut field = String::new();
        if head.read_line(&mut field)? == 0 || field.trim().is_empty() {
            break;
        }
        let range = field.to_ascii_lowercase();
        if let Some(start) = range.strip_prefix("range: bytes=").and_then(|r| r.trim().strip_suffix('-')) {
            from = start.parse().unwrap_or(0);
        }
    }
    let path = line.strip_prefix("GET ").and_then(|rest| rest.split(' ').next());
    let file = path.and_then(|path| below(folder, path)).and_then(|path| File::open(path).ok());
    let mut out = stream;
    let Some(mut file) = file.filter(|file| file.metadata().is_ok_and(|about| about.is_file())) else {
        return write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let bytes = file.metadata()?.len();
    let from = if from < bytes { from } else { 0 };
    file.seek(SeekFrom::Start(from))?;
    let (status, range) = match from {
        0 => ("200 OK", String::new()),
        _ => ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{bytes}\r\n", bytes - 1)),
    };
    write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{range}Connection: close\r\n\r\n", bytes - from)?;
    io::copy(&mut file, &mut out).map(drop)
}

/// The file that a request's path means, never one outside the folder.
fn below(folder: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| folder.join(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "this is how a test fails")]

    use super::*;

    fn ask(files: &Files, request: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, files.port())).unwrap();
        write!(stream, "{request}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_file_whole_in_part_and_none_outside() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/file"), "0123456789").unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        let files = Files::serve(&folder.path().join("in")).unwrap();
        assert!(ask(&files, "GET /file HTTP/1.1").ends_with("\r\n\r\n0123456789"));
        let part = ask(&files, "GET /file HTTP/1.1\r\nRange: bytes=7-");
        assert!(part.starts_with("HTTP/1.1 206") && part.contains("bytes 7-9/10") && part.ends_with("\n789"));
        for outside in ["/../secret", "/none", "/", "/in/../../secret"] {
            assert!(ask(&files, &format!("GET {outside} HTTP/1.1")).starts_with("HTTP/1.1 404"), "{outside}");
        }
    }
}
