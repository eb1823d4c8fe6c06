//! A machine that runs, until it is dropped.

use crate::console::{Console, Line};
use crate::qmp::Qmp;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// A QEMU process. Dropping it ends the guest at once, as a power cut does, and waits until it is gone.
pub struct Running {
    child: Child,
    qmp: Qmp,
    console: Console,
    started: Instant,
    mark: usize,
    // Sockets and metadata files; removed when the machine is gone.
    folder: tempfile::TempDir,
}

impl Running {
    pub(crate) fn new(
        child: Child,
        qmp: Qmp,
        console: Console,
        started: Instant,
        folder: tempfile::TempDir,
    ) -> Running {
        Running { child, qmp, console, started, mark: 0, folder }
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

    /// From here on, waits look only at lines yet to come.
    pub fn forget_console(&mut self) {
        self.mark = self.console.mark();
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
