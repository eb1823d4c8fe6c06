//! The network agent: being written.

pub mod dhcp;
pub mod limits;
pub mod netlink;
pub mod nft;
pub mod plan;
mod sys;
