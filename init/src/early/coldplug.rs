//! Drivers for what was there at the start, loaded by a child: the network's at once, the power button's a moment later;
//! the rest when somebody needs a device that has none yet, or when the boot is over, so that it shares neither processor
//! nor locks with it. The same child then tells the kernel that the boot is over ([`super::settle`]), and gives the initrd's
//! memory back.

use super::initrd::free;
use super::modules::{Modules, all_aliases, network_aliases};
use super::{console, limits, pstore, settle};
use crate::sys::child::{self, Child};
use crate::sys::early::be_patient;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Somebody needs the other devices.
const DEVICES: u8 = b'd';
/// Not left for after a boot that takes long: until these are there, nobody hears the power button, and a cloud that stops
/// an instance presses it whenever it likes.
const BUTTONS: [&str; 2] = ["button", "evdev"];
/// The boot is over.
const OVER: u8 = b'o';

/// The child, and the way to tell it.
#[derive(Debug)]
pub struct Coldplug {
    child: Option<Child>,
    words: PipeWriter,
}

impl Coldplug {
    /// Starts it. `initrd`: the initrd's folder, to be emptied when the boot is over.
    pub fn start(initrd: Option<File>) -> Result<Coldplug, String> {
        let (heard, words) = std::io::pipe().map_err(|error| error.to_string())?;
        let child = child::start(move || work(heard, initrd.as_ref())).map_err(|error| error.to_string())?;
        Ok(Coldplug { child: Some(child), words })
    }

    /// Somebody looks for something on devices that have no driver yet (a CD with the machine's config).
    pub fn devices_now(&self) {
        let _ = (&self.words).write(&[DEVICES]);
    }

    /// Every unit has had its first try. Follows by itself after [`limits::COLDPLUG_WAIT`].
    pub fn boot_over(&self) {
        let _ = (&self.words).write(&[OVER]);
    }

    /// The child, for an event loop that looks after it; once.
    pub fn take_child(&mut self) -> Option<Child> {
        self.child.take()
    }
}

fn work(mut heard: PipeReader, initrd: Option<&File>) -> Result<String, String> {
    let end = Instant::now() + limits::COLDPLUG_WAIT;
    let mut troubles = Vec::new();
    let mut modules = Modules::open().map_err(|error| error.to_string())?;
    let mut names = modules.matching(network_aliases().iter().map(String::as_str));
    names.retain(|name| modules.is_network(name));
    let mut count = modules.load_all(&names, &mut troubles);
    troubles.extend(pstore::begin(&mut modules).err());
    let mut said = word(&mut heard, limits::BUTTONS_WAIT);
    count += modules.load_all(&BUTTONS.map(str::to_owned), &mut troubles);
    drop(modules);

    let rest = |count: &mut usize, troubles: &mut Vec<String>| match Modules::open() {
        Ok(mut modules) => *count += modules.load_for(all_aliases().iter().map(String::as_str), troubles),
        Err(error) => troubles.push(error.to_string()),
    };
    let mut early = false;
    while said.or_else(|| word(&mut heard, end.saturating_duration_since(Instant::now()))) == Some(DEVICES) {
        said = None;
        if !std::mem::replace(&mut early, true) {
            rest(&mut count, &mut troubles);
        }
    }
    if let Err(error) = settle() {
        console::say("berth", &error);
    }
    let _ = be_patient();
    troubles.extend(initrd.and_then(|folder| free(folder).err()).map(|error| format!("initrd: {error}")));
    if !early {
        rest(&mut count, &mut troubles);
    }
    for trouble in &troubles {
        console::say("drivers", trouble);
    }
    Ok(format!("{count} modules for devices"))
}

/// The next word; `None` when there is none in time.
fn word(heard: &mut PipeReader, limit: Duration) -> Option<u8> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
    let ready = poll(&mut [PollFd::new(heard.as_fd(), PollFlags::POLLIN)], timeout);
    if !matches!(ready, Ok(count) if count > 0) {
        return None;
    }
    let mut byte = [0];
    heard.read_exact(&mut byte).ok().map(|()| byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_in_order_and_then_the_time_is_over() {
        let (mut heard, words) = std::io::pipe().unwrap();
        (&words).write_all(&[DEVICES, OVER]).unwrap();
        let limit = Duration::from_millis(20);
        let all: Vec<_> = (0..3).map(|_| word(&mut heard, limit)).collect();
        assert_eq!(all, [Some(DEVICES), Some(OVER), None]);
    }
}
