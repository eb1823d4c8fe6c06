use super::*;
use berth_units::config;
use berth_units::model::MachineConfig;
use std::path::Path;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC one";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICoSPr3kwfnEQbZvbmqLt/K2VlzByCVC8hrAXDEraZHE two";

fn of(text: &str) -> Translation {
    let translation = translate("user-data", text.as_bytes());
    sound(&translation);
    translation
}

fn taken(text: &str) -> MachineConfig {
    let translation = of(text);
    assert_eq!(translation.problems, [""; 0]);
    config::parse("user-data", translation.toml.as_bytes()).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    of(text).problems
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cloud-config.md");
    let page = page::page();
    if std::env::var_os("BERTH_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/cloud-config.md is not what the code says; run this test once with BERTH_BLESS=1"
    );
}

#[test]
fn a_whole_document_becomes_a_config() {
    let document = format!(
        "#cloud-config\nhostname: node1\ntimezone: Europe/Berlin\nssh_authorized_keys: ['{KEY}']\nusers:\n  - default\n  - name: bob\n    sudo: ALL\n    \
         shell: /bin/bash\n    ssh_authorized_keys:\n      - {OTHER}\n      - {KEY}\nntp: {{servers: [a.lan], pools: [p.lan]}}\nwrite_files:\n- path: /etc/a.conf\n  \
         content: |\n    x = 1\n    y\n- {{path: /etc/b, permissions: 0600, encoding: b64, content: c2VjcmV0}}\nruncmd:\n- echo hi > /x\n- [ls, \"it's\", 5]\n\
         berth:\n  runcmd_image: docker.io/library/debian:13\n  access: {{keys: ['{KEY}']}}\n  units:\n    web:\n      container:\n        image: example.org/web:1\n        \
         mounts: ['etc-a.conf:/etc/a.conf']\n"
    );
    let translation = of(&document);
    assert_eq!(
        translation.toml,
        format!(
            "format = 1\nhostname = \"node1\"\n\n[time]\ntimezone = \"Europe/Berlin\"\nservers = [\"a.lan\", \"p.lan\"]\n\n[access]\nkeys = [\"{KEY}\", \"{OTHER}\", \
             \"{KEY}\"]\n\n[files]\n\"etc-a.conf\" = \"\"\"\nx = 1\ny\n\"\"\"\n\n[secrets]\netc-b = \"secret\"\n\n[units.runcmd.container]\nimage = \
             \"docker.io/library/debian:13\"\ncommand = [\"/bin/sh\", \"-c\", \"\"\"\necho hi > /x\n'ls' 'it'\\\\''s' '5'\n\"\"\"]\n\n[units.runcmd.restart]\npolicy = \
             \"no\"\n\n[units.web.container]\nimage = \"example.org/web:1\"\nmounts = [\"etc-a.conf:/etc/a.conf\"]\n"
        )
    );
    assert_eq!(translation.problems, [""; 0]);
    assert_eq!(
        translation.notes,
        [
            "user-data:6: users: default: no-op: a machine has no users; keys of users are access keys",
            "user-data:8: users: bob: sudo, shell: no-op: a machine has no users and no login",
            "user-data:15: write_files: /etc/a.conf is etc-a.conf in [files]; a unit has it by mounts: [\"etc-a.conf:/etc/a.conf\"]",
            "user-data:19: write_files: /etc/b is etc-b in [secrets]; a unit has it by mounts: [\"etc-b:/etc/b\"]",
            "user-data:20: runcmd: runs as the unit runcmd, at each boot, in the image that runcmd_image names; it changes that container, not the machine",
        ]
    );
}

#[test]
fn hostname_and_fqdn() {
    for (text, name) in [
        ("hostname: a", Some("a")),
        ("hostname: a\nfqdn: a.lan", Some("a")),
        ("fqdn: a.lan", Some("a.lan")),
        ("fqdn: a.lan\nhostname: a\nprefer_fqdn_over_hostname: yes", Some("a.lan")),
        ("hostname: a\nprefer_fqdn_over_hostname: true", Some("a")),
        ("hostname: a\nfqdn: b\npreserve_hostname: true", None),
        ("hostname:", None),
    ] {
        assert_eq!(taken(text).hostname.as_deref(), name, "{text}");
    }
    assert_eq!(
        problems("hostname: no\n"),
        [
            "user-data:1:11: hostname: is a boolean (\"no\" without quotes), expected a text; write it in quotes"
        ]
    );
    assert_eq!(
        problems("x: &x\nhostname: -a-\n")[0],
        "user-data:1:1: unknown key \"x\"; docs/cloud-config.md has all keys"
    );
    let bad = problems("#cloud-config\nhostname: -a-\n");
    assert!(bad[0].starts_with("user-data:2:11: \"-a-\" in hostname "), "{bad:?}");
}

#[test]
fn a_key_that_cannot_be_used_is_named_and_refuses_nothing() {
    let translation = of(&format!(
        "ssh_authorized_keys:\n- ssh-rsa AAAA x\n- {KEY}\n- command=\"x\" {OTHER}\n- restrict {OTHER}\n- ssh-ed25519 AAAA\nusers:\n- name: a\n  ssh-authorized-keys: |\n    {OTHER}\n    \
         {KEY}\n"
    ));
    assert_eq!(translation.problems, [""; 0]);
    assert_eq!(
        translation.notes,
        [
            "user-data:1: ssh_authorized_keys: 1 of 5 keys can be used",
            "user-data:2: ssh_authorized_keys: no-op: this key is of type \"ssh-rsa\", which cannot be used: TLS 1.3 and ssh-agent have no signature in common for it",
            "user-data:4: ssh_authorized_keys: no-op: this key begins with options (\"command=\\\"x\\\"\"), which are not kept; write it without them",
            "user-data:5: ssh_authorized_keys: no-op: this key begins with options (\"restrict\"), which are not kept; write it without them",
            "user-data:6: ssh_authorized_keys: no-op: this key is damaged or cut short",
        ]
    );
    let config = config::parse("x", translation.toml.as_bytes()).unwrap();
    assert_eq!(config.access_keys, [KEY, OTHER]);
}

#[test]
fn what_is_not_done_is_refused_with_what_to_write_instead() {
    let translation = of(&format!(
        "#cloud-config\npackages: [nginx]\nruncmd: [ls]\nhostnam: a\nhostname: kept\nwrite_files:\n- {{path: /a, sourc: 1}}\nssh_authorized_keys: [{KEY}]\npackage_update: false\nusers:\n\
         - {{name: b, passwd: x, ssh_import_id: [gh:b]}}\nberth: {{network: {{dns: [192.0.2.1]}}, units: {{web: {{container: {{image: x, memroy: 1}}}}}}}}\n"
    ));
    assert_eq!(
        translation.problems,
        [
            "user-data:2:1: packages: there is no package manager; put the software into an image and run it as a unit: berth: { units: … }",
            "user-data:3:1: runcmd: there is no shell on the machine; name an image to run the commands in, berth: { runcmd_image: \"docker.io/library/debian:13\" }, or write them as a \
             unit: berth: { units: … }",
            "user-data:4:1: unknown key \"hostnam\"; did you mean \"hostname\"?",
            "user-data:7:14: unknown key \"sourc\" in write_files: /a; did you mean \"source\"?",
            "user-data:11:13: users: b: passwd: there is no login; put an SSH public key into ssh_authorized_keys",
            "user-data:11:24: users: b: ssh_import_id: keys are not fetched from elsewhere; put the key itself into ssh_authorized_keys",
        ]
    );
    // What is beyond doubt is still there.
    let salvage = format!(
        "format = 1\nhostname = \"kept\"\naccess = {{ keys = [\"{KEY}\"] }}\nnetwork = {{ \"dns\" = [\"192.0.2.1\"] }}\n"
    );
    assert_eq!(translation.toml, salvage);
}

#[test]
fn mistakes_in_berth_words_have_their_place_in_the_yaml() {
    let text = "#cloud-config\nberth:\n  units:\n    web:\n      container:\n        image: example.org/web:1\n        memroy: 5\n      network:\n        ports:\n          - \"80:80\"\n          \
                - 22:22\n";
    let told = problems(text);
    assert_eq!(
        told,
        ["user-data:11:13: berth: is a number to base 60 in YAML, expected a text; write it in quotes"]
    );
    let told = problems(&text.replace("- 22:22", "- \"x\""));
    assert!(
        told[0].starts_with("user-data:7:9: unknown field \"memroy\" in [units.web.container]"),
        "{told:?}"
    );
    assert!(told[1].starts_with("user-data:11:13: \"x\" in ports "), "{told:?}");
    assert_eq!(
        problems("berth: {units: }")[0],
        "user-data:1:14: berth: a value is missing here; take the key out, or write its value"
    );
    assert_eq!(
        problems("hostname: a\nberth: {hostname: b}")[0],
        "user-data:2:9: berth: hostname is said already, at 1:11"
    );
}

#[test]
fn files_in_all_encodings() {
    let config = taken(
        "write_files:\n- {path: /a, content: x}\n- {path: /a, content: y, append: true}\n- {path: /b, encoding: gz+b64, content: H4sIAAAAAAACA0vOz8/RLUktLgEAUKKOSAkAAAA=}\n\
         - {path: /c, encoding: base64, content: \"aGk=\\n\"}\n- {path: /d}\n- {path: /e, permissions: '0640', content: s}\n- {path: /x/b, content: z}\n- {path: /x-b, content: w}\n",
    );
    let texts: Vec<(&str, &str)> =
        config.files.iter().map(|(name, text)| (name.as_str(), text.reveal())).collect();
    assert_eq!(
        texts,
        [("a", "xy"), ("b", "cool-test"), ("c", "hi"), ("d", ""), ("x-b", "w"), ("x-b-2", "z")]
    );
    assert_eq!(config.secrets["e"].reveal(), "s");
    for (text, says) in [
        ("{path: a, content: x}", "is not an absolute path"),
        ("{content: x}", "path is missing"),
        ("{path: /a, content: x, append: true}", "nothing to append to"),
        ("{path: /a, content: x, permissions: '0755'}", "cannot be executed"),
        ("{path: /a, content: '%', encoding: b64}", "not the base64"),
        ("{path: /a, content: '%', encoding: gzip}", "gzip by encoding, but"),
        ("{path: /a, content: x, encoding: rot13}", "is not known"),
        ("{path: /a, encoding: rot13}", "is not known"),
        ("{path: /a, encoding: b64, content: /w==}", "not UTF-8"),
        ("{path: /a, content: [x]}", "content is a list"),
        ("{path: /a, content: 1234}", "content is a number, expected a text"),
        ("{path: /a, source: {uri: 'http://x'}}", "files are not fetched"),
    ] {
        let told = problems(&format!("write_files: [{text}]"));
        assert!(told[0].contains(says), "{told:?}");
    }
}

#[test]
fn small_archives_of_large_files_are_bounded() {
    let mut packed = Vec::new();
    let zeros = vec![b'0'; 900_000];
    std::io::Read::read_to_end(
        &mut flate2::read::GzEncoder::new(&zeros[..], flate2::Compression::best()),
        &mut packed,
    )
    .unwrap();
    let packed = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, packed);
    let one = |n: usize| format!("- {{path: /f{n}, encoding: gz+b64, content: {packed}}}\n");
    let told = problems(&format!("write_files:\n{}", (0..200).map(one).collect::<String>()));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("user-data:3:") && told[0].contains("more than 1048576 bytes"), "{told:?}");
}

#[test]
fn certificates_servers_and_names() {
    let pem = "-----BEGIN CERTIFICATE-----\n    MIIB\n    -----END CERTIFICATE-----";
    let config = taken(&format!(
        "ca_certs:\n  trusted:\n  - |\n    {pem}\nmanage_resolv_conf: true\nresolv_conf: {{nameservers: [192.0.2.53]}}\n"
    ));
    assert!(config.registries.ca.unwrap().contains("MIIB"));
    assert_eq!(config.network.dns.len(), 1);
    assert!(taken("ntp:\n").time_servers.is_none());
    assert_eq!(taken("ntp: {enabled: false}").time_servers, Some(Vec::new()));
    assert!(problems("ca_certs: {remove_defaults: true}")[0].contains("part of the system"));
    assert!(of("ca-certs: {remove-defaults: false}").problems.is_empty());
}

#[test]
fn what_is_no_mapping_and_what_is_no_yaml() {
    for (text, says) in [
        ("- a\n", "1:1: the document is a list, expected a mapping"),
        ("a b\n", "1:1: the document is a text"),
        ("hostname: [a\n", "not valid YAML"),
        ("hostname: a\nhostname: b\n", "2:1: \"hostname\" is there twice"),
        ("5: a\n", "a key is a number (\"5\" without quotes); keys are texts"),
        ("users: {a: {b: 1}}\n", "unknown key \"b\" in users: a"),
    ] {
        let told = problems(text);
        assert!(told[0].contains(says), "{told:?}");
    }
    assert!(translate("u", b"hostname: \xe9").problems[0].starts_with("u:1:11: byte 0xe9 is not UTF-8"));
    assert_eq!(of("").toml, "format = 1\n");
    // Which of the two names was meant nobody knows; the keys before a mistake of syntax are whole.
    let half = of(&format!("hostname: a\nssh_authorized_keys:\n- {KEY}\nhostname: b\nx: [\n"));
    assert_eq!(half.toml, format!("format = 1\naccess = {{ keys = [\"{KEY}\"] }}\n"));
}

#[test]
fn the_sample_is_taken_whole() {
    let document = include_str!("../../tests/data/documents/cloud-config.yaml");
    let config = taken(document);
    assert_eq!(
        (config.units.len(), config.access_keys.len(), config.hostname.as_deref()),
        (3, 2, Some("web1.example.org"))
    );
    assert_eq!(config.units[0].container.image, "example.org/other:1");
    // What only some may read is shown to nobody.
    let shown = config::edit::without_secrets(of(document).toml.as_bytes()).unwrap();
    assert!(
        shown.contains("etc-web-key") && shown.contains("listen = 80") && !shown.contains("\"secret\""),
        "{shown}"
    );
    // Lines that end as elsewhere change nothing.
    assert_eq!(of(&document.replace('\n', "\r\n")), of(document));
    assert_eq!(of(&format!("\u{feff}{document}")), of(document));
}
