//! The table against a pretended kernel, store and clock.
//!
//! [`World`] knows the truth: which processes exist, what was promised, when restarts happened. It hands events to
//! the life in any order that a real PID 1 could see, and checks each effect when it is carried out. What happens
//! next is drawn from a list of numbers, so that a failure is a list that shrinks, and each found one is a seed.

use super::{Effect, Event, Exit, Life, Proof, State};
use crate::limits;
use crate::model::{Restart, RestartPolicy};
use proptest::prelude::*;
use std::time::Duration;

struct World {
    life: Life,
    policy: Restart,
    now: Duration,
    /// The armed timer, as effects say.
    timer: Option<Duration>,
    /// Events that PID 1 will see, with the run they belong to; any of them may come first.
    pending: Vec<(u32, Event)>,
    run: u32,
    /// The present run is still being set up.
    setup: bool,
    main: bool,
    others: u32,
    /// Killed processes that are stuck in the kernel.
    stuck: u32,
    /// A cgroup of the present run exists that was not cleaned up.
    dirty: bool,
    asked_image: bool,
    image_ready: bool,
    deps_ready: bool,
    /// Starts of a run, and whether each was a restart.
    restarted: Vec<Duration>,
    /// The present pause is for want of the image.
    without_image: bool,
    /// The pause that the life announced when it went to backoff, and when.
    backoff: Option<(Duration, Duration)>,
}

impl World {
    fn new(policy: Restart, proof: Proof) -> Self {
        Self {
            life: Life::new(proof),
            policy,
            now: Duration::from_secs(5),
            timer: None,
            pending: Vec::new(),
            run: 0,
            setup: false,
            main: false,
            others: 0,
            stuck: 0,
            dirty: false,
            asked_image: false,
            image_ready: false,
            deps_ready: false,
            restarted: Vec::new(),
            without_image: false,
            backoff: None,
        }
    }

    fn populated(&self) -> bool {
        self.setup || self.main || self.others + self.stuck > 0
    }

    fn tell(&mut self, event: Event) {
        let before = self.life.state;
        match event {
            Event::DepsReady if before == State::Waiting => self.deps_ready = true,
            Event::ImageReady if before == State::Preparing => {
                assert!(self.asked_image);
                self.image_ready = true;
            }
            _ => {}
        }
        let effects = self.life.step(&self.policy, event, self.now);
        let after = self.life.state;
        if std::env::var_os("TRACE").is_some() {
            eprintln!("{:>9.3?} {before} + {event:?} -> {after} {effects:?}", self.now);
        }
        assert_eq!(
            before != after,
            effects.last() == Some(&Effect::Changed),
            "{before} {event:?} {effects:?}"
        );
        for effect in effects {
            self.carry_out(effect);
        }
        self.check_change(before, event, after);
    }

    fn check_change(&mut self, before: State, event: Event, after: State) {
        if after == State::Backoff && before != State::Backoff {
            let until = self.timer.expect("backoff without a timer");
            self.backoff = Some((self.now, until));
            self.without_image = event == Event::ImageFailed;
        }
        if before == State::Backoff && after == State::Waiting {
            assert_eq!(event, Event::Timer, "only the timer ends a pause");
            let (since, until) = self.backoff.take().expect("a pause was announced");
            assert!(self.now >= until, "restarted before its time");
            assert!(self.now - since >= limits::RESTART_MIN_DELAY.max(self.policy.delay));
            // What has not run is not restarted.
            if !self.without_image {
                self.restarted.push(self.now);
                self.check_limit();
            }
        }
        if matches!(before, State::Stopped | State::Failed | State::Finished) && before != after {
            assert!(matches!(event, Event::Start | Event::Stop), "{before} left by {event:?}");
        }
        if after == State::Waiting && before != State::Waiting {
            (self.deps_ready, self.asked_image, self.image_ready) = (false, false, false);
            if before != State::Backoff {
                self.restarted.clear();
            }
        }
        let timed = match after {
            State::Running => matches!(self.life.proof, Proof::Settled(_)),
            State::Preparing | State::Starting | State::Stopping | State::Killing | State::Backoff => true,
            _ => false,
        };
        assert_eq!(self.timer.is_some(), timed, "timer of {after} (after {event:?} in {before})");
        assert_eq!(self.timer, self.life.deadline());
        if after == State::Killing {
            assert!(!self.setup && !self.main && self.others == 0, "{before} {event:?}: not killed at once");
        }
        // Whatever has no run has nothing alive, and the other way round.
        assert_eq!(self.dirty, after.has_run(), "{before} {event:?} {after}");
        if !after.has_run() {
            assert!(!self.populated(), "{after} with processes");
        }
    }

    /// Never more than `limit` restarts in any window of `interval`.
    fn check_limit(&self) {
        let limit = self.policy.limit as usize;
        if limit > 0 && self.restarted.len() > limit {
            let newest = self.restarted[self.restarted.len() - 1];
            let before = self.restarted[self.restarted.len() - 1 - limit];
            assert!(
                newest - before >= self.policy.interval,
                "{} restarts within {:?}",
                limit + 1,
                newest - before
            );
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::PrepareImage => {
                assert!(self.deps_ready, "prepared before its requirements");
                self.asked_image = true;
            }
            Effect::Fork => {
                assert!(std::mem::take(&mut self.image_ready), "forked without its image");
                assert!(std::mem::take(&mut self.asked_image));
                assert!(std::mem::take(&mut self.deps_ready));
                assert!(!self.populated(), "forked into a cgroup that is not empty");
                assert!(!self.dirty, "forked before the former run was cleaned up");
                self.run += 1;
                self.setup = true;
                self.dirty = true;
            }
            Effect::SendStop => assert!(self.dirty),
            Effect::KillCgroup => {
                assert!(self.dirty, "killed where there is no run");
                self.end_setup();
                self.end_main(Exit::Signal(9));
                // Of what else there is, every second one hangs in the kernel for a while.
                self.stuck += self.others.div_ceil(2);
                self.others = 0;
                self.emptied();
            }
            Effect::ArmTimer(after) => self.timer = Some(self.now + after),
            Effect::CancelTimer => assert!(self.timer.take().is_some(), "no timer to cancel"),
            Effect::Cleanup => {
                assert!(!self.populated(), "cleaned up under living processes");
                assert!(std::mem::take(&mut self.dirty), "cleaned up twice");
            }
            Effect::Changed => {}
        }
    }

    fn end_setup(&mut self) {
        if std::mem::take(&mut self.setup) {
            self.pending.push((self.run, Event::StartFailed));
        }
    }

    fn end_main(&mut self, exit: Exit) {
        if std::mem::take(&mut self.main) {
            self.pending.push((self.run, Event::Exited(exit)));
        }
    }

    fn emptied(&mut self) {
        if !self.populated() {
            self.pending.push((self.run, Event::CgroupEmpty));
        }
    }

    /// PID 1 sees the `n`th of what it can see. It reads whether the cgroup is empty when it looks.
    fn deliver(&mut self, n: usize) {
        if self.pending.is_empty() {
            return;
        }
        let (run, event) = self.pending.remove(n % self.pending.len());
        if run == self.run && !(event == Event::CgroupEmpty && self.populated()) {
            self.tell(event);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.timer.is_some_and(|at| at <= self.now) {
            self.timer = None;
            self.tell(Event::Timer);
        }
    }

    /// One thing happens.
    fn act(&mut self, (what, how): (u8, u16)) {
        let how_many = usize::from(how);
        match what % 16 {
            0 => self.tell(Event::Start),
            1 if how % 3 == 0 => self.tell(Event::Stop),
            2 | 3 => self.deliver(how_many),
            4 => self.pass(Duration::from_millis(u64::from(how % 900))),
            5 => self.pass(Duration::from_secs(u64::from(how % 100))),
            6 => self.pass(self.timer.map_or(Duration::ZERO, |at| at.saturating_sub(self.now))),
            7 if self.life.state == State::Waiting => {
                self.tell(if how % 8 == 0 { Event::DepsFailed } else { Event::DepsReady });
            }
            8 if self.life.state == State::Preparing => {
                self.tell(if how % 8 == 0 { Event::ImageFailed } else { Event::ImageReady });
            }
            9 | 10 if self.setup && how % 6 == 0 => {
                self.end_setup();
                self.emptied();
            }
            9 | 10 if self.setup => {
                self.setup = false;
                self.main = true;
                self.others = u32::from(how % 4);
                self.pending.push((self.run, Event::Started));
            }
            11 if self.main => {
                self.end_main(if how % 2 == 0 { Exit::Code(i32::from(how % 4)) } else { Exit::Signal(15) });
                self.emptied();
            }
            12 if self.others + self.stuck > 0 => {
                self.others = 0;
                self.stuck = 0;
                self.emptied();
            }
            13 if self.life.state.is_running() && how % 3 == 0 => self.tell(Event::BecameUnhealthy),
            13 if self.life.state.is_running() => self.tell(Event::BecameHealthy),
            // A stale timer event: PID 1 had read it before the timer was replaced.
            14 => {
                self.life.step(&self.policy, Event::Timer, self.now.min(self.timer.unwrap_or_default() / 2));
            }
            _ => {}
        }
    }

    /// From here on everything goes as well as it can: PID 1 sees what there is, killed processes die, time passes.
    fn calm_down(&mut self, until: impl Fn(State) -> bool) {
        for _ in 0..200 {
            if until(self.life.state) {
                return;
            }
            while !self.pending.is_empty() {
                self.deliver(0);
            }
            if self.stuck > 0 {
                self.stuck = 0;
                self.emptied();
            }
            match self.life.state {
                State::Waiting => self.tell(Event::DepsReady),
                State::Preparing => self.tell(Event::ImageReady),
                State::Starting if self.setup => {
                    self.setup = false;
                    self.main = true;
                    self.tell(Event::Started);
                }
                _ if self.pending.is_empty() => {
                    self.pass(self.timer.map_or(Duration::ZERO, |at| at.saturating_sub(self.now)));
                }
                _ => {}
            }
        }
        panic!("did not get out of {} (want {:?})", self.life.state, self.life.want);
    }
}

fn policies() -> impl Strategy<Value = Restart> {
    let policy =
        prop_oneof![Just(RestartPolicy::No), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Always)];
    (policy, 0u64..2000, 0u64..60_000, 0u32..6, 0u64..600, 0u64..20).prop_map(
        |(policy, delay, max_delay, limit, interval, stop)| Restart {
            policy,
            delay: Duration::from_millis(delay),
            max_delay: Duration::from_millis(max_delay),
            limit,
            interval: Duration::from_secs(interval),
            stop_timeout: Duration::from_secs(stop),
        },
    )
}

fn acts() -> impl Strategy<Value = Vec<(u8, u16)>> {
    prop::collection::vec((any::<u8>(), any::<u16>()), 0..250)
}

fn proofs() -> impl Strategy<Value = Proof> {
    prop_oneof![
        Just(Proof::Told),
        Just(Proof::Settled(limits::SETTLE)),
        any::<bool>().prop_map(|tolerant| Proof::Shown { tolerant }),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Start),
        Just(Event::Stop),
        Just(Event::DepsReady),
        Just(Event::DepsFailed),
        Just(Event::ImageReady),
        Just(Event::ImageFailed),
        Just(Event::Started),
        Just(Event::StartFailed),
        Just(Event::BecameHealthy),
        Just(Event::BecameUnhealthy),
        (-1i32..3).prop_map(|code| Event::Exited(Exit::Code(code))),
        Just(Event::Exited(Exit::Signal(11))),
        Just(Event::CgroupEmpty),
        Just(Event::Timer),
    ]
}

fn forks(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Fork)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every check of [`World`] holds on every path that an honest kernel can take.
    #[test]
    fn an_honest_kernel(policy in policies(), proof in proofs(), acts in acts()) {
        let mut world = World::new(policy, proof);
        for act in acts {
            world.act(act);
        }
    }

    /// Wherever a unit is, `Stop` brings it to stopped, and `Start` up again from there.
    #[test]
    fn stop_always_stops(policy in policies(), proof in proofs(), acts in acts()) {
        let mut world = World::new(policy, proof);
        world.tell(Event::Start);
        for act in acts {
            world.act(act);
        }
        world.tell(Event::Stop);
        world.calm_down(|state| state == State::Stopped);
        assert!(world.timer.is_none() && !world.dirty);
        world.tell(Event::Start);
        world.calm_down(State::is_up);
    }

    /// Wherever a wanted unit is, it comes up or comes to rest, and `Start` gets it up again.
    #[test]
    fn no_state_is_a_trap(policy in policies(), proof in proofs(), acts in acts()) {
        let mut world = World::new(policy, proof);
        world.tell(Event::Start);
        for act in acts {
            world.act(act);
        }
        let rests = |state: State| state.is_up() || matches!(state, State::Failed | State::Stopped);
        world.calm_down(rests);
        world.tell(Event::Start);
        world.calm_down(State::is_up);
    }

    /// Events that no kernel would send, in any order: still one run at a time, still a way out.
    #[test]
    fn a_lying_kernel(policy in policies(), proof in proofs(), events in prop::collection::vec((any_event(), 0u64..90_000), 0..200)) {
        let mut life = Life::new(proof);
        let mut now = Duration::ZERO;
        let mut running = false;
        for (event, later) in events {
            now += Duration::from_millis(later);
            let before = life.state;
            let effects = life.step(&policy, event, now);
            if forks(&effects) {
                prop_assert!(!running && before == State::Preparing && event == Event::ImageReady);
                running = true;
            }
            if effects.contains(&Effect::Cleanup) {
                prop_assert!(running);
                running = false;
            }
            prop_assert_eq!(running, life.state.has_run());
            prop_assert!(life.recent.len() <= limits::RESTARTS_REMEMBERED);
        }
        life.step(&policy, Event::Stop, now);
        for _ in 0..4 {
            now = life.deadline.unwrap_or(now);
            life.step(&policy, Event::Timer, now);
            life.step(&policy, Event::CgroupEmpty, now);
        }
        prop_assert_eq!(life.state, State::Stopped);
    }
}
