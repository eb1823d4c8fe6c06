//! Looks at running units under way: one process in each unit that is looked at, in a cgroup of its own below the unit's.
//! A look ends with [`Input::Checked`], whatever the process does: it is killed when its time is over.

use super::kernel::Input;
use super::reactor::{Reactor, Source, Watch};
use super::visit::{Inside, Step, Visit, own_program, watched};
use super::{limits, text};
use berth_units::launch::Entry;
use berth_units::lifecycle::Exit;
use berth_units::model::Check;
use berth_units::{limits as bounds, terminal};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Name of the cgroup below the unit's.
const CGROUP: &str = "check";
/// Bytes read at once.
const PART_BYTES: usize = 1024;
/// Bytes of a look's output that are read in one pass.
const PASS_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Look {
    visit: Visit,
    output: Option<(File, Option<Watch>)>,
    /// The end of what it has written.
    tail: Vec<u8>,
    timeout: Duration,
    until: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Looks {
    looks: BTreeMap<String, Look>,
}

impl Looks {
    /// Begins to look; never waits. An error is the look's result.
    pub fn begin(
        &mut self,
        reactor: &mut Reactor,
        inside: &Inside<'_>,
        check: &Check,
        timeout: Duration,
        now: Duration,
    ) -> Result<(), String> {
        let unit = &inside.plan.unit;
        if self.looks.contains_key(unit) {
            return Err("an earlier check is not over".into());
        }
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let (output, theirs) = io::pipe().map_err(failed("pipe"))?;
        terminal::non_blocking(output.as_fd()).map_err(failed("pipe"))?;
        let program;
        let (mut entry, grace) = match check {
            Check::Command(words) => (Entry::command(words.clone()), Duration::ZERO),
            Check::Probe(target) => {
                program = own_program()?;
                let mut words = ["berth", "worker", "probe"].map(str::to_owned).to_vec();
                words.extend([target.to_string(), "--timeout".into(), timeout.as_millis().to_string()]);
                // It says itself what was late.
                (Entry::check(program.as_fd(), words), limits::PROBE_GRACE)
            }
        };
        entry.stdio = [None, Some(theirs.as_fd()), Some(theirs.as_fd())];
        let visit = Visit::begin(reactor, inside, CGROUP, &entry, Source::Check(unit.clone()))?;
        let file = File::from(OwnedFd::from(output));
        let watch = watched(unit, reactor.watch(&file, Source::CheckOutput(unit.clone())));
        let look = Look {
            visit,
            output: Some((file, watch)),
            tail: Vec::new(),
            timeout,
            until: now.saturating_add(timeout).saturating_add(grace),
        };
        self.looks.insert(unit.clone(), look);
        Ok(())
    }

    /// When [`Looks::tick`] has to be called next.
    pub fn next(&self) -> Option<Duration> {
        self.looks.values().map(|look| look.until).min()
    }

    /// Ends what has taken too long.
    pub fn tick(&mut self, reactor: &mut Reactor, now: Duration, inbox: &mut VecDeque<Input>) {
        let names: Vec<String> =
            self.looks.iter().filter(|(_, look)| look.until <= now).map(|(unit, _)| unit.clone()).collect();
        for unit in names {
            let Some(look) = self.looks.get(&unit) else { continue };
            let why = format!("no result within {}", text::seconds(look.timeout));
            self.over(reactor, &unit, Err(why), inbox);
        }
    }

    /// The start's channel is readable.
    pub fn start_ready(&mut self, reactor: &mut Reactor, unit: &str, inbox: &mut VecDeque<Input>) {
        let Some(look) = self.looks.get_mut(unit) else { return };
        if let Step::Failed(why) = look.visit.step(reactor) {
            self.over(reactor, unit, Err(why), inbox);
        }
    }

    /// It has written something, or closed its output.
    pub fn output_ready(&mut self, reactor: &mut Reactor, unit: &str) {
        if let Some(look) = self.looks.get_mut(unit) {
            look.read(reactor);
        }
    }

    /// A child of PID 1 has ended. False if it is none of these.
    pub fn reaped(
        &mut self,
        reactor: &mut Reactor,
        pid: i32,
        exit: Exit,
        inbox: &mut VecDeque<Input>,
    ) -> bool {
        // The process may be known by its usher's word only, which has not been read yet.
        let starting = |(_, look): &(&String, &Look)| look.visit.starts();
        let names: Vec<String> = self.looks.iter().filter(starting).map(|(unit, _)| unit.clone()).collect();
        for unit in names {
            self.start_ready(reactor, &unit, inbox);
        }
        if self.looks.values_mut().any(|look| look.visit.buries_usher(pid)) {
            return true;
        }
        let is_it = |(_, look): &(&String, &mut Look)| look.visit.process() == Some(pid);
        let Some((unit, look)) = self.looks.iter_mut().find(is_it) else { return false };
        let unit = unit.clone();
        look.read(reactor);
        let found = match exit {
            Exit::Code(0) => Ok(()),
            exit => Err(match last_line(&look.tail) {
                line if line.is_empty() => text::exit(exit),
                line => line,
            }),
        };
        self.over(reactor, &unit, found, inbox);
        true
    }

    /// Nobody wants to know any more. Its processes are ended here, and reaped by whoever reaps.
    pub fn forget(&mut self, reactor: &mut Reactor, unit: &str) {
        let Some(mut look) = self.looks.remove(unit) else { return };
        if let Some((file, Some(watch))) = look.output.take() {
            reactor.forget(&file, watch);
        }
        look.visit.end(reactor);
    }

    fn over(
        &mut self,
        reactor: &mut Reactor,
        unit: &str,
        found: Result<(), String>,
        inbox: &mut VecDeque<Input>,
    ) {
        self.forget(reactor, unit);
        let found = found.map_err(|why| text::bounded(&why, limits::TEXT_BYTES));
        inbox.push_back(Input::Checked { unit: unit.to_owned(), found });
    }
}

impl Look {
    fn read(&mut self, reactor: &mut Reactor) {
        let Some((file, _)) = self.output.as_mut() else { return };
        let mut part = [0; PART_BYTES];
        for _ in 0..PASS_BYTES / PART_BYTES {
            match file.read(&mut part) {
                Ok(count) if count > 0 => {
                    self.tail.extend_from_slice(&part[..count]);
                    let excess = self.tail.len().saturating_sub(bounds::CHECK_OUTPUT_BYTES);
                    self.tail.drain(..excess);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {
                    if let Some((file, Some(watch))) = self.output.take() {
                        reactor.forget(&file, watch);
                    }
                    return;
                }
            }
        }
    }
}

/// The last line that is not empty, without control characters.
fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_line() {
        assert_eq!(last_line(b"starting\nno connection \x1b[31mto db\n\n  \n"), "no connection [31mto db");
        assert_eq!(last_line(b""), "");
        assert_eq!(last_line(b"\xff!"), "\u{fffd}!");
    }
}
