use super::*;
use crate::model::{Mount, SystemGrants, SystemMount, Volume};
use proptest::prelude::*;

const ID_BASE: u32 = crate::limits::ID_BASE;

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn unit() -> Unit {
    let mut unit = crate::schema::blank("web", Origin::Config, Default::default());
    unit.container.image = "example.org/web:1".into();
    unit
}

fn system_unit(grants: SystemGrants) -> Unit {
    let mut unit = unit();
    unit.name = "net".into();
    unit.origin = Origin::System;
    unit.container.image = SYSTEM_IMAGE.into();
    unit.container.command = Some(list(&["/usr/lib/berth/berth", "worker", "net"]));
    unit.system = Some(grants);
    unit
}

fn image() -> PreparedImage {
    PreparedImage {
        format: 1,
        reference: "example.org/web:1".into(),
        digest: format!("sha256:{}", "a".repeat(64)),
        layers: vec!["b".repeat(64), "c".repeat(64)],
        entrypoint: list(&["/entry"]),
        cmd: list(&["serve", "--fast"]),
        env: list(&["A=image", "PATH=/app", "EMPTY=", "rubbish", "=x"]),
        workdir: "/srv".into(),
        user: "www".into(),
        stop_signal: String::new(),
        layer_bytes: Vec::new(),
        kept: false,
    }
}

fn plan(unit: &Unit) -> Plan {
    Plan::new(unit, Some(&image()), ID_BASE, &Place::default()).unwrap()
}

fn refusal(unit: &Unit, image: Option<&PreparedImage>, id_base: u32) -> String {
    Plan::new(unit, image, id_base, &Place::default()).unwrap_err().to_string()
}

#[test]
fn the_image_speaks_where_the_unit_is_silent() {
    let plan = plan(&unit());
    assert_eq!(plan.argv, ["/entry", "serve", "--fast"]);
    assert_eq!(plan.env, ["PATH=/app", "HOSTNAME=web", "A=image", "EMPTY="]);
    assert_eq!((plan.cwd.as_str(), plan.user.as_str(), plan.hostname.as_str()), ("/srv", "www", "web"));
    assert_eq!(plan.id_base, Some(ID_BASE));
    assert_eq!(plan.caps, Caps::DEFAULT);
    let Root::Image { layers, writable, .. } = plan.root else { panic!("{:?}", plan.root) };
    assert_eq!(layers[0], Path::new("/var/lib/berth/images/layers").join("b".repeat(64)));
    assert_eq!(writable.as_deref(), Some(Path::new("/var/lib/berth/units/web")));
}

#[test]
fn the_unit_overrides() {
    let mut unit = unit();
    let argv = |command: Option<&[&str]>, args: Option<&[&str]>| {
        let mut unit = self::unit();
        unit.container.command = command.map(list);
        unit.container.args = args.map(list);
        plan(&unit).argv
    };
    // As Docker: `command` (its entrypoint) drops the image's cmd, `args` (its cmd) keeps the entrypoint.
    assert_eq!(argv(Some(&["/other"]), None), ["/other"]);
    assert_eq!(argv(Some(&["/other"]), Some(&["x"])), ["/other", "x"]);
    assert_eq!(argv(None, Some(&["x"])), ["/entry", "x"]);
    assert_eq!(argv(None, Some(&[])), ["/entry"]);
    assert_eq!(argv(Some(&[]), Some(&["x"])), ["x"]);

    unit.container.env = [("A", "unit"), ("HOSTNAME", "other"), ("B", "b=c")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    unit.container.workdir = Some("/work".into());
    unit.container.user = Some("7:8".into());
    unit.container.read_only = true;
    unit.container.tmpfs = [("/tmp".to_owned(), 4096)].into();
    let plan = plan(&unit);
    assert_eq!(plan.env, ["PATH=/app", "HOSTNAME=other", "A=unit", "EMPTY=", "B=b=c"]);
    assert_eq!((plan.cwd.as_str(), plan.user.as_str()), ("/work", "7:8"));
    assert!(plan.read_only);
    assert!(matches!(plan.root, Root::Image { writable: None, .. }));
    assert_eq!(plan.tmpfs, [("/tmp".to_owned(), 4096)]);
}

#[test]
fn path_has_a_default() {
    let mut image = image();
    image.env.clear();
    let plan = Plan::new(&unit(), Some(&image), ID_BASE, &Place::default()).unwrap();
    assert_eq!(plan.env[0], format!("PATH={DEFAULT_PATH}"));
}

#[test]
fn a_system_unit_gets_what_it_is_granted() {
    let grants = SystemGrants {
        control: true,
        host_users: true,
        capabilities: list(&["NET_ADMIN", "NET_RAW"]),
        mounts: vec![SystemMount {
            source: "/run/berth/net".into(),
            target: "/run/net".into(),
            writable: true,
        }],
        data: true,
        block_devices: false,
        other_slot: false,
        install: false,
    };
    let mut unit = system_unit(grants);
    unit.network.mode = NetworkMode::Host;
    let plan = Plan::new(&unit, None, ID_BASE, &Place::default()).unwrap();
    assert_eq!(plan.root, Root::System("/".into()));
    assert!(plan.read_only);
    assert_eq!(plan.id_base, None);
    assert_eq!(plan.caps.names().collect::<Vec<_>>(), ["NET_ADMIN", "NET_RAW"]);
    let targets: Vec<_> = plan.binds.iter().map(|b| b.target.as_str()).collect();
    assert_eq!(targets, ["/run/net", paths::CONTROL_SOCKET, "/var/lib/net"]);
    assert!(plan.binds[2].create);

    // With the host's users nothing is kept unless named.
    let unit = system_unit(SystemGrants { host_users: true, ..SystemGrants::default() });
    let plan = Plan::new(&unit, None, ID_BASE, &Place::default()).unwrap();
    assert_eq!(plan.caps, Caps(0));
}

#[test]
fn volumes_and_capabilities_by_name() {
    let mut unit = unit();
    unit.container.volumes =
        vec![Volume { name: "data".into(), target: "/var/lib/data".into(), read_only: true }];
    unit.container.capabilities = Some(vec!["default".into(), "NET_RAW".into()]);
    unit.container.hostname = Some("shop.example.org".into());
    let plan = Plan::new(&unit, Some(&image()), ID_BASE, &Place::default()).unwrap();
    let bind = &plan.binds[0];
    assert_eq!(bind.source, std::path::Path::new("/var/lib/berth/volumes/data"));
    assert!(bind.volume && bind.create && !bind.writable);
    assert_eq!(plan.caps.0, Caps::DEFAULT.0 | 1 << Caps::number("NET_RAW").unwrap());
    assert_eq!(plan.hostname, "shop.example.org");
    unit.container.capabilities = Some(Vec::new());
    let plan = Plan::new(&unit, Some(&image()), ID_BASE, &Place::default()).unwrap();
    assert_eq!(plan.caps, Caps(0));
}

#[test]
fn mounts_come_before_volumes_and_texts_are_files() {
    let mut unit = unit();
    let conf = Content { from: "a.conf".into(), text: None };
    let mount = |source, target: &str| Mount { source, target: target.into(), writable: false };
    unit.container.mounts = vec![
        mount(MountSource::Host("/sys/fs/cgroup".into()), "/host/cgroup"),
        mount(MountSource::Config(conf.clone()), "/etc/a.conf"),
    ];
    unit.container.volumes =
        vec![Volume { name: "data".into(), target: "/var/lib/data".into(), read_only: false }];
    assert_eq!(refusal(&unit, Some(&image()), ID_BASE), "unit web: the machine config has no \"a.conf\"");
    unit.container.mounts[1].source = MountSource::Config(Content { text: Some("x".into()), ..conf });
    let made = plan(&unit);
    let targets: Vec<_> = made.binds.iter().map(|bind| (bind.target.as_str(), bind.writable)).collect();
    assert_eq!(targets, [("/host/cgroup", false), ("/var/lib/data", true)]);
    assert_eq!(made.files, [("/etc/a.conf".to_owned(), "x".into())]);
}

#[test]
fn privileged_is_the_machines_root() {
    let mut unit = unit();
    unit.container.privileged = true;
    // No range is needed, and none is taken.
    let made = Plan::new(&unit, Some(&image()), 0, &Place::default()).unwrap();
    assert_eq!((made.id_base, made.caps), (None, Caps::ALL));
    assert!(made.privileged && !made.host_pids && !made.new_privs);
    assert_eq!(made.network, NetworkMode::Bridge);
    assert_eq!(Caps::ALL.names().count(), CAPABILITIES.len());
}

#[test]
fn what_makes_no_container() {
    assert_eq!(
        refusal(&unit(), None, ID_BASE),
        "unit web: image \"example.org/web:1\" has not been prepared"
    );
    let mut bare = image();
    (bare.entrypoint, bare.cmd) = (vec![], vec![]);
    assert!(refusal(&unit(), Some(&bare), ID_BASE).contains("names no command; set container.command"));
    assert!(refusal(&unit(), Some(&image()), 0).contains("overlaps the host's own ids"));
    assert!(refusal(&unit(), Some(&image()), u32::MAX).contains("overlaps"));
    let mut unit = unit();
    unit.container.image = SYSTEM_IMAGE.into();
    assert!(refusal(&unit, None, ID_BASE).contains("for the system's own units"));
    unit.container.image = "x".into();
    unit.system = Some(SystemGrants { host_users: true, ..SystemGrants::default() });
    assert!(refusal(&unit, Some(&image()), ID_BASE).contains("host's users"));
    let unit = system_unit(SystemGrants { capabilities: list(&["CAP_KILL"]), ..SystemGrants::default() });
    assert!(refusal(&unit, None, ID_BASE).contains("without CAP_"));
}

#[test]
fn capabilities_are_numbered_as_in_the_kernel() {
    assert_eq!(Caps::number("CHOWN"), Some(0));
    assert_eq!(Caps::number("SYS_ADMIN"), Some(21));
    assert_eq!(Caps::number("CHECKPOINT_RESTORE"), Some(40));
    assert_eq!(Caps::number("chown"), None);
    // Docker's default 14 (0xa80425fb) less MKNOD, NET_RAW and AUDIT_WRITE.
    assert_eq!(Caps::DEFAULT.0, 0xa804_25fb & !(1 << 27 | 1 << 13 | 1 << 29));
    assert_eq!(Caps::DEFAULT.names().count(), 11);
}

#[test]
fn environment_files_lie_between_image_and_unit() {
    let mut unit = unit();
    let content = |text: Option<&str>| Content { from: "x.env".into(), text: text.map(Secret::from) };
    unit.container.env = [("B".to_owned(), "unit".to_owned())].into();
    unit.container.env_file = vec![content(Some("A=1\nB=1\nC=1")), content(Some("C=2"))];
    let env = environment(&unit, Some(&image()), "h").unwrap();
    for entry in ["A=1", "B=unit", "C=2", "PATH=/app"] {
        assert!(env.iter().any(|e| e == entry), "{entry} in {env:?}");
    }
    unit.container.env_file.push(content(None));
    let why = Plan::new(&unit, Some(&image()), ID_BASE, &Place::default()).unwrap_err().to_string();
    assert_eq!(why, "unit web: the machine config has no \"x.env\"");
}

proptest! {
    /// Each variable once, the unit's value winning, whatever the image brings.
    #[test]
    fn environment_has_no_duplicates(
        from_image in prop::collection::vec("[A-C=]{0,3}(=[a-z]{0,2})?", 0..12),
        from_unit in prop::collection::btree_map("[A-C]{1,2}", "[a-z]{0,2}", 0..4),
    ) {
        let (mut unit, mut image) = (unit(), image());
        image.env = from_image;
        unit.container.env = from_unit.clone();
        let env = environment(&unit, Some(&image), "h").unwrap();
        let mut keys: Vec<_> = env.iter().map(|e| e.split_once('=').unwrap().0).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        prop_assert_eq!(keys.len(), count);
        prop_assert!(!keys.contains(&""));
        for (key, value) in from_unit {
            let entry = format!("{key}={value}");
            prop_assert!(env.contains(&entry));
        }
    }
}
