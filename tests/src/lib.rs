//! What every end-to-end test needs: the image built once, machines that read like a sentence, an operator's client.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use berth_tests::{Firmware, Guest, WEB};
//! let mut guest = Guest::new(Firmware::Uefi)?.with_config(WEB)?.boot()?;
//! guest.ready()?;
//! assert!(guest.page("/")?.contains("Berth"));
//! guest.power_off()?;
//! # Ok(()) }
//! ```
//!
//! Traffic stays on loopback and inside QEMU's user network. Deadlines are long enough for two emulated machines at once on
//! two slow cores; they end a hang, they do not judge speed.

mod guest;
mod image;
pub mod shell;

pub use berth_qemu::lines::Event;
pub use berth_qemu::machine::{Bus, Firmware};
pub use berth_qemu::metadata::{Cloud, Instance, Service};
pub use berth_qemu::{packages as debian, registry};
pub use guest::{Guest, Plan, config, public_key};
pub use image::{Built, built, state_after_a_cut, state_tool};

use std::time::Duration;

/// From power-on to a machine that serves, through any firmware, while another one boots.
pub const BOOT: Duration = Duration::from_secs(150);
/// From an event on a running machine to its consequence.
pub const SOON: Duration = Duration::from_secs(60);

/// A machine config with the demonstration's web server, and the tests' key.
pub const WEB: &str = r#"
[units.web.container]
image = "berth.example/web:1"
read_only = true
[units.web.network]
ports = ["8080:8080"]
"#;
