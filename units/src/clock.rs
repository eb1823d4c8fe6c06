//! Whether the wall clock can be trusted. The kernel knows: who sets it by others tells the kernel so, and without news the
//! kernel stops believing it after some hours.

/// The wall clock is in step with others, and was so in the last hours. Anybody may ask; when the kernel does not answer, it
/// is not.
pub fn is_set() -> bool {
    crate::sys::process::clock_status().is_ok_and(|status| status & libc::STA_UNSYNC == 0)
}

/// What to say where something failed that a wrong clock explains: a certificate that has expired or is not valid yet.
pub fn hint() -> &'static str {
    if is_set() { "" } else { "; the clock is not set, see \"berth machine\"" }
}
