//! QMP, QEMU's control protocol (docs/interop/qmp-spec): one command at a time over a unix socket.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A QMP answer takes milliseconds; a QEMU that is silent this long is stuck.
const ANSWER: Duration = Duration::from_secs(20);

/// A connection in command mode.
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the socket that QEMU makes at start; `alive` is asked between attempts.
    pub(crate) fn connect(socket: &Path, mut alive: impl FnMut() -> bool) -> Result<Qmp> {
        let deadline = Instant::now() + ANSWER;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(e) if Instant::now() > deadline || !alive() => {
                    return Err(e).context("QEMU ended or opened no control socket");
                }
                // QEMU gives no event for "socket is there"; it is there some milliseconds after exec.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        stream.set_read_timeout(Some(ANSWER))?;
        let mut qmp = Qmp { stream: BufReader::new(stream) };
        qmp.read()?;
        qmp.run("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// The connection, for whoever only listens to what is told on it; no deadline.
    pub(crate) fn into_events(self) -> Result<BufReader<UnixStream>> {
        self.stream.get_ref().set_read_timeout(None)?;
        Ok(self.stream)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("QEMU closed its control socket");
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Runs a command and returns what it returns; events in between are passed over (another connection is for them).
    pub fn run(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut packet = json!({ "execute": command });
        if !arguments.is_null() {
            packet["arguments"] = arguments;
        }
        let text = format!("{packet}\n");
        self.stream.get_mut().write_all(text.as_bytes())?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {}", error["desc"]);
            }
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }
}
