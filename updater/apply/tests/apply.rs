//! A release is written into the other slot: what is fetched, what is kept, what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod support;

use berth_apply::ApplyError;
use berth_apply::cuts::Log;
use berth_updater::layout::Slot;
use support::fat::Seen;
use support::release::{Build, Disk, Publisher, Server};

struct Case {
    publisher: Publisher,
    running: Build,
    before: Build,
    next: Build,
    offer: berth_tuf::release::Offer,
    disk: Disk,
}

impl Case {
    fn new() -> Case {
        let publisher = Publisher::new();
        let running = Build::new("1.0", 300, 40_000);
        let before = Build::new("0.9", 310, 60_000);
        let next = Build::new("1.1", 400, 90_000);
        let offer = publisher.publish(&next);
        let disk = Disk::new(1, &running, Some(&before));
        Case { publisher, running, before, next, offer, disk }
    }

    fn server(&self) -> Server {
        Server::new(self.publisher.server())
    }

    fn notes(&self) -> std::path::PathBuf {
        let notes = self.publisher.path("notes");
        std::fs::create_dir_all(&notes).unwrap();
        notes
    }

    fn apply(&mut self, server: &mut Server) -> Result<berth_apply::Written, ApplyError> {
        let notes = self.notes();
        self.disk.apply(&self.running, &self.offer, server, &notes)
    }

    fn complete(&self) {
        let seen = Seen::of(&self.disk.esp);
        assert_eq!(seen.complaints, Vec::<String>::new());
        assert!(self.disk.holds_in(&seen, Slot::A) && self.disk.holds_in(&seen, Slot::B));
        assert!(self.disk.carries(&self.next));
        let file = |name: &str| seen.files[&format!("efi/berth/b.{name}")].clone().unwrap();
        assert_eq!(file("efi"), self.next.uki);
        assert_eq!(file("env"), self.next.env().as_bytes());
        assert_eq!(file("sum"), self.next.sums(Slot::B).as_bytes());
    }
}

#[test]
fn over_an_older_release() {
    let mut case = Case::new();
    assert!(case.disk.holds(Slot::B) && case.disk.carries(&case.before));
    let others = Seen::of(&case.disk.esp).files;
    let mut server = case.server();
    let written = case.apply(&mut server).unwrap();
    case.complete();
    assert!(!written.already);
    // Every third block was there.
    assert!(written.found > 100 * 4096, "{written:?}");
    for (path, content) in others {
        if !path.starts_with("efi/berth/b.") {
            assert_eq!(Seen::of(&case.disk.esp).files[&path], content, "{path}");
        }
    }
    // Once more: nothing is fetched, nothing written.
    let mut server = case.server();
    let log = Log::default();
    let notes = case.notes();
    let again = case.disk.recorded(&case.running, &case.offer, &mut server, &notes, &log).unwrap();
    assert!(again.already && server.requests == 0 && log.events().is_empty());
}

#[test]
fn into_a_slot_that_was_never_used() {
    let mut case = Case::new();
    case.disk = Disk::new(2, &case.running, None);
    let mut server = case.server();
    let written = case.apply(&mut server).unwrap();
    case.complete();
    let all = case.offer.root.length + case.offer.verity.length + case.offer.uki.length;
    assert_eq!((written.fetched, written.found), (all, 0));
    assert_eq!(server.requests, 3);
}

#[test]
fn a_line_that_breaks_costs_only_the_rest() {
    let mut case = Case::new();
    case.disk = Disk::new(3, &case.running, None);
    let all = case.offer.root.length + case.offer.verity.length + case.offer.uki.length;
    let mut fetched = 0;
    let mut tries: u64 = 0;
    loop {
        assert!(tries < 20, "{fetched} of {all} bytes after {tries} tries");
        let mut server = case.server();
        server.ends_after = 400_000;
        tries += 1;
        match case.apply(&mut server) {
            Ok(_) => {
                fetched += server.given;
                break;
            }
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                assert!(error.to_string().contains("connection reset; the next try goes on"), "{error}");
                assert!(!case.disk.holds(Slot::B));
                fetched += server.given;
            }
        }
    }
    case.complete();
    // What was in a block, or behind the last note, when the line broke is fetched twice.
    assert!(tries > 4 && fetched < all + tries * 4096, "{tries} tries, {fetched} of {all} bytes");
}

#[test]
fn the_uki_goes_on_where_a_note_says() {
    let mut case = Case::new();
    case.next = Build::new("1.2", 20, 3_000_000);
    case.offer = case.publisher.publish(&case.next);
    case.disk = Disk::new(4, &case.running, None);
    let before_uki = case.offer.root.length + case.offer.verity.length;
    let mut server = case.server();
    server.ends_after = before_uki + 2_500_000;
    assert!(case.apply(&mut server).is_err());
    let mut server = case.server();
    let written = case.apply(&mut server).unwrap();
    case.complete();
    assert_eq!(server.given, case.offer.uki.length - (9 << 18), "{written:?}");
}

#[test]
fn a_server_that_lies_is_found_out_before_it_harms() {
    let mut case = Case::new();
    let mut server = case.server();
    server.lies = true;
    let error = case.apply(&mut server).unwrap_err();
    assert!(error.is_transient());
    assert!(
        error.to_string().contains("the release's verity tree as the server has it is not what was signed"),
        "{error}"
    );
    assert!(!case.disk.holds(Slot::B) && case.disk.holds(Slot::A));
    // The tree is there, the root comes from a liar: what is on the disk stays as it was.
    case.apply(&mut case.server()).unwrap();
    case.complete();
    let good = case.disk.root.clone();
    let at = 7 * 4096;
    berth_apply::Medium::write_at(&mut case.disk.root, at, &[1; 4096]).unwrap();
    let mut server = case.server();
    server.lies = true;
    let error = case.apply(&mut server).unwrap_err().to_string();
    assert!(
        error.contains("the release's root") && error.contains("its bytes from 28672 on differ"),
        "{error}"
    );
    assert_eq!(support::bytes(&case.disk.root, at, 4096), [1; 4096]);
    let mut server = case.server();
    let written = case.apply(&mut server).unwrap();
    assert_eq!((written.fetched, server.given), (4096, 4096));
    assert!(case.disk.root.equals(&good).unwrap());
    case.complete();
}

#[test]
fn only_what_is_missing_is_fetched() {
    let mut case = Case::new();
    case.next = Build::new("1.2", 1000, 9_000);
    case.offer = case.publisher.publish(&case.next);
    case.disk = Disk::new(5, &case.running, None);
    case.apply(&mut case.server()).unwrap();
    case.complete();
    // Three places far from each other, and a run of right blocks that is shorter than a new request is worth.
    for block in [0, 20, 700, 999] {
        berth_apply::Medium::write_at(&mut case.disk.root, block * 4096 + 9, &[1]).unwrap();
    }
    let mut server = case.server();
    let written = case.apply(&mut server).unwrap();
    case.complete();
    assert_eq!(server.requests, 3);
    assert_eq!(written.fetched, (21 + 1 + 1) * 4096);
}

#[test]
fn what_is_refused_before_a_byte_is_written() {
    let mut case = Case::new();
    let refused = |case: &mut Case, offer: &berth_tuf::release::Offer| {
        let log = Log::default();
        let mut server = case.server();
        let notes = case.notes();
        let error = case.disk.recorded(&case.running, offer, &mut server, &notes, &log).unwrap_err();
        assert!(log.events().is_empty() && server.requests == 0, "{error}");
        assert!(!error.is_transient(), "{error}");
        error.to_string()
    };
    let big = case.publisher.publish(&Build::new("2.0", 1100, 9_000));
    assert_eq!(
        refused(&mut case, &big),
        "the release's root has 4505600 bytes, and partition root-b has room for 4194304; this machine needs a smaller \
         release, or a disk that was installed anew with larger partitions"
    );
    let big = case.publisher.publish(&Build::new("2.1", 10, 34_000_000));
    let error = refused(&mut case, &big);
    assert!(error.contains("the ESP has room for") && error.contains("of slot b"), "{error}");
    let running = case.running.clone();
    let same = case.publisher.publish(&running);
    assert_eq!(
        refused(&mut case, &same),
        "release 1.0 is the one that runs; it is not written to slot b as well"
    );
    let mut odd = case.offer.clone();
    odd.root.length += 1;
    assert!(refused(&mut case, &odd).contains("is not whole blocks"));
    odd.root.length += 4095 + 128 * 4096;
    assert!(refused(&mut case, &odd).contains("its verity tree has"));
}

#[test]
fn a_signed_release_that_no_machine_could_start_is_not_made_bootable() {
    let mut case = Case::new();
    // A publisher's mistake: a command line that only looks as if it named the root.
    let hash = berth_updater::verity::to_hex(&case.next.hash);
    let mut odd = Build { version: "3.0".into(), ..case.next.clone() };
    for (uki, why) in [
        (
            support::release::uki(&format!("quiet xroothash={hash}"), "3", 9_000),
            "does not name this release's",
        ),
        (format!("MZ roothash={hash}").into_bytes(), "not a UKI"),
    ] {
        odd.uki = uki;
        odd.version.push('1');
        let offer = case.publisher.publish(&odd);
        let notes = case.notes();
        let mut server = case.server();
        let error = case.disk.apply(&case.running, &offer, &mut server, &notes).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.is_transient() && !case.disk.holds(Slot::B) && case.disk.holds(Slot::A));
    }
    case.apply(&mut case.server()).unwrap();
    case.complete();
}

/// A disk that says it wrote, and did not.
struct Forgetful(berth_apply::cuts::Memory, u64);

impl berth_apply::Medium for Forgetful {
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(at, buffer)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_at(at, bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    /// The cache is gone, and with it one byte.
    fn forget(&mut self) -> std::io::Result<()> {
        let mut byte = [0];
        self.0.read_at(self.1, &mut byte)?;
        self.0.write_at(self.1, &[byte[0] ^ 1])
    }
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let mut case = Case::new();
    let notes = case.notes();
    let mut root = Forgetful(case.disk.root.clone(), 5 * 4096 + 1);
    let mut media = berth_apply::SlotMedia {
        slot: Slot::B,
        root: &mut root,
        verity: &mut case.disk.verity,
        esp: &mut case.disk.esp,
        running: None,
    };
    let mut server = Server::new(case.publisher.server());
    let error = berth_apply::apply(&case.offer, &mut server, &mut media, &notes, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "partition root-b does not hold what was written to it: its bytes from 20480 on differ; the slot is not made \
         bootable. If it happens again, the disk is to be replaced"
    );
    assert!(!case.disk.holds(Slot::B) && case.disk.holds(Slot::A));
}
