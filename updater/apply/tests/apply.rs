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
