//! The network agent: being written.

pub mod dhcp;
pub mod limits;
pub mod netlink;
mod sys;
