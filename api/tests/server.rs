//! The server against a pretended PID 1, asked by curl: what anybody's TLS and HTTP see.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod fake;

use berth_api::identity::Identity;
use berth_api::keys::public_line;
use berth_units::control::{Reply, Request};
use fake::{Fake, PATIENCE};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output};

/// An operator with a certificate and a key that curl can read.
struct Operator {
    folder: tempfile::TempDir,
    line: String,
}

impl Operator {
    fn new() -> Self {
        let identity = Identity::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cert"), identity.certificate("me").unwrap()).unwrap();
        fs::write(folder.path().join("key"), identity.pkcs8()).unwrap();
        Self { folder, line: public_line(&identity.spki(), "me@laptop").unwrap() }
    }

    fn curl(&self, fake: &Fake, path: &str, more: &[&str]) -> Answer {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let (cert, key) = (file("cert"), file("key"));
        let mut all = vec!["--cert-type", "DER", "--cert", &cert, "--key-type", "DER", "--key", &key];
        all.extend(more);
        curl(fake, path, &all)
    }
}

/// What curl says.
struct Answer {
    code: Option<i32>,
    status: String,
    version: String,
    body: String,
    errors: String,
}

fn curl(fake: &Fake, path: &str, more: &[&str]) -> Answer {
    let Output { status, stdout, stderr } = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--max-time", "20"])
        .args(["--write-out", "\n%{http_code} %{http_version}"])
        .args(more)
        .arg(format!("https://127.0.0.1:{}{path}", fake.port))
        .env("HOME", "/nonexistent")
        .output()
        .expect("these tests need curl (apt-get install curl)");
    let text = String::from_utf8(stdout).unwrap();
    let (body, end) = text.rsplit_once('\n').unwrap_or(("", &text));
    let (code, version) = end.split_once(' ').unwrap_or(("", ""));
    Answer {
        code: status.code(),
        status: code.to_owned(),
        version: version.to_owned(),
        body: body.to_owned(),
        errors: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

#[test]
fn curl_reads_units_over_http_2_and_1() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    for (option, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let answer = me.curl(&fake, "/v1/units", &[option]);
        assert_eq!((answer.status.as_str(), answer.version.as_str()), ("200", version), "{}", answer.errors);
        let units: Vec<berth_units::control::UnitStatus> = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(units, fake::units());
    }
}

#[test]
fn curl_reads_metrics() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    let answer = me.curl(&fake, "/metrics", &["--include"]);
    assert_eq!(answer.status, "200", "{}", answer.errors);
    let has = |text: &str| assert!(answer.body.contains(text), "{text}\n{}", answer.body);
    has("content-type: text/plain; version=0.0.4; charset=utf-8");
    has("\nberth_unit_cpu_seconds_total{unit=\"web\",service=\"web\",mode=\"user\"} 0.000600\n");
    has(
        "\nberth_unit_pressure_waiting_seconds_total{unit=\"web\",service=\"web\",resource=\"memory\"} 2.500000\n",
    );
    has("\nberth_unit_network_receive_bytes_total{unit=\"web\",service=\"web\"} 1024\n");
    has("\nberth_unit_oom_kills_total{unit=\"worker\",service=\"worker\"} 1\n");
    has("\nberth_slot_state{slot=\"b\",state=\"failed\"} 1\n");
    has("\nberth_build_info{version=\"0.1.0\",kernel=\"6.12.57+deb13-amd64\",firmware=\"uefi\"} 1\n");
    let stats = me.curl(&fake, "/v1/stats", &[]);
    let stats: berth_api::stats::Stats = serde_json::from_str(&stats.body).unwrap();
    assert_eq!(stats.machine.uptime_s, Some(270_000));
    assert_eq!(stats.units.iter().filter(|unit| unit.usage.is_some()).count(), 1);
}

#[test]
fn curl_can_pin_the_machine() {
    use base64::Engine as _;
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    let hex = fake.fingerprint.strip_prefix("sha256:").unwrap();
    let bytes: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    let pin = format!("sha256//{}", base64::engine::general_purpose::STANDARD.encode(bytes));
    assert_eq!(me.curl(&fake, "/v1/slots", &["--pinnedpubkey", &pin]).status, "200");
    let other = format!("sha256//{}", base64::engine::general_purpose::STANDARD.encode([0; 32]));
    let answer = me.curl(&fake, "/v1/slots", &["--pinnedpubkey", &other]);
    assert_eq!(answer.code, Some(90), "{}", answer.errors);
}

#[test]
fn without_an_authorised_key_there_is_nothing() {
    let (me, other) = (Operator::new(), Operator::new());
    let fake = Fake::start(&[&me.line]);
    let unknown = other.curl(&fake, "/v1/units", &[]);
    assert_eq!((unknown.status.as_str(), unknown.body.as_str()), ("000", ""));
    assert!(unknown.errors.contains("access denied"), "{}", unknown.errors);
    let none = curl(&fake, "/v1/units", &[]);
    assert_eq!((none.status.as_str(), none.body.as_str()), ("000", ""));
    assert!(none.errors.contains("certificate required"), "{}", none.errors);
    assert_eq!(fake.asked(), Vec::<String>::new());
    // Nobody at all: it still listens, and says so.
    let text = fake.authorise(&[]);
    assert!(text.contains("no key is authorised"), "{text}");
    assert_eq!(me.curl(&fake, "/v1/units", &[]).status, "000");
    fake.authorise(&[&other.line]);
    assert_eq!(other.curl(&fake, "/v1/units", &[]).status, "200");
}

#[test]
fn tls_1_2_and_plain_http_are_refused() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    let old = me.curl(&fake, "/v1/units", &["--tls-max", "1.2"]);
    assert_eq!(old.status, "000");
    assert!(old.errors.contains("alert"), "{}", old.errors);
    let mut plain = TcpStream::connect(("127.0.0.1", fake.port)).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET /v1/units HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut got = Vec::new();
    let _ = plain.read_to_end(&mut got);
    assert!(!String::from_utf8_lossy(&got).contains("HTTP"), "{got:?}");
}

#[test]
fn errors_are_json_with_a_fitting_status() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    fake.reply(&Request::Slots, Reply::Error { kind: "failed".into(), message: "no record".into() });
    fake.reply(&Request::BootTimes, Reply::Done);
    for (path, more, status, kind, word) in [
        ("/v1/units/wbe", &[][..], "404", "not-found", "did you mean"),
        ("/v1/units/W%20", &[], "400", "bad-request", "not a unit's name"),
        ("/v1/nothing", &[], "404", "not-found", "GET /v1/units"),
        ("/v1/units", &["--request", "DELETE"], "405", "bad-request", "asked by GET"),
        ("/v1/reboot", &[], "405", "bad-request", "asked by POST"),
        ("/v1/units?all=1", &[], "400", "bad-request", "no parameters"),
        ("/v1/units/web/logs?tail=x", &[], "400", "bad-request", "a number of lines"),
        ("/v1/slots", &[], "500", "failed", "no record"),
        ("/v1/boot-times", &[], "500", "failed", "another question"),
        (
            "/v1/reboot",
            &["--request", "POST", "--header", "Origin: https://evil.example"],
            "403",
            "denied",
            "web pages",
        ),
    ] {
        let answer = me.curl(&fake, path, more);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["error"]["kind"], kind, "{path}");
        assert!(body["error"]["message"].as_str().unwrap().contains(word), "{path}: {}", answer.body);
    }
    assert!(!fake.asked().contains(&"Reboot".to_owned()));
}

#[test]
fn units_are_stopped_and_started() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    for word in ["stop", "start", "restart"] {
        let answer = me.curl(&fake, &format!("/v1/units/web/{word}"), &["--data", ""]);
        assert_eq!(answer.body.trim(), format!("{{\"accepted\":\"{word} web\"}}"));
        let asked = fake.asked().last().unwrap().to_lowercase();
        assert!(asked.contains("\"web\"") && asked.contains(word), "{asked}");
    }
    let answer =
        me.curl(&fake, "/v1/units/web/stop", &["--data", "", "--header", "Origin: https://elsewhere"]);
    assert_eq!(answer.status, "403");
}

#[test]
fn orders_reach_pid_1() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    for (word, asked) in
        [("reboot", "Reboot"), ("poweroff", "Poweroff"), ("halt", "Halt"), ("config reload", "ConfigReload")]
    {
        let path = format!("/v1/{}", word.replace(' ', "/"));
        let answer = me.curl(&fake, &path, &["--data", ""]);
        assert_eq!(
            (answer.status.as_str(), answer.body.trim()),
            ("202", &*format!("{{\"accepted\":\"{word}\"}}"))
        );
        assert_eq!(fake.asked().last().unwrap(), asked);
    }
}

#[test]
fn whoever_asks_for_the_end_gets_an_answer_first() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    fake.stop_at(&Request::Halt);
    let answer = me.curl(&fake, "/v1/halt", &["--data", ""]);
    assert_eq!((answer.status.as_str(), answer.body.trim()), ("202", "{\"accepted\":\"halt\"}"));
    fake.ended();
}

#[test]
fn too_much_is_refused() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    let long = format!("X-Long: {}", "x".repeat(40_000));
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: y")).collect();
    let many: Vec<&str> = many.iter().flat_map(|h| ["--header", h.as_str()]).collect();
    for version in ["--http1.1", "--http2"] {
        let answer = me.curl(&fake, "/v1/units", &[version, "--header", &long]);
        assert!(answer.status == "431" || answer.status == "000", "{version}: {}", answer.status);
        let path = format!("/v1/units/{}", "x".repeat(40_000));
        let answer = me.curl(&fake, &path, &[version]);
        assert_ne!(answer.status, "200", "{version}");
    }
    assert_eq!(me.curl(&fake, "/v1/units", &[&["--http1.1"], many.as_slice()].concat()).status, "431");
    let body = me.folder.path().join("body");
    fs::write(&body, vec![b'x'; 1 << 20]).unwrap();
    let data = format!("@{}", body.display());
    let answer = me.curl(&fake, "/v1/reboot", &["--header", "Expect:", "--data-binary", &data]);
    assert!(answer.status == "413" || answer.status == "000", "{}", answer.status);
    assert_eq!(fake.asked(), Vec::<String>::new());
    assert_eq!(me.curl(&fake, "/v1/units", &[]).status, "200");
}

#[test]
fn those_who_stall_do_not_keep_out_those_who_know() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    let silent: Vec<TcpStream> = (0..berth_api::limits::HANDSHAKES + 8)
        .map(|_| TcpStream::connect(("127.0.0.1", fake.port)).unwrap())
        .collect();
    assert_eq!(me.curl(&fake, "/v1/units", &[]).status, "200");
    // The oldest has been dropped: its end is read at once, long before its deadline.
    let mut oldest = &silent[0];
    oldest.set_read_timeout(Some(berth_api::limits::HANDSHAKE / 2)).unwrap();
    let ended = oldest.read(&mut [0; 1]);
    assert!(matches!(ended, Ok(0)) || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
}

#[test]
fn logs_as_text_and_as_json() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    fake.log(&["1795507200.000000001 o one\n", "1795507201.500000000 e two\n"]);
    fake.rotate();
    fake.log(&["1795507202.000000000 o three\n", "1795507203.000000000 o unfinished"]);
    let text = me.curl(&fake, "/v1/units/web/logs", &[]).body;
    assert_eq!(
        text,
        "2026-11-24T08:00:00.000000001Z out one\n\
         2026-11-24T08:00:01.500000000Z err two\n\
         2026-11-24T08:00:02.000000000Z out three\n\
         2026-11-24T08:00:03.000000000Z out unfinished\n"
    );
    let json =
        me.curl(&fake, "/v1/units/web/logs?tail=2", &["--header", "Accept: application/x-ndjson"]).body;
    assert_eq!(
        json,
        "{\"time\":\"2026-11-24T08:00:01.500000000Z\",\"stream\":\"err\",\"text\":\"two\"}\n\
         {\"time\":\"2026-11-24T08:00:02.000000000Z\",\"stream\":\"out\",\"text\":\"three\"}\n\
         {\"time\":\"2026-11-24T08:00:03.000000000Z\",\"stream\":\"out\",\"text\":\"unfinished\"}\n"
    );
}

#[test]
fn unusable_keys_are_named() {
    let me = Operator::new();
    let fake = Fake::start(&[]);
    let text = fake.authorise(&["ssh-rsa AAAAB3NzaC1yc2E= me@old", &me.line]);
    assert!(text.contains("1 key authorised; key 1 (me@old): ssh-rsa keys cannot be used"), "{text}");
}

#[test]
fn the_machine_keeps_its_key_and_ends_with_pid_1() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    let key: PathBuf = fake.folder.path().join("data/machine-key");
    let spki = Identity::from_pkcs8(&fs::read(key).unwrap()).unwrap().spki();
    assert_eq!(spki.fingerprint(), fake.fingerprint);
    let why = fake.hang_up();
    assert!(why.contains("connection to PID 1"), "{why}");
}

#[test]
fn an_archive_is_passed_on_as_it_comes() {
    let me = Operator::new();
    let fake = Fake::start(&[&me.line]);
    let archive: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).collect();
    let file = me.folder.path().join("archive");
    fs::write(&file, &archive).unwrap();
    let upload = format!("@{}", file.display());
    for version in ["--http1.1", "--http2"] {
        let answer = me.curl(&fake, "/v1/images/load", &[version, "--data-binary", &upload]);
        assert_eq!((answer.status.as_str(), answer.body.trim()), ("202", r#"{"accepted":"load","job":7}"#));
        assert!(fake.archive() == archive, "it came as something else");
    }
    let answer = me.curl(&fake, "/v1/images/load", &["--data", "", "--header", "Origin: https://elsewhere"]);
    assert_eq!(answer.status, "403");
}
