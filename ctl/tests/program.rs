//! The program as an operator types it: its output is what is written here. `BERTH_BLESS=1` rewrites `help.txt`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

#[path = "../../api/tests/fake/mod.rs"]
mod fake;

#[path = "program/changes.rs"]
mod changes;
#[path = "program/cp.rs"]
mod cp;
#[path = "program/images.rs"]
mod images;

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
config from nocloud (vdb) REFUSED, nothing of it is applied
1 access key of it is valid until a config is applied
sha256 {}
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
fn first_contact_pins_and_a_changed_key_is_refused() {
    let (laptop, fake) = acquainted();
    let port = fake.port;
    laptop.prints(&["context", "pin", "web1"]);
    let first = laptop.berth(&["slots"]);
    assert_eq!(
        (first.code, first.err.as_str()),
        (
            0,
            &*format!(
                "berth: first contact with web1 (127.0.0.1:{port}): its key is pinned now, compare it with its console:\n  {}\n",
                fake.fingerprint
            )
        )
    );
    laptop.prints(&["slots"]);

    let wrong = format!("sha256:{}", "00".repeat(32));
    laptop.prints(&["context", "pin", "web1", &wrong]);
    let refused = laptop.berth(&["slots"]);
    assert_eq!(
        (refused.code, refused.out.as_str(), refused.err.as_str()),
        (
            1,
            "",
            &*format!(
                "\
berth: 127.0.0.1:{port} IS NOT THE MACHINE IT WAS, so it was asked nothing.
  pinned key  {wrong}
  its key now {key}
Either it was installed anew or lost its state, or something answers in its place. Compare with the key on its console; if that is its key now, accept it with:
  berth context pin web1 {key}
",
                key = fake.fingerprint
            )
        )
    );
    let json = laptop.berth(&["slots", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!(error["error"]["kind"], "machine-key");
}

#[test]
fn a_key_that_is_not_known_there() {
    let (laptop, fake) = acquainted();
    fake.authorise(&[]);
    let line = laptop.prints(&["key", "show"]);
    let refused = laptop.berth(&["ps"]);
    assert_eq!(
        (refused.code, refused.err),
        (
            1,
            format!(
                "berth: 127.0.0.1:{} turned this key away ({}). Put its public line into [access] keys of the machine's config:\n  {line}",
                fake.port,
                laptop.folder.path().join("key").display()
            )
        )
    );
}

#[test]
fn keys_and_contexts() {
    let laptop = Laptop::new();
    let none = laptop.berth(&["ps"]);
    assert_eq!(none.code, 1);
    assert!(none.err.starts_with("berth: no machine chosen: use --on CONTEXT"), "{}", none.err);
    assert_eq!(laptop.prints(&["version"]), format!("berth {}\n", env!("CARGO_PKG_VERSION")));

    let made = laptop.berth(&["key", "new"]);
    assert!(made.out.starts_with("ssh-ed25519 AAAA") && made.out.contains(" me@"), "{}", made.out);
    assert_eq!(laptop.prints(&["key", "show"]), made.out);
    assert!(laptop.berth(&["key", "new"]).err.contains("exists already"));

    assert_eq!(laptop.prints(&["context", "add", "web1", "192.0.2.1"]), "context web1 added, and in use\n");
    assert_eq!(laptop.prints(&["context", "add", "web2", "[2001:db8::1]:99"]), "context web2 added\n");
    assert_eq!(laptop.berth(&["context", "add", "web2", "x"]).code, 2);
    assert_eq!(laptop.prints(&["context", "use", "web2"]), "context web2 in use\n");
    assert_eq!(
        laptop.prints(&["context", "list"]),
        "\
NAME  IN USE  ADDRESS           MACHINE KEY
web1          192.0.2.1:7443    pinned by the first connection
web2  yes     [2001:db8::1]:99  pinned by the first connection
"
    );
    assert_eq!(laptop.prints(&["context", "remove", "web2"]), "context web2 removed\n");
    assert!(laptop.berth(&["context", "use", "web"]).err.contains("did you mean \"web1\"?"));
    assert!(laptop.berth(&["--on", "web3", "ps"]).err.contains("there is no context \"web3\""));
}

#[test]
fn another_key_and_curl() {
    let laptop = Laptop::new();
    for name in ["ed25519", "p256"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name);
        let file = laptop.folder.path().join(name);
        fs::write(&file, fs::read(source).unwrap()).unwrap();
        let key = file.display().to_string();
        let exposed = laptop.berth(&["key", "show", "--key", &key]);
        assert!(exposed.err.contains("can be read by others"), "{}", exposed.err);
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let line = laptop.prints(&["key", "show", "--key", &key]);
        let fake = Fake::start(&[&line]);
        laptop.prints(&["context", "add", "m", &format!("127.0.0.1:{}", fake.port), "--replace"]);
        assert_eq!(laptop.berth(&["--key", &key, "ps"]).code, 0);

        let pem = laptop.folder.path().join("pem");
        fs::write(&pem, laptop.prints(&["key", "export-cert", "--key", &key])).unwrap();
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--insecure", "--max-time", "20", "--cert"])
            .arg(&pem)
            .arg(format!("https://127.0.0.1:{}/v1/units/web", fake.port))
            .output()
            .expect("this test needs curl (apt-get install curl)");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let unit: berth_units::control::UnitDetail = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(unit, fake::detail());
    }
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
    assert!(laptop.berth(&["config", "check", "/nonexistent"]).err.contains("/nonexistent"));
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

/// What a build leaves: a root of two blocks, its tree, a UKI that names it.
fn build(folder: &Path, version: &str) {
    fs::create_dir(folder).unwrap();
    let root: Vec<u8> = version.bytes().cycle().take(2 * berth_updater::verity::BLOCK).collect();
    let mut tree = Vec::new();
    let hash = berth_updater::verity::build(&mut &root[..], 2, [7; 16], b"salt", &mut tree).unwrap();
    let hash = berth_updater::verity::to_hex(&hash);
    fs::write(folder.join("root.erofs"), root).unwrap();
    fs::write(folder.join("root.verity"), tree).unwrap();
    fs::write(folder.join("berth.efi"), format!("MZ roothash={hash}")).unwrap();
    let facts = serde_json::json!({
        "product": "berth", "version": version, "architecture": "x86-64", "built": 1, "root_hash": hash,
    });
    fs::write(folder.join("release.json"), facts.to_string()).unwrap();
}

/// A folder behind a web server, for as long as the test's process lives; its address.
fn serve(folder: &Path) -> String {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let path = head[0].split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
            let (status, body) = match fs::read(folder.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

#[test]
fn a_repository_is_made_fed_and_read() {
    let laptop = Laptop::new();
    let path = |name: &str| laptop.folder.path().join(name).display().to_string();
    let (repo, keys, build_1, build_2) = (path("repo"), path("keys"), path("build-1"), path("build-2"));
    build(Path::new(&build_1), "0.1.0");
    build(Path::new(&build_2), "0.2.0");
    let said = laptop.prints(&["repo", "init", &repo, "--keys", &keys]);
    let made = format!("repository {repo} made; its keys are in {keys}\n");
    assert_eq!(said, made + "published: targets 1, releases 1, snapshot 1, root 1, timestamp 1\n");
    let said = laptop.prints(&["repo", "publish", &repo, &build_1, "--keys", &keys]);
    assert_eq!(
        said,
        "berth 0.1.0 for x86-64, channel stable\npublished: releases 2, snapshot 2, timestamp 2\n"
    );
    let said = laptop.prints(&["repo", "publish", &repo, &build_2, "--keys", &keys, "--channel", "beta"]);
    assert!(said.starts_with("berth 0.2.0 for x86-64, channel beta\n"), "{said}");
    // Only what lies on a server.
    let online = format!("{keys}/online.key");
    let said = laptop.prints(&["repo", "sign", &repo, "--keys", &online]);
    assert_eq!(said, "published: snapshot 4, timestamp 4\n");
    let said = laptop.prints(&["repo", "verify", &repo]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("ROLE       VERSION  VALID UNTIL"), "{said}");
    assert!(lines[1].starts_with("root             1  ") && lines[1].contains("  2 of 3     "), "{said}");
    let last = ["x86-64/beta: 0.2.0", "x86-64/stable: 0.1.0", "sound: 8 targets, every byte of them"];
    assert_eq!(lines[6..], last);
    let shown = laptop.prints(&["repo", "verify", &repo, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let old = shown["roles"][4]["keys"][0].as_str().unwrap()[..8].to_owned();
    // One holder of a root key begins, another ends it.
    let (new, root_1, root_2) = (path("new.key"), format!("{keys}/root-1.key"), format!("{keys}/root-2.key"));
    let rotate = ["repo", "rotate", &repo, "--old", &old, "--new", &new, "--keys", &root_1];
    let said = laptop.prints(&rotate);
    let begun = format!("({new}) replaces {old}\ntargets: 1 of 2 signatures\nthis is not published yet");
    assert!(said.contains(&begun), "{said}");
    let said = laptop.prints(&["repo", "sign", &repo, "--keys", &root_2, "--keys", &online]);
    assert_eq!(said, "published: targets 2, releases 4, snapshot 5, timestamp 5\n");
    laptop.prints(&["repo", "verify", &repo]);
    // Through a web server, as machines read it, and from a root that they were given.
    let server = serve(Path::new(&repo));
    let root = format!("{repo}/metadata/1.root.json");
    let said = laptop.prints(&["repo", "verify", &server, "--root", &root]);
    assert!(said.ends_with("x86-64/stable: 0.1.0\nsound: 8 targets, every byte of them\n"), "{said}");
    let bare = laptop.berth(&["repo", "verify", &server]);
    assert_eq!(
        (bare.code, bare.err.as_str()),
        (2, "berth: --root is needed: the root that machines trust\n")
    );
    let nowhere = laptop.berth(&["repo", "verify", &format!("{server}nowhere"), "--root", &root]);
    assert_eq!((nowhere.code, nowhere.err.as_str()), (1, "berth: timestamp.json: not there\n"));
    // Not twice, not with a key that others can read, and not what is no release.
    let again = laptop.berth(&["repo", "init", &repo, "--keys", &path("keys-2")]);
    let refusal = format!("berth: {repo}/metadata exists already; nothing was changed\n");
    assert_eq!((again.code, again.err), (1, refusal));
    let other = path("x.key");
    let unknown = ["repo", "rotate", &repo, "--old", "00000000", "--new", &other, "--keys", &keys];
    let unknown = laptop.berth(&unknown);
    assert!(unknown.code == 1 && unknown.err.contains("is not the beginning"), "{}", unknown.err);
    assert!(!Path::new(&other).exists());
    let none = laptop.berth(&["repo", "publish", &repo, &keys, "--keys", &root_1]);
    assert!(none.code == 1 && none.err.contains("release.json: No such file"), "{}", none.err);
    fs::set_permissions(&online, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let exposed = laptop.berth(&["repo", "sign", &repo, "--keys", &online]);
    let refusal =
        format!("berth: key {online} can be read by others (mode 644); run \"chmod 600 {online}\"\n");
    assert_eq!((exposed.code, exposed.err), (1, refusal));
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
