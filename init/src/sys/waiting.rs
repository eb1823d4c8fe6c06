//! What PID 1 does while it waits for something in a boot step: the watchdog must not take a wait for a hang.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What is done, and how often.
type Meanwhile = (Duration, Rc<dyn Fn()>);

thread_local! {
    static MEANWHILE: RefCell<Option<Meanwhile>> = const { RefCell::new(None) };
}

/// From now on, whoever waits does this that often.
pub fn set(every: Duration, work: impl Fn() + 'static) {
    MEANWHILE.with(|slot| slot.replace(Some((every, Rc::new(work)))));
}

/// Does it now, if there is anything; for how long one may wait before it is done again.
pub fn meanwhile() -> Duration {
    let known = MEANWHILE.with(|slot| slot.borrow().clone());
    known.map_or(Duration::MAX, |(every, work)| {
        work();
        every
    })
}

/// Lets time pass.
pub fn pause(time: Duration) {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(meanwhile()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_pause_is_full_of_it() {
        let count = Rc::new(Cell::new(0));
        let seen = count.clone();
        set(Duration::from_millis(10), move || seen.set(seen.get() + 1));
        pause(Duration::from_millis(100));
        assert!(count.get() >= 3, "{}", count.get());
    }
}
