//! A machine that runs, until it is dropped.

use crate::console::{Console, Line};
use crate::lines::Event;
use crate::machine::node;
use crate::qmp::Qmp;
use crate::scratch::Scratch;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Half a GiB of memory to a busy disk.
const JOB: Duration = Duration::from_secs(60);

/// A QEMU process. Dropping it ends the guest at once, as a power cut does, and waits until it is gone.
pub struct Running {
    child: Child,
    qmp: Qmp,
    console: Console,
    started: Instant,
    mark: usize,
    /// Where the console was told to be forgotten.
    forgotten: usize,
    // Sockets and metadata files; removed when the machine is gone.
    folder: Scratch,
}

impl Running {
    pub(crate) fn new(
        child: Child,
        qmp: Qmp,
        console: Console,
        started: Instant,
        folder: Scratch,
    ) -> Running {
        Running { child, qmp, console, started, mark: 0, forgotten: 0, folder }
    }

    /// When QEMU was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Waits for a console line that contains `text`, after the line that the last wait found.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<Line> {
        let what = format!("{text:?}");
        let (line, next) = self.console.wait(self.mark, &what, limit, |l| l.contains(text))?;
        self.mark = next;
        Ok(line)
    }

    /// Waits for an event, after the line that the last wait found.
    pub fn wait_event(&mut self, event: &Event, limit: Duration) -> Result<Line> {
        self.wait_event_like(&event.to_string(), limit, |found| found == event)
    }

    /// Waits for an event that `wanted` knows.
    pub fn wait_event_like(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Line> {
        let (line, next) = self.console.wait_event(self.mark, what, limit, wanted)?;
        self.mark = next;
        Ok(line)
    }

    /// Waits until the API listens, now or before (but not before what was forgotten); the fingerprint of the machine's key, as the console has it.
    pub fn machine_key(&self, limit: Duration) -> Result<String> {
        let listens = |event: &Event| matches!(event, Event::ApiListens(_));
        match self.console.wait_event(self.forgotten, "the API to listen", limit, listens)?.0.event {
            Some(Event::ApiListens(fingerprint)) => Ok(fingerprint),
            other => bail!("{other:?} is no API that listens"),
        }
    }

    /// From here on, waits look only at lines yet to come.
    pub fn forget_console(&mut self) {
        self.mark = self.console.mark();
        self.forgotten = self.mark;
    }

    /// QMP `system_powerdown`: the ACPI power button.
    pub fn press_power_button(&mut self) -> Result<()> {
        self.qmp("system_powerdown", Value::Null).map(drop)
    }

    /// Ctrl-Alt-Del on the keyboard.
    pub fn press_ctrl_alt_del(&mut self) -> Result<()> {
        let keys = ["ctrl", "alt", "delete"].map(|k| json!({ "type": "qcode", "data": k }));
        self.qmp("send-key", json!({ "keys": keys })).map(drop)
    }

    /// The reset button.
    pub fn reset(&mut self) -> Result<()> {
        self.qmp("system_reset", Value::Null).map(drop)
    }

    /// Hangs the (only) CPU in the middle of what it does, interrupts off, as a kernel bug would.
    pub fn hang_cpu(&mut self) -> Result<()> {
        crate::gdb::hang(&self.folder.path().join("gdb"))
    }

    /// Keeps the machine as it is now, memory and boot disk, under a name. The boot disk has to be a qcow2 file (see
    /// [`crate::disk::overlay`]), and is the only one that may be written to.
    pub fn save(&mut self, name: &str) -> Result<()> {
        self.job("snapshot-save", json!({ "tag": name, "vmstate": node(0), "devices": [node(0)] }))
    }

    /// Puts the machine back into a state that [`Running::save`] kept; it goes on from there.
    pub fn restore(&mut self, name: &str) -> Result<()> {
        self.job("snapshot-load", json!({ "tag": name, "vmstate": node(0), "devices": [node(0)] }))
    }

    /// A QMP command that works in the background, and its end.
    fn job(&mut self, command: &str, mut arguments: Value) -> Result<()> {
        arguments["job-id"] = "job".into();
        self.qmp(command, arguments)?;
        let deadline = Instant::now() + JOB;
        loop {
            let jobs = self.qmp("query-jobs", Value::Null)?;
            let job = jobs.as_array().and_then(|jobs| jobs.iter().find(|job| job["id"] == "job"));
            let Some(job) = job else { bail!("QEMU has forgotten its {command}") };
            if job["status"] == "concluded" {
                let error = job["error"].as_str().map(str::to_owned);
                self.qmp("job-dismiss", json!({ "id": "job" }))?;
                return match error {
                    Some(error) => bail!("{command} failed: {error}"),
                    None => Ok(()),
                };
            }
            if Instant::now() > deadline {
                bail!("{command} has not ended after {JOB:?}");
            }
            // Its events would have to be told from those of other commands.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the machine's screen shows, as a PNG. A screen that nobody looks at blanks after some minutes.
    pub fn screenshot(&mut self, to: &Path) -> Result<()> {
        self.qmp("screendump", json!({ "filename": to.display().to_string(), "format": "png" })).map(drop)
    }

    /// The process, for tests of the harness itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Any QMP command.
    pub fn qmp(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.qmp.run(command, arguments)
    }

    /// Cuts the power: nothing that the guest has not flushed is kept by it, QEMU's own cache is.
    pub fn cut_power(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until the guest has switched itself off.
    pub fn wait_off(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the machine is still on after {limit:?}; its last lines:\n{}", self.console.tail());
            }
            // The standard library has no wait with a deadline.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
