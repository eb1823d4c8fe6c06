//! Which accelerator really runs a guest. `/dev/kvm` may open, and even create a machine, where no guest ever runs; so
//! a guest is run: one boot sector that reports through a debug port.

use crate::scratch::Scratch;
use crate::{machine, sys};
use anyhow::Result;
use berth_image::tools::Tools;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How the guest's instructions are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// Hardware, through /dev/kvm.
    Kvm,
    /// Emulation; works everywhere.
    Tcg,
}

impl Accel {
    /// QEMU's arguments.
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Accel::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accel::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

impl std::fmt::Display for Accel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Accel::Kvm => "KVM",
            Accel::Tcg => "emulation (TCG)",
        })
    }
}

/// What the boot sector writes to port 0xf4; isa-debug-exit makes `2 * value + 1` of it.
const WORD: u8 = 0x2a;
/// A working KVM takes a fraction of a second for this.
const PROBE: Duration = Duration::from_secs(5);

/// Probes KVM with a tiny guest, once per process; `BERTH_ACCEL=kvm|tcg` decides without a probe.
pub fn detect(tools: &Tools) -> Accel {
    static FOUND: std::sync::OnceLock<Accel> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| match std::env::var("BERTH_ACCEL").as_deref() {
        Ok("kvm") => Accel::Kvm,
        Ok("tcg") => Accel::Tcg,
        _ if std::path::Path::new("/dev/kvm").exists() && probe(tools).unwrap_or(false) => Accel::Kvm,
        _ => Accel::Tcg,
    })
}

fn probe(tools: &Tools) -> Result<bool> {
    let folder = Scratch::new("probe")?;
    let disk = folder.path().join("probe.raw");
    let mut sector = vec![0_u8; 512];
    // mov al, WORD; out 0xf4, al; hlt; jmp $-1
    sector[..7].copy_from_slice(&[0xb0, WORD, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(&disk, sector)?;
    let mut command = machine::qemu(tools);
    command
        .args(Accel::Kvm.arguments())
        .args(["-machine", "q35", "-nodefaults", "-display", "none", "-m", "16"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .arg("-drive")
        .arg(format!("file={},format=raw,if=ide", disk.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    sys::die_with_parent(&mut command);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + PROBE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        // The standard library has no wait with a deadline; this runs once, for at most five seconds.
        std::thread::sleep(Duration::from_millis(20));
    };
    let Some(status) = status else {
        child.kill()?;
        child.wait()?;
        return Ok(false);
    };
    Ok(status.code() == Some(i32::from(WORD) * 2 + 1))
}
