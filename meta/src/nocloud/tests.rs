use super::*;
use crate::compose::{Composed, Place, compose};
use berth_units::config;
use berth_units::model::MachineConfig;

const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC one";
const META: &str = "instance-id: i-1\nlocal-hostname: node1\n";
const USER: &str = "format = 1\n[time]\nservers = []\n";

fn said(files: &[(&'static str, &[u8])]) -> Said {
    read(&Files::Given(files.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect()))
}

fn made(files: &[(&'static str, &[u8])]) -> (Result<MachineConfig, (String, MachineConfig)>, Vec<String>) {
    let place = Place { name: "nocloud (vdb)".into(), source: Some("nocloud") };
    let (composed, notes) = compose(&place, said(files), None);
    let parsed = |text: &[u8]| config::parse("x", text).unwrap_or_else(|report| panic!("{report}"));
    match composed {
        Composed::Config(text) => (Ok(parsed(&text)), notes),
        Composed::Refused { report, salvage } => (Err((report, parsed(&salvage))), notes),
    }
}

#[test]
fn every_file_may_be_missing_but_not_all() {
    let (config, notes) = made(&[("user-data", USER.as_bytes())]);
    assert!(config.unwrap().instance.unwrap().id.is_none() && notes.is_empty());
    let (config, _) = made(&[("meta-data", META.as_bytes())]);
    let config = config.unwrap();
    assert_eq!(config.hostname.as_deref(), Some("node1"));
    assert_eq!(config.instance.unwrap().id.as_deref(), Some("i-1"));
    let (config, notes) =
        made(&[("meta-data", META.as_bytes()), ("user-data", b"\n"), ("vendor-data", b"#cloud-config\n")]);
    assert!(config.is_ok());
    assert_eq!(notes.len(), 2);
    assert!(
        notes[0].starts_with("vendor-data is not applied") && notes[1] == "user-data is empty",
        "{notes:?}"
    );
    for (files, why) in [
        (&[][..], "neither user-data nor meta-data"),
        (&[("user-data", &b""[..]), ("meta-data", b" \r\n")], "meta-data and user-data are empty"),
        (&[("user-data", b"")], "user-data is empty"),
    ] {
        let (report, _) = made(files).0.unwrap_err();
        assert!(report.starts_with("nocloud (vdb): ") && report.contains(why), "{report}");
    }
}

#[test]
fn a_bad_file_costs_neither_keys_nor_name() {
    let meta = format!(
        "{{\"instance-id\": \"i-1\", \"local-hostname\": \"node1\", \"public-keys\": [\"{ONE}\", \"ssh-dss AAAA old\"]}}"
    );
    let mut utf16 = vec![0xff, 0xfe];
    utf16.extend("format = 1\n".encode_utf16().flat_map(u16::to_le_bytes));
    let ignition = b"{\"ignition\": {\"version\": \"3.4.0\"}}";
    let bad: [(&[u8], &str); 10] = [
        (b"(torn)", "user-data: its file system is damaged"),
        (b"# cloud-config\nhostname: x\n", "without a space"),
        (b"#!/bin/sh\nreboot\n", "a script"),
        (ignition, "an Ignition config"),
        (b"{\"hostname\": \"x\"}", "JSON"),
        (&utf16, "UTF-16"),
        (b"format = 1\nhostname = \"caf\xe9\"\n", "UTF-8"),
        (b"format = 1\n\0", "NUL"),
        (b"format = 1\nhostnam = \"x\"\n", "nocloud (vdb):2:1: unknown field"),
        (b"format = 1\n[instance]\nid = \"own\"\n", "leave it out"),
    ];
    for (user_data, why) in bad {
        let (refused, notes) = made(&[("meta-data", meta.as_bytes()), ("user-data", user_data)]);
        let (report, salvage) = refused.unwrap_err();
        assert!(report.contains(why), "{why}: {report}");
        assert_eq!(
            (salvage.access_keys, salvage.hostname),
            (vec![ONE.to_owned()], Some("node1".into())),
            "{why}"
        );
        assert!(notes[0].contains("ssh-dss") && notes[0].contains("broken"), "{notes:?}");
    }
    // A byte order mark and CRLF are no mistakes.
    let text = format!("\u{feff}{}", USER.replace('\n', "\r\n"));
    let meta = format!("\u{feff}{}", META.replace('\n', "\r\n"));
    let config = made(&[("meta-data", meta.as_bytes()), ("user-data", text.as_bytes())]).0.unwrap();
    assert_eq!(config.hostname.as_deref(), Some("node1"));
}

#[test]
fn bad_metadata_refuses_and_leaves_what_user_data_says_of_keys() {
    let user = format!(
        "format = 1\naccess.keys = [\"{ONE}\"]\n[units.web.container]\nimage = \"example.org/web:1\"\n"
    );
    for meta in [&b"(torn)"[..], b"- a\n- b\n", b"\xff\xfe", b"{\"a\": "] {
        let (report, salvage) = made(&[("meta-data", meta), ("user-data", user.as_bytes())]).0.unwrap_err();
        assert!(report.contains("meta-data"), "{report}");
        assert_eq!(salvage.access_keys, [ONE]);
        assert!(salvage.units.is_empty());
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let meta = format!("{META}network-interfaces: auto eth0\n");
    let (config, notes) = made(&[("meta-data", meta.as_bytes()), ("user-data", USER.as_bytes())]);
    assert!(config.is_ok() && notes[0].contains("network-interfaces"), "{notes:?}");
    let user = format!("{USER}[network]\ndns = \"192.0.2.53\"\n");
    let (config, notes) = made(&[("user-data", user.as_bytes()), ("network-config", b"version: 2\n")]);
    assert!(config.is_ok() && notes[0].contains("network-config is not applied"), "{notes:?}");
}
