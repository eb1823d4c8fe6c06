//! `berth worker probe TARGET [--timeout MS]`: one look at a unit, from inside it. PID 1 starts it in the unit's own
//! namespaces with no rights at all; it says by its exit code whether the unit is healthy (0) or not (1), and in the
//! latter case on standard error why, in one sentence. What the unit answers is read up to a bound and never shown raw.

use berth_units::limits::PROBE_BYTES;
use berth_units::probe::Target;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Without `--timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The rest of an answer is waited for this long once the verdict is known: closing with unread bytes resets the
/// connection, which some servers log as an error, every few seconds for ever.
const DRAIN: Duration = Duration::from_millis(50);
/// Characters of an answer that are shown.
const SHOWN: usize = 60;
const HEALTHY: std::ops::RangeInclusive<u16> = 200..=399;

pub(super) fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    let (target, timeout) = match arguments(words) {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::from(2);
        }
    };
    match look(&target, timeout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(words: impl Iterator<Item = OsString>) -> Result<(Target, Duration), String> {
    const USAGE: &str = "usage: berth worker probe http://HOST:PORT/PATH|tcp:HOST:PORT [--timeout MS]";
    let (mut target, mut timeout) = (None, TIMEOUT);
    let mut words = words.map(|word| word.into_string().map_err(|_| USAGE.to_owned()));
    while let Some(word) = words.next().transpose()? {
        if word == "--timeout" {
            let millis = words.next().transpose()?.and_then(|ms| ms.parse().ok()).filter(|ms| *ms > 0);
            timeout = Duration::from_millis(millis.ok_or(USAGE)?);
        } else if target.is_none() && !word.starts_with('-') {
            target = Some(Target::parse(&word)?);
        } else {
            return Err(USAGE.to_owned());
        }
    }
    Ok((target.ok_or(USAGE)?, timeout))
}

/// Why it is not healthy.
fn look(target: &Target, timeout: Duration) -> Result<(), String> {
    let end = Instant::now() + timeout;
    let late = |what: &str| format!("{target} {what} within {} ms", timeout.as_millis());
    let mut stream = connect(target, end).map_err(|error| match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => late("took no connection"),
        ErrorKind::ConnectionRefused => format!("{target}: nobody listens there"),
        _ => format!("{target}: {error}"),
    })?;
    let Target::Http { host, port, path } = target else { return Ok(()) };
    let status =
        ask(&mut stream, &format!("{host}:{port}"), path, end).map_err(|error| match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => late("gave no answer"),
            ErrorKind::UnexpectedEof => format!("{target} closed the connection without an answer"),
            ErrorKind::InvalidData => format!("{target} does not answer in HTTP but with {error}"),
            _ => format!("{target}: {error}"),
        })?;
    if HEALTHY.contains(&status.0) { Ok(()) } else { Err(format!("{target} answered {}", status.1)) }
}

/// The first address that takes a connection, or the first one's error.
fn connect(target: &Target, end: Instant) -> io::Result<TcpStream> {
    let mut first = None;
    for address in target.addresses() {
        match left(end).and_then(|left| TcpStream::connect_timeout(&address, left)) {
            Ok(stream) => return Ok(stream),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or(ErrorKind::TimedOut.into()))
}

/// Time left; the kernel takes no zero.
fn left(end: Instant) -> io::Result<Duration> {
    end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()).ok_or(ErrorKind::TimedOut.into())
}

/// Sends the request and returns the status, and the words that came with it.
fn ask(stream: &mut TcpStream, host: &str, path: &str, end: Instant) -> io::Result<(u16, String)> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: berth-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.set_write_timeout(Some(left(end)?))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::with_capacity(PROBE_BYTES);
    while !answer.contains(&b'\n') && answer.len() < PROBE_BYTES {
        if !read_some(stream, &mut answer, left(end)?)? {
            break;
        }
    }
    if answer.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let line = answer.split(|b| *b == b'\n').next().unwrap_or_default();
    let words = shown(line);
    let status = status(line).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("{words:?}")))?;
    let drained = Instant::now() + DRAIN;
    while answer.len() < PROBE_BYTES
        && left(drained).is_ok_and(|left| read_some(stream, &mut answer, left).unwrap_or(false))
    {}
    // From the status on.
    Ok((status, words.split_once(' ').map_or(words.clone(), |(_, rest)| rest.to_owned())))
}

/// Reads what there is, up to the bound; false at the end.
fn read_some(stream: &mut TcpStream, answer: &mut Vec<u8>, limit: Duration) -> io::Result<bool> {
    stream.set_read_timeout(Some(limit))?;
    let mut part = [0; PROBE_BYTES];
    let room = PROBE_BYTES - answer.len();
    loop {
        match stream.read(&mut part[..room]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(count) => {
                answer.extend_from_slice(&part[..count]);
                return Ok(count > 0);
            }
        }
    }
}

/// `HTTP/1.1 200 OK` (RFC 9112, 4).
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [b'0'..=b'9', b' ', code @ ..] = rest else { return None };
    let (code, after) = code.split_at_checked(3)?;
    let digits = code.iter().all(u8::is_ascii_digit) && after.first().is_none_or(|b| b" \r".contains(b));
    std::str::from_utf8(code).ok().filter(|_| digits)?.parse().ok()
}

/// Without what a terminal or a log might take for something else.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end().chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// What is said of a server that answers so.
    fn verdict(answer: &'static [u8], timeout: u64) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap() == 0 {
                    break;
                }
                request.push(byte[0]);
            }
            stream.write_all(answer).unwrap();
            if answer.is_empty() || answer.contains(&b'\n') {
                return (String::from_utf8(request).unwrap(), None);
            }
            (String::from_utf8(request).unwrap(), Some(stream))
        });
        let target = Target::parse(&format!("http://localhost:{port}/health?full")).unwrap();
        let verdict = look(&target, Duration::from_millis(timeout));
        let (request, _open) = server.join().unwrap();
        (verdict.map_err(|e| e.replace(&port.to_string(), "PORT")), request)
    }

    #[test]
    fn two_and_three_hundred_are_healthy() {
        let (verdict_, request) = verdict(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 20_000);
        verdict_.unwrap();
        let mut lines = request.lines();
        assert_eq!(lines.next().unwrap(), "GET /health?full HTTP/1.1");
        assert!(lines.next().unwrap().starts_with("Host: localhost:"));
        for good in
            [&b"HTTP/1.0 204 No Content\n\n"[..], b"HTTP/1.1 302 Found\r\n\r\n", b"HTTP/1.1 399\r\n\r\n"]
        {
            verdict(good, 20_000).0.unwrap();
        }
    }

    #[test]
    fn what_is_not_healthy_is_said_in_one_sentence() {
        let of = |answer| verdict(answer, 20_000).0.unwrap_err();
        let place = "http://localhost:PORT/health?full";
        assert_eq!(of(b"HTTP/1.1 503 Not \x1b[31mYet\r\n\r\n"), format!("{place} answered 503 Not ?[31mYet"));
        assert_eq!(of(b"HTTP/1.1 404\r\n\r\n"), format!("{place} answered 404"));
        assert_eq!(of(b"HTTP/1.1 199 Odd\r\n\r\n"), format!("{place} answered 199 Odd"));
        assert_eq!(of(b""), format!("{place} closed the connection without an answer"));
        assert_eq!(of(b"SSH-2.0-x\r\n"), format!("{place} does not answer in HTTP but with \"SSH-2.0-x\""));
        for bad in [&b"HTTP/1.1 2000 OK\r\n"[..], b"HTTP/2 200\r\n", b"HTTP/1.1 20\r\n", b"HTTP/1.1  200\r\n"]
        {
            assert!(of(bad).contains("does not answer in HTTP"), "{bad:?}");
        }
        assert!(of(&[b'x'; 9000]).contains("does not answer in HTTP"), "it stops at its bound");
        assert_eq!(
            verdict(b"HTTP/1.1 200 ", 100).0.unwrap_err(),
            format!("{place} gave no answer within 100 ms")
        );
    }

    #[test]
    fn a_port_is_open_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::parse(&format!("tcp:{}", listener.local_addr().unwrap())).unwrap();
        look(&target, TIMEOUT).unwrap();
        drop(listener);
        assert_eq!(look(&target, TIMEOUT).unwrap_err(), format!("{target}: nobody listens there"));
    }

    #[test]
    fn arguments_are_checked() {
        let of = |words: &[&str]| arguments(words.iter().map(OsString::from));
        let (target, timeout) = of(&["tcp:localhost:80", "--timeout", "250"]).unwrap();
        assert_eq!((target.to_string().as_str(), timeout.as_millis()), ("tcp:localhost:80", 250));
        assert_eq!(of(&["--timeout", "9", "http://[::1]/"]).unwrap().1.as_millis(), 9);
        for bad in [
            &[][..],
            &["tcp:localhost:80", "--timeout"],
            &["tcp:localhost:80", "--timeout", "0"],
            &["tcp:localhost:80", "--timeout", "1s"],
            &["tcp:localhost:80", "tcp:localhost:81"],
            &["-x"],
        ] {
            assert!(of(bad).unwrap_err().starts_with("usage: "), "{bad:?}");
        }
        assert!(of(&["http://web/"]).unwrap_err().contains("looks up no names"));
    }
}
