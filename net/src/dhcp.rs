//! DHCPv4, the client's side (RFC 2131, 2132, 3396, 3442).
//!
//! [`message`] reads and writes what DHCP servers say, [`packet`] the IP and UDP around it while there is no address
//! yet, [`client`] decides what to do next (pure: time is an argument, what to do is returned as data), [`port`] is
//! the socket.

pub mod client;
pub mod message;
pub mod packet;
pub mod port;

pub use message::{Message, parse};

/// The server's UDP port.
pub const SERVER_PORT: u16 = 67;
/// The client's UDP port.
pub const CLIENT_PORT: u16 = 68;
