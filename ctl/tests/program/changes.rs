//! What changes a machine: configs, units without one, volumes, updates; and the one file that tells all.

use super::*;
use berth_units::control::InstallStatus;

#[test]
fn config_apply() {
    let (laptop, _fake) = acquainted();
    let file = laptop.folder.path().join("berth.toml");
    fs::write(&file, "format = 1\n").unwrap();
    let file = file.to_str().unwrap();
    let change = "\
+ unit new
- unit old
~ unit db: [unit]; goes on running
~ unit web: [container]; restarted
~ access keys
~ network: in force from the next boot
";
    assert_eq!(laptop.prints(&["config", "diff", file]), change);
    assert_eq!(laptop.prints(&["config", "apply", file]), change);
    let Output { code, out, err } = laptop.berth(&["config", "apply", "--confirm", "5m", file]);
    assert_eq!((code, out.as_str()), (0, change));
    assert!(err.contains("in force for 300 s; \"berth config confirm\" keeps it"), "{err}");
    assert_eq!(laptop.prints(&["config", "confirm"]), "confirmed; it stays\n");
    let Output { code, err, .. } = laptop.berth(&["config", "apply", "--confirm", "soon", file]);
    assert_eq!(code, 2);
    assert!(err.contains("write a time such as 5m"), "{err}");
    let mistaken = laptop.folder.path().join("mistaken.toml");
    fs::write(&mistaken, "mistake").unwrap();
    let Output { code, err, .. } = laptop.berth(&["config", "apply", mistaken.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (1, "berth: berth.toml:1:1: a mistake\n\n"));
}

#[test]
fn run() {
    let (laptop, fake) = acquainted();
    assert_eq!(laptop.prints(&["run", "-d", "example.org/web:1"]), "run-1\n");
    assert_eq!(laptop.prints(&["run", "-d", "--name", "job", "example.org/web:1", "serve"]), "job\n");
    assert_eq!(laptop.prints(&["rm", "-f", "run-1", "job"]), "run-1 removed\njob removed\n");
    assert!(laptop.berth(&["rm", "web"]).err.contains("stop it first, or remove it with -f"));
    // Attached: what it says until its end, and its exit code.
    fake.log(&["1709164800.500000000 o hello\n", "1709164800.600000000 e trouble\n"]);
    let mut ended = fake::detail();
    ended.status.state = "failed".into();
    ended.exit_code = Some(7);
    fake.reply(&Request::Inspect { unit: "web".into() }, Reply::Unit(Box::new(ended)));
    let Output { code, out, err } = laptop.berth(&["run", "--rm", "--name", "web", "example.org/web:1"]);
    assert_eq!((code, out.as_str(), err.as_str()), (7, "hello\n", "trouble\n"));
    assert!(fake.asked().contains(&format!("{:?}", Request::Remove { unit: "web".into(), force: true })));
    assert_eq!(laptop.berth(&["run", "--rm", "-d", "example.org/web:1"]).code, 2);
    assert_eq!(laptop.berth(&["run", "--save", "example.org/web:1"]).code, 2);
    let taken = laptop.berth(&["run", "--save", "--name", "web", "example.org/web:1"]);
    assert_eq!(
        (taken.code, taken.err.contains("there is a unit \"web\" already")),
        (2, true),
        "{}",
        taken.err
    );
    let saved = laptop.prints(&["run", "--save", "--name", "fresh", "example.org/web:1"]);
    assert!(saved.contains("~ unit web"), "{saved}");
}

#[test]
fn volumes() {
    let (laptop, fake) = acquainted();
    assert_eq!(laptop.prints(&["volume", "ls"]), "NAME  USED BY\nshop  db, web\nold   -\n");
    assert_eq!(
        laptop.prints(&["volume", "inspect", "shop"]),
        "NAME  SIZE     USED BY\nshop  3.0 MiB  db, web\n"
    );
    assert_eq!(laptop.prints(&["volume", "rm", "old"]), "volume old removed\n");
    assert_eq!(laptop.berth(&["volume", "rm", "shop"]).err, "berth: volume shop is used by db, web\n");
    assert!(fake.asked().contains(&format!("{:?}", Request::VolumeRemove { volume: "old".into() })));
}

#[test]
fn support() {
    let (laptop, fake) = acquainted();
    fake.log(&["1709164800.500000000 o hello\n"]);
    let file = laptop.folder.path().join("support.tar.gz");
    let said = laptop.prints(&["support", file.to_str().unwrap()]);
    assert!(said.contains("support.tar.gz written, "), "{said}");
    let list = Command::new("tar").arg("-tzf").arg(&file).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    for name in
        ["version.json", "history.json", "config.toml", "metrics.txt", "units/web.json", "logs/web.txt"]
    {
        assert!(list.lines().any(|line| line == format!("support-web1/{name}")), "no {name} in {list}");
    }
    // What a machine does not answer is said in its place.
    assert!(list.contains("support-web1/logs/berth.txt.missing"), "{list}");
    assert_eq!(laptop.berth(&["support", file.to_str().unwrap()]).code, 2, "not written over");
}

#[test]
fn units_and_configs_of_before() {
    let (laptop, fake) = acquainted();
    let file = laptop.folder.path().join("web.toml");
    fs::write(&file, "container.image = \"web:2\"\n").unwrap();
    let file = file.to_str().unwrap();
    let change = laptop.prints(&["unit", "diff", file]);
    assert!(change.contains("~ unit web: [container]; restarted\n"), "{change}");
    assert_eq!(laptop.prints(&["unit", "apply", file]), change);
    assert_eq!(laptop.prints(&["unit", "rm", "db"]), change);
    let Output { code, out, err } = laptop.berth(&["unit", "apply", "--confirm", "5m", file]);
    assert_eq!((code, out.as_str()), (0, change.as_str()));
    assert!(err.contains("in force for 300 s"), "{err}");
    assert_eq!(laptop.prints(&["rollback", "--diff"]), change);
    assert_eq!(laptop.prints(&["rollback", "3"]), change);
    let asked = fake.asked();
    for request in [
        Request::UnitsApply { confirm_s: None, only_look: true },
        Request::UnitsApply { confirm_s: Some(300), only_look: false },
        Request::Rollback { to: None, confirm_s: None, only_look: true },
        Request::Rollback { to: Some(3), confirm_s: None, only_look: false },
    ] {
        assert!(asked.contains(&format!("{request:?}")), "{request:?}");
    }
    assert_eq!(laptop.berth(&["rollback", "9"]).err, "berth: there is no generation 9\n");
    assert_eq!(laptop.prints(&["config", "show"]), "format = 1\n[secrets]\ndb = \"(not shown)\"\n");
    let Output { code, err, .. } = laptop.berth(&["unit", "apply", "web.yaml"]);
    assert_eq!(code, 2);
    assert!(err.contains("a unit's file is called as the unit, with .toml"), "{err}");
}

#[test]
fn updates() {
    use berth_units::control::{UpdateOffer, UpdateOrder, UpdateStatus, update::Quarantined};
    let (laptop, fake) = acquainted();
    let offer = UpdateOffer {
        address: "https://updates.example.org".into(),
        version: "1.1".into(),
        built_s: 1_795_507_200,
        root_hash: "1".repeat(64),
        bytes: 40 << 20,
    };
    let way = |state: &str, done| UpdateStatus {
        state: state.into(),
        order: Some(UpdateOrder::Fetch),
        offer: Some(offer.clone()),
        done,
        total: 40 << 20,
        ..fake::update()
    };
    let over = UpdateStatus { offer: Some(offer.clone()), written: Some("1.1".into()), ..fake::update() };
    fake.set_updates(vec![way("checking", 0), way("writing", 10 << 20), over.clone()]);
    let Output { code, out, err } = laptop.berth(&["update", "fetch"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "version 1.1 is written to the other slot and checked; \"berth update apply\" has it started\n")
    );
    // Not a terminal: one line at once, others after ten seconds.
    assert_eq!(err, "asking the repository\n");
    assert!(fake.asked().contains(&"Update { order: Fetch, again: false }".to_owned()));
    laptop.prints(&["update", "apply", "--again"]);
    assert!(fake.asked().contains(&"Update { order: Apply, again: true }".to_owned()));

    fake.set_updates(vec![UpdateStatus {
        error: "https://updates.example.org: too slow".into(),
        ..over.clone()
    }]);
    let Output { code, err, .. } = laptop.berth(&["update", "check"]);
    assert_eq!((code, err.as_str()), (1, "berth: https://updates.example.org: too slow\n"));

    fake.set_updates(vec![UpdateStatus { up_to_date: true, ..over.clone() }]);
    assert_eq!(laptop.prints(&["update", "check"]), "web1 runs 1.1, the newest\n");
    let one = Quarantined {
        version: "1.0.9".into(),
        root_hash: "2".repeat(64),
        reason: "web is unhealthy".into(),
        at_s: 1_795_507_200,
    };
    fake.set_updates(vec![UpdateStatus { quarantine: vec![one], checked_ago_s: Some(90), ..over }]);
    assert_eq!(
        laptop.prints(&["update", "status"]),
        "\
runs        1.0
state       nothing is under way
offered     1.1, built 2026-11-24 08:00:00 UTC, asked 1 min ago
from        https://updates.example.org
other slot  1.1, written and checked
channel     stable
automatic   no

Not taken again, unless with --again:
VERSION  SINCE                    WHY
1.0.9    2026-11-24 08:00:00 UTC  web is unhealthy
"
    );
}

/// A file with a table as the medium's, as far as it matters here.
fn iso_at(path: &Path) {
    use berth_updater::gpt::{Partition, Table};
    use berth_updater::guid::Guid;
    use berth_updater::layout::KIND_SEED;
    let mut file = fs::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(4 << 20).unwrap();
    let mut table = Table::new(Guid::named("iso"), 512, 8192).unwrap();
    table.entries[4] = Some(Partition {
        kind: KIND_SEED,
        uuid: Guid::named("seed"),
        first: 2048,
        last: 4095,
        attributes: 0,
        label: "seed".into(),
    });
    table.write(&mut file, |_| Ok(())).unwrap();
}

#[test]
fn iso_customise() {
    let laptop = Laptop::new();
    let path = |name: &str| laptop.folder.path().join(name);
    let (iso, config) = (path("berth.iso"), path("berth.toml"));
    iso_at(&iso);
    fs::write(&config, "format = 1\n[install]\ndisk = \"only\"\n").unwrap();
    let (iso_word, config_word) = (iso.to_str().unwrap(), config.to_str().unwrap());
    let words = ["iso", "customise", iso_word, "--config", config_word];
    assert_eq!(laptop.prints(&words), format!("{iso_word} has the config {config_word}\n"));
    let seed = || berth_updater::medium::read_seed(&fs::File::open(&iso).unwrap(), 2048 * 512).unwrap();
    // Compressed, which a machine recognises.
    assert!(seed().unwrap().starts_with(&[0x1f, 0x8b]));
    fs::write(&config, "format = 1\n[install]\ndisc = \"only\"\n").unwrap();
    let refused = laptop.berth(&words);
    assert!(refused.code == 2 && refused.err.contains("did you mean"), "{}", refused.err);
    assert!(seed().is_some(), "a config that is refused leaves the one before");
    assert!(laptop.prints(&["iso", "customise", iso_word, "--without"]).contains("has no config"));
    assert!(seed().is_none());
    fs::write(&iso, vec![0; 1 << 20]).unwrap();
    assert_eq!(laptop.berth(&["iso", "customise", iso_word, "--without"]).code, 2);
}

#[test]
fn disks_install_and_reset() {
    let (laptop, fake) = acquainted();
    assert_eq!(
        laptop.prints(&["disks"]),
        "\
DISK         SIZE  SECTOR  MODEL          SERIAL     HOLDS                   FOR AN INSTALLATION
/dev/sda  8.0 GiB     512  QEMU HARDDISK  S4EVNX0R1  nothing                 free
/dev/sdb  4.0 GiB     512  QEMU HARDDISK             an LVM physical volume  no: it holds an LVM physical volume
"
    );
    let status = |state: &str, done| InstallStatus {
        state: state.into(),
        disk: "/dev/sda".into(),
        done,
        total: 100,
        error: String::new(),
    };
    fake.set_installs(vec![status("choosing", 0), status("writing", 40), status("done", 100)]);
    let Output { code, out, .. } = laptop.berth(&["install", "--disk", "serial:S4EVNX0R1", "--erase"]);
    assert_eq!(code, 0);
    assert!(out.contains("Berth is on /dev/sda"), "{out}");
    assert!(
        fake.asked()
            .iter()
            .any(|asked| asked.contains("Serial(\"S4EVNX0R1\")") && asked.contains("erase: true"))
    );
    let failed = InstallStatus { error: "no disk is free".into(), ..status("failed", 0) };
    fake.set_installs(vec![failed]);
    let Output { code, err, .. } = laptop.berth(&["install"]);
    assert_eq!((code, err.as_str()), (1, "berth: no disk is free\n"));
    assert_eq!(laptop.berth(&["install", "--disk", "sda"]).code, 2);
    assert!(laptop.prints(&["reset", "--keep", "volumes"]).contains("comes up as a new machine"));
    assert_eq!(laptop.berth(&["reset"]).code, 2);
}
