//! What the harness waits for: events, out of Berth's console lines and out of what QEMU tells. This is the one place that
//! knows how a line is worded (`init/src/run/console.rs` writes most of them).

use serde_json::Value;
use std::fmt;

/// The boot was judged healthy.
pub const CONFIRMED: &str = "everything healthy at";

/// Something that happened to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step of the boot has ended, well or not.
    Step {
        /// `initrd` or `main`.
        stage: String,
        /// Its name.
        name: String,
    },
    /// The boot is done, units are started now, out of this slot.
    Up {
        /// `a` or `b`.
        slot: String,
    },
    /// The machine is in rescue.
    Rescue,
    /// The API listens; the fingerprint of its key.
    ApiListens(String),
    /// A unit is healthy.
    UnitHealthy(String),
    /// Every unit has had its first try.
    Ready,
    /// Everything is healthy, and the boot record says that this slot is good.
    SlotGood(String),
    /// The machine goes down to start again.
    Rebooting,
    /// The machine goes down for good.
    PoweringOff,
    /// The machine goes down, and stays on.
    Halting,
    /// All units have stopped.
    UnitsStopped,
    /// The kernel's last words.
    Panic,
    /// QEMU: the machine was reset.
    Reset {
        /// By itself (its kernel, its firmware or its watchdog); else by the reset button.
        by_guest: bool,
    },
    /// QEMU: the machine was switched off, or QEMU told to end.
    Shutdown {
        /// By itself.
        by_guest: bool,
    },
    /// QEMU: the watchdog was not fed.
    Watchdog,
}

impl Event {
    /// What a console line says, if it says one.
    pub fn of_line(line: &str) -> Option<Event> {
        if line.contains("Kernel panic - not syncing") {
            return Some(Event::Panic);
        }
        let (subject, sentence) = line.split_once(' ')?;
        let sentence = sentence.trim_start();
        if subject.is_empty() {
            return None;
        }
        match subject {
            "initrd" | "main" => {
                let (name, took) = sentence.split_once(' ')?;
                let step = took.trim_start().split_once(" ms").is_some_and(|(n, _)| n.parse::<f64>().is_ok());
                step.then(|| Event::Step { stage: subject.into(), name: name.into() })
            }
            "berth" if sentence.starts_with("rescue: ") => Some(Event::Rescue),
            "berth" => {
                let (_, rest) = sentence.split_once(", slot ")?;
                let (slot, _) = rest.split_once(", host ")?;
                Some(Event::Up { slot: slot.into() })
            }
            "api" => {
                let (_, fingerprint) = sentence.strip_prefix("listening on ")?.split_once(", key ")?;
                Some(Event::ApiListens(fingerprint.into()))
            }
            "ready" => Some(Event::Ready),
            "slot" => {
                let (slot, rest) = sentence.split_once(' ')?;
                (rest.starts_with("is good, ") && rest.contains(CONFIRMED))
                    .then(|| Event::SlotGood(slot.into()))
            }
            "stop" if sentence.starts_with("reboot: ") => Some(Event::Rebooting),
            "stop" if sentence.starts_with("power off: ") => Some(Event::PoweringOff),
            "stop" if sentence.starts_with("halt: ") => Some(Event::Halting),
            "stop" if sentence.starts_with("all units stopped") => Some(Event::UnitsStopped),
            unit if sentence == "healthy" => Some(Event::UnitHealthy(unit.into())),
            _ => None,
        }
    }

    /// What QEMU tells by QMP (docs/interop/qmp-ref, "Events"), if it matters.
    pub(crate) fn of_qemu(packet: &Value) -> Option<Event> {
        let by_guest = packet["data"]["guest"].as_bool().unwrap_or(false);
        match packet["event"].as_str()? {
            "RESET" => Some(Event::Reset { by_guest }),
            "SHUTDOWN" => Some(Event::Shutdown { by_guest }),
            "WATCHDOG" => Some(Event::Watchdog),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = |by_guest: &bool| if *by_guest { "by itself" } else { "from outside" };
        match self {
            Event::Step { stage, name } => write!(f, "the end of step {name} of stage {stage}"),
            Event::Up { slot } => write!(f, "slot {slot} to be up"),
            Event::Rescue => f.write_str("rescue"),
            Event::ApiListens(_) => f.write_str("the API to listen"),
            Event::UnitHealthy(unit) => write!(f, "unit {unit} to be healthy"),
            Event::Ready => f.write_str("the first try of every unit"),
            Event::SlotGood(slot) => write!(f, "slot {slot} to be good"),
            Event::Rebooting => f.write_str("the machine to go down and start again"),
            Event::PoweringOff => f.write_str("the machine to go down for good"),
            Event::Halting => f.write_str("the machine to go down and stay on"),
            Event::UnitsStopped => f.write_str("all units to stop"),
            Event::Panic => f.write_str("a kernel panic"),
            Event::Reset { by_guest } => write!(f, "a reset {}", who(by_guest)),
            Event::Shutdown { by_guest } => write!(f, "the machine to be switched off {}", who(by_guest)),
            Event::Watchdog => f.write_str("the watchdog to go off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_that_are_events() {
        let step = |stage: &str, name: &str| Event::Step { stage: stage.into(), name: name.into() };
        for (line, event) in [
            ("initrd   verity         12.3 ms", step("initrd", "verity")),
            ("main     state         120.0 ms  failed: no disk", step("main", "state")),
            ("berth    0.1.0, slot b, host test", Event::Up { slot: "b".into() }),
            ("berth    rescue: started three times; network and API only, no user units", Event::Rescue),
            ("api      listening on :7443, key sha256:abc", Event::ApiListens("sha256:abc".into())),
            ("web      healthy", Event::UnitHealthy("web".into())),
            ("a-long-name healthy", Event::UnitHealthy("a-long-name".into())),
            ("ready    no container, 0 of 0 units up at 3.2 s", Event::Ready),
            ("slot     a is good, everything healthy at 3.4 s", Event::SlotGood("a".into())),
            ("stop     reboot: an operator asks", Event::Rebooting),
            ("stop     power off: the power button", Event::PoweringOff),
            ("stop     all units stopped; syncing and unmounting", Event::UnitsStopped),
            ("[    2.5] Kernel panic - not syncing: Attempted to kill init!", Event::Panic),
        ] {
            assert_eq!(Event::of_line(line), Some(event), "{line}");
        }
    }

    #[test]
    fn lines_that_are_none() {
        for line in [
            "",
            "         memory = \"64M\"",
            "main     cannot be read",
            "slot     b is broken: block 5 differs; rebooting",
            "slot     a is healthy, but the boot record was not written: no disk",
            "web      backoff: exit code 3, again in 1 s",
            "Berth: slot b is not started: hash",
            "[    1.0] reboot: Restarting system",
        ] {
            assert_eq!(Event::of_line(line), None, "{line}");
        }
    }

    #[test]
    fn what_qemu_tells() {
        let packet = json!({ "event": "RESET", "data": { "guest": true, "reason": "guest-reset" } });
        assert_eq!(Event::of_qemu(&packet), Some(Event::Reset { by_guest: true }));
        assert_eq!(
            Event::of_qemu(&json!({ "event": "WATCHDOG", "data": { "action": "reset" } })),
            Some(Event::Watchdog)
        );
        assert_eq!(Event::of_qemu(&json!({ "event": "RTC_CHANGE", "data": {} })), None);
        assert_eq!(Event::of_qemu(&json!({ "return": {} })), None);
    }
}
