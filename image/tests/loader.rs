//! GRUB's script against every record and file that it may find, under both firmwares.
//!
//! Each case is a disk, prepared; QEMU runs until the loader has said what it does, and is stopped there. What the
//! console said and what the record holds afterwards is the result. No Linux runs, so a case takes a second or two.
//! What depends on the firmware (starting, counting) is tried on both; what only the script decides, on BIOS, which is
//! faster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod stand_in;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use berth_image::disk::{self, Damage, Disk};
use berth_image::run::silent;
use berth_image::tools::Tools;
use berth_image::{Bundle, grub, state, tools};
use berth_updater::layout::Slot;
use berth_updater::record::{Record, Trial};

/// A loader that says nothing for so long is stuck. Generous: the tests run beside others.
const DEADLINE: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Firmware {
    Uefi,
    Bios,
}

/// What all cases share: made once.
struct Shared {
    tools: Tools,
    disk: PathBuf,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("loader");
        std::fs::create_dir_all(&dir).unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let bundle = Bundle {
            uki: file("uki.efi", &stand_in::uki()),
            root: file("root", &[0x5a; 4096]),
            verity: file("verity", &[0x5a; 4096]),
            root_hash: [7; 32],
            env: stand_in::ENV.into(),
            kernel: PathBuf::new(),
            initrd: PathBuf::new(),
            cmdline: String::new(),
            files: Vec::new(),
            key: String::new(),
        };
        let tools = tools::ensure_with(true, &silent).unwrap();
        let cores = grub::ensure(&tools, &silent).unwrap();
        let state = state::ensure(&tools, &silent).unwrap();
        let disk = dir.join("disk.raw");
        let mut made = disk::create(&tools, &cores, &state.raw, &disk).unwrap();
        for slot in Slot::ALL {
            made.install(&tools, slot, &bundle).unwrap();
        }
        Shared { tools, disk }
    })
}

/// A copy of the disk with both slots filled, for one case.
struct Case {
    firmware: Firmware,
    path: PathBuf,
}

impl Case {
    fn new(name: &str, firmware: Firmware) -> Case {
        let shared = shared();
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{firmware:?}.raw"));
        disk::copy(&shared.disk, &path).unwrap();
        Case { firmware, path }
    }

    fn disk(&self) -> Disk {
        Disk::open(&self.path).unwrap()
    }

    fn record(self, record: &Record) -> Case {
        self.disk().set_record(record).unwrap();
        self
    }

    fn damage(self, slot: Slot, damage: Damage, fix_sum: bool) -> Case {
        self.disk().damage_uki(&shared().tools, slot, damage, fix_sum).unwrap();
        self
    }

    /// Runs until the console has said `until`, and returns all that it said.
    fn boot(&self, until: &str) -> String {
        self.boot_beside(None, until)
    }

    /// The same with a second disk attached before it.
    fn boot_beside(&self, decoy: Option<&Case>, until: &str) -> String {
        let disks: Vec<&Path> = decoy.into_iter().chain([self]).map(|case| case.path.as_path()).collect();
        let mut machine = start(self.firmware, &disks);
        let said = machine.wait_for(until);
        drop(machine);
        said.unwrap_or_else(|said| panic!("{:?} never said {until:?}; it said:\n{said}", self.firmware))
    }

    fn after(&self) -> Record {
        self.disk().record().unwrap().unwrap()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

struct Machine {
    child: Child,
    console: Receiver<Vec<u8>>,
}

/// Boots from the last of the disks.
fn start(firmware: Firmware, disks: &[&Path]) -> Machine {
    let tools = &shared().tools;
    let mut command = tools.command("qemu-system-x86_64");
    command.args([
        "-machine",
        "q35",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-m",
        "256",
        "-nodefaults",
    ]);
    command.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
    if firmware == Firmware::Uefi {
        let code = tools.ovmf_code();
        command.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={}", code.display()));
        let vars = tools.ovmf_vars();
        command.arg("-drive").arg(format!("if=pflash,format=raw,snapshot=on,file={}", vars.display()));
    }
    for (index, disk) in disks.iter().enumerate() {
        let order = disks.len() - index;
        command.arg("-drive").arg(format!("if=none,id=d{index},format=raw,file={}", disk.display()));
        command.arg("-device").arg(format!("virtio-blk-pci,drive=d{index},bootindex={order}"));
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let (sender, console) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = out.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    Machine { child, console }
}

impl Machine {
    fn wait_for(&mut self, until: &str) -> Result<String, String> {
        let end = Instant::now() + DEADLINE;
        let mut said = String::new();
        while !said.contains(until) {
            match self.console.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => said.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(said),
            }
        }
        Ok(said)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn on_trial(tries: u32) -> Record {
    Record { trial: Some(Trial { slot: Slot::B, tries }), ..Record::fresh(Slot::A) }
}

/// Both firmwares, one after the other.
fn both(test: impl Fn(Firmware)) {
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        test(firmware);
    }
}

const A: &str = "Berth: starting slot a";
const B: &str = "Berth: starting slot b";

#[test]
fn a_fresh_disk_starts_slot_a_and_counts_it() {
    both(|firmware| {
        let case = Case::new("fresh", firmware);
        case.boot(A);
        assert_eq!(case.after(), Record { starts: 1, ..Record::fresh(Slot::A) });
    });
}

#[test]
fn a_trial_costs_one_try_and_a_spent_one_is_not_started() {
    both(|firmware| {
        let case = Case::new("trial", firmware).record(&on_trial(2));
        for left in [1, 0] {
            case.boot(B);
            assert_eq!(case.after(), on_trial(left));
        }
        case.boot(A);
        assert_eq!(case.after(), Record { starts: 1, ..on_trial(0) });
    });
}

#[test]
fn a_damaged_trial_is_refused_by_its_hash_and_keeps_its_tries() {
    let case = Case::new("trial-hash", Firmware::Bios).record(&on_trial(3));
    let case = case.damage(Slot::B, Damage::Flipped(90_000), false);
    case.boot(A);
    assert_eq!(case.after(), Record { starts: 1, said: "b-hash".into(), ..on_trial(3) });
}

#[test]
fn a_good_slot_that_is_missing_cut_or_noise_is_passed_over() {
    for (name, damage, why) in [
        ("missing", Damage::Missing, "a-missing"),
        ("cut", Damage::Truncated(50_000), "a-hash"),
        ("empty", Damage::Truncated(0), "a-missing"),
        ("zero", Damage::Zeroed, "a-hash"),
        ("noise", Damage::Random(7), "a-hash"),
    ] {
        let firmware = if name == "cut" { Firmware::Uefi } else { Firmware::Bios };
        let case = Case::new(name, firmware).damage(Slot::A, damage, false);
        case.boot(B);
        assert_eq!(case.after(), Record { said: why.into(), ..Record::fresh(Slot::A) });
    }
}

#[test]
fn an_empty_sum_is_no_sum() {
    let case = Case::new("no-sum", Firmware::Bios);
    case.disk().esp(&shared().tools).unwrap().put("EFI/berth/a.sum", b"").unwrap();
    case.boot(B);
    assert_eq!(case.after().said, "a-missing");
}

#[test]
fn a_damaged_record_is_replaced_by_its_copy() {
    let copy = Record::fresh(Slot::B).to_sector();
    let mut torn = Record::fresh(Slot::A).to_sector();
    torn[60..].fill(0);
    let mut lying = Record::fresh(Slot::A).to_sector();
    let at = lying.windows(6).position(|bytes| bytes == b"good=a").unwrap();
    lying[at + 5] = b'c';
    for (name, rec0) in [
        ("zeroed", [0; 512]),
        ("hashes", [b'#'; 512]),
        ("noise", [0xa5; 512]),
        ("torn", torn),
        ("lying", lying),
    ] {
        let firmware = if name == "torn" { Firmware::Uefi } else { Firmware::Bios };
        let case = Case::new(&format!("rec0-{name}"), firmware);
        case.disk().set_record_sectors(&rec0, &copy).unwrap();
        let said = case.boot(B);
        assert!(said.contains("its copy is used"), "{name}: {said}");
        assert_eq!(case.after(), Record { starts: 1, ..Record::fresh(Slot::B) }, "{name}");
    }
}

#[test]
fn without_any_record_hashes_decide() {
    both(|firmware| {
        let case = Case::new("no-record", firmware);
        case.disk().set_record_sectors(&[0xff; 512], &[0; 512]).unwrap();
        case.boot(A);
        let case = case.damage(Slot::A, Damage::Random(3), false);
        case.boot(B);
        assert_eq!(case.disk().record().unwrap(), None);
    });
}

#[test]
fn a_worn_out_slot_gives_the_other_a_turn() {
    let case = Case::new("worn", Firmware::Bios).record(&Record { starts: 5, ..Record::fresh(Slot::A) });
    case.boot(A);
    assert_eq!(case.after().starts, 6);
    case.boot(B);
    assert_eq!(case.after(), Record { starts: 3, said: "a-worn".into(), ..Record::fresh(Slot::A) });
    case.boot(A);
    assert_eq!(case.after().starts, 4);
}

#[test]
fn a_slot_whose_sum_fits_but_which_cannot_be_started_is_left() {
    both(|firmware| {
        let case = Case::new("unstartable", firmware).damage(Slot::A, Damage::Zeroed, true);
        // UEFI's refusal comes back to the script; on BIOS the next power-on takes the other slot.
        if firmware == Firmware::Bios {
            case.boot("Berth: starting again");
            assert_eq!(case.after().said, "a-start");
        }
        case.boot(B);
        assert_eq!(case.after().said, "a-start");
    });
}

#[test]
fn with_no_sound_slot_it_says_so_and_goes_on() {
    both(|firmware| {
        let case = Case::new("unsound", firmware)
            .damage(Slot::A, Damage::Flipped(stand_in::BYTES - 1), false)
            .damage(Slot::B, Damage::Missing, false);
        let said = case.boot("no slot is sound; starting one unchecked");
        assert!(said.contains("slot a is not started: hash"), "{said}");
        assert!(said.contains("slot b is not started: missing"), "{said}");
        let case = case.damage(Slot::A, Damage::Missing, false);
        case.boot("starting again in 10 seconds");
    });
}

#[test]
fn a_second_disk_of_the_same_machine_is_left_alone() {
    // The decoy would start slot b; whoever reads its record has looked at the wrong disk.
    both(|firmware| {
        let case = Case::new("first", firmware);
        let decoy = Case::new("decoy", firmware).record(&Record::fresh(Slot::B));
        case.boot_beside(Some(&decoy), A);
        assert_eq!(decoy.after(), Record::fresh(Slot::B));
        assert_eq!(case.after().starts, 1);
    });
}
