//! The watchdog: hardware if there is one, else the kernel's own (`softdog`). Armed by opening it; from then on it
//! resets the machine unless it is petted. It is closed only to halt.

use super::limits;
use crate::sys::early::{watchdog_keepalive, watchdog_set_timeout, watchdog_timeout};
use crate::sys::waiting;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

/// Drivers in order of preference; a machine's own come by its devices' aliases.
pub const HARDWARE: [&str; 4] = ["i6300esb", "iTCO_wdt", "sp5100_tco", "ib700wdt"];
/// What every kernel has.
pub const SOFTWARE: &str = "softdog";

/// An armed watchdog.
#[derive(Debug)]
pub struct Watchdog {
    /// The only one that holds it: closing it is part of disarming it.
    file: Rc<File>,
    /// Seconds without a pet after which it resets the machine.
    pub seconds: u32,
    /// The driver's name for itself.
    pub name: String,
}

impl Watchdog {
    /// Opens, and thereby arms, the first watchdog.
    pub fn arm(seconds: u32) -> io::Result<Watchdog> {
        let file = OpenOptions::new().write(true).open("/dev/watchdog0")?;
        let name =
            super::files::line("/sys/class/watchdog/watchdog0/identity").unwrap_or_else(|| "watchdog".into());
        let mut dog = Watchdog { file: Rc::new(file), seconds, name };
        // A driver that cannot keep this time says which it keeps, or which it always has; one that says nothing is
        // petted as often as any of them needs.
        dog.seconds = watchdog_set_timeout(&dog.file, seconds)
            .or_else(|_| watchdog_timeout(&dog.file))
            .unwrap_or(*limits::WATCHDOG_RANGE.start());
        let file = Rc::downgrade(&dog.file);
        waiting::set(dog.interval(), move || {
            if let Some(file) = file.upgrade() {
                let _ = watchdog_keepalive(&file);
            }
        });
        Ok(dog)
    }

    /// All is well; the count starts again.
    pub fn pet(&self) -> io::Result<()> {
        watchdog_keepalive(&self.file)
    }

    /// Sets another period (for a shutdown that needs longer); returns what the device made of it.
    pub fn set_seconds(&mut self, seconds: u32) -> io::Result<u32> {
        self.seconds = watchdog_set_timeout(&self.file, seconds)?;
        Ok(self.seconds)
    }

    /// Ends it for good; a driver that is told never to stop (`nowayout`) goes on.
    pub fn disarm(self) -> io::Result<()> {
        // Without this letter before the end the driver takes the end for a crash.
        (&*self.file).write_all(b"V")
    }

    /// How often to pet it: four times a period, so that one late turn costs nothing.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.seconds.max(1)) * 250)
    }
}
