//! The client library against the real API server and a pretended PID 1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

#[path = "../../api/tests/fake/mod.rs"]
mod fake;

use berth_api::logs::Stream;
use berth_ctl::{Client, ClientError, Home, LogOptions, PrivateKey};
use berth_units::control::{Reply, Request};
use fake::Fake;
use std::net::TcpListener;

struct Operator {
    _folder: tempfile::TempDir,
    key: PrivateKey,
}

impl Operator {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = Home::at(folder.path()).ensure_key().unwrap();
        Self { _folder: folder, key }
    }

    fn client(&self, fake: &Fake) -> Client {
        Client::new("web1", "127.0.0.1", fake.port, Some(&fake.fingerprint), &self.key).unwrap()
    }
}

fn known() -> (Operator, Fake, Client) {
    let me = Operator::new();
    let fake = Fake::start(&[&me.key.public_line()]);
    let client = me.client(&fake);
    (me, fake, client)
}

#[test]
fn every_answer_has_its_type() {
    let (_me, fake, client) = known();
    assert_eq!(client.units().unwrap(), fake::units());
    assert_eq!(client.unit("web").unwrap(), fake::detail());
    assert_eq!(client.boot_times().unwrap(), fake::boot_times());
    assert_eq!(client.slots().unwrap(), fake::slots());
    assert_eq!(client.config_status().unwrap(), fake::config());
    assert_eq!(client.machine().unwrap(), fake::machine());
    assert_eq!(client.version().unwrap().hostname, "web1");
    assert_eq!(client.reboot().unwrap().accepted, "reboot");
    assert_eq!(client.poweroff().unwrap().accepted, "poweroff");
    assert_eq!(client.machine_key(), Some(fake.fingerprint.clone()));
}

#[test]
fn openssh_p256_keys_work_too() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys/p256");
    let key = PrivateKey::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
    let fake = Fake::start(&[&key.public_line()]);
    let client = Client::new("web1", "127.0.0.1", fake.port, None, &key).unwrap();
    assert_eq!(client.units().unwrap().len(), 3);
}

#[test]
fn refusals_come_through() {
    let (_me, fake, client) = known();
    fake.reply(&Request::Slots, Reply::Error { kind: "busy".into(), message: "later".into() });
    match client.slots().unwrap_err() {
        ClientError::Refused { status: 503, kind, message } => {
            assert_eq!((&*kind, &*message), ("busy", "later"))
        }
        other => panic!("{other}"),
    }
    assert_eq!(
        client.unit("wbe").unwrap_err().to_string(),
        "there is no unit \"wbe\"; did you mean \"web\"?"
    );
    assert!(client.unit("../slots").unwrap_err().to_string().contains("not a unit's name"));
}

#[test]
fn a_key_that_is_not_authorised_is_told_so() {
    let (me, fake) = (Operator::new(), Fake::start(&[]));
    let client = me.client(&fake);
    for _ in 0..20 {
        match client.units().unwrap_err() {
            ClientError::KeyRefused { line, .. } => assert_eq!(line, me.key.public_line()),
            other => panic!("{other}"),
        }
    }
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[test]
fn a_machine_with_another_key_is_asked_nothing() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.key.public_line()]);
    let pinned = format!("sha256:{}", "00".repeat(32));
    let client = Client::new("web1", "127.0.0.1", fake.port, Some(&pinned), &me.key).unwrap();
    let error = client.reboot().unwrap_err();
    let text = error.to_string();
    for word in [&*pinned, &*fake.fingerprint, "IS NOT THE MACHINE IT WAS", "berth context pin web1 sha256:"]
    {
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(error.kind(), "machine-key");
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[test]
fn what_is_not_there_or_not_berth() {
    let me = Operator::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    });
    let client = Client::new("x", "127.0.0.1", port, None, &me.key).unwrap();
    assert_eq!(client.units().unwrap_err().kind(), "not-berth");
    other.join().unwrap();
    let error = client.units().unwrap_err();
    assert_eq!(error.kind(), "unreachable", "{error}");
    assert!(error.to_string().contains("onnection refused"), "{error}");
}

fn line(text: &str) -> String {
    format!("1795507200.000000000 o {text}\n")
}

#[test]
fn a_followed_log_goes_on_over_rotations() {
    let (_me, fake, client) = known();
    fake.log(&[&line("one"), &line("two")]);
    let mut logs = client.logs("web", LogOptions { follow: true, until_end: false, tail: Some(1) }).unwrap();
    let mut next = || logs.next().unwrap().unwrap();
    assert_eq!(next().text, "two");
    fake.log(&[&line("three")]);
    assert_eq!(next().text, "three");
    // A line in two writes.
    fake.log(&["1795507200.000000000 e fo"]);
    fake.log(&["ur\n"]);
    let four = next();
    assert_eq!((four.text.as_str(), four.stream), ("four", Stream::Err));
    // Fill the segment, so that the reader looks for the next one at its end.
    let filler = line(&"x".repeat(8_000));
    for _ in 0..32 {
        fake.log(&[&filler]);
    }
    fake.log(&[&line("last of the old")]);
    fake.rotate();
    fake.log(&[&line("first of the new")]);
    for _ in 0..32 {
        assert_eq!(next().text.len(), 8_000);
    }
    assert_eq!(next().text, "last of the old");
    assert_eq!(next().text, "first of the new");
}

#[test]
fn a_reader_that_is_too_slow_is_told_what_it_missed() {
    let (_me, fake, client) = known();
    fake.log(&[&line("one")]);
    let mut logs = client.logs("web", LogOptions { follow: true, until_end: false, tail: None }).unwrap();
    assert_eq!(logs.next().unwrap().unwrap().text, "one");
    // Rotated three times between two looks, without being full.
    for n in 0..3 {
        fake.rotate();
        fake.log(&[&line(&format!("gen {n}"))]);
    }
    let gap = logs.next().unwrap().unwrap();
    assert_eq!(gap.stream, Stream::Berth);
    assert!(gap.text.contains("lines are missing here"), "{}", gap.text);
    assert_eq!(logs.next().unwrap().unwrap().text, "gen 1");
    assert_eq!(logs.next().unwrap().unwrap().text, "gen 2");
}

#[test]
fn a_key_that_is_taken_away_loses_its_connections() {
    let (_me, fake, client) = known();
    fake.log(&[&line("one")]);
    let mut logs = client.logs("web", LogOptions { follow: true, until_end: false, tail: None }).unwrap();
    assert_eq!(logs.next().unwrap().unwrap().text, "one");
    fake.authorise(&[]);
    match logs.next() {
        Some(Err(ClientError::Broken { .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_ends_with_its_unit() {
    let (_me, fake, client) = known();
    fake.log(&[&line("one")]);
    let mut logs = client.logs("web", LogOptions { follow: true, until_end: false, tail: None }).unwrap();
    assert_eq!(logs.next().unwrap().unwrap().text, "one");
    let gone = Reply::Error { kind: "not-found".into(), message: "there is no unit \"web\"".into() };
    fake.reply(&Request::Logs { unit: "web".into() }, gone);
    assert_eq!(logs.next().unwrap().unwrap().text, "the log ends: there is no unit \"web\"");
    assert!(logs.next().is_none());
}
