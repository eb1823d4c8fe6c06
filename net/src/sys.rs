//! The crate's only `unsafe`: packet sockets, which nix covers only in part, and the kernel's random numbers.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `ETH_P_IP`, in network order as the kernel wants it.
const ETH_P_IP: u16 = 0x0800_u16.to_be();

fn check(outcome: libc::c_int) -> io::Result<libc::c_int> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

fn link_address(index: u32, mac: [u8; 6]) -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is plain integers, for which zeros are a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = 17; // AF_PACKET
    address.sll_protocol = ETH_P_IP;
    address.sll_ifindex = i32::try_from(index).unwrap_or(0);
    address.sll_halen = 6;
    if let Some(place) = address.sll_addr.first_chunk_mut() {
        *place = mac;
    }
    address
}

fn length_of<T>(_: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or(0)
}

/// A non-blocking packet socket that hears the IPv4 packets on one interface that `filter` lets through (each row:
/// code, jump if true, jump if false, operand; classic BPF), from its IP header on.
pub fn packet_socket(index: u32, filter: &[(u16, u8, u8, u32)]) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers. Protocol 0: nothing is heard until the filter is in place and bind names one.
    let raw = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: just opened, and known to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };

    let mut rows: Vec<libc::sock_filter> =
        filter.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(rows.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: rows.as_mut_ptr() };
    // SAFETY: `program` points to `len` rows in `rows`, both of which outlive the call; the kernel copies them.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length_of(&program),
        )
    })?;
    let address = link_address(index, [0; 6]);
    // SAFETY: the pointer is to a sockaddr_ll and the length is its size.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length_of(&address)) })?;
    Ok(fd)
}

/// Sends one IPv4 packet to a hardware address on an interface.
pub fn send_packet(socket: BorrowedFd<'_>, index: u32, to: [u8; 6], packet: &[u8]) -> io::Result<()> {
    let address = link_address(index, to);
    // SAFETY: both pointers are to live memory of the lengths given with them.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            libc::MSG_NOSIGNAL,
            (&raw const address).cast(),
            length_of(&address),
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A random number that nobody can guess.
pub fn random() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: the pointer is to 8 writable bytes, and so says the length. So few bytes are never given in part; a kernel
    // that has not gathered enough randomness yet makes us wait, which at the time of a unit's first question is over.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    debug_assert_eq!(got, 8);
    u64::from_ne_bytes(bytes)
}
