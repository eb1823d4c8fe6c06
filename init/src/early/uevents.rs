//! The kernel's device events: one netlink socket, read without waiting.

use super::limits;
use crate::sys::early::{receive_kernel, uevent_socket};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// An event that somebody here cares about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uevent {
    /// A device with a modalias came up: a driver may be missing.
    Device {
        /// Which drivers would fit.
        modalias: String,
    },
    /// A disk or partition came, went or changed.
    Block {
        /// `add`, `remove`, `change`.
        action: String,
        /// `vda1`.
        name: String,
        /// Is it a whole disk?
        disk: bool,
    },
    /// dm-verity found a block whose hash is another than the tree's.
    Corrupt {
        /// `dm-0`.
        device: String,
        /// In a sentence: `data block 5120 differs`.
        what: String,
    },
    /// A keyboard, a button or the like can be read from now on.
    Input,
    /// Something happened to a network interface.
    Net {
        /// `add`, `remove`.
        action: String,
        /// `eth0`.
        name: String,
    },
    /// Events were lost (more came than fit): look at `/sys` again.
    Overrun,
}

/// The socket.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// From now on, events are kept for us.
    pub fn open() -> io::Result<Uevents> {
        Ok(Uevents { socket: uevent_socket(limits::UEVENT_SOCKET_BYTES)? })
    }

    /// To be polled for input.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Everything that has come, at most [`limits::UEVENTS_AT_ONCE`]; the socket stays readable when there is more.
    pub fn read(&self) -> Vec<Uevent> {
        let mut events = Vec::new();
        let mut buffer = [0; limits::UEVENT_BYTES];
        for _ in 0..limits::UEVENTS_AT_ONCE {
            match receive_kernel(self.socket.as_fd(), &mut buffer) {
                Ok(Some(length)) => events.extend(parse(&buffer[..length])),
                Ok(None) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => events.push(Uevent::Overrun),
                Err(_) => break,
            }
        }
        events
    }
}

/// Reads `action@path\0KEY=value\0…`.
pub fn parse(message: &[u8]) -> Option<Uevent> {
    let mut parts = message.split(|&byte| byte == 0).filter_map(|part| std::str::from_utf8(part).ok());
    let (action, _path) = parts.next()?.split_once('@')?;
    let pairs: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
    let get = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|&(_, value)| value);

    if let Some(block) = get("DM_VERITY_ERR_BLOCK_NR") {
        return Some(Uevent::Corrupt { device: get("DEVNAME")?.into(), what: corrupt(block) });
    }
    match get("SUBSYSTEM") {
        Some("block") => Some(Uevent::Block {
            action: action.into(),
            name: get("DEVNAME")?.into(),
            disk: get("DEVTYPE") == Some("disk"),
        }),
        // The node; the device above it has a modalias and comes before.
        Some("input") if action == "add" && get("DEVNAME").is_some() => Some(Uevent::Input),
        Some("net") => Some(Uevent::Net { action: action.into(), name: get("INTERFACE")?.into() }),
        _ if action == "add" => Some(Uevent::Device { modalias: get("MODALIAS")?.into() }),
        _ => None,
    }
}

/// `1,5120`: the kind of block, and which (`DM_VERITY_BLOCK_TYPE_DATA` is 0, `_METADATA` 1).
fn corrupt(value: &str) -> String {
    match value.split_once(',') {
        Some(("0", block)) => format!("data block {block} differs from its hash"),
        Some(("1", block)) => format!("hash block {block} differs from its hash"),
        _ => "a block differs from its hash".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_that_matter() {
        let device = b"add@/devices/pci0000:00/0000:00:03.0\0ACTION=add\0SUBSYSTEM=pci\0MODALIAS=pci:v1AF4\0SEQNUM=7\0";
        assert_eq!(parse(device), Some(Uevent::Device { modalias: "pci:v1AF4".into() }));
        let disk = b"add@/x\0ACTION=add\0SUBSYSTEM=block\0DEVNAME=vda1\0DEVTYPE=partition\0";
        let expected = Uevent::Block { action: "add".into(), name: "vda1".into(), disk: false };
        assert_eq!(parse(disk), Some(expected));
        let bad = b"change@/devices/virtual/block/dm-0\0SUBSYSTEM=block\0DEVNAME=dm-0\0DM_VERITY_ERR_BLOCK_NR=0,5120\0";
        let expected =
            Uevent::Corrupt { device: "dm-0".into(), what: "data block 5120 differs from its hash".into() };
        assert_eq!(parse(bad), Some(expected));
        let node = b"add@/devices/LNXSYSTM:00/input/input2/event2\0SUBSYSTEM=input\0DEVNAME=input/event2\0";
        assert_eq!(parse(node), Some(Uevent::Input));
        assert_eq!(parse(b"libudev\0\xfe\xed"), None);
    }
}
