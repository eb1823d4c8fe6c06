//! The program as an operator types it: its output is what is written here. `BERTH_BLESS=1` rewrites `help.txt`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

#[path = "../../api/tests/fake/mod.rs"]
mod fake;

#[path = "program/access.rs"]
mod access;
#[path = "program/changes.rs"]
mod changes;
#[path = "program/cp.rs"]
mod cp;
#[path = "program/images.rs"]
mod images;
#[path = "program/repo.rs"]
mod repo;

use berth_ctl::Home;
use berth_units::control::{ImageOrder, JobStatus, Reply, Request};
use berth_units::generation::History;
use fake::Fake;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// An operator's computer.
struct Laptop {
    folder: tempfile::TempDir,
}

struct Output {
    code: i32,
    out: String,
    err: String,
}

impl Laptop {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn home(&self) -> Home {
        Home::at(self.folder.path())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(words).env_clear().env("BERTH_HOME", self.folder.path()).env("USER", "me");
        command
    }

    fn berth(&self, words: &[&str]) -> Output {
        let output = self.command(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Output { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What it prints when all is well.
    fn prints(&self, words: &[&str]) -> String {
        let Output { code, out, err } = self.berth(words);
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
        out
    }
}

/// A laptop with a key and a context for a machine that knows the key.
fn acquainted() -> (Laptop, Fake) {
    let laptop = Laptop::new();
    let fake = Fake::start(&[&laptop.home().ensure_key().unwrap().public_line()]);
    laptop.home().write_context("web1", "127.0.0.1", fake.port, Some(&fake.fingerprint), true).unwrap();
    (laptop, fake)
}

#[test]
fn ps() {
    let (laptop, _fake) = acquainted();
    assert_eq!(
        laptop.prints(&["ps"]),
        "\
NAME    STATE           UP  RESTARTS    MEMORY  ADDRESS    PORTS                              IMAGE                 NOTE
web     healthy  2 h 5 min            12.3 MiB  10.88.0.2  8080:80/tcp 127.0.0.1:8081:80/tcp  example.org/web:1
worker  backoff                    2                                                          example.org/worker:2  exit code 1, restart 3 in 4 s
"
    );
    assert_eq!(
        laptop.prints(&["ps", "--all"]).lines().nth(1).unwrap(),
        "net     healthy      3 min             1.8 MiB                                                berth:system          host network, host users, CAP_NET_ADMIN"
    );
    let list: Vec<serde_json::Value> = serde_json::from_str(&laptop.prints(&["ps", "--json"])).unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["state"], "healthy");
}

#[test]
fn stats() {
    let (laptop, _fake) = acquainted();
    assert_eq!(
        laptop.prints(&["stats"]),
        "\
NAME  CPU %  MEM USAGE / LIMIT     MEM %  NET I/O            BLOCK I/O        PIDS
web   0.00%  11.3 MiB / 64.0 MiB  17.65%  1.0 KiB / 2.0 KiB  4.0 KiB / 512 B     3
"
    );
    assert_eq!(
        laptop.prints(&["stats", "worker"]).lines().nth(1).unwrap().split_whitespace().next(),
        Some("worker")
    );
    let all: serde_json::Value = serde_json::from_str(&laptop.prints(&["stats", "--json"])).unwrap();
    assert_eq!((&all["units"][0]["name"], &all["units"][0]["usage"]["pids"]), (&"web".into(), &3.into()));
    assert_eq!(all["machine"]["load_milli"], serde_json::json!([420, 100, 50]));
    let Output { code, err, .. } = laptop.berth(&["stats", "wbe"]);
    assert_eq!((code, err.as_str()), (2, "berth: there is no unit \"wbe\"; \"berth ps --all\" lists them\n"));
}

#[test]
fn the_machines_certificate() {
    let (laptop, fake) = acquainted();
    let pem = laptop.prints(&["context", "export-cert"]);
    assert_eq!(pem, laptop.prints(&["context", "export-cert", "web1"]));
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.ends_with("-----END CERTIFICATE-----\n"));
    // One that shows another key is not believed.
    laptop
        .home()
        .write_context("web1", "127.0.0.1", fake.port, Some(&format!("sha256:{}", "0".repeat(64))), true)
        .unwrap();
    let Output { code, out, err } = laptop.berth(&["context", "export-cert"]);
    assert!(code == 1 && out.is_empty() && err.contains("IS NOT THE MACHINE IT WAS"), "{err}");
}

#[test]
fn inspect() {
    let (laptop, _fake) = acquainted();
    assert_eq!(
        laptop.prints(&["inspect", "web"]),
        "\
name               web
description        The web server
origin             from the machine config
state              healthy, up 2 h 5 min
restarts           0
required for boot  yes
after              db
requires           -
image              example.org/web:1
digest             sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
command            /bin/web --title \"two words\"
process            77
memory             12.3 MiB
network            bridge
address            10.88.0.2
ports              8080:80/tcp 127.0.0.1:8081:80/tcp
users              its own, from host uid 1114112
privileges         -
cgroup             /sys/fs/cgroup/units/web
exits, newest last
  2026-11-24T08:00:00Z exit code 1
"
    );
}

#[test]
fn the_machine() {
    let (laptop, _fake) = acquainted();
    assert_eq!(
        laptop.prints(&["boot-times"]),
        "\
firmware                                   812 ms
loader                                     304 ms
kernel                                     231 ms
initrd                                     83 ms
first container, since the kernel started  612 ms

STAGE   STEP            AT    TOOK  OUTCOME
initrd  mount root  260 ms   12 ms  done
main    state       330 ms  0.4 ms  no state partition; a temporary one is used
"
    );
    assert_eq!(
        laptop.prints(&["slots"]),
        "\
running slot a by UEFI, found healthy; good slot a
SLOT  STATE   VERSION  ROOT HASH     WHY
a     good    0.1.0    abababababab
b     failed  0.1.1    cdcdcdcdcdcd  stopped in step \"mount root\": block 5120 differs
"
    );
    assert_eq!(
        laptop.prints(&["config", "status"]),
        format!(
            "\
config from nocloud (vdb) REFUSED, no unit of it runs
1 access key of it is valid until a config is applied
instance i-0123 (nocloud)
sha256 {}
notes:
  vendor-data is not applied
looked for, in this order:
  smbios: nothing
  nocloud: user-data on vdb

user-data:7:1: unknown field \"memroy\" in [resources]; did you mean \"memory\"?

asked for again: config from nocloud (vdc) kept; in force from the next boot
",
            "ef".repeat(32)
        )
    );
    assert_eq!(
        laptop.prints(&["config", "reload"]),
        "config from nocloud (vdc) kept; in force from the next boot\n"
    );
    assert_eq!(
        laptop.prints(&["machine"]),
        "\
name        web1
machine id  0123456789abcdef0123456789abcdef
version     0.1.0
kernel      6.12.57+deb13-amd64
up          3 d 3 h
clock       2026-11-24 08:00:00 UTC, set; 2 min ago: off by 0.003 s, slewed; 3 of 4 time servers agree
addresses   10.0.2.15/24 on eth0
memory      59.8 MiB of 128 MiB available, PID 1 uses 1.7 MiB
state       state partition in use
"
    );
    assert_eq!(laptop.prints(&["start", "web"]), "web is healthy\n");
    assert_eq!(laptop.prints(&["reboot"]), "web1 stops its units and reboots\n");
    assert_eq!(laptop.prints(&["poweroff"]), "web1 stops its units and powers off\n");
    assert_eq!(laptop.prints(&["halt"]), "web1 stops its units and halts\n");
    for word in ["reboot", "poweroff", "halt"] {
        let accepted = format!("{{\n  \"accepted\": \"{word}\"\n}}\n");
        assert_eq!(laptop.prints(&[word, "--json"]), accepted);
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(laptop.prints(&["version"]), format!("berth {version}\nweb1 runs Berth {version}, API 1\n"));
    for (words, field) in [
        (&["slots"][..], "running"),
        (&["boot-times"], "steps"),
        (&["machine"], "hostname"),
        (&["version"], "machine"),
        (&["inspect", "web"], "status"),
        (&["config", "status"], "looked"),
        (&["config", "reload"], "report"),
    ] {
        let text = laptop.prints(&[words, &["--json"]].concat());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(value.get(field).is_some(), "{words:?}: {text}");
    }
}

/// What a command prints to a terminal of its own.
fn on_a_terminal(mut command: Command) -> String {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut child = command.stdout(pty.slave).stderr(Stdio::null()).spawn().unwrap();
    // It holds the other end of the terminal.
    drop(command);
    let mut text = Vec::new();
    // A terminal whose other end is closed is an error, not an end.
    let _ = fs::File::from(pty.master).read_to_end(&mut text);
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

#[test]
fn history() {
    let (laptop, _fake) = acquainted();
    assert_eq!(
        laptop.prints(&["history"]),
        "   NO  WHEN                     WHAT    SLOT  VERSION  STATE       WHY
*   4  2026-11-24 08:04:00 UTC  config  a     0.1.0    committed   sent by an operator
    3  2026-11-24 08:03:00 UTC  system  b     0.2.0    reverted    update: its kernel panicked
    2  2026-11-24 08:02:00 UTC  config  a     0.1.0    superseded  found by smbios
"
    );
    let json: History = serde_json::from_str(&laptop.prints(&["history", "--json"])).unwrap();
    assert_eq!(json, fake::history());
}

#[test]
fn colours_are_for_terminals() {
    let (laptop, _fake) = acquainted();
    for words in [&["ps"][..], &["slots"], &["boot-times"], &["config", "status"]] {
        let plain = laptop.prints(words);
        let with = |name: &str, value: &str| {
            let mut command = laptop.command(words);
            command.env("TERM", "xterm").env(name, value);
            on_a_terminal(command)
        };
        let coloured = with("TERM", "xterm");
        assert!(coloured.contains("\x1b[") && !plain.contains('\x1b'), "{words:?}: {coloured:?} {plain:?}");
        assert_eq!(with("NO_COLOR", "1"), plain, "{words:?}");
        assert_eq!(with("TERM", "dumb"), plain, "{words:?}");
    }
    let mut json = laptop.command(&["slots", "--json"]);
    json.env("TERM", "xterm");
    assert!(!on_a_terminal(json).contains('\x1b'));
}

#[test]
fn logs_keep_the_streams_apart() {
    let (laptop, fake) = acquainted();
    fake.log(&["1795507200.000000000 o to out\n", "1795507201.000000000 e to err\n"]);
    let both = laptop.berth(&["logs", "web"]);
    assert_eq!((both.code, both.out.as_str(), both.err.as_str()), (0, "to out\n", "to err\n"));
    assert_eq!(laptop.prints(&["logs", "--tail=0", "web"]), "");
    assert_eq!(laptop.berth(&["logs", "-t", "web"]).out, "2026-11-24T08:00:00.000000000Z to out\n");
    let json = laptop.prints(&["logs", "--json", "web"]);
    assert_eq!(json.lines().count(), 2);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let (laptop, fake) = acquainted();
    let mut child =
        laptop.command(&["logs", "-f", "web"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    fake.log(&["1795507200.000000000 o nobody reads this\n"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), [].as_slice()));
}

#[test]
fn files_are_checked_here() {
    let laptop = Laptop::new();
    let write = |name: &str, text: &str| {
        let path = laptop.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = write("web.toml", "[container]\nimage = \"example.org/web:1\"\n");
    let bad =
        write("bad.toml", "[container]\nimage = \"example.org/web:1\"\n[resources]\nmemroy = \"64M\"\n");
    assert_eq!(laptop.prints(&["unit", "check", &good]), format!("{good}: unit web, no mistakes\n"));
    let output = laptop.berth(&["unit", "check", &good, &bad]);
    assert_eq!((output.code, output.err.as_str()), (1, ""));
    assert!(
        output.out.contains("bad.toml:4:1: ") && output.out.contains("did you mean \"memory\""),
        "{}",
        output.out
    );
    let config =
        write("berth.toml", "format = 1\nhostname = \"web1\"\n[units.web.container]\nimage = \"web:1\"\n");
    assert_eq!(laptop.prints(&["config", "check", &config]), format!("{config}: 1 unit, no mistakes\n"));
    let json = laptop.berth(&["config", "check", "--json", &bad]);
    let list: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &list[0]["ok"]), (1, &serde_json::Value::Bool(false)));
    assert_eq!((&list[0]["format"], &list[0]["keys"]), (&"berth.toml".into(), &serde_json::json!([])));
    assert!(laptop.berth(&["config", "check", "/nonexistent"]).err.contains("/nonexistent"));
}

#[test]
fn what_a_cloud_would_give_is_checked_here() {
    let laptop = Laptop::new();
    let write = |name: &str, text: &[u8]| {
        let path = laptop.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = write("user-data", b"#cloud-config\nhostname: web1\ngrowpart: {mode: auto}\n");
    let output = laptop.berth(&["config", "check", &good]);
    assert_eq!((output.code, output.err.as_str()), (0, ""));
    let expected = format!(
        "PLACE  KEY       VERDICT\n2:1    hostname  applied\n3:1    growpart  no-op    the state partition grows to the disk's end at each boot\n\n\
         {good}: a cloud-config; 1 applied, 1 no-op, 0 refused: a machine takes it\n"
    );
    assert_eq!(output.out, expected);
    let bad = write("bad", b"#cloud-config\npackages: [nginx]\nhostnam: web1\n");
    let output = laptop.berth(&["config", "check", &bad]);
    assert_eq!((output.code, output.err.as_str()), (1, ""));
    let expected = format!(
        "PLACE  KEY       VERDICT\n2:1    packages  refused  there is no package manager; put the software into an image and run it as a unit: berth: {{ units: … }}\n\
         3:1              refused  unknown key \"hostnam\"; did you mean \"hostname\"?\n\n{bad}: a cloud-config; 0 applied, 0 no-op, 2 refused: a machine refuses it, and uses keys, \
         hostname and network as far as they are beyond doubt\n"
    );
    assert_eq!(output.out, expected);
    let json = laptop.berth(&["config", "check", "--json", &bad]);
    let list: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &list[0]["format"], &list[0]["ok"]), (1, &"cloud-config".into(), &false.into()));
    assert_eq!((&list[0]["keys"][0]["verdict"], &list[0]["toml"]), (&"refused".into(), &"".into()));
    // The same document, gzip'd and in base64.
    let packed = write("packed", b"H4sIAAAAAAACA1NOzskvTdFNzs9Ly0znysgvLslLzE21UihPTTLkAgCrgeQMHQAAAA==\n");
    let output = laptop.prints(&["config", "check", &packed]);
    assert!(
        output.ends_with("a cloud-config; 1 applied, 0 no-op, 0 refused: a machine takes it\n"),
        "{output}"
    );
    let network = write("net.yaml", b"version: 2\nethernets: {eth0: {dhcp4: yes}}\n");
    let output = laptop.prints(&["config", "check", &network]);
    assert!(
        output.contains("2:13   ethernets: eth0  applied\n\n") && output.contains(": a network-config; "),
        "{output}"
    );
    let script = write("script", b"#!/bin/sh\n");
    let output = laptop.berth(&["config", "check", &script]);
    assert!(
        output.code == 1 && output.out.starts_with(&format!("{script}: it is a script")),
        "{}",
        output.out
    );
}

#[test]
fn workers_and_mistakes() {
    let laptop = Laptop::new();
    assert_eq!(laptop.berth(&["worker", "dance"]).code, 2);
    assert_eq!(laptop.berth(&["pss"]).code, 2);
    assert!(laptop.berth(&["pss"]).err.contains("'ps'"));
}

#[test]
fn a_health_check_answers_by_its_exit_code() {
    let laptop = Laptop::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp:{}", listener.local_addr().unwrap());
    let of = |target: &str| laptop.berth(&["worker", "probe", target, "--timeout", "5000"]);
    let healthy = of(&target);
    assert_eq!((healthy.code, healthy.out.as_str(), healthy.err.as_str()), (0, "", ""));
    drop(listener);
    let sick = of(&target);
    assert_eq!((sick.code, sick.err), (1, format!("{target}: nobody listens there\n")));
    let mistaken = of("http://web/");
    assert_eq!(mistaken.code, 2);
    assert!(mistaken.err.contains("looks up no names"), "{}", mistaken.err);
}

#[test]
fn exec() {
    let (laptop, fake) = acquainted();
    let mut cat = laptop
        .command(&["exec", "-i", "web", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // More than any buffer on the way holds.
    let text: Vec<u8> = (0..400_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let mut stdin = cat.stdin.take().unwrap();
    let sent = text.clone();
    let typist = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let got = cat.wait_with_output().unwrap();
    typist.join().unwrap();
    assert_eq!((got.status.code(), String::from_utf8_lossy(&got.stderr).as_ref()), (Some(0), ""));
    assert!(got.stdout == text, "{} bytes of {}", got.stdout.len(), text.len());

    let Output { code, out, err } = laptop.berth(&["exec", "web", "false", "--flag", "-x"]);
    assert_eq!((code, out.as_str(), err.as_str()), (3, "", "no\n"));
    let Output { code, out, err } = laptop.berth(&["exec", "web", "/bin/absent"]);
    assert_eq!((code, out.as_str(), err.as_str()), (126, "", "berth: exec: /bin/absent: no such program\n"));
    let Output { code, err, .. } = laptop.berth(&["exec", "wbe", "sh"]);
    assert_eq!((code, err.as_str()), (1, "berth: there is no unit \"wbe\"; did you mean \"web\"?\n"));
    let Output { code, err, .. } = laptop.berth(&["exec", "-e", "PATH", "web", "cat"]);
    assert_eq!((code, err.as_str()), (2, "berth: -e \"PATH\" is not NAME=VALUE\n"));

    // Who goes takes the command along.
    let mut sleep = laptop.command(&["exec", "web", "sleep"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(sleep.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "asleep\n");
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    fake.command_ended();
}

#[test]
fn a_terminal_is_put_back_whatever_ends_exec() {
    let (laptop, fake) = acquainted();
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        let pty = nix::pty::openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let command = &mut laptop.command(&["exec", "-i", "-t", "web", "sleep"]);
        let mut exec = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(fs::File::from(pty.master.try_clone().unwrap())).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "asleep");
        let lines = || {
            let settings = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
            settings.local_flags.contains(nix::sys::termios::LocalFlags::ICANON)
        };
        assert!(!lines(), "what is typed goes to the unit as it is");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(exec.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(signal).unwrap()).unwrap();
        assert_eq!(exec.wait().unwrap().code(), Some(128 + signal));
        assert!(lines(), "signal {signal} left the terminal raw");
        fake.command_ended();
    }
}

#[test]
fn help() {
    let laptop = Laptop::new();
    let mut text = String::new();
    for words in [
        "",
        "ps",
        "logs",
        "exec",
        "stop",
        "start",
        "restart",
        "cp",
        "run",
        "rm",
        "inspect",
        "machine",
        "boot-times",
        "slots",
        "history",
        "rollback",
        "update",
        "update status",
        "update check",
        "update fetch",
        "update apply",
        "update reboot",
        "update cancel",
        "update rollback",
        "config",
        "config status",
        "config show",
        "config reload",
        "config diff",
        "config apply",
        "config confirm",
        "config check",
        "unit",
        "unit check",
        "unit diff",
        "unit apply",
        "unit rm",
        "volume",
        "volume ls",
        "volume inspect",
        "volume rm",
        "support",
        "unit schema",
        "reboot",
        "poweroff",
        "halt",
        "version",
        "key",
        "key new",
        "key show",
        "key export-cert",
        "context",
        "context add",
        "context list",
        "context use",
        "context pin",
        "context remove",
        "disks",
        "install",
        "reset",
        "iso",
        "iso customise",
        "repo",
        "repo init",
        "repo publish",
        "repo sign",
        "repo rotate",
        "repo verify",
    ] {
        let words: Vec<&str> = words.split_whitespace().chain(["--help"]).collect();
        text.push_str(&format!("$ berth {}\n{}\n", words.join(" "), laptop.prints(&words)));
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "a line is too long");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os("BERTH_BLESS").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "tests/help.txt differs; run with BERTH_BLESS=1 and look at the diff");
}
