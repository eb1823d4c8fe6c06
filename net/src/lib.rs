//! The network agent: the machine's interfaces, and the units' network. [`sntp`], the time, is a unit of its own.
//!
//! `berth worker net` is a system unit in the host's network namespace, with host users and only CAP_NET_ADMIN (links,
//! addresses, routes, nf_tables), CAP_NET_RAW (DHCP before there is an address) and CAP_NET_BIND_SERVICE (DHCP's
//! port 68, DNS's 53). It reads what anybody on the network sends, so nothing of it runs in PID 1; it writes one folder,
//! that of [`berth_units::paths::RESOLV_CONF`].
//!
//! ```text
//!  PID 1 ── Configure ──▶ agent ──▶ links   (bonds and VLANs are made)
//!                           │  ──▶ uplink  (one an interface: up, fixed addresses, dhcp::client)
//!        ── Attach ─────▶   │  ──▶ units    (bridge, a pair of interfaces a unit, places) ──▶ nft::rules
//!        ── Names ──▶       ──▶ names    (questions of units: answered here, or by the machine's name servers)
//!        ◀─ Ready, Status, Addresses, Attached
//! ```
//!
//! * [`netlink`] and [`nft`] speak to the kernel in its own messages; [`dhcp`] to servers. Both are codecs that are
//!   tested against bytes that others made, and a state machine without a clock.
//! * [`metadata`] servers of clouds are refused to units, before any runs.
//! * [`plan`] is the one place for the units' network: names, numbers, addresses.
//! * Ready means: the config is applied and the first DISCOVER is sent. What is still missing is in the status.
//! * A new agent finds everything as the old one left it: units keep running, leases are asked for again.
//! * IPv6 on uplinks is the kernel's (SLAAC), a server's ([`dhcp6`]) or fixed, name servers that routers advertise are
//!   [`rdnss`]'s; units have addresses of the machine's own, and go out by its.

pub mod agent;
mod chance;
pub mod dhcp;
pub mod dhcp6;
pub mod limits;
pub mod links;
pub mod metadata;
pub mod names;
pub mod netlink;
pub mod nft;
pub mod plan;
pub mod rdnss;
mod resolv;
pub mod sntp;
mod sys;
pub mod units;
pub mod uplink;

use agent::Agent;
use berth_units::control::client::Client;
use berth_units::paths;
use std::path::Path;
use std::process::ExitCode;

/// The worker's whole life.
pub fn run() -> ExitCode {
    let outcome = Client::worker()
        .map_err(agent::Error::from)
        .and_then(|init| Agent::new(init, Path::new(paths::RESOLV_CONF)))
        .and_then(Agent::run);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("network agent stops: {error}");
            ExitCode::FAILURE
        }
    }
}
