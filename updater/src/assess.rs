//! Boot assessment: what a start means, and what the record should say after it. Pure.
//!
//! GRUB has decided before the kernel ran: it takes one try from the slot on trial, or adds one start to the good
//! slot, and saves that first. `init` asks [`start`] once what kind of start this is, and [`after`] when the machine
//! is found healthy or its deadline passes.
//!
//! | start | counted how | healthy | deadline passed |
//! |---|---|---|---|
//! | trial | one try less | it becomes the good slot | reboot: tries are left, or the good slot follows |
//! | good | one start more | starts are forgotten, a spent trial is dropped | stays up and says so |
//! | rescue (good, more than three starts) | one start more | starts are forgotten: the next start is a normal one | stays up |
//! | the same, the fifth start, the one before died or hung | one start more | the same; the state was left alone ([`without_state`]) | stays up |
//! | fallback (neither; GRUB refused the others) | not | it becomes the good slot | stays up: there is nothing better |
//! | no record | not | a record is written: it is the good slot | stays up |
//! | direct (no GRUB) | not | nothing | stays up |

use crate::layout::Slot;
use crate::record::Record;
use crate::steps::StepRecord;

/// Starts without health after which the good slot comes up in rescue.
pub const STARTS_BEFORE_RESCUE: u32 = 3;

/// Of the starts in rescue the one that leaves the state alone, if the one before died or hung with it.
pub const START_WITHOUT_STATE: u32 = 5;

/// Starts without health after which GRUB prefers the other slot, rescue having failed as well.
pub const STARTS_BEFORE_OTHER: u32 = 6;

/// Said about a slot whose trial is over without its having become healthy, in the place of GRUB's words.
pub const SPENT: &str = "spent";

/// What kind of start this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The running slot is on trial.
    Trial,
    /// The running slot is the committed one.
    Good,
    /// The same, but it was started too often without becoming healthy: no user units.
    Rescue {
        /// Starts, this one included.
        starts: u32,
    },
    /// The running slot is neither: GRUB refused what it should have started.
    Fallback,
    /// There is no readable record.
    NoRecord,
    /// Started without the boot loader, so nothing was counted.
    Direct,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Every system unit, and every unit required for boot, is healthy.
    Healthy,
    /// They were not within the time allowed.
    Deadline,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this record; the slot is confirmed once it is written.
    Write(Record),
    /// Reboot; the step record says why.
    Reboot,
    /// Nothing to write.
    Stay,
}

/// Classifies this start. `counted` = the boot loader was there to count it.
pub fn start(record: Option<&Record>, running: Slot, counted: bool) -> Start {
    if !counted {
        return Start::Direct;
    }
    match record {
        None => Start::NoRecord,
        Some(record) if record.good == running => {
            if record.starts > STARTS_BEFORE_RESCUE {
                Start::Rescue { starts: record.starts }
            } else {
                Start::Good
            }
        }
        Some(record) if record.trial.is_some_and(|trial| trial.slot == running) => Start::Trial,
        Some(_) => Start::Fallback,
    }
}

/// This start does without the state partition: what it holds may be what PID 1 dies of, in rescue too. `last` is how this slot's
/// last start went.
pub fn without_state(start: Start, last: Option<&StepRecord>) -> bool {
    last.is_some_and(StepRecord::died) && start == Start::Rescue { starts: START_WITHOUT_STATE }
}

/// A slot on trial has had a try, or the loader refused it one.
pub fn was_tried(record: &Record, slot: Slot) -> bool {
    let started = record.trial.is_some_and(|trial| trial.slot == slot && trial.tries < crate::record::TRIES);
    started || record.said.starts_with(&format!("{slot}-"))
}

/// The good slot is worn out and the other one runs in its place: the record with which the good slot gets its
/// rescue starts again after this one, so that two bad slots take turns and neither is stuck. To be written before
/// anything else is tried.
pub fn take_turns(record: &Record, running: Slot) -> Option<Record> {
    let worn_out = record.good != running && record.starts >= STARTS_BEFORE_OTHER;
    worn_out.then(|| Record { starts: STARTS_BEFORE_RESCUE, ..record.clone() })
}

/// What the record says after a slot was found broken (its root does not verify): a trial has no tries left; of the
/// good slot, as many starts are noted as make the boot loader prefer the other one, if its hash holds. If there is
/// no other, that many starts are a rescue: reachable, and reading as little of the broken root as can be.
pub fn distrust(record: &Record, slot: Slot) -> Option<Record> {
    let mut next = record.clone();
    if record.good == slot {
        next.starts = record.starts.max(STARTS_BEFORE_OTHER);
    } else if let Some(trial) = next.trial.as_mut().filter(|trial| trial.slot == slot) {
        trial.tries = 0;
    }
    (next != *record).then_some(next)
}

/// Decides what follows from an event. `record` is the record as it stands now.
pub fn after(start: Start, record: Option<&Record>, running: Slot, event: Event) -> Action {
    let confirmed = |said: &str| Record { said: said.into(), ..Record::fresh(running) };
    match (start, event, record) {
        (Start::Trial, Event::Deadline, _) => Action::Reboot,
        (_, Event::Deadline, _) | (Start::Direct, Event::Healthy, _) => Action::Stay,
        (Start::NoRecord, Event::Healthy, _) | (_, Event::Healthy, None) => Action::Write(confirmed("")),
        (Start::Trial | Start::Fallback, Event::Healthy, Some(record)) => {
            // What GRUB said about the other slot is still true; about this one it is not.
            let about_this = record.said.starts_with(&format!("{running}-"));
            Action::Write(confirmed(if about_this { "" } else { &record.said }))
        }
        (Start::Good | Start::Rescue { .. }, Event::Healthy, Some(record)) => {
            let mut next = record.clone();
            next.starts = 0;
            // Spent, or refused by GRUB before a single try: it would be refused (and hashed) at each boot.
            let refused = format!("{}-", running.other());
            next.trial = record.trial.filter(|trial| trial.tries > 0 && !record.said.starts_with(&refused));
            if record.said.starts_with(&format!("{running}-")) {
                next.said.clear();
            }
            // The record is the only witness of a kernel that never came as far as init.
            if record.trial.is_some_and(|trial| trial.tries == 0) && next.said.is_empty() {
                next.said = format!("{}-{SPENT}", running.other());
            }
            if next == *record { Action::Stay } else { Action::Write(next) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{TRIES, Trial};
    use crate::steps::Status;
    use proptest::prelude::*;

    fn on_trial(tries: u32) -> Record {
        Record { trial: Some(Trial { slot: Slot::B, tries }), ..Record::fresh(Slot::A) }
    }

    #[test]
    fn a_healthy_trial_becomes_good_and_a_late_one_reboots() {
        let record = on_trial(2);
        let kind = start(Some(&record), Slot::B, true);
        assert_eq!(kind, Start::Trial);
        let healthy = after(kind, Some(&record), Slot::B, Event::Healthy);
        assert_eq!(healthy, Action::Write(Record::fresh(Slot::B)));
        assert_eq!(after(kind, Some(&record), Slot::B, Event::Deadline), Action::Reboot);
    }

    #[test]
    fn a_spent_or_refused_trial_is_dropped_but_what_was_said_stays() {
        let refused = Record { said: "b-hash".into(), ..on_trial(3) };
        for (record, said) in [(on_trial(0), "b-spent"), (refused, "b-hash")] {
            let Action::Write(next) = after(Start::Good, Some(&record), Slot::A, Event::Healthy) else {
                panic!()
            };
            assert_eq!((next.trial, next.said.as_str()), (None, said));
        }
        let waiting = on_trial(2);
        assert_eq!(after(Start::Good, Some(&waiting), Slot::A, Event::Healthy), Action::Stay);
    }

    #[test]
    fn the_fourth_start_is_a_rescue_and_a_reachable_rescue_ends_the_count() {
        let counted = |starts| Record { starts, ..Record::fresh(Slot::A) };
        assert_eq!(start(Some(&counted(3)), Slot::A, true), Start::Good);
        let record = counted(4);
        let kind = start(Some(&record), Slot::A, true);
        assert_eq!(kind, Start::Rescue { starts: 4 });
        assert_eq!(after(kind, Some(&record), Slot::A, Event::Healthy), Action::Write(counted(0)));
        assert_eq!(start(Some(&record), Slot::A, false), Start::Direct);
    }

    #[test]
    fn the_second_rescue_does_without_a_state_with_which_the_first_died() {
        let last = |status| StepRecord {
            slot: Slot::A,
            boot: 4,
            stage: "main".into(),
            step: "identity".into(),
            status,
            reason: String::new(),
            bad_before: 3,
        };
        for (starts, status, without) in [
            (4, Status::Running, false),
            (5, Status::Running, true),
            (5, Status::Crashed, true),
            (5, Status::Failed, false),
            (5, Status::Ok, false),
            // A root that does not verify is counted as so many.
            (STARTS_BEFORE_OTHER, Status::Running, false),
        ] {
            assert_eq!(
                without_state(Start::Rescue { starts }, Some(&last(status))),
                without,
                "{starts} {status:?}"
            );
        }
        assert!(!without_state(Start::Rescue { starts: 5 }, None));
        assert!(!without_state(Start::Good, Some(&last(Status::Running))));
    }

    #[test]
    fn a_healthy_fallback_takes_over() {
        let record = Record { said: "a-hash".into(), ..Record::fresh(Slot::A) };
        let kind = start(Some(&record), Slot::B, true);
        assert_eq!(kind, Start::Fallback);
        let Action::Write(next) = after(kind, Some(&record), Slot::B, Event::Healthy) else { panic!() };
        assert_eq!((next.good, next.said.as_str()), (Slot::B, "a-hash"));
    }

    #[test]
    fn a_broken_slot_is_not_preferred_again() {
        let good = Record::fresh(Slot::A);
        assert_eq!(distrust(&good, Slot::A).unwrap().starts, STARTS_BEFORE_OTHER);
        assert_eq!(distrust(&good, Slot::B), None);
        let next = distrust(&on_trial(2), Slot::B).unwrap();
        assert_eq!(next.trial, Some(Trial { slot: Slot::B, tries: 0 }));
        let fourth = distrust(&good, Slot::A).unwrap();
        assert!(matches!(start(Some(&fourth), Slot::A, true), Start::Rescue { .. }));
    }

    /// A machine whose slots are healthy or not, under a boot loader that follows its policy.
    struct Machine {
        record: Option<Record>,
        healthy: [bool; 2],
        running: Option<Slot>,
    }

    impl Machine {
        fn boot(&mut self) -> Slot {
            let running = match &mut self.record {
                None => Slot::A,
                Some(record) => match &mut record.trial {
                    Some(trial) if trial.tries > 0 => {
                        trial.tries -= 1;
                        trial.slot
                    }
                    _ if record.starts >= STARTS_BEFORE_OTHER => record.good.other(),
                    _ => {
                        record.starts += 1;
                        record.good
                    }
                },
            };
            if let Some(next) = self.record.as_ref().and_then(|record| take_turns(record, running)) {
                self.record = Some(next);
            }
            let kind = start(self.record.as_ref(), running, true);
            let event = if self.healthy[running as usize] { Event::Healthy } else { Event::Deadline };
            match after(kind, self.record.as_ref(), running, event) {
                Action::Write(next) => self.record = Some(next),
                Action::Reboot => return self.boot(),
                Action::Stay => {}
            }
            self.running = Some(running);
            running
        }
    }

    proptest! {
        #[test]
        fn with_one_healthy_slot_the_machine_ends_in_it(
            b_good: bool, tries in proptest::option::of(0..=TRIES), starts in 0u32..8, healthy_is_b: bool, lost: bool,
        ) {
            let good = if b_good { Slot::B } else { Slot::A };
            let trial = tries.map(|tries| Trial { slot: good.other(), tries });
            let healthy = [!healthy_is_b, healthy_is_b];
            let wanted = if healthy_is_b { Slot::B } else { Slot::A };
            let record = Record { good, trial, starts, said: String::new(), ask: String::new() };
            let mut machine = Machine { record: (!lost).then_some(record), healthy, running: None };
            // Without a record, this loader starts A for ever: hashes alone decide, and both hold.
            prop_assume!(!lost || !healthy_is_b);
            for _ in 0..12 {
                machine.boot();
            }
            prop_assert_eq!(machine.boot(), wanted);
            prop_assert_eq!(machine.record.map(|record| (record.good, record.starts)), Some((wanted, 0)));
        }

        #[test]
        fn an_unhealthy_slot_is_never_made_good(
            b_good: bool, tries in proptest::option::of(0..=TRIES), starts in 0u32..8, boots in 0usize..20,
        ) {
            let good = if b_good { Slot::B } else { Slot::A };
            let trial = tries.map(|tries| Trial { slot: good.other(), tries });
            let mut machine =
                Machine { record: Some(Record { good, trial, starts, said: String::new(), ask: String::new() }), healthy: [false; 2], running: None };
            for _ in 0..boots {
                machine.boot();
            }
            prop_assert_eq!(machine.record.map(|record| record.good), Some(good));
        }
    }
}
