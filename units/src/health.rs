//! When a unit is looked at, and what follows from what was seen. Pure: PID 1 carries out the looks.
//!
//! A unit with `[ready]` has come up when its port takes connections, or it says so ([`crate::notify`]); one without when
//! its first health check succeeds. Until then it is looked at soon and ever more seldom; afterwards `[health]` alone decides, every `interval`.
//! Failures within `start_period` do not count before the first success; then `retries` of them in a row make the unit
//! unhealthy. A health check runs only once the unit is ready. (Docker's `HEALTHCHECK`, with Kubernetes' rule for the
//! time of starting.)

use crate::lifecycle::Proof;
use crate::limits;
use crate::model::{Check, Health, Ready, Sign, Unit};
use crate::probe::Target;
use std::time::Duration;

/// What makes this unit a healthy one.
pub fn proof(unit: &Unit) -> Proof {
    let worker = unit.system.as_ref().is_some_and(|grants| grants.control);
    match (&unit.health, &unit.ready) {
        // Of one that is left alone, what did not come up in time is looked for further.
        (Some(health), _) => Proof::Shown { tolerant: health.tolerant },
        (None, Some(_)) => Proof::Shown { tolerant: false },
        (None, None) if worker => Proof::Told,
        (None, None) => Proof::Settled(limits::SETTLE),
    }
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Look; the answer goes to [`Checks::seen`].
    Look {
        /// How.
        check: Check,
        /// At most for so long.
        timeout: Duration,
    },
    /// It was not ready in time: it is unhealthy, for this reason.
    Late(String),
}

/// What a look has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    AsBefore,
    /// It is healthy, now or still.
    Healthy,
    /// It is unhealthy, now or still, for this reason.
    Unhealthy(String),
}

/// The looks at one run of a unit.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// When the program began to run; `None`: there is no run.
    began: Option<Duration>,
    /// It has been ready.
    ready: bool,
    /// It was not ready in time, and that has been said.
    late_once: bool,
    /// A health check has succeeded.
    well: bool,
    /// Failures in a row that count.
    failures: u32,
    /// What the last failed look said.
    trouble: String,
    /// The pause before the next look, while it is coming up.
    pause: Duration,
    /// When the next look is due; `None` while one is under way.
    next: Option<Duration>,
    looking: bool,
}

impl Checks {
    /// The program runs.
    pub fn begin(&mut self, unit: &Unit, now: Duration) {
        *self = Self::default();
        if unit.health.is_some() || unit.ready.is_some() {
            self.began = Some(now);
            self.ready = unit.ready.is_none();
            self.pause = limits::FIRST_CHECK;
            self.next = Some(now.saturating_add(self.pause));
            if unit.ready.as_ref().is_some_and(|ready| ready.sign == Sign::Notify) {
                self.next = None;
                self.trouble = "it has not said READY=1".to_owned();
            }
        }
    }

    /// It says that it is ready: news if that is what was waited for.
    pub fn said_ready(&mut self, unit: &Unit, now: Duration) -> Verdict {
        let waits = unit.ready.as_ref().is_some_and(|ready| ready.sign == Sign::Notify);
        if self.began.is_none() || self.ready || !waits {
            return Verdict::AsBefore;
        }
        self.ready = true;
        self.came_up(unit, now)
    }

    /// The run is over, or ending: nobody looks any more.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// When [`Checks::due`] has to be asked next.
    pub fn deadline(&self, unit: &Unit) -> Option<Duration> {
        let late = unit.ready.as_ref().and_then(|ready| self.late(ready));
        [self.next, late].into_iter().flatten().min()
    }

    /// What is to be done now, if anything.
    pub fn due(&mut self, unit: &Unit, now: Duration) -> Option<Due> {
        if let Some(ready) = &unit.ready
            && self.late(ready).is_some_and(|at| at <= now)
        {
            let after = crate::schema::values::show_time(ready.timeout);
            let tolerant = unit.health.as_ref().is_some_and(|health| health.tolerant);
            let why = if self.trouble.is_empty() { String::new() } else { format!(": {}", self.trouble) };
            if tolerant {
                self.late_once = true;
            } else {
                self.end();
            }
            return Some(Due::Late(format!("not ready after {after}{why}")));
        }
        self.next.filter(|at| *at <= now)?;
        self.next = None;
        self.looking = true;
        match (&unit.ready, &unit.health) {
            (Some(Ready { sign: Sign::Port(port), .. }), _) if !self.ready => {
                let target = Target::Tcp { host: "localhost".into(), port: *port };
                Some(Due::Look { check: Check::Probe(target), timeout: limits::READY_AGAIN })
            }
            (_, Some(health)) => Some(Due::Look { check: health.check.clone(), timeout: health.timeout }),
            _ => None,
        }
    }

    /// What a look has found: nothing wrong, or why not.
    pub fn seen(&mut self, unit: &Unit, found: Result<(), String>, now: Duration) -> Verdict {
        let (Some(began), true) = (self.began, std::mem::take(&mut self.looking)) else {
            return Verdict::AsBefore;
        };
        if let Err(why) = &found {
            self.trouble.clone_from(why);
        }
        if !self.ready {
            self.ready = found.is_ok();
            if !self.ready {
                self.again(limits::READY_AGAIN, now);
                return Verdict::AsBefore;
            }
            return self.came_up(unit, now);
        }
        let Some(health) = &unit.health else { return Verdict::AsBefore };
        match found {
            Ok(()) => {
                self.well = true;
                self.failures = 0;
                self.trouble.clear();
                self.next = Some(now.saturating_add(health.interval));
                Verdict::Healthy
            }
            Err(why) => {
                if self.well {
                    self.next = Some(now.saturating_add(health.interval));
                } else {
                    self.again(health.interval, now);
                }
                self.failed(health, began, &why, now)
            }
        }
    }

    fn came_up(&mut self, unit: &Unit, now: Duration) -> Verdict {
        self.trouble.clear();
        self.pause = limits::FIRST_CHECK;
        if unit.health.is_some() {
            self.again(limits::FIRST_CHECK, now);
        }
        Verdict::Healthy
    }

    /// What the last look found wrong, if it did.
    pub fn trouble(&self) -> &str {
        &self.trouble
    }

    fn failed(&mut self, health: &Health, began: Duration, why: &str, now: Duration) -> Verdict {
        if !self.well && now < began.saturating_add(health.start_period) {
            return Verdict::AsBefore;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < health.retries {
            return Verdict::AsBefore;
        }
        Verdict::Unhealthy(match health.retries {
            1 => why.to_owned(),
            _ => format!("{} checks in a row failed: {why}", self.failures),
        })
    }

    /// The next look while it is coming up.
    fn again(&mut self, longest: Duration, now: Duration) {
        self.next = Some(now.saturating_add(self.pause.min(longest)));
        self.pause = self.pause.saturating_mul(2).min(longest);
    }

    /// When it is too late to become ready.
    fn late(&self, ready: &Ready) -> Option<Duration> {
        self.began.filter(|_| !self.ready && !self.late_once).map(|began| began.saturating_add(ready.timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Place;
    use crate::model::Origin;

    fn unit(health: Option<Health>, ready: Option<Ready>) -> Unit {
        Unit { health, ready, ..crate::schema::blank("web", Origin::Config, Place::default()) }
    }

    /// A command, and every default.
    fn health() -> Health {
        let text = b"container.image = \"x\"\nhealth.command = [\"/check\"]";
        crate::schema::parse_unit("web.toml", "web", text, Origin::Config).unwrap().health.unwrap()
    }

    /// Looks until `end`; the answer to each is `found`. When it looked, and the verdicts but for `AsBefore`.
    fn watch(
        checks: &mut Checks,
        unit: &Unit,
        now: &mut Duration,
        end: u64,
        found: Result<(), &str>,
    ) -> (Vec<u64>, Vec<Verdict>) {
        let (mut looks, mut verdicts) = (Vec::new(), Vec::new());
        let end = Duration::from_secs(end);
        while let Some(at) = checks.deadline(unit).filter(|at| *at <= end) {
            *now = at;
            match checks.due(unit, at) {
                Some(Due::Look { .. }) => {
                    looks.push(u64::try_from(at.as_millis()).unwrap());
                    match checks.seen(unit, found.map_err(str::to_owned), at) {
                        Verdict::AsBefore => {}
                        verdict => verdicts.push(verdict),
                    }
                }
                Some(Due::Late(why)) => verdicts.push(Verdict::Unhealthy(why)),
                None => panic!("nothing is due"),
            }
        }
        *now = end;
        (looks, verdicts)
    }

    #[test]
    fn failures_count_after_the_start_period_and_in_a_row() {
        let (unit, mut checks, mut now) = (unit(Some(health()), None), Checks::default(), Duration::ZERO);
        checks.begin(&unit, now);
        let (looks, verdicts) = watch(&mut checks, &unit, &mut now, 29, Err("no"));
        assert_eq!(looks, [250, 500, 1000, 2000, 4000, 8000, 16_000, 26_000]);
        assert_eq!(verdicts, []);
        let (_, verdicts) = watch(&mut checks, &unit, &mut now, 60, Err("no"));
        assert_eq!(verdicts, [Verdict::Unhealthy("3 checks in a row failed: no".into())]);
        let (_, verdicts) = watch(&mut checks, &unit, &mut now, 66, Ok(()));
        assert_eq!(verdicts, [Verdict::Healthy]);
        assert_eq!(checks.trouble(), "");
        for _ in 0..3 {
            let end = now.as_secs() + 20;
            let (looks, verdicts) = watch(&mut checks, &unit, &mut now, end, Err("no"));
            assert_eq!((looks.len(), verdicts.len(), checks.trouble()), (2, 0, "no"));
            let end = now.as_secs() + 10;
            watch(&mut checks, &unit, &mut now, end, Ok(()));
        }
    }

    #[test]
    fn a_success_ends_the_start_period() {
        let (unit, mut checks, mut now) = (unit(Some(health()), None), Checks::default(), Duration::ZERO);
        checks.begin(&unit, now);
        let (looks, verdicts) = watch(&mut checks, &unit, &mut now, 1, Ok(()));
        assert_eq!((looks, verdicts), (vec![250], vec![Verdict::Healthy]));
        let (looks, verdicts) = watch(&mut checks, &unit, &mut now, 31, Err("no"));
        assert_eq!((looks, verdicts.len()), (vec![10_250, 20_250, 30_250], 1));
    }

    #[test]
    fn a_port_makes_ready_and_then_health_decides() {
        let ready = Ready { sign: Sign::Port(80), timeout: Duration::from_secs(20) };
        let unit = unit(Some(health()), Some(ready));
        let (mut checks, mut now) = (Checks::default(), Duration::ZERO);
        checks.begin(&unit, now);
        let (looks, verdicts) = watch(&mut checks, &unit, &mut now, 3, Err("nobody listens there"));
        assert_eq!((looks, verdicts), (vec![250, 500, 1000, 2000, 3000], vec![]));
        let Some(Due::Look { check: Check::Probe(target), .. }) = checks.due(&unit, Duration::from_secs(4))
        else {
            panic!()
        };
        assert_eq!(target.to_string(), "tcp:localhost:80");
        assert_eq!(checks.seen(&unit, Ok(()), Duration::from_secs(4)), Verdict::Healthy);
        let Some(Due::Look { check, .. }) = checks.due(&unit, Duration::from_secs(5)) else { panic!() };
        assert_eq!(check, health().check);
    }

    #[test]
    fn what_is_not_ready_in_time_is_unhealthy() {
        let unit = unit(None, Some(Ready { sign: Sign::Port(80), timeout: Duration::from_secs(20) }));
        let (mut checks, mut now) = (Checks::default(), Duration::ZERO);
        checks.begin(&unit, now);
        let (_, verdicts) = watch(&mut checks, &unit, &mut now, 3600, Err("nobody listens there"));
        let why = "not ready after 20s: nobody listens there".to_owned();
        assert_eq!((verdicts, checks.deadline(&unit)), (vec![Verdict::Unhealthy(why)], None));
        // Nor does a look that hangs keep it from being found out.
        checks.begin(&unit, now);
        assert!(matches!(checks.due(&unit, now + Duration::from_secs(1)), Some(Due::Look { .. })));
        let at = checks.deadline(&unit).unwrap();
        assert_eq!(at, now + Duration::from_secs(20));
        assert!(matches!(checks.due(&unit, at), Some(Due::Late(_))));
        assert_eq!(checks.seen(&unit, Ok(()), at), Verdict::AsBefore, "that was another run");
    }

    #[test]
    fn what_says_that_it_is_ready_is_not_looked_at_before() {
        let ready = Ready { sign: Sign::Notify, timeout: Duration::from_secs(20) };
        let unit = unit(Some(health()), Some(ready));
        let mut checks = Checks::default();
        assert_eq!(checks.said_ready(&unit, Duration::ZERO), Verdict::AsBefore, "nothing runs");
        checks.begin(&unit, Duration::ZERO);
        assert_eq!(checks.deadline(&unit), Some(Duration::from_secs(20)));
        assert_eq!(checks.said_ready(&unit, Duration::from_secs(5)), Verdict::Healthy);
        assert_eq!(checks.said_ready(&unit, Duration::from_secs(5)), Verdict::AsBefore, "once is enough");
        let first = Duration::from_secs(5) + limits::FIRST_CHECK;
        assert_eq!(checks.deadline(&unit), Some(first));
        assert!(matches!(checks.due(&unit, first), Some(Due::Look { .. })));

        checks.begin(&unit, Duration::ZERO);
        let late = "not ready after 20s: it has not said READY=1".to_owned();
        assert_eq!(checks.due(&unit, Duration::from_secs(20)), Some(Due::Late(late)));
        assert_eq!(checks.said_ready(&unit, Duration::from_secs(21)), Verdict::AsBefore, "too late");
    }

    #[test]
    fn who_is_not_looked_at() {
        let unit = unit(None, None);
        let mut checks = Checks::default();
        checks.begin(&unit, Duration::ZERO);
        assert_eq!(checks.deadline(&unit), None);
        assert_eq!(proof(&unit), Proof::Settled(limits::SETTLE));
    }
}
