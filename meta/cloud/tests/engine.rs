//! The engine against a server that does as it is told: one step of a script for each connection. Times are short; nothing
//! passes or fails by how long something takes, except that the deadline ends all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

use berth_cloud::ask;
use berth_cloud::engine::Pace;
use berth_meta::providers::{EC2, GCE, Provider};
use berth_meta::{Found, Outcome};
use berth_units::config;
use berth_units::model::MachineConfig;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC one";
const TOKEN: &str = "/latest/api/token";
const ID: &str = "/latest/meta-data/instance-id";
const KEYS: &str = "/latest/meta-data/public-keys/";
const USER: &str = "/latest/user-data";

/// What one connection gets.
#[derive(Debug, Clone)]
enum Step {
    /// This status and body, as they should be.
    Say(u16, Vec<u8>),
    /// These bytes, then the end.
    Raw(Vec<u8>),
    /// Nothing, as long as the client waits.
    Silence,
    /// A head, and then a byte now and then, for ever.
    Drip,
    /// So many bytes of a body.
    Flood(u64),
}

fn ok(body: &str) -> Step {
    Step::Say(200, body.as_bytes().to_vec())
}

/// A server with a script for each path; the last step of one is repeated. A path without one is not there.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    steps: BTreeMap<String, Vec<Step>>,
    /// `GET /path token`, in order.
    asked: Vec<String>,
    /// What an answer's head has besides.
    head: String,
}

impl Script {
    fn ec2() -> Self {
        let new = Self::default();
        new.on(TOKEN, &[ok("token-1")]).on(ID, &[ok("i-1")])
    }

    fn on(self, path: &str, steps: &[Step]) -> Self {
        self.0.lock().unwrap().steps.insert(path.to_owned(), steps.to_vec());
        self
    }

    fn head(self, line: &str) -> Self {
        self.0.lock().unwrap().head = format!("{line}\r\n");
        self
    }

    fn asked(&self, path: &str) -> Vec<String> {
        let asked = self.0.lock().unwrap().asked.clone();
        asked.into_iter().filter(|line| line.split(' ').nth(1) == Some(path)).collect()
    }

    /// Listens; the address.
    fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let script = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let script = script.clone();
                thread::spawn(move || script.answer(stream));
            }
        });
        address
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
        let token = head.lines().find_map(|line| line.strip_prefix("x-aws-ec2-metadata-token: "));
        let (step, more) = {
            let mut state = self.0.lock().unwrap();
            state.asked.push(format!("{method} {path} {}", token.unwrap_or_default()));
            let head = state.head.clone();
            let step = match state.steps.get_mut(&path) {
                Some(steps) if steps.len() > 1 => steps.remove(0),
                Some(steps) => steps[0].clone(),
                None => Step::Say(404, Vec::new()),
            };
            (step, head)
        };
        let head = |status: u16, length: u64| {
            format!("HTTP/1.1 {status} X\r\n{more}content-length: {length}\r\n\r\n")
        };
        // That the client hangs up is what some of these are about.
        let _ = match step {
            Step::Say(status, body) => stream
                .write_all(head(status, body.len() as u64).as_bytes())
                .and_then(|()| stream.write_all(&body)),
            Step::Raw(bytes) => stream.write_all(&bytes),
            Step::Silence => stream.read_to_end(&mut Vec::new()).map(|_| ()),
            Step::Drip => {
                let mut sent = stream.write_all(head(200, 1000).as_bytes());
                while sent.is_ok() {
                    thread::sleep(Duration::from_millis(20));
                    sent = stream.write_all(b"x");
                }
                sent
            }
            Step::Flood(length) => {
                let mut sent = stream.write_all(head(200, length).as_bytes());
                for _ in 0..length / 65_536 {
                    sent = sent.and_then(|()| stream.write_all(&[b'x'; 65_536]));
                }
                sent
            }
        };
    }
}

fn run(provider: &'static Provider, addresses: &[SocketAddr], deadline: Duration) -> (Outcome, Vec<String>) {
    let pace = Pace {
        connect: Duration::from_millis(500),
        request: Duration::from_millis(300),
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(40),
    };
    let mut said = Vec::new();
    let mut say = |text: &str| said.push(text.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(ask(provider, addresses, pace, deadline, None, &mut say));
    (outcome, said)
}

/// Asks a server of EC2's kind; it has to come to a config.
fn config_of(script: &Script) -> (MachineConfig, Outcome, Vec<String>) {
    let (outcome, said) = run(&EC2, &[script.serve()], Duration::from_secs(30));
    let Found::Config { text, .. } = &outcome.found else { panic!("{outcome:?}") };
    (config::parse("x", text).unwrap(), outcome, said)
}

#[test]
fn an_instance_is_asked_for_all_that_it_has() {
    let script = Script::ec2()
        .on("/latest/meta-data/local-hostname", &[ok("ip-10-0-0-1.ec2.internal")])
        .on(KEYS, &[ok("0=mine\n1=old")])
        .on("/latest/meta-data/public-keys/0/openssh-key", &[ok(KEY)])
        .on("/latest/meta-data/public-keys/1/openssh-key", &[ok("ssh-rsa AAAA old")])
        .on("/latest/meta-data/network/interfaces/macs/", &[ok("02:00:00:00:00:01/")])
        .on(
            "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/local-ipv4s",
            &[ok("10.0.0.1\n10.0.0.7")],
        )
        .on(USER, &[ok("format = 1\n[time]\nservers = []\n")]);
    let (config, outcome, said) = config_of(&script);
    assert_eq!(config.hostname.as_deref(), Some("ip-10-0-0-1"));
    assert_eq!(config.access_keys, [KEY]);
    assert_eq!(config.instance.unwrap().id.as_deref(), Some("i-1"));
    assert_eq!(config.time_servers, Some(vec![]));
    assert_eq!(outcome.notes.len(), 2, "{:?}", outcome.notes);
    assert!(
        outcome.looked[0].contains("instance i-1, user data of 31 bytes, 2 keys"),
        "{:?}",
        outcome.looked
    );
    assert!(said.is_empty(), "{said:?}");
    let token = script.asked(TOKEN);
    assert_eq!(token, [format!("PUT {TOKEN} ")], "one token is enough");
    assert!(script.asked(USER)[0].ends_with("token-1"));
}

#[test]
fn what_fails_for_a_while_is_asked_again() {
    let broken = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_vec();
    for (what, step) in [
        ("it says 404", Step::Say(404, vec![])),
        ("429", Step::Say(429, vec![])),
        ("500", Step::Say(500, vec![])),
        ("503", Step::Say(503, vec![])),
        ("418", Step::Say(418, vec![])),
        ("breaks off", Step::Raw(broken)),
        ("hung up", Step::Raw(vec![])),
        ("no HTTP", Step::Raw(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())),
        ("not answered as a whole", Step::Silence),
        ("not answered as a whole", Step::Drip),
        (
            "go to http://192.0.2.1/; not followed",
            Step::Raw(b"HTTP/1.1 302 X\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ),
    ] {
        let script = Script::ec2().on(ID, &[step.clone(), step, ok("i-2")]);
        let (config, outcome, said) = config_of(&script);
        assert_eq!(config.instance.unwrap().id.as_deref(), Some("i-2"), "{what}");
        let what = what.trim_start_matches("it says ");
        assert!(said.iter().any(|line| line.contains(what)), "{what}: {said:?}");
        assert!(outcome.looked[0].contains("2 times"), "what came before is told: {:?}", outcome.looked);
    }
}

#[test]
fn a_pause_is_what_the_server_asks_for_within_bounds() {
    let late = b"HTTP/1.1 503 X\r\nretry-after: 86400\r\ncontent-length: 0\r\n\r\n".to_vec();
    let script = Script::ec2().on(ID, &[Step::Raw(late), ok("i-1")]);
    assert_eq!(config_of(&script).0.instance.unwrap().id.as_deref(), Some("i-1"));
}

#[test]
fn a_token_that_is_stale_is_replaced() {
    let script = Script::ec2()
        .on(TOKEN, &[ok("token-1"), ok("token-2")])
        .on(USER, &[Step::Say(401, vec![]), ok("format = 1\n")]);
    let (_, outcome, said) = config_of(&script);
    assert!(said.is_empty() && outcome.looked.len() == 1, "no fault of anybody's: {said:?}");
    let asked = script.asked(USER);
    assert!(asked[0].ends_with("token-1") && asked[1].ends_with("token-2"), "{asked:?}");
    // One that is refused as soon as it is given is not asked for without end.
    let script = Script::ec2().on(ID, &[Step::Say(401, vec![])]);
    let (outcome, said) = run(&EC2, &[script.serve()], Duration::from_millis(600));
    assert_eq!(outcome.found, Found::None { cloud: None });
    assert!(said[0].contains("401") && script.asked(TOKEN).len() < 60, "{said:?}");
}

#[test]
fn a_service_that_is_turned_off_is_not_waited_for() {
    let script = Script::default().on(TOKEN, &[Step::Say(403, vec![])]);
    let (outcome, _) = run(&EC2, &[script.serve()], Duration::from_secs(600));
    assert_eq!(outcome.found, Found::None { cloud: None });
    assert!(outcome.looked[1].contains("turned off"), "{:?}", outcome.looked);
}

#[test]
fn who_is_not_there_is_passed_over_and_who_is_answers() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let script = Script::ec2();
    let (outcome, said) = run(&EC2, &[closed, script.serve()], Duration::from_secs(30));
    assert!(
        matches!(&outcome.found, Found::Config { source, .. } if source.starts_with("ec2 (http://127.0.0.1:"))
    );
    assert!(outcome.looked[0].contains("connection refused, once"), "{:?}", outcome.looked);
    assert_eq!(said.len(), 1);
    let (outcome, said) = run(&EC2, &[closed], Duration::from_millis(300));
    assert_eq!(outcome.found, Found::None { cloud: None });
    assert!(
        said[0].contains("Amazon EC2 does not answer yet") && said[0].contains("connection refused"),
        "{said:?}"
    );
    assert!(outcome.looked[1].contains("given up after"), "{:?}", outcome.looked);
}

#[test]
fn the_deadline_ends_all() {
    for step in [Step::Silence, Step::Drip, Step::Say(503, vec![]), Step::Say(404, vec![])] {
        let script = Script::ec2().on(ID, &[step]);
        let (outcome, _) = run(&EC2, &[script.serve()], Duration::from_millis(700));
        assert_eq!(outcome.found, Found::None { cloud: None });
        assert!(!outcome.looked.is_empty());
    }
}

#[test]
fn too_much_is_not_read() {
    let script = Script::ec2()
        .on(KEYS, &[ok("0=mine")])
        .on("/latest/meta-data/public-keys/0/openssh-key", &[ok(KEY)])
        .on(USER, &[Step::Flood(100 << 20)]);
    let (outcome, _) = run(&EC2, &[script.serve()], Duration::from_secs(30));
    let Found::Refused { report, salvage, .. } = outcome.found else { panic!("{outcome:?}") };
    assert!(report.contains("user-data has more than 1572864 bytes"), "{report}");
    assert_eq!(config::parse("x", &salvage).unwrap().access_keys, [KEY], "its keys are valid all the same");
    let script = Script::ec2().on(ID, &[Step::Flood(100 << 20)]);
    let (outcome, _) = run(&EC2, &[script.serve()], Duration::from_secs(30));
    assert!(outcome.looked.iter().any(|line| line.contains("more than 65536 bytes")), "{:?}", outcome.looked);
    let headers = (0..200)
        .fold(String::from("HTTP/1.1 200 OK\r\n"), |text, n| format!("{text}x-{n}: {}\r\n", "y".repeat(500)));
    let script = Script::ec2().on(ID, &[Step::Raw(format!("{headers}\r\n").into_bytes()), ok("i-1")]);
    assert_eq!(config_of(&script).0.instance.unwrap().id.as_deref(), Some("i-1"));
}

#[test]
fn an_instance_that_changes_in_the_middle_is_asked_anew() {
    let script = Script::ec2()
        .on(ID, &[ok("i-old"), ok("i-new")])
        .on(USER, &[ok("format = 1\nhostname = \"old\"\n"), ok("format = 1\nhostname = \"new\"\n")]);
    let (config, ..) = config_of(&script);
    assert_eq!(config.hostname.as_deref(), Some("new"));
    assert_eq!(config.instance.unwrap().id.as_deref(), Some("i-new"));
}

#[test]
fn without_user_data_the_keys_are_a_config_and_a_bad_one_costs_no_key() {
    let with_key = |script: Script| {
        script.on(KEYS, &[ok("0=mine")]).on("/latest/meta-data/public-keys/0/openssh-key", &[ok(KEY)])
    };
    let (config, ..) = config_of(&with_key(Script::ec2()));
    assert_eq!((config.access_keys, config.units.len()), (vec![KEY.to_owned()], 0));
    let script = with_key(Script::ec2()).on(USER, &[ok("#!/bin/sh\necho\n")]);
    let (outcome, _) = run(&EC2, &[script.serve()], Duration::from_secs(30));
    let Found::Refused { report, salvage, .. } = outcome.found else { panic!("{outcome:?}") };
    assert!(report.contains("a script"), "{report}");
    assert_eq!(config::parse("x", &salvage).unwrap().access_keys, [KEY]);
}

#[test]
fn google_is_asked_once_and_known_by_its_header() {
    const ALL: &str = "/computeMetadata/v1/?recursive=true&alt=json";
    let text = format!(
        r#"{{"instance": {{"id": 1, "hostname": "vm-1.internal", "attributes": {{"ssh-keys": "me:{KEY}"}}}}}}"#
    );
    let script = Script::default().head("metadata-flavor: Google").on(ALL, &[ok(&text)]);
    let (outcome, said) = run(&GCE, &[script.serve()], Duration::from_secs(30));
    let Found::Config { text: made, .. } = &outcome.found else { panic!("{outcome:?}") };
    let config = config::parse("x", made).unwrap();
    assert_eq!((config.hostname.as_deref(), config.access_keys.len()), (Some("vm-1"), 1));
    assert!(said.is_empty());
    // Somebody else at the address.
    let script = Script::default().on(ALL, &[ok(&text)]);
    let (outcome, said) = run(&GCE, &[script.serve()], Duration::from_millis(300));
    assert_eq!(outcome.found, Found::None { cloud: None });
    assert!(said[0].contains("is not Google Compute Engine"), "{said:?}");
}
