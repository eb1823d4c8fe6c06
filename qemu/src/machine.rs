//! What is plugged together before power-on.

use crate::accel::{self, Accel};
use crate::console::Console;
use crate::metadata::Service;
use crate::qmp::Qmp;
use crate::running::Running;
use crate::scratch::Scratch;
use crate::{disk, sys};
use anyhow::{Context, Result, bail};
use berth_image::tools::Tools;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Way from power-on to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// OVMF → GRUB → UKI.
    Uefi,
    /// SeaBIOS → GRUB → kernel and initrd out of the UKI.
    Bios,
    /// QEMU starts kernel and initrd itself.
    Direct,
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk.
    Virtio,
    /// AHCI.
    Sata,
    /// NVMe.
    Nvme,
    /// A CD-ROM on AHCI.
    Cdrom,
    /// USB storage on xHCI.
    Usb,
}

/// A network card of its own, on a network of its own.
#[derive(Debug, Clone)]
struct Card {
    mac: String,
    network: String,
    restrict: bool,
}

#[derive(Debug, Clone)]
struct Drive {
    path: PathBuf,
    bus: Bus,
    read_only: bool,
    serial: Option<String>,
    sector_bytes: Option<u32>,
}

/// Kernel, initrd and command line for [`Firmware::Direct`].
#[derive(Debug, Clone)]
pub struct Kernel {
    /// bzImage.
    pub kernel: PathBuf,
    /// initramfs.
    pub initrd: PathBuf,
    /// Kernel command line.
    pub cmdline: String,
}

impl Kernel {
    /// The image's own.
    pub fn of(outputs: &berth_image::Outputs) -> Result<Kernel> {
        let cmdline = std::fs::read_to_string(&outputs.cmdline)?;
        Ok(Kernel { kernel: outputs.kernel.clone(), initrd: outputs.initrd.clone(), cmdline })
    }
}

/// A machine that is not running yet. Every method adds one thing.
#[derive(Clone)]
pub struct Machine {
    tools: Tools,
    firmware: Firmware,
    kernel: Option<Kernel>,
    drives: Vec<Drive>,
    boot_order: Vec<usize>,
    memory_mib: u32,
    cpus: u32,
    forwards: Vec<(u16, u16)>,
    smbios: Vec<String>,
    fw_cfg: Vec<(String, Vec<u8>)>,
    stub_cmdline: Option<String>,
    watchdog: bool,
    network: bool,
    isolated: bool,
    cards: Vec<Card>,
    cloud: Option<Service>,
    uuid: Option<String>,
    no_reboot: bool,
    echo: bool,
    own_group: bool,
    snapshot: bool,
    log: Option<PathBuf>,
    raw: Vec<String>,
}

impl Machine {
    /// An empty machine of 512 MiB with one CPU, a network card and a watchdog that resets.
    pub fn new(tools: &Tools, firmware: Firmware) -> Machine {
        Machine {
            tools: tools.clone(),
            firmware,
            kernel: None,
            drives: Vec::new(),
            boot_order: vec![0],
            memory_mib: 512,
            cpus: 1,
            forwards: Vec::new(),
            smbios: Vec::new(),
            fw_cfg: Vec::new(),
            stub_cmdline: None,
            watchdog: true,
            network: true,
            isolated: false,
            cards: Vec::new(),
            cloud: None,
            uuid: None,
            no_reboot: false,
            echo: false,
            own_group: false,
            snapshot: false,
            log: None,
            raw: Vec::new(),
        }
    }

    /// A disk, written to. The first one boots, unless [`Machine::boots_from`] says otherwise.
    #[must_use]
    pub fn disk(mut self, path: impl Into<PathBuf>, bus: Bus) -> Machine {
        self.drives.push(Drive {
            path: path.into(),
            bus,
            read_only: false,
            serial: None,
            sector_bytes: None,
        });
        self
    }

    /// The disk attached last says that this is its serial number.
    #[must_use]
    pub fn serial(mut self, serial: &str) -> Machine {
        if let Some(drive) = self.drives.last_mut() {
            drive.serial = Some(serial.to_owned());
        }
        self
    }

    /// The disk attached last has sectors of that many bytes.
    #[must_use]
    pub fn sectors(mut self, bytes: u32) -> Machine {
        if let Some(drive) = self.drives.last_mut() {
            drive.sector_bytes = Some(bytes);
        }
        self
    }

    /// The firmware boots this disk, counted from 0 in the order in which they were attached.
    #[must_use]
    pub fn boots_from(self, disk: usize) -> Machine {
        self.boot_order(&[disk])
    }

    /// The firmware tries these disks, one after the other.
    #[must_use]
    pub fn boot_order(mut self, disks: &[usize]) -> Machine {
        self.boot_order = disks.to_vec();
        self
    }

    /// A disk that the guest cannot write.
    #[must_use]
    pub fn read_only_disk(mut self, path: impl Into<PathBuf>, bus: Bus) -> Machine {
        self.drives.push(Drive { path: path.into(), bus, read_only: true, serial: None, sector_bytes: None });
        self
    }

    /// What direct boot starts.
    #[must_use]
    pub fn kernel(mut self, kernel: Kernel) -> Machine {
        self.kernel = Some(kernel);
        self
    }

    /// Memory.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Machine {
        self.memory_mib = mib;
        self
    }

    /// The guest reaches nobody: neither the host nor what lies behind it. Forwarded ports work.
    #[must_use]
    pub fn isolated(mut self) -> Machine {
        self.isolated = true;
        self
    }

    /// `127.0.0.1:host` on the host reaches `guest` in the guest.
    #[must_use]
    pub fn forward(mut self, host: u16, guest: u16) -> Machine {
        self.forwards.push((host, guest));
        self
    }

    /// One SMBIOS type 11 string.
    #[must_use]
    pub fn smbios(mut self, text: impl Into<String>) -> Machine {
        self.smbios.push(text.into());
        self
    }

    /// One fw_cfg file.
    #[must_use]
    pub fn fw_cfg(mut self, name: &str, content: impl Into<Vec<u8>>) -> Machine {
        self.fw_cfg.push((name.to_owned(), content.into()));
        self
    }

    /// The machine config, by the way that asks least of the host.
    #[must_use]
    pub fn config(self, text: &str) -> Machine {
        self.fw_cfg("opt/berth/config", text)
    }

    /// Appends to the kernel's command line (direct boot, or the UKI's stub on UEFI; GRUB on BIOS takes none).
    #[must_use]
    pub fn cmdline(mut self, text: &str) -> Machine {
        self.stub_cmdline = Some(text.to_owned());
        self
    }

    /// No watchdog device.
    #[must_use]
    pub fn no_watchdog(mut self) -> Machine {
        self.watchdog = false;
        self
    }

    /// No network card.
    #[must_use]
    pub fn no_network(mut self) -> Machine {
        self.network = false;
        self
    }

    /// One more network card, with this hardware address, on a network of its own (`10.0.3.0/24`) where QEMU answers DHCP;
    /// `restrict`: nothing beyond that network can be reached.
    #[must_use]
    pub fn network_card(mut self, mac: &str, network: &str, restrict: bool) -> Machine {
        self.cards.push(Card { mac: mac.to_owned(), network: network.to_owned(), restrict });
        self
    }

    /// The firmware says that this is that cloud, whose metadata service is at its real address: the guest's network is
    /// `169.254.0.0/16`.
    #[must_use]
    pub fn in_cloud(mut self, service: &Service) -> Machine {
        self.cloud = Some(service.clone());
        self
    }

    /// SMBIOS's UUID.
    #[must_use]
    pub fn uuid(mut self, uuid: &str) -> Machine {
        self.uuid = Some(uuid.to_owned());
        self
    }

    /// QEMU ends where the guest would reboot.
    #[must_use]
    pub fn no_reboot(mut self) -> Machine {
        self.no_reboot = true;
        self
    }

    /// Show the console on standard output as it comes.
    #[must_use]
    pub fn echo(mut self) -> Machine {
        self.echo = true;
        self
    }

    /// Writes to disks are thrown away at the end.
    #[must_use]
    pub fn snapshot(mut self) -> Machine {
        self.snapshot = true;
        self
    }

    /// Every write and flush of the boot disk, a raw file on virtio, is written to this file too, as the guest gives them
    /// (QEMU's `blklogwrites`). What was in the file is lost.
    #[must_use]
    pub fn logged(mut self, log: impl Into<PathBuf>) -> Machine {
        self.log = Some(log.into());
        self
    }

    /// QEMU in a process group of its own: the terminal's Ctrl-C is then the harness's alone.
    #[must_use]
    pub fn own_process_group(mut self) -> Machine {
        self.own_group = true;
        self
    }

    /// Anything else, as QEMU spells it.
    #[must_use]
    pub fn raw(mut self, arguments: &[&str]) -> Machine {
        self.raw.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    /// The port on the host that reaches `guest`.
    pub fn forwarded(&self, guest: u16) -> Result<u16> {
        self.forwards.iter().find(|f| f.1 == guest).map(|f| f.0).context("the guest's port is not forwarded")
    }

    /// Power on.
    pub fn boot(&self) -> Result<Running> {
        self.boot_with(accel::detect(&self.tools))
    }

    /// Power on with this accelerator.
    pub fn boot_with(&self, accel: Accel) -> Result<Running> {
        let folder = Scratch::new("qemu")?;
        let mut command = qemu(&self.tools);
        let [socket, events] = ["qmp", "events"].map(|name| folder.path().join(name));
        command
            .args(accel.arguments())
            .args(["-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-m", &format!("{}", self.memory_mib), "-smp", &format!("{}", self.cpus)])
            .args(["-serial", "stdio", "-device", "VGA,vgamem_mb=4"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", events.display()))
            .arg("-gdb")
            .arg(format!("unix:{},server=on,wait=off", folder.path().join("gdb").display()))
            .args([
                "-object",
                "rng-random,id=rng,filename=/dev/urandom",
                "-device",
                "virtio-rng-pci,rng=rng",
            ]);
        self.firmware_arguments(&mut command, folder.path())?;
        self.drive_arguments(&mut command)?;
        self.metadata_arguments(&mut command, folder.path())?;
        if self.network {
            let mut user = format!("user,id=net,restrict={}", if self.isolated { "on" } else { "off" });
            for (host, guest) in &self.forwards {
                user.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
            }
            if let Some(service) = &self.cloud {
                // QEMU starts one program for each connection to that address; it hands the bytes on to the service.
                let busybox = self.tools.root().join("usr/bin/busybox");
                user.push_str(&format!(
                    ",net=169.254.0.0/16,host=169.254.0.2,dns=169.254.0.3,dhcpstart=169.254.10.15,\
                     guestfwd=tcp:169.254.169.254:80-cmd:{} nc 127.0.0.1 {}",
                    busybox.display(),
                    service.port
                ));
            }
            command.args(["-netdev", &user, "-device", "virtio-net-pci,netdev=net,romfile="]);
        }
        for (n, Card { mac, network, restrict }) in self.cards.iter().enumerate() {
            let restrict = if *restrict { "on" } else { "off" };
            command.arg("-netdev").arg(format!("user,id=net{n},net={network},restrict={restrict}"));
            command.arg("-device").arg(format!("virtio-net-pci,netdev=net{n},mac={mac},romfile="));
        }
        if self.watchdog {
            command.args(["-device", "i6300esb", "-action", "watchdog=reset"]);
        }
        if self.no_reboot {
            command.arg("-no-reboot");
        }
        command.args(&self.raw).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.snapshot {
            command.arg("-snapshot");
        }
        if self.own_group {
            command.process_group(0);
        }
        sys::die_with_parent(&mut command);
        let started = Instant::now();
        let mut child = command.spawn().context("QEMU does not start")?;
        let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("QEMU has no output");
        };
        let console = Console::follow(output, started, self.echo);
        let complaints = Console::follow(errors, started, false);
        let mut connect = |socket| Qmp::connect(socket, || matches!(child.try_wait(), Ok(None)));
        let connected = connect(&socket).and_then(|qmp| Ok((qmp, connect(&events)?.into_events()?)));
        match connected {
            Ok((qmp, events)) => {
                console.hear_qemu(events, started);
                Ok(Running::new(child, qmp, console, started, folder))
            }
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(e.context(format!("QEMU said:\n{}", complaints.tail())))
            }
        }
    }

    fn firmware_arguments(&self, command: &mut Command, folder: &Path) -> Result<()> {
        match (self.firmware, &self.kernel) {
            (Firmware::Uefi, _) => {
                let vars = folder.join("vars.fd");
                std::fs::copy(self.tools.ovmf_vars(), &vars)?;
                let code = self.tools.ovmf_code();
                command
                    .arg("-drive")
                    .arg(format!("if=pflash,format=raw,unit=0,readonly=on,file={}", code.display()))
                    .arg("-drive")
                    .arg(format!("if=pflash,format=raw,unit=1,file={}", vars.display()));
            }
            (Firmware::Bios, _) => {}
            (Firmware::Direct, Some(kernel)) => {
                let extra = self.stub_cmdline.as_deref().unwrap_or("");
                command.arg("-kernel").arg(&kernel.kernel).arg("-initrd").arg(&kernel.initrd);
                command.arg("-append").arg(format!("{} {extra}", kernel.cmdline.trim()));
            }
            (Firmware::Direct, None) => bail!("direct boot needs a kernel"),
        }
        Ok(())
    }

    fn drive_arguments(&self, command: &mut Command) -> Result<()> {
        if self.drives.iter().any(|d| d.bus == Bus::Usb) {
            command.args(["-device", "qemu-xhci,id=xhci"]);
        }
        for (n, drive) in self.drives.iter().enumerate() {
            let read_only = if drive.read_only { "on" } else { "off" };
            let format = disk::format(&drive.path)?;
            let place = self.boot_order.iter().position(|disk| *disk == n);
            let place = place.filter(|_| self.firmware != Firmware::Direct);
            let mut boot = place.map(|place| format!(",bootindex={place}")).unwrap_or_default();
            if let Some(bytes) = drive.sector_bytes {
                boot.push_str(&format!(",logical_block_size={bytes},physical_block_size={bytes}"));
            }
            let serial = drive.serial.as_ref().map(|serial| format!(",serial={serial}")).unwrap_or_default();
            if let Some(log) = self.log.as_ref().filter(|_| self.boot_order.first() == Some(&n)) {
                if (format, drive.bus) != ("raw", Bus::Virtio) {
                    bail!("only the writes of a raw disk on virtio are logged");
                }
                File::create(log).with_context(|| log.display().to_string())?;
                command.arg("-blockdev").arg(format!(
                    "driver=blklogwrites,node-name={},discard=unmap,file.driver=file,file.discard=unmap,file.filename={},log.driver=file,log.filename={},log-sector-size=512",
                    node(n),
                    drive.path.display(),
                    log.display()
                ));
                // What the guest writes in two requests is not to be one in the log.
                let device = format!("virtio-blk-pci,drive={},request-merging=off{boot}", node(n));
                command.arg("-device").arg(device);
                continue;
            }
            command.arg("-drive").arg(format!(
                "if=none,id=d{n},node-name={},format={format},readonly={read_only},cache=writeback,discard=unmap,file={}",
                node(n),
                drive.path.display()
            ));
            command.arg("-device").arg(match drive.bus {
                Bus::Virtio => format!("virtio-blk-pci,drive=d{n}{serial}{boot}"),
                Bus::Sata => format!("ide-hd,drive=d{n},bus=ide.{n}{serial}{boot}"),
                Bus::Nvme if serial.is_empty() => format!("nvme,serial=berth{n},drive=d{n}{boot}"),
                Bus::Nvme => format!("nvme,drive=d{n}{serial}{boot}"),
                Bus::Cdrom => format!("ide-cd,drive=d{n},bus=ide.{n}{boot}"),
                // Some firmware starts from a stick only when it says that it can be taken out.
                Bus::Usb => format!("usb-storage,bus=xhci.0,removable=on,drive=d{n}{serial}{boot}"),
            });
        }
        Ok(())
    }

    fn metadata_arguments(&self, command: &mut Command, folder: &Path) -> Result<()> {
        let mut strings = self.smbios.clone();
        if let (Some(extra), Firmware::Uefi) = (&self.stub_cmdline, self.firmware) {
            strings.push(format!("io.systemd.stub.kernel-cmdline-extra={extra}"));
        }
        if let Some(service) = &self.cloud {
            command.arg("-smbios").arg(format!("type=1,{}", service.cloud.smbios()));
        }
        if let Some(uuid) = &self.uuid {
            command.args(["-uuid", uuid]);
        }
        for (n, text) in strings.iter().enumerate() {
            // By file: what stands on a command line is visible to every user of the host.
            let path = folder.join(format!("smbios{n}"));
            std::fs::write(&path, text)?;
            command.arg("-smbios").arg(format!("type=11,path={}", path.display()));
        }
        for (n, (name, content)) in self.fw_cfg.iter().enumerate() {
            let path = folder.join(format!("fwcfg{n}"));
            std::fs::write(&path, content)?;
            command.arg("-fw_cfg").arg(format!("name={name},file={}", path.display()));
        }
        Ok(())
    }
}

/// QEMU's name for a disk.
pub(crate) fn node(n: usize) -> String {
    format!("disk{n}")
}

/// QEMU out of the tools tree.
pub(crate) fn qemu(tools: &Tools) -> Command {
    tools.command("qemu-system-x86_64")
}
