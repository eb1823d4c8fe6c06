use super::*;
use berth_units::control::packet;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

fn told(outcome: Outcome) -> Vec<(FromWorker, Vec<OwnedFd>)> {
    let (ours, init) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let client = Client::from_fd(ours);
    tell(&client, outcome).unwrap();
    (0..2)
        .map(|_| match packet::recv::<ToInit>(init.as_fd(), &mut packet::buffer()).unwrap() {
            (ToInit::Worker(message), fds) => (message, fds),
            (ToInit::Request(other), _) => panic!("{other:?}"),
        })
        .collect()
}

fn outcome(found: Found) -> Outcome {
    Outcome { found, looked: vec!["x".into()], notes: vec!["n".into()] }
}

fn text(fds: &mut Vec<OwnedFd>) -> (File, String) {
    let mut file = File::from(fds.remove(0));
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    (file, text)
}

#[test]
fn a_config_goes_over_sealed() {
    let found = Found::Config { source: "fw_cfg".into(), text: b"format = 1\n".to_vec() };
    let mut packets = told(outcome(found));
    let (message, fds) = &mut packets[0];
    assert!(
        matches!(message, FromWorker::ConfigFound { source, looked, notes } if source == "fw_cfg" && looked == &["x"] && notes == &["n"])
    );
    let (mut file, text) = text(fds);
    assert_eq!(text, "format = 1\n");
    assert!(file.write_all(b"x").is_err() && file.set_len(1).is_err());
    assert!(matches!(packets[1].0, FromWorker::Ready));
}

#[test]
fn nothing_and_refusals_are_told() {
    let packets = told(outcome(Found::None { cloud: Some("ec2") }));
    assert!(
        matches!(&packets[0].0, FromWorker::ConfigNone { looked, cloud, .. } if looked == &["x"] && cloud.as_deref() == Some("ec2"))
    );
    for (salvage, rides) in [("format = 1\n", true), ("", false)] {
        let found = Found::Refused { source: "s".into(), report: "r".into(), salvage: salvage.into() };
        let mut packets = told(outcome(found));
        assert!(matches!(&packets[0].0, FromWorker::ConfigRefused { report, .. } if report == "r"));
        assert_eq!(!packets[0].1.is_empty(), rides);
        if rides {
            assert_eq!(text(&mut packets[0].1).1, salvage);
        }
    }
}

#[test]
fn disks_come_by_name_and_descriptor() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1000).unwrap();
    let disks = disks(&format!("vdb={},vdc=9999,vdd=x,odd,", file.as_raw_fd()));
    let names: Vec<&str> = disks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["vdb", "vdc", "vdd", "odd"]);
    assert_eq!(disks[0].1.as_ref().unwrap().size(), 1000);
    assert!(disks[1..].iter().all(|(_, disk)| disk.is_err()));
}
