//! Units whose program is a line of shell, from the demonstration's image.

use crate::{Guest, Plan};
use anyhow::{Result, ensure};
use berth_qemu::machine::Firmware;

/// A unit that carries out a line of shell as root. `$b` is the image's only program; `more` are further lines of the config.
pub fn shell(name: &str, line: &str, more: &str) -> String {
    shell_as("root", name, line, more)
}

/// The same, as another user.
pub fn shell_as(user: &str, name: &str, line: &str, more: &str) -> String {
    format!(
        "[units.{name}.container]\nimage = \"berth.example/web:1\"\nuser = \"{user}\"\n\
         command = [\"/bin/sh\", \"-c\", '''b=/bin/busybox; {line}''']\n{more}\n"
    )
}

/// A machine, directly booted, that runs these units.
pub fn plan(units: &[String]) -> Result<Plan> {
    Guest::new(Firmware::Direct)?.with_config(&units.concat())
}

/// A unit's log holds each of these lines.
pub fn says(guest: &mut Guest, unit: &str, lines: &[&str]) -> Result<()> {
    let log = guest.log(unit)?;
    for line in lines {
        ensure!(log.iter().any(|l| l == line), "{unit} does not say {line:?}:\n{}", log.join("\n"));
    }
    Ok(())
}
