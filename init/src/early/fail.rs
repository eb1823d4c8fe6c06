//! When it goes wrong: the reason is kept, and the machine reboots. There is no other end.

use super::{console, limits, record::RecordStore};
use berth_updater::steps::Status;
use nix::sys::reboot::{RebootMode, reboot};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// The step record of this start while the early stages run, so that a panic can leave its reason there.
    static LAST_WORDS: RefCell<Option<RecordStore>> = const { RefCell::new(None) };
    /// What the panic hook saw.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs all of PID 1. A panic inside does not get out (the kernel would panic): its text goes to the console, the
/// kernel's log and the step record, and the machine reboots.
pub fn guard(work: impl FnOnce()) {
    if !std::process::id().eq(&1) {
        console::line("berth: init is PID 1's program and does nothing else; see \"berth help\"");
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string().replace(":\n", ": ").replace('\n', " ");
        PANIC.with(|slot| slot.replace(text));
    }));
    let _ = catch_unwind(AssertUnwindSafe(work));
    let text = PANIC.with(RefCell::take);
    let _ = catch_unwind(AssertUnwindSafe(|| die(Status::Crashed, "init crashed", &text)));
    reboot_now();
}

/// The text of the panic that was caught last: for whoever catches one nearer to its cause.
pub fn take_panic() -> String {
    PANIC.with(RefCell::take)
}

/// Leaves the step record where [`die`] and [`guard`] find it.
pub fn keep(record: RecordStore) {
    LAST_WORDS.with(|slot| slot.replace(Some(record)));
}

/// Takes it back.
pub fn take() -> Option<RecordStore> {
    LAST_WORDS.with(RefCell::take)
}

/// Does something with it where it is.
pub fn with<T>(work: impl FnOnce(&mut RecordStore) -> T) -> Option<T> {
    LAST_WORDS.with(|slot| slot.borrow_mut().as_mut().map(work))
}

/// This start ends here. `what` is for the console; the step record names the step by itself.
pub fn die(status: Status, what: &str, reason: &str) -> ! {
    console::say("berth", format_args!("{what}: {reason}; rebooting"));
    with(|record| record.last_words(status, reason));
    std::thread::sleep(limits::FAILURE_PAUSE);
    reboot_now()
}

/// Reboots, by whatever way works.
pub fn reboot_now() -> ! {
    console::drain();
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    // It cannot fail for PID 1; if it does, the kernel's own way is left, and then the watchdog.
    let _ = super::files::poke("/proc/sysrq-trigger", "b");
    loop {
        std::thread::park();
    }
}
