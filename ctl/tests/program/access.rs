//! Keys, contexts, and machines that are not who they were.

use super::*;

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
