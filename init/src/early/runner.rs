//! Runs a table of steps: one row each, one after the other.

use super::boot_times::{Timeline, now_us};
use super::{console, fail};
use crate::sys::waiting;
use berth_updater::steps::Status;
use std::time::Duration;

/// What happens when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// This start ends: reason kept, reboot.
    Reboot,
    /// The boot goes on without; the console, `berth boot-times` and `Booted::degraded` say so.
    GoOn,
}

impl OnFailure {
    /// As the table in the docs has it.
    pub const fn name(self) -> &'static str {
        match self {
            OnFailure::Reboot => "reboot",
            OnFailure::GoOn => "go on without",
        }
    }
}

/// One row.
pub struct Step<C> {
    /// Name in the timeline and in the step record.
    pub name: &'static str,
    /// Steps that must have been done.
    pub needs: &'static [&'static str],
    /// How long it may take. What can block runs in a child that is killed then; in the others it is a promise,
    /// kept by the watchdog.
    pub limit: Duration,
    /// What then.
    pub on_failure: OnFailure,
    /// The work. `Ok` holds what an operator should know about it, empty when nothing.
    pub run: fn(&mut C) -> Result<String, String>,
}

/// What the runner needs of the stage's data.
pub trait Stage {
    /// `initrd` or `main`.
    const NAME: &'static str;
    /// Where times go.
    fn timeline(&mut self) -> &mut Timeline;
    /// A step failed and the boot goes on.
    fn degraded(&mut self, sentence: String);
    /// A step failed and this start ends: what the boot record should say about it.
    fn condemn(&mut self) {}
    /// More about a failure, if the kernel told.
    fn explain(&mut self) -> Option<String> {
        None
    }
}

/// Runs all of them in order.
pub fn run<C: Stage>(table: &[Step<C>], stage: &mut C) {
    let mut done: Vec<&str> = Vec::new();
    for step in table {
        let start = now_us();
        if let Some(missing) = step.needs.iter().find(|need| !done.contains(need)) {
            finish(stage, step, start, &format!("not tried: needs \"{missing}\""));
            continue;
        }
        fail::with(|record| record.step(C::NAME, step.name, Status::Running, ""));
        #[cfg(feature = "faults")]
        super::faults::strike(C::NAME, step.name);
        // The watchdog is petted between steps, once there is one.
        let _ = waiting::meanwhile();
        match (step.run)(stage) {
            Ok(note) => {
                done.push(step.name);
                finish(stage, step, start, &note);
            }
            Err(error) => {
                let error = match stage.explain() {
                    Some(more) => format!("{error} ({more})"),
                    None => error,
                };
                finish(stage, step, start, &format!("failed: {error}"));
                if step.on_failure == OnFailure::Reboot {
                    stage.condemn();
                    fail::die(Status::Failed, &format!("step \"{}\" failed", step.name), &error);
                }
                stage.degraded(format!("{}: {error}", step.name));
            }
        }
    }
}

fn finish<C: Stage>(stage: &mut C, step: &Step<C>, start: u64, outcome: &str) {
    let took = now_us().saturating_sub(start);
    let late = if Duration::from_micros(took) > step.limit {
        format!("took longer than its {} s", step.limit.as_secs())
    } else {
        String::new()
    };
    let outcome = match (outcome, late.as_str()) {
        (outcome, "") => outcome.to_owned(),
        ("", late) => late.to_owned(),
        (outcome, late) => format!("{outcome}; {late}"),
    };
    stage.timeline().add(C::NAME, step.name, start, &outcome);
    let line = format!("{:<12} {:>5}.{} ms  {outcome}", step.name, took / 1000, took % 1000 / 100);
    console::say(C::NAME, line.trim_end());
}

/// Each need must be named by an earlier row, or the row can never run.
pub fn check<C>(table: &[Step<C>]) -> Result<(), String> {
    for (i, step) in table.iter().enumerate() {
        for need in step.needs {
            if !table[..i].iter().any(|earlier| earlier.name == *need) {
                return Err(format!(
                    "step \"{}\" needs \"{need}\", which does not come before it",
                    step.name
                ));
            }
        }
    }
    Ok(())
}

/// The table as Markdown, for the docs.
pub fn markdown<C>(stage: &str, table: &[Step<C>]) -> String {
    let rows = table.iter().map(|step| {
        let needs = if step.needs.is_empty() { "–".into() } else { step.needs.join(", ") };
        let limit = step.limit.as_secs_f64();
        format!("| {stage} | {} | {needs} | {limit} s | {} |\n", step.name, step.on_failure.name())
    });
    format!(
        "| stage | step | needs | limit | on failure |\n|---|---|---|---|---|\n{}",
        rows.collect::<String>()
    )
}
