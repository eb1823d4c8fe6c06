use super::table::{Field, Section};
use super::*;
use crate::config;
use crate::limits;
use crate::model::MachineConfig;
use proptest::prelude::*;
use std::path::PathBuf;
use toml::de::DeValue;

/// A machine's system units, as far as the checks of configs are concerned.
fn system_units() -> Vec<Unit> {
    let image: &[u8] = b"[container]\nimage = \"berth:system\"\ncommand = [\"/usr/lib/berth/berth\"]\n";
    parse_system_units([("net.toml", image), ("api.toml", image)]).unwrap()
}

fn complaint(file: &str, text: &[u8]) -> String {
    let report = if file.ends_with("berth.toml") {
        config::check(file, text, &system_units()).map(|_| ())
    } else {
        parse_unit(file, file.trim_end_matches(".toml"), text, Origin::Config).map(|_| ())
    };
    report.map_or_else(|report| report.to_string(), |()| "no complaint\n".to_owned())
}

fn mistakes() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

/// `tests/mistakes/NAME.toml` is answered by `NAME.txt`.
#[test]
fn what_is_said_about_mistakes() {
    assert!(mistakes().len() >= 12);
    for file in mistakes() {
        let name = file.file_name().unwrap().to_str().unwrap();
        let said = complaint(name, &std::fs::read(&file).unwrap());
        let expected = format!("units/tests/mistakes/{}.txt", name.trim_end_matches(".toml"));
        crate::bless::check(&expected, &said);
    }
}

/// What is no TOML file at all, or an odd one.
#[test]
fn odd_files() {
    let valid = b"[container]\nimage = \"example.org/web:1\"\n";
    for (text, said) in [
        (
            vec![b'#'; 10_000_000],
            "web.toml: has 10000000 bytes; at most 1048576 (1 MiB) are read. Put large content into the image\n",
        ),
        (
            b"\x7fELF\x02\x01\x01\0\0\0".to_vec(),
            "web.toml: is a program, not a TOML file; a TOML file is UTF-8 text\n",
        ),
        (
            b"\x1f\x8b\x08\0".to_vec(),
            "web.toml: is a gzip file, not a TOML file; a TOML file is UTF-8 text\n",
        ),
        (
            b"\xff\xfe[\0c\0".to_vec(),
            "web.toml: is UTF-16 text, not a TOML file; a TOML file is UTF-8 text\n",
        ),
        (
            b"[container]\nimage = \"\xe9\"\n".to_vec(),
            "web.toml:2:10: byte 0xe9 is not UTF-8; a TOML file is UTF-8 text\n  2 | image = \"\n    |          ^\n",
        ),
        (
            b"[container]\nimage = \"a\0b\"\n".to_vec(),
            "web.toml:2:11: NUL byte; a TOML file is text\n  2 | image = \"a\u{fffd}b\"\n    |           ^\n",
        ),
        (
            b"\x93\x01\x02\x80".to_vec(),
            "web.toml:1:1: byte 0x93 is not UTF-8; a TOML file is UTF-8 text\n  1 | \n    | ^\n",
        ),
        (Vec::new(), "web.toml: [container] needs image, for example image = \"example.org/web:1\"\n"),
        ([b"\xef\xbb\xbf".as_slice(), valid].concat(), "no complaint\n"),
        (b"[container]\r\nimage = \"example.org/web:1\"\r\n".to_vec(), "no complaint\n"),
        (
            b"[container]\r\nimage = \"x\"\r\nuser = 5\r\n".to_vec(),
            "web.toml:3:8: user is an integer, expected a user such as \"1000:1000\" or \"www-data\"; write it in quotes\n  \
             3 | user = 5\n    |        ^\n",
        ),
        (
            b"[container]\rimage = \"x\"".to_vec(),
            "web.toml:1:13: not valid TOML: carriage return must be followed by newline, expected newline\n  \
             1 | [container]\u{fffd}image = \"x\"\n    |             ^\n",
        ),
    ] {
        assert_eq!(complaint("web.toml", &text), said);
    }
}

#[test]
fn unit_names() {
    let said = |name: &str| parse_unit("f", name, b"container.image = \"x\"", Origin::Config).map(|_| ());
    for name in ["a", "web", "web-1", "0", &"x".repeat(63)] {
        assert!(said(name).is_ok(), "{name}");
    }
    for name in ["", "Web", "-a", "a-", "a.b", "../a", "a/b", "ü", "berth", &"x".repeat(64)] {
        assert!(said(name).is_err(), "{name}");
    }
    assert_eq!(said("Web").unwrap_err().to_string(), "f: unit name \"Web\" may only have a–z, 0–9 and -\n");
}

#[test]
fn sizes_and_times() {
    assert_eq!(values::size("64M"), Ok(64 << 20));
    assert_eq!(values::size("4096"), Ok(4096));
    for bad in ["", "M", "1.5M", "-1", "64MB", "64 M", "18446744073709551616", "99999999T", "6M4"] {
        assert!(values::size(bad).is_err(), "{bad}");
    }
    assert_eq!(values::time("1m30s").map(|time| time.as_secs()), Ok(90));
    assert_eq!(values::time("250ms").map(|time| time.as_millis()), Ok(250));
    for bad in ["", "5", "s", "1.5s", "-1s", "1 s", "366d", "18446744073709551615s", "1m30"] {
        assert!(values::time(bad).is_err(), "{bad}");
    }
    for shown in ["0ms", "500ms", "90s", "2m", "1h", "3d", "1500ms"] {
        assert_eq!(values::show_time(values::time(shown).unwrap()), shown);
    }
}

#[test]
fn volumes_signals_and_cpus() {
    let good = values::volume("data:/var/lib/data:ro").unwrap();
    assert_eq!((good.name.as_str(), good.target.as_str(), good.read_only), ("data", "/var/lib/data", true));
    for bad in
        ["data", "data:", "/srv:/data", "../x:/data", "Data:/x", "data:x", "data:/", "data:/x:rx", "a:b:c:d"]
    {
        assert!(values::volume(bad).is_err(), "{bad}");
    }
    for (form, good, bad) in [
        (&values::SIGNAL, "SIGINT", "SIGWRONG"),
        (&values::CPUSET, "0-3,6", "3-0"),
        (&values::CPUSET, "0", "0,"),
        (&values::CAPABILITIES_OR_DEFAULT, "default", "CAP_CHOWN"),
    ] {
        assert!((form.check)(good).is_ok() && (form.check)(bad).is_err(), "{good} {bad}");
    }
}

#[test]
fn the_page_in_docs_is_made_from_the_tables() {
    crate::bless::check("docs/units.md", &reference::page());
}

/// Every block of TOML in the page is a file that is accepted.
#[test]
fn examples_in_the_page_are_valid() {
    let page = reference::page();
    let mut seen = 0;
    for block in page.split("```toml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        let name = text.lines().next().unwrap().trim_start_matches("# ");
        if name != "berth.toml" {
            let unit =
                parse_unit(name, name.trim_end_matches(".toml"), text.as_bytes(), Origin::Config).unwrap();
            assert_eq!(unit.name, name.trim_end_matches(".toml"));
        } else {
            config::check(name, text.as_bytes(), &system_units()).unwrap();
        }
        seen += 1;
    }
    assert_eq!(seen, 4);
}

/// A file with one field set to `value`, and what else a file needs.
fn unit_with(section: &str, field: &str, value: &str) -> String {
    let image = if field == "image" { "" } else { "container.image = \"example.org/web:1\"\n" };
    let dot = if section.is_empty() { "" } else { "." };
    format!("{image}{section}{dot}{field} = {value}\n")
}

fn config_with(section: &str, field: &str, value: &str) -> String {
    let format = if field == "format" { "" } else { "format = 1\n" };
    let dot = if section.is_empty() { "" } else { "." };
    format!("{format}{section}{dot}{field} = {value}\n")
}

/// Each field's example is accepted and changes something, its default changes nothing, a date is not what is
/// expected: so what the page says of a field is true.
fn fields_are_as_described<T: PartialEq + std::fmt::Debug>(
    sections: &[Section<T>],
    with: fn(&str, &str, &str) -> String,
    read: impl Fn(&str) -> Result<T, Report>,
) {
    let plain = |section: &str, field: &Field<T>| {
        if field.required { None } else { Some(read(&with(field.name, "@", section)).unwrap()) }
    };
    for section in sections {
        for field in section.fields {
            let name = format!("[{}] {}", section.name, field.name);
            let by_example = read(&with(section.name, field.name, field.example))
                .unwrap_or_else(|e| panic!("{name}\n{e}"));
            if let Some(plain) = plain(section.name, field) {
                let alike = field.default.trim_matches('`') == field.example || matches!(field.name, "dhcp");
                assert_eq!(plain == by_example, alike, "{name}: does the example change anything?");
                if let Some(default) = field.default.strip_prefix('`').and_then(|text| text.strip_suffix('`'))
                {
                    let by_default = read(&with(section.name, field.name, default))
                        .unwrap_or_else(|e| panic!("{name}\n{e}"));
                    assert_eq!(plain, by_default, "{name}: default");
                }
            }
            let date = read(&with(section.name, field.name, "1979-05-27")).unwrap_err().to_string();
            let expected = field.set.expected();
            assert!(date.contains(" is a date, expected") && date.contains(&expected), "{name}: {date}");
            assert!(!field.doc.is_empty() && (field.required || !field.default.is_empty()), "{name}");
        }
    }
}

#[test]
fn unit_fields_are_as_described() {
    fields_are_as_described(
        fields::UNIT_FILE,
        |section, field, value| {
            // For "@" they stand elsewhere.
            let (of, named) = if field == "@" { (value, section) } else { (section, field) };
            let beside = match (of, named) {
                ("ready", "timeout") => "ready.port = 80\n",
                ("container", "pid") => "container.privileged = true\n",
                ("health", "interval" | "timeout" | "retries" | "start_period" | "on_failure") => {
                    "health.tcp = \"localhost:80\"\n"
                }
                _ => "",
            };
            let set = if field == "@" {
                unit_with("container", "read_only", "false")
            } else {
                unit_with(section, field, value)
            };
            format!("{set}{beside}")
        },
        |text| parse_unit("web.toml", "web", text.as_bytes(), Origin::System),
    );
}

#[test]
fn config_fields_are_as_described() {
    fields_are_as_described(
        config::CONFIG_FILE,
        |section, field, value| {
            if field == "@" { "format = 1\n".into() } else { config_with(section, field, value) }
        },
        |text| config::parse("berth.toml", text.as_bytes()),
    );
    const INTERFACES: &[Section<crate::model::Interface>] =
        &[Section { name: "interface", doc: "", fields: config::INTERFACE, later: &[], system: false }];
    fields_are_as_described(
        INTERFACES,
        |section, field, value| {
            let address = if [section, field].iter().any(|named| matches!(*named, "gateway" | "routes")) {
                "address = \"192.0.2.9/24\"\n"
            } else {
                ""
            };
            let set = if field == "@" { String::new() } else { format!("{field} = {value}\n") };
            let of = if field == "match" { "" } else { "match = \"eth9\"\n" };
            format!("format = 1\n[[network.interface]]\n{of}{address}{set}")
        },
        |text| {
            config::parse("berth.toml", text.as_bytes()).map(|config| config.network.interfaces[0].clone())
        },
    );
    const ROUTES: &[Section<crate::model::StaticRoute>] =
        &[Section { name: "routes", doc: "", fields: config::ROUTE, later: &[], system: false }];
    fields_are_as_described(
        ROUTES,
        |_, field, value| {
            let set = if field == "@" { String::new() } else { format!(", {field} = {value}") };
            let to = if field == "to" {
                set.trim_start_matches(", ").to_owned()
            } else {
                format!("to = \"198.51.100.0/24\"{set}")
            };
            format!("format = 1\nnetwork.interface = [{{ match = \"eth9\", routes = [{{ {to} }}] }}]\n")
        },
        |text| {
            config::parse("berth.toml", text.as_bytes())
                .map(|config| config.network.interfaces[0].routes[0].clone())
        },
    );
}

#[test]
fn fields_of_links_are_as_described() {
    const VLANS: &[Section<crate::model::Vlan>] =
        &[Section { name: "vlan", doc: "", fields: config::VLAN, later: &[], system: false }];
    const BONDS: &[Section<crate::model::Bond>] =
        &[Section { name: "bond", doc: "", fields: config::BOND, later: &[], system: false }];
    fields_are_as_described(
        VLANS,
        |_, field, value| {
            let others = [("name", "\"v\""), ("link", "\"eth0\""), ("id", "7")];
            let mut text = String::from("format = 1\n[[network.vlan]]\n");
            for (name, other) in others.iter().filter(|(name, _)| *name != field) {
                text += &format!("{name} = {other}\n");
            }
            if field != "@" {
                text += &format!("{field} = {value}\n");
            }
            text
        },
        |text| config::parse("berth.toml", text.as_bytes()).map(|config| config.network.vlans[0].clone()),
    );
    fields_are_as_described(
        BONDS,
        |section, field, value| {
            let of = if field == "@" { section } else { field };
            let mode = match of {
                "lacp_rate" => "\"802.3ad\"",
                "mode" => "\"balance-rr\"",
                _ => "\"active-backup\"",
            };
            let (own, mut text) = (field, String::from("format = 1\n[[network.bond]]\n"));
            let others = [("name", "\"b\""), ("interfaces", "[\"eth0\", \"eth1\"]"), ("mode", mode)];
            for (name, other) in others.iter().filter(|(name, _)| *name != own) {
                text += &format!("{name} = {other}\n");
            }
            if field != "@" {
                text += &format!("{field} = {value}\n");
            }
            text
        },
        |text| config::parse("berth.toml", text.as_bytes()).map(|config| config.network.bonds[0].clone()),
    );
}

#[test]
fn registry_fields_are_as_described() {
    const REGISTRIES: &[Section<crate::model::Registry>] =
        &[Section { name: "registry", doc: "", fields: config::REGISTRY, later: &[], system: false }];
    fields_are_as_described(
        REGISTRIES,
        |_, field, value| {
            let set = if field == "@" { String::new() } else { format!("{field} = {value}\n") };
            format!("format = 1\n[registries.\"registry.lan:5000\"]\n{set}")
        },
        |text| {
            config::parse("berth.toml", text.as_bytes())
                .map(|config| config.registries.registries["registry.lan:5000"].clone())
        },
    );
}

/// What the tables call the default is what the model has.
#[test]
fn nothing_said_is_the_default() {
    let unit = parse_unit("web.toml", "web", b"container.image = \"x\"", Origin::Config).unwrap();
    let mut expected = blank("web", Origin::Config, Place::default());
    expected.container.image = "x".into();
    assert_eq!(unit, expected);
    assert_eq!(config::parse("berth.toml", b"format = 1").unwrap(), MachineConfig::default());
}

#[test]
fn everything_said_arrives() {
    let page = reference::page();
    let text = page.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    let unit = parse_unit("shop.toml", "shop", text.as_bytes(), Origin::Config).unwrap();
    assert_eq!(unit.requires[0].to_string(), "db:ready");
    assert_eq!(unit.container.args.as_deref(), Some(["--port".to_owned(), "8080".to_owned()].as_slice()));
    assert_eq!(unit.container.tmpfs["/run"], 4 << 20);
    assert_eq!(unit.resources.cpus_milli, Some(1500));
    assert_eq!(unit.restart.stop_timeout.as_secs(), 30);
    assert_eq!(unit.network.ports.len(), 3);
    let volumes: Vec<_> = unit.container.volumes.iter().map(|v| (v.name.as_str(), v.read_only)).collect();
    assert_eq!(volumes, [("shop-data", false), ("certificates", true)]);
    assert_eq!((unit.resources.swap, unit.resources.nofile), (Some(0), Some(65536)));
    assert!(unit.network.ports[1].host_address.is_loopback());
    assert_eq!(unit.secrets["db-password"].from, "shop-db-password");
    assert_eq!(unit.places.ports[2].to_string(), "shop.toml:28:44");
}

#[test]
fn system_units_may_have_grants() {
    let text =
        b"[container]\nimage = \"berth:system\"\n[system]\ncontrol = true\ncapabilities = [\"NET_ADMIN\"]\n\
                 mounts = [\"/run/berth/net:/run/berth/net:rw\"]\n";
    let unit = parse_system_units([("/usr/lib/berth/units/net.toml", text.as_slice())]).unwrap().remove(0);
    let system = unit.system.unwrap();
    assert!(unit.name == "net" && system.control && system.mounts[0].writable && !system.host_users);
    let said = |capability: &str| {
        let text = format!("container.image = \"berth:system\"\nsystem.capabilities = [\"{capability}\"]\n");
        parse_unit("net.toml", "net", text.as_bytes(), Origin::System).unwrap_err().to_string()
    };
    assert!(said("CAP_NET_ADMIN").contains("is written without CAP_: \"NET_ADMIN\""));
    assert!(said("NET_ADMN").contains("is not a capability; did you mean \"NET_ADMIN\"?"));
}

/// Hostile files cost little: time is bounded by size. The bound is loose; it is there for what grows with a square.
#[test]
fn hostile_files_are_cheap() {
    let marks = |text: &str| text.bytes().filter(|b| b"[]{}=,.\n".contains(b)).count();
    let room = limits::CONFIG_MARKS - 10;
    let repeat =
        |text: &str| text.repeat(((limits::CONFIG_BYTES - 64) / text.len()).min(room / marks(text).max(1)));
    let keys: String = (0..room / 2).map(|n| format!("k{n} = {n}\n")).collect();
    let units: String = (0..9_000).map(|n| format!("[units.u{n}.container]\nimage=\"x\"\n")).collect();
    for (name, text) in [
        ("unknown fields", format!("[container]\n{keys}")),
        ("units", format!("format = 1\n{units}")),
        ("open lists", repeat("[")),
        ("nested lists", format!("a = {}", repeat("["))),
        ("headers", repeat("[a.b.c]\n")),
        ("arrays of tables", repeat("[[a]]\n")),
        ("dotted", repeat("a.")),
        ("errors", repeat("a\n")),
        ("errors in one line", "= ".repeat(limits::RECOVER_BYTES / 2)),
        ("quotes", repeat("\"\"\"\"")),
        ("one string", format!("a = \"{}\"", repeat("x"))),
        ("one list", format!("unit.after = [{}]", repeat("\"a\","))),
        ("ports", format!("network.ports = [{}]", "\"1:1\",".repeat(512))),
        ("lines", repeat("\n")),
    ] {
        assert!(text.len() <= limits::CONFIG_BYTES && marks(&text) <= limits::CONFIG_MARKS, "{name}");
        let start = std::time::Instant::now();
        let said = [complaint("web.toml", text.as_bytes()), complaint("berth.toml", text.as_bytes())];
        assert!(start.elapsed().as_secs() < 20, "{name}: {:?}", start.elapsed());
        assert!(said.iter().all(|said| said.len() < 64 * 1024), "{name}");
        if std::env::var_os("TIMES").is_some() {
            println!("{name}: {:?}", start.elapsed());
        }
    }
}

const SEEDS: [&str; 3] =
    [include_str!("reference/opening.md"), include_str!("reference/config.md"), "[unit]\n"];

fn text_blocks() -> Vec<String> {
    let blocks = SEEDS.iter().flat_map(|page| page.split("```toml\n").skip(1));
    let mut blocks: Vec<String> = blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect();
    blocks.extend(mistakes().iter().map(|file| std::fs::read_to_string(file).unwrap()));
    blocks
}

fn both(text: &[u8]) {
    for said in [complaint("web.toml", text), complaint("berth.toml", text)] {
        assert!(!said.contains('\x1b') && said.lines().all(|line| !line.is_empty()), "{said:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        both(&bytes);
    }

    #[test]
    fn any_toml_like(text in "([\\[\\]={}\".,# \n\ra-z0-9_\u{1b}ü'-]|container|unit|network|image|units|format){0,60}") {
        both(text.as_bytes());
    }

    /// A valid file, or one with known mistakes, with pieces cut out, doubled, or overwritten.
    #[test]
    fn mutations(which in 0usize..64, cuts in prop::collection::vec((any::<u16>(), 0usize..40, any::<u16>(), any::<u8>()), 1..6)) {
        let blocks = text_blocks();
        let mut text = blocks[which % blocks.len()].clone().into_bytes();
        for (at, length, to, byte) in cuts {
            let at = usize::from(at) % (text.len() + 1);
            let piece: Vec<u8> = text[at..(at + length).min(text.len())].to_vec();
            let to = usize::from(to) % (text.len() + 1);
            match byte % 4 {
                0 => drop(text.drain(at..at + piece.len())),
                1 => drop(text.splice(to..to, piece)),
                2 if at < text.len() => text[at] = byte,
                _ => text.insert(at, b"\n\"[]={}.,\0\r#'"[usize::from(byte) % 13]),
            }
        }
        both(&text);
    }

    /// A wrong name is never taken silently.
    #[test]
    fn unknown_names(name in "[a-z_]{1,12}") {
        let known = fields::UNIT_FILE.iter().flat_map(|section| section.fields).any(|field| field.name == name);
        let text = format!("[container]\nimage = \"x\"\n[resources]\n{name} = 1\n");
        let ours = ["memory", "cpus", "pids"].contains(&name.as_str());
        let said = complaint("web.toml", text.as_bytes());
        prop_assert!(ours || said.starts_with("web.toml:4:1: ") , "{said}");
        prop_assert!(ours || !known || said.contains("it belongs in"));
    }
}

/// Whatever is wrong with a file: neither a report nor a debug print shows any of a secret.
#[test]
fn no_secret_is_shown() {
    let text = "format = 1\n[secrets]\ntwo = 'hunter2'\n[files]\n\"x.env\" = \"\"\"\nA=hunter2\n\"\"\"\n\
                [registries.\"r.lan\"]\nauth = \"hunter2\"\n[units.web]\ncontainer.image = \"web\"\n\
                container.command = [\"/x\"]\ncontainer.env_file = \"x.env\"\nsecrets.p = \"two\"\n";
    let config = config::parse("berth.toml", text.as_bytes()).unwrap();
    let image = crate::image::PreparedImage {
        format: 1,
        reference: "web".into(),
        digest: String::new(),
        layers: Vec::new(),
        entrypoint: Vec::new(),
        cmd: Vec::new(),
        env: Vec::new(),
        workdir: String::new(),
        user: String::new(),
        stop_signal: String::new(),
        layer_bytes: Vec::new(),
        kept: false,
    };
    let place = crate::launch::Place::default();
    let plan = crate::launch::Plan::new(&config.units[0], Some(&image), limits::ID_BASE, &place).unwrap();
    assert!(plan.env.contains(&"A=hunter2".to_owned()) && plan.secrets[0].1.reveal() == "hunter2");
    assert!(!format!("{config:?} {plan:?}").contains("hunter"));
    let values: Vec<usize> = text.match_indices("hunter2").map(|(at, _)| at).collect();
    assert_eq!(values.len(), 3);
    for at in values.iter().flat_map(|at| [at - 1, *at, at + 7]) {
        for wrong in ["\"", "'", "\n", "\"\"\"", "'''", "\\", "\u{1}", "#", "=", "[", "\0", "\"\nx"] {
            let broken = [&text[..at], wrong, &text[at..]].concat();
            let said = complaint("berth.toml", broken.as_bytes());
            assert!(!said.contains("hunter2"), "{broken}\n{said}");
        }
    }
}

#[test]
fn a_date_is_a_date() {
    // The check above leans on it.
    assert!(matches!(DeValue::parse("1979-05-27").unwrap().into_inner(), DeValue::Datetime(_)));
}
