//! The device mapper, as far as one verity device, and what may lie below it, need it: create, load a table, resume. Linux's
//! `include/uapi/linux/dm-ioctl.h`, version 4.

use crate::sys::early::device_mapper;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;

/// Name of the root's device.
pub const ROOT: &str = "berth-root";

/// Names of the devices below it, where an installation medium has no partitions.
pub const MEDIUM_ROOT: &str = "berth-medium-root";
/// See [`MEDIUM_ROOT`].
pub const MEDIUM_VERITY: &str = "berth-medium-verity";

const CREATE: u8 = 3;
const REMOVE: u8 = 4;
const SUSPEND: u8 = 6;
const TABLE_LOAD: u8 = 9;
const READ_ONLY: u32 = 1;
/// Bytes of `struct dm_ioctl`.
const HEADER: usize = 312;
/// Bytes of `struct dm_target_spec`.
const SPEC: usize = 40;

/// Sets up a read-only device `name` of that many 512-byte sectors with one target, and returns its node.
pub fn create(name: &str, sectors: u64, target: &str, table: &str) -> io::Result<PathBuf> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/mapper/control")?;
    let mut answer = request(name, 0);
    device_mapper(&control, CREATE, &mut answer)?;
    let node = node(&answer);
    match activate(&control, name, sectors, target, table) {
        Ok(()) => Ok(node),
        Err(error) => {
            let _ = device_mapper(&control, REMOVE, &mut request(name, 0));
            Err(error)
        }
    }
}

fn activate(control: &File, name: &str, sectors: u64, target: &str, table: &str) -> io::Result<()> {
    let mut load = request(name, READ_ONLY);
    load[20..24].copy_from_slice(&1u32.to_ne_bytes());
    load.extend_from_slice(&0u64.to_ne_bytes());
    load.extend_from_slice(&sectors.to_ne_bytes());
    load.extend_from_slice(&[0; 8]);
    let mut kind = [0; 16];
    let length = target.len().min(15);
    kind[..length].copy_from_slice(&target.as_bytes()[..length]);
    load.extend_from_slice(&kind);
    load.extend_from_slice(table.as_bytes());
    load.push(0);
    load.resize((HEADER + SPEC + table.len() + 1).next_multiple_of(8), 0);
    device_mapper(control, TABLE_LOAD, &mut load)?;
    // Suspend without the suspend flag = resume with the table just loaded.
    device_mapper(control, SUSPEND, &mut request(name, READ_ONLY))
}

/// A `struct dm_ioctl` for a device by name.
fn request(name: &str, flags: u32) -> Vec<u8> {
    let mut header = vec![0; HEADER];
    header[0..4].copy_from_slice(&4u32.to_ne_bytes());
    header[16..20].copy_from_slice(&u32::try_from(HEADER).unwrap_or_default().to_ne_bytes());
    header[28..32].copy_from_slice(&flags.to_ne_bytes());
    let length = name.len().min(127);
    header[48..48 + length].copy_from_slice(&name.as_bytes()[..length]);
    header
}

/// The node of the device number that the kernel put in its answer (`huge_encode_dev`).
fn node(answer: &[u8]) -> PathBuf {
    let device = answer[40..44].iter().rev().fold(0u32, |number, &byte| (number << 8) | u32::from(byte));
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    format!("/dev/dm-{minor}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_follows_from_the_device_number() {
        let mut answer = request("x", 0);
        answer[40..44].copy_from_slice(&0x0010_fd07u32.to_ne_bytes());
        assert_eq!(node(&answer), PathBuf::from("/dev/dm-263"));
    }

    #[test]
    fn the_header_is_the_kernels_size() {
        let header = request("berth-root", READ_ONLY);
        assert_eq!((header.len(), &header[48..58]), (312, &b"berth-root"[..]));
    }
}
