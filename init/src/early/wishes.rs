//! What somebody at the machine may ask for while a boot step takes minutes: ctrl-alt-del and the power button. After
//! the boot steps both are the event loop's, which stops the units first.

use super::{buttons, console, fail, limits};
use crate::sys::child;
use berth_updater::steps::Status;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::BTreeMap;
use std::fs::File;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Ctrl-alt-del.
    Reboot,
    /// The power button.
    PowerOff,
}

impl Wish {
    /// Reboots or powers off at once. `busy`: what was given up for it.
    pub fn grant(self, busy: &str) -> ! {
        let said = match self {
            Wish::Reboot => "ctrl-alt-del was pressed",
            Wish::PowerOff => "the power button was pressed",
        };
        let reason = format!("{said}: {busy} is given up, the next start begins it again");
        console::say("berth", &reason);
        fail::with(|record| record.last_words(Status::Failed, &reason));
        let _ = child::run(limits::CHILD, || {
            nix::unistd::sync();
            Ok(String::new())
        });
        if self == Wish::PowerOff {
            let _ = reboot(RebootMode::RB_POWER_OFF);
        }
        fail::reboot_now()
    }
}

/// The kernel tells PID 1 of ctrl-alt-del by SIGINT. From here on one that nobody takes is kept until somebody does:
/// [`Wishes::asked`], or the event loop.
pub fn keep() -> nix::Result<()> {
    only_sigint().thread_block()
}

fn only_sigint() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set
}

/// Looks without waiting.
#[derive(Debug, Default)]
pub struct Wishes {
    signals: Option<SignalFd>,
    buttons: BTreeMap<u64, File>,
}

impl Wishes {
    /// [`keep`] was called before.
    pub fn new() -> Wishes {
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Wishes { signals: SignalFd::with_flags(&only_sigint(), flags).ok(), buttons: BTreeMap::new() }
    }

    /// What was asked for since the last look. Buttons may come while the step runs: their drivers do.
    pub fn asked(&mut self) -> Option<Wish> {
        if self.signals.as_ref().is_some_and(|signals| matches!(signals.read_signal(), Ok(Some(_)))) {
            return Some(Wish::Reboot);
        }
        self.buttons.extend(buttons::open(&self.buttons));
        let mut pressed = false;
        self.buttons.retain(|_, button| {
            let now = buttons::pressed(button);
            pressed |= now == Some(true);
            now.is_some()
        });
        pressed.then_some(Wish::PowerOff)
    }
}
