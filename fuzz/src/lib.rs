//! One function for each parser that reads what Berth did not write: any bytes go in; a panic, an endless loop or a
//! broken promise is a find. `fuzz_targets/` holds one line for each, `.ci/fuzz SECONDS` runs them all.
//!
//! | target | reads | comes from |
//! |---|---|---|
//! | `unit_file`, `machine_config` | TOML | operators |
//! | `user_data` | gzip and base64 around it | whoever makes the volume |
//! | `yaml`, `cloud_config`, `network_config` | YAML, and what it says | clouds, whoever makes the volume |
//! | `smbios` | SMBIOS tables | the firmware |
//! | `metadata` | YAML and JSON: NoCloud's, the config drive's, GCE's | an attached disk, a cloud, or whoever answers in its place |
//! | `vfat`, `iso9660` | a file system | an attached disk |
//! | `tar`, `archive`, `image_json` | layers, image archives, OCI documents | an attached disk |
//! | `zstd` | compressed layers | registries, attached disks |
//! | `registry` | references, challenges, tokens, manifests | registries, and whoever is between |
//! | `tuf_metadata` | metadata of an update repository | its server, and whoever is between |
//! | `image_index` | an image's description | the store, over the state partition |
//! | `gpt`, `boot_record`, `verity` | partition tables, records, superblocks | any disk of the machine |
//! | `uki` | PE headers, a command line | an update repository, once its publisher's key is stolen |
//! | `dhcp` | DHCP packets, options of router advertisements | the local network |
//! | `dhcp6` | DHCPv6 messages, and what the client makes of them | the local network |
//! | `sntp` | answers of time servers, and what is made of them | the network |
//! | `dns` | DNS questions | units on the bridge |
//! | `ext4`, `erofs`, `signatures` | superblocks, what else a partition may hold | any disk of the machine |
//! | `netlink` | messages | the kernel, about names and addresses that others chose |
//! | `uevent` | messages | the kernel, about devices that say what they are |
//! | `module_file` | ELF | the distribution's modules; in the build, in the verified root |
//! | `panic_record` | the last words of a kernel | the firmware's variables |
//! | `certificate` | X.509 | anybody who reaches the API's port, before a key has been checked |
//! | `key_line` | OpenSSH public keys | operators |
//! | `control` | messages | workers, over PID 1's socket |
//! | `notice` | notifications | units, over sockets of PID 1's |

use berth_net::netlink::{Addr, Link, UserOption, wire};
use berth_units::{config, control, image, limits, model::Origin, notify, schema};
use berth_updater::{erofs, gpt, layout, record, steps, verity};
use std::io::Cursor;
use std::os::unix::fs::FileExt;

/// A report stays small and safe to print, whatever the file was.
fn sound(report: &berth_units::diag::Report) {
    assert!(!report.is_empty());
    let text = report.to_string();
    assert!(text.len() < 64 * 1024, "a report of {} bytes", text.len());
    assert!(!text.contains('\u{1b}') && !text.contains('\0'), "a report that a terminal obeys");
}

/// A unit file, of an operator and of the OS image.
pub fn unit_file(bytes: &[u8]) {
    for origin in [Origin::Config, Origin::System] {
        match schema::parse_unit("fuzz.toml", "fuzz", bytes, origin) {
            Ok(unit) => {
                assert!(!unit.container.image.is_empty() && unit.places.after.len() == unit.after.len())
            }
            Err(report) => sound(&report),
        }
    }
}

/// A machine config.
pub fn machine_config(bytes: &[u8]) {
    let taken = config::salvage(bytes);
    let salvaged = (!taken.is_empty()).then(|| config::parse("salvage", taken.as_bytes()).unwrap());
    match config::parse("berth.toml", bytes) {
        Ok(machine) => {
            let salvaged = salvaged.unwrap_or_default();
            assert_eq!(salvaged.access_keys, machine.access_keys);
            assert_eq!(salvaged.hostname, machine.hostname);
            if let Err(report) = config::check_together(&[], &machine) {
                sound(&report);
            }
        }
        Err(report) => sound(&report),
    }
}

/// An image's description, as PID 1 reads it.
pub fn image_index(bytes: &[u8]) {
    if let Ok(image) = image::PreparedImage::parse(bytes) {
        assert!(!image.layers.is_empty());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let name = image::file_name(text);
        assert!(name.ends_with(".json") && !name.contains('/') && !name.contains('\0'));
    }
}

/// A packet on PID 1's socket.
pub fn control(bytes: &[u8]) {
    let _ = serde_json::from_slice::<control::ToInit>(bytes);
}

/// Gzip, base64 and TOML, as `user-data` may be.
pub fn user_data(bytes: &[u8]) {
    berth_meta::fuzz::config(bytes);
}

/// YAML.
pub fn yaml(bytes: &[u8]) {
    berth_meta::fuzz::yaml(bytes);
}

/// A cloud-config: what it is translated to passes the checker, and so does what is left of one that is refused.
pub fn cloud_config(bytes: &[u8]) {
    berth_meta::fuzz::cloud_config(bytes);
}

/// A network-config.
pub fn network_config(bytes: &[u8]) {
    berth_meta::fuzz::network_config(bytes);
}

/// What volumes and clouds say of an instance; the first byte says which of them.
pub fn metadata(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0, rest)) => berth_meta::fuzz::config_drive(rest),
        Some((1, rest)) => berth_meta::fuzz::network_data(rest),
        Some((2, rest)) => berth_cloud::fuzz::gce(rest),
        Some((_, rest)) => berth_meta::fuzz::nocloud(rest),
        None => {}
    }
}

/// SMBIOS tables.
pub fn smbios(bytes: &[u8]) {
    berth_meta::fuzz::smbios(bytes);
}

/// A FAT volume.
pub fn vfat(bytes: &[u8]) {
    berth_meta::fuzz::fat(bytes);
}

/// An ISO 9660 volume.
pub fn iso9660(bytes: &[u8]) {
    berth_meta::fuzz::iso(bytes);
}

/// A layer.
pub fn tar(bytes: &[u8]) {
    berth_store::fuzz::tar(bytes);
}

/// An image archive on a disk.
pub fn archive(bytes: &[u8]) {
    berth_store::fuzz::archive(bytes);
}

/// OCI documents.
pub fn image_json(bytes: &[u8]) {
    berth_store::fuzz::json(bytes);
}

/// A layer's compression.
pub fn zstd(bytes: &[u8]) {
    berth_store::fuzz::zstd(bytes);
}

/// What a registry answers, in headers and bodies.
pub fn registry(bytes: &[u8]) {
    berth_store::fuzz::registry(bytes);
}

/// Metadata of an update repository: each kind, its signatures, its patterns of names.
pub fn tuf_metadata(bytes: &[u8]) {
    berth_tuf::fuzz::metadata(bytes);
}

/// A disk of at most 64 KiB; the first byte says whether its checksums are put right, so that what lies behind them
/// is reached.
pub fn gpt(bytes: &[u8]) {
    let Some((how, disk)) = bytes.split_first() else { return };
    let mut disk = disk.get(..disk.len().min(64 * 1024)).unwrap_or_default().to_vec();
    let bytes_per_sector = if how & 2 == 0 { 512 } else { 4096 };
    let sectors = (disk.len() / bytes_per_sector) as u64;
    if how & 1 == 0 && sectors > 2 {
        put_sums_right(&mut disk, bytes_per_sector, 1);
        put_sums_right(&mut disk, bytes_per_sector, sectors as usize - 1);
    }
    let read = |disk: &[u8]| gpt::Table::read(&mut Cursor::new(disk), bytes_per_sector as u32, sectors);
    let Ok(found) = read(&disk) else { return };
    let mut table = found.table.clone();
    if table.grow(sectors).is_ok() && table.write(&mut Cursor::new(&mut disk), |_| Ok(())).is_ok() {
        let again = read(&disk).expect("a table that was written can be read");
        assert_eq!(again.table, table);
        assert!(again.primary.is_none() && again.backup.is_none());
    }
}

fn put_sums_right(disk: &mut [u8], sector: usize, at: usize) {
    let number =
        |disk: &[u8], at: usize| disk[at..at + 4].iter().rev().fold(0_usize, |n, b| n << 8 | usize::from(*b));
    let header = at * sector;
    let (first, count, size) =
        (number(disk, header + 72), number(disk, header + 80), number(disk, header + 84));
    let Some(start) = first.checked_mul(sector) else { return };
    let Some(entries) = count.checked_mul(size).and_then(|bytes| disk.get(start..start.checked_add(bytes)?))
    else {
        return;
    };
    let sum = gpt::crc32(entries).to_le_bytes();
    disk[header + 88..header + 92].copy_from_slice(&sum);
    disk[header + 16..header + 20].fill(0);
    let length = number(disk, header + 12).clamp(20, 512);
    let sum = gpt::crc32(&disk[header..header + length]).to_le_bytes();
    disk[header + 16..header + 20].copy_from_slice(&sum);
}

/// Sectors of the boot record's partition.
pub fn boot_record(bytes: &[u8]) {
    let mut sector = [0; record::SECTOR];
    let length = bytes.len().min(sector.len());
    sector[..length].copy_from_slice(&bytes[..length]);
    for sector in [&sector[..], bytes] {
        if let Ok(found) = record::Record::parse(sector) {
            assert_eq!(record::Record::parse(&found.to_sector()).as_ref(), Ok(&found));
        }
        if let Some(found) = steps::StepRecord::parse(sector) {
            assert!(steps::StepRecord::parse(&found.to_sector()).is_some());
        }
    }
    let (rec0, rec1) = bytes.split_at(bytes.len() / 2);
    let _ = record::Record::choose(rec0, rec1);
}

/// A verity superblock.
pub fn verity(bytes: &[u8]) {
    if let Ok(found) = verity::Superblock::parse(bytes) {
        assert!(found.hash_bytes() > 0);
        assert_eq!(verity::Superblock::parse(&found.to_bytes()).ok(), Some(found));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = verity::parse_root_hash(text);
        let _ = layout::Slot::parse(text);
    }
}

/// A UKI, as a machine cuts out of it what GRUB needs.
pub fn uki(bytes: &[u8]) {
    berth_updater::uki::fuzz(bytes);
}

/// A DHCP message, bare and in its packet; an option of a router advertisement.
pub fn dhcp(bytes: &[u8]) {
    let option = berth_net::netlink::UserOption { index: 2, message: 134, bytes };
    berth_net::rdnss::Rdnss::default().hear(&option, std::time::Duration::ZERO);
    let _ = berth_net::dhcp::parse(bytes);
    if let Some(payload) = berth_net::dhcp::packet::unwrap(bytes) {
        let _ = berth_net::dhcp::parse(payload);
    }
}

/// A DHCPv6 message, which what is made of it must be the same as; and a client that hears it as the answer to whatever it
/// has just asked.
pub fn dhcp6(bytes: &[u8]) {
    use berth_net::dhcp6::client::{Client, Effect, Event, Mode};
    use std::time::Duration;
    let Ok(message) = berth_net::dhcp6::parse(bytes) else { return };
    if let Ok(again) = berth_net::dhcp6::parse(&message.to_bytes()) {
        assert_eq!((&again.associations, &again.domains), (&message.associations, &message.domains));
    }
    for mode in [Mode::Address, Mode::Information] {
        let (mut client, mut now) = (Client::new(mode, vec![0, 3, 0, 1], [0; 6], 7), Duration::ZERO);
        let mut effects = client.step(Event::Start, now);
        for _ in 0..8 {
            let Some(Effect::Send(question)) = effects.pop() else { break };
            let mut answer = message.clone();
            (answer.xid, answer.client) = (question.xid, question.client);
            effects = client.step(Event::Heard(&answer), now);
            if !matches!(effects.last(), Some(Effect::Send(_))) {
                let Some(due) = client.deadline() else { break };
                now = now.max(due);
                effects = client.step(Event::Timer, now);
            }
        }
    }
}

/// An answer of a time server.
pub fn sntp(bytes: &[u8]) {
    use berth_net::sntp::{message, vote};
    if let Ok(answer) = message::parse(bytes)
        && let Some(sample) =
            vote::sample(&answer, 1_700_000_000_000_000_000, std::time::Duration::from_millis(20))
    {
        let _ = vote::agree(&[sample, vote::Sample { offset_ns: 0, error_ns: 1 }, sample]);
    }
}

/// A question about a name.
pub fn dns(bytes: &[u8]) {
    berth_net::names::message::fuzz(bytes);
}

/// A peer's certificate, and the key in it.
pub fn certificate(bytes: &[u8]) {
    if let Ok(key) = berth_api::spki::Spki::of_certificate(bytes) {
        assert!(key.as_der().len() < bytes.len());
        assert!(key.as_ed25519().is_none() || key.as_p256().is_none());
        assert_eq!(key.fingerprint().len(), "sha256:".len() + 64);
    }
}

/// A line of an operator's public key.
pub fn key_line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match berth_api::keys::parse_line(text) {
        Ok(key) => assert!(key.spki.as_ed25519().is_some() || key.spki.as_p256().is_some()),
        Err(error) => assert!(error.to_string().len() < 64 * 1024),
    }
}

/// Bytes as a disk.
struct Bytes<'a>(&'a [u8]);

impl FileExt for Bytes<'_> {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> std::io::Result<usize> {
        panic!("a partition is written to while it is looked at")
    }
}

/// Whatever a state partition may hold; also one that is shorter than it says.
pub fn signatures(bytes: &[u8]) {
    let size = bytes.len() as u64;
    assert!(berth_units::signatures::foreign(&Bytes(bytes), size).is_ok());
    let said = bytes.first_chunk().map_or(size, |chunk| u64::from_le_bytes(*chunk));
    let _ = berth_units::signatures::foreign(&Bytes(bytes), said);
}

/// The superblock of the state's file system.
pub fn ext4(bytes: &[u8]) {
    let mut block = [0; 1024];
    let length = bytes.len().min(block.len());
    block[..length].copy_from_slice(&bytes[..length]);
    berth_init::fuzz::ext4(&block);
}

/// The first block of a root; without the kibibyte before the superblock, which nobody looks at.
pub fn erofs(bytes: &[u8]) {
    let label = erofs::label(&[&[0; 1024], bytes].concat());
    assert!(label.is_none_or(|label| label.bytes().all(|byte| byte.is_ascii_graphic())));
}

/// What the kernel kept of a panic.
pub fn panic_record(bytes: &[u8]) {
    berth_init::fuzz::panic_record(&String::from_utf8_lossy(bytes));
}

/// What a netlink socket hears.
pub fn netlink(bytes: &[u8]) {
    for frame in wire::frames(bytes) {
        let _ = (Link::parse(frame.payload), Addr::parse(frame.payload));
        if let Some(option) = UserOption::of(&frame) {
            berth_net::rdnss::Rdnss::default().hear(&option, std::time::Duration::ZERO);
        }
        for (_, value) in wire::attrs(frame.payload) {
            wire::attrs(value).for_each(drop);
        }
    }
}

/// A kernel module; what is left of it is one again.
pub fn module_file(bytes: &[u8]) {
    if let Some(module) = berth_init::early::module_file::slimmed(bytes) {
        assert!(module.starts_with(b"\x7fELF"));
    }
}

/// A message about a device.
pub fn uevent(bytes: &[u8]) {
    let _ = berth_init::early::uevents::parse(bytes);
}

/// What a unit says of itself.
pub fn notice(bytes: &[u8]) {
    let notice = notify::Notice::parse(bytes);
    let said = notice.says().unwrap_or_default();
    assert!(said.len() <= limits::NOTICE_STATUS_BYTES + 16 && !said.contains(char::is_control));
}
