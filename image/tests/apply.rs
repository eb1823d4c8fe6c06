//! A release written into the other slot by the code of machines, judged by other people's programs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use berth_apply::{SlotMedia, Window};
use berth_image::disk::Disk;
use berth_image::run::{output, silent};
use berth_image::tools::{self, Tools};
use berth_image::{Options, Outputs, build};
use berth_repo::{Built, Keys, Repository, Setup};
use berth_tuf::fetch::Folder;
use berth_tuf::release::{ARCHITECTURE, CHANNEL, Offer};
use berth_tuf::time::{Clock, Time};
use berth_updater::boot_files::BootFile;
use berth_updater::layout::{self, Part, Slot};

fn dir(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("apply").join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// With programs that are none: nothing here runs them. The more padding, the larger root and UKI.
fn built(version: &str, padding: usize) -> Outputs {
    let programs = dir(&format!("programs-{version}"));
    for name in ["init", "berth"] {
        let mut program = b"\x7fELF stand-in".to_vec();
        // Not to be compressed.
        let mut state = 1u32;
        program.extend((0..padding).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        }));
        fs::write(programs.join(name), program).unwrap();
    }
    let options = Options {
        programs: Some(programs),
        out: dir(&format!("out-{version}")),
        version: version.into(),
        install: true,
        ..Options::default()
    };
    build(&options, &silent).unwrap()
}

fn offer(repository: &Path, outputs: &Outputs) -> Offer {
    let built = Built::open(&outputs.update).unwrap();
    let today = Time::from_seconds(built.release().built);
    let keys = Keys::load(&[repository.with_extension("keys")]).unwrap();
    Repository::open(repository).unwrap().publish_release(&built, CHANNEL, &keys, today).unwrap();
    let anchor = fs::read(repository.join("metadata/1.root.json")).unwrap();
    let clock = Clock { now: today, built: Time::default() };
    let state = berth_tuf::state::Memory::default();
    let mut client = berth_tuf::Client::open(state, &anchor, &clock).unwrap();
    let mut server = Folder::new(repository);
    client.refresh(&mut server).unwrap();
    client.offer(&mut server, ARCHITECTURE, CHANNEL).unwrap().unwrap()
}

fn check(tools: &Tools, path: &Path, outputs: &Outputs) {
    let mut disk = Disk::open(path).unwrap();
    let part = dir("parts").join("esp");
    let esp = layout::PARTS[1];
    fs::write(&part, disk.read(esp, 0, usize::try_from(esp.bytes).unwrap()).unwrap()).unwrap();
    let said = output("ESP", tools.command("fsck.fat").args(["-n", "-v"]).arg(&part)).unwrap();
    let said = String::from_utf8(said).unwrap();
    for complaint in ["differ", "Reclaim", "wrong", "Truncat", "orphan", "Leaving"] {
        assert!(!said.contains(complaint), "{said}");
    }
    let bundle = &outputs.bundle;
    let files = disk.esp(tools).unwrap();
    assert!(files.get(&BootFile::Uki.path(Slot::B)).unwrap() == fs::read(&bundle.uki).unwrap());
    assert_eq!(files.get(&BootFile::Env.path(Slot::B)).unwrap(), bundle.env.as_bytes());
    // Byte for byte what an installation would have put there.
    let installed = dir("parts").join("installed.raw");
    berth_image::disk::copy(path, &installed).unwrap();
    berth_image::disk::install_bundle(tools, &installed, Slot::B, bundle).unwrap();
    let other = Disk::open(&installed).unwrap();
    for file in BootFile::ALL {
        for slot in Slot::ALL {
            let path = file.path(slot);
            let (one, two) = (files.get(&path).unwrap(), other.esp(tools).unwrap().get(&path).unwrap());
            assert!(one == two, "{path}");
        }
    }
    let (root, verity) = (fs::read(&bundle.root).unwrap(), fs::read(&bundle.verity).unwrap());
    assert!(disk.read(Slot::B.root(), 0, root.len()).unwrap() == root);
    assert!(disk.read(Slot::B.verity(), 0, verity.len()).unwrap() == verity);
}

#[test]
fn other_programs_find_what_a_machine_wrote_in_order() {
    let tools = tools::ensure_with(true, &silent).unwrap();
    let [first, larger] =
        [("1", 0), ("2-larger", 1_500_000)].map(|(version, padding)| built(version, padding));
    let path = dir("disk").join("berth.raw");
    berth_image::disk::copy(&first.raw, &path).unwrap();
    let repository = dir("repository").join("repo");
    let _ = fs::remove_dir_all(&repository);
    let _ = fs::remove_dir_all(repository.with_extension("keys"));
    let setup = Setup { root_keys: 1, threshold: 1 };
    let begun = Time::from_seconds(Built::open(&first.update).unwrap().release().built);
    Repository::init(&repository, &repository.with_extension("keys"), setup, begun).unwrap();
    // The slot's files grow out of nothing, and shrink again.
    for outputs in [&larger, &first] {
        let offer = offer(&repository, outputs);
        let disk = Disk::open(&path).unwrap();
        let open = |part: Part| {
            let file = File::options().read(true).write(true).open(&path).unwrap();
            Window::part(file, disk.offset(part).unwrap(), part.bytes).unwrap()
        };
        let (mut root, mut verity) = (open(Slot::B.root()), open(Slot::B.verity()));
        let mut esp = open(layout::PARTS[1]);
        let mut to =
            SlotMedia { slot: Slot::B, root: &mut root, verity: &mut verity, esp: &mut esp, running: None };
        let mut server = Folder::new(&repository);
        let written = berth_apply::apply(&offer, &mut server, &mut to, &dir("notes"), &mut |_| {}).unwrap();
        assert!(!written.already);
        assert!(berth_apply::holds(&mut esp, Slot::A).unwrap());
        check(&tools, &path, outputs);
    }
}
