//! The power fails while a release is written: at any write or sync, with what was not synced kept, lost, reordered or
//! torn. After each: the other slot is as it was, this one is passed over by the boot loader or complete, and the next
//! run finishes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod support;

use berth_apply::cuts::{Fate, Log, Random, Replay};
use berth_tuf::release::Offer;
use berth_updater::layout::Slot;
use std::path::Path;
use support::fat::Seen;
use support::release::{Build, Disk, Publisher, Server};

struct World {
    publisher: Publisher,
    running: Build,
    next: Build,
    offer: Offer,
}

impl World {
    fn new() -> World {
        let publisher = Publisher::new();
        let next = Build::new("1.1", 140, 20_000);
        let offer = publisher.publish(&next);
        World { publisher, running: Build::new("1.0", 20, 5_000), next, offer }
    }

    /// A note that may be true or not: it is only a hint.
    fn note(&self, folder: &Path, random: &mut Random) {
        let path = folder.join("uki");
        if random.toss() {
            let _ = std::fs::remove_file(path);
            return;
        }
        let hash = berth_tuf::hex(&self.offer.uki.hashes.sha256.unwrap());
        let bytes = random.below(self.offer.uki.length * 2);
        std::fs::write(path, format!("{hash} {bytes}\n")).unwrap();
    }

    /// What must be so after a cut; whether the boot loader would start the slot.
    fn survived(&self, disk: &Disk, others: &Seen, before: Option<&Build>, what: &str) -> bool {
        let seen = Seen::of(&disk.esp);
        for (path, content) in &others.files {
            if !path.starts_with("efi/berth/b.") {
                assert_eq!(seen.files.get(path), Some(content), "{path} {what}");
            }
        }
        assert!(disk.holds_in(&seen, Slot::A), "slot A {what}");
        let holds = disk.holds_in(&seen, Slot::B);
        if holds {
            let is = |build: &Build| {
                let uki = seen.files.get("efi/berth/b.efi").cloned().flatten();
                disk.carries(build) && uki.as_deref() == Some(&build.uki)
            };
            assert!(is(&self.next) || before.is_some_and(is), "slot B is started and is not whole {what}");
        }
        holds
    }

    fn finishes(&self, mut disk: Disk, notes: &Path, what: &str) {
        let mut server = Server::new(self.publisher.server());
        let result = disk.apply(&self.running, &self.offer, &mut server, notes);
        result.unwrap_or_else(|error| panic!("{error} {what}"));
        self.is_complete(&disk, what);
    }

    fn is_complete(&self, disk: &Disk, what: &str) {
        let seen = Seen::of(&disk.esp);
        assert_eq!(seen.complaints, Vec::<String>::new(), "{what}");
        assert!(disk.holds_in(&seen, Slot::A) && disk.holds_in(&seen, Slot::B), "{what}");
        assert!(disk.carries(&self.next), "{what}");
        assert_eq!(seen.files["efi/berth/b.efi"].as_ref().unwrap(), &self.next.uki, "{what}");
        assert_eq!(seen.files["efi/berth/b.env"].as_ref().unwrap(), self.next.env().as_bytes(), "{what}");
    }

    /// Cuts everywhere, once, and at some of these states once more. How many states were looked at, and in how many of
    /// them the boot loader would have started the slot.
    fn cut(&self, seed: u64, before: Option<&Build>) -> (usize, usize) {
        let folder = tempfile::tempdir().unwrap();
        let notes = folder.path();
        let mut random = Random::new(seed);
        let start = Disk::new(seed, &self.running, before);
        let others = Seen::of(&start.esp);
        let log = Log::default();
        let mut whole = start.clone();
        let mut server = Server::new(self.publisher.server());
        whole.recorded(&self.running, &self.offer, &mut server, notes, &log).unwrap();
        self.is_complete(&whole, "without a cut");
        let events = log.events();
        let mut replay = Replay::new(&events, start.list());
        let (mut states, mut started) = (0, 0);
        loop {
            for fate in Fate::ALL {
                if replay.pending() == 0 && fate != Fate::Lost {
                    continue;
                }
                let what = format!("(seed {seed}, event {} of {}, {fate:?})", replay.played(), events.len());
                let disk = Disk::from_list(replay.state(fate, &mut random).unwrap());
                states += 1;
                started += usize::from(self.survived(&disk, &others, before, &what));
                self.note(notes, &mut random);
                if random.below(8) == 0 {
                    states += 1;
                    let disk = self.cut_again(disk, &others, before, notes, &mut random, &what);
                    self.finishes(disk, notes, &format!("{what}, and again"));
                } else {
                    self.finishes(disk, notes, &what);
                }
            }
            if !replay.step().unwrap() {
                return (states, started);
            }
        }
    }

    /// A second cut, somewhere in the run that follows the first.
    fn cut_again(
        &self,
        disk: Disk,
        others: &Seen,
        before: Option<&Build>,
        notes: &Path,
        random: &mut Random,
        what: &str,
    ) -> Disk {
        let log = Log::default();
        let mut server = Server::new(self.publisher.server());
        disk.clone().recorded(&self.running, &self.offer, &mut server, notes, &log).unwrap();
        let events = log.events();
        let mut replay = Replay::new(&events, disk.list());
        for _ in 0..random.below(events.len() as u64 + 1) {
            replay.step().unwrap();
        }
        let fate = Fate::ALL[usize::try_from(random.below(5)).unwrap()];
        let cut = Disk::from_list(replay.state(fate, random).unwrap());
        self.survived(&cut, others, before, &format!("{what}, and again"));
        self.note(notes, random);
        cut
    }
}

#[test]
fn whatever_a_power_cut_leaves_the_next_run_finishes() {
    let world = World::new();
    let smaller = Build::new("0.9", 60, 7_000);
    let larger = Build::new("0.8", 200, 60_000);
    let (mut states, mut started) = (0, 0);
    for (seed, before) in [(1, None), (2, Some(&smaller)), (3, Some(&larger))] {
        let (more, of_these) = world.cut(seed, before);
        states += more;
        started += of_these;
        println!("{states} states, the slot would be started in {started}");
    }
    assert!(states >= 1000, "{states} states");
    // Before the first write, and after the last one.
    assert!(started > 0 && started < states / 4, "{started} of {states}");
}
