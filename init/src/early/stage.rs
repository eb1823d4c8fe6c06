//! Being written.

use super::Booted;

/// The main stage.
pub fn main_stage() -> Booted {
    super::reboot_now()
}
