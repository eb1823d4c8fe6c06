//! What the README promises: `cargo run` makes a key, boots, prints an address and writes a context; in a second terminal
//! `berth` just works. The real programs, as cargo built them.

use anyhow::{Context, Result, bail, ensure};
use berth_qemu::scratch::{self, Scratch};
use berth_qemu::{http, lines, sys};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// From a start to a machine that serves; building our programs may be part of it.
const BOOT: Duration = Duration::from_secs(400);
/// From an event on a running machine to its consequence.
const SOON: Duration = Duration::from_secs(60);
/// Its disk and context.
const NAME: &str = "first-contact";

/// A program whose output is read as it comes; it ends with the test.
struct Program {
    child: Child,
    coming: Receiver<String>,
    lines: Vec<String>,
}

impl Program {
    fn start(command: &mut Command) -> Result<Program> {
        sys::die_with_parent(command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (to, coming) = mpsc::channel();
        read(child.stdout.take().context("no output")?, to.clone());
        read(child.stderr.take().context("no errors")?, to);
        Ok(Program { child, coming, lines: Vec::new() })
    }

    /// The first line from number `from` on that contains `text`: its number, and the line.
    fn wait(&mut self, from: usize, text: &str, limit: Duration) -> Result<(usize, String)> {
        let deadline = Instant::now() + limit;
        let mut looked = from;
        loop {
            while let Some(line) = self.lines.get(looked) {
                if line.contains(text) {
                    return Ok((looked, line.clone()));
                }
                looked += 1;
            }
            match self.coming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.lines.push(line),
                Err(error) => {
                    let last = self.lines.len().saturating_sub(30);
                    bail!("no {text:?} ({error}); the last lines:\n{}", self.lines[last..].join("\n"));
                }
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
}

/// An operator's computer.
struct Laptop {
    home: Scratch,
    berth: PathBuf,
}

impl Laptop {
    fn new() -> Result<Laptop> {
        scratch::remove_on(&scratch::ENDS)?;
        // Of another package, so cargo does not tell where it is: beside ours.
        let folder =
            Path::new(env!("CARGO_BIN_EXE_berth-qemu")).parent().context("a program in no folder")?;
        let berth = folder.join("berth");
        if !berth.exists() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--package", "berth-ctl", "--bin", "berth"]);
            ensure!(cargo.status()?.success(), "{cargo:?} failed");
        }
        Ok(Laptop { home: Scratch::new("test")?, berth })
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).env("BERTH_HOME", self.home.path());
        command.env_remove("BERTH_CONTEXT").env_remove("BERTH_KEY");
        command
    }

    /// `cargo run -- WORDS`, after cargo's part.
    fn cargo_run(&self, words: &[&str]) -> Command {
        let words = [&["--name", NAME, "--fresh", "--firmware", "direct"], words].concat();
        self.command(env!("CARGO_BIN_EXE_berth-qemu"), &words)
    }

    /// What `berth WORDS` prints, on both outputs.
    fn berth(&self, words: &[&str]) -> Result<String> {
        let output = self.command(&self.berth, words).output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).with_context(|| format!("berth {words:?}"))?;
        ensure!(output.status.success(), "berth {words:?}: {}\n{text}", output.status);
        ensure!(!text.contains('\x1b'), "colours in a pipe: berth {words:?}:\n{text}");
        Ok(text)
    }

    /// What `berth WORDS --json` prints.
    fn json(&self, words: &[&str]) -> Result<Value> {
        let text = self.berth(&[words, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("berth {words:?} --json:\n{text}"))
    }
}

#[test]
fn cargo_run_is_all_it_takes() -> Result<()> {
    // Here, so that nothing is installed behind the back of somebody at a terminal.
    berth_image::tools::ensure(&|line| eprintln!("{line}"))?;
    let laptop = Laptop::new()?;
    let port = http::free_port()?;
    let mut machine = Program::start(&mut laptop.cargo_run(&["--port", &port.to_string()]))?;
    let (_, line) = machine.wait(0, "The page is there", BOOT)?;
    let url = format!("http://127.0.0.1:{port}/");
    ensure!(line.ends_with(&url), "{line}");
    ensure!(http::get(port, "/", SOON)?.contains(berth_qemu::demo::HEADING));
    machine.wait(0, "web      healthy", SOON)?;
    machine.wait(0, lines::CONFIRMED, SOON)?;

    a_second_one_leaves_it_alone(&laptop, machine.child.id())?;
    every_question_is_answered(&laptop)?;
    logs_go_on_with_what_comes(&laptop, port)?;

    let before = machine.lines.len();
    ensure!(laptop.berth(&["reboot"])? == format!("{NAME} stops its units and reboots\n"));
    let (down, _) = machine.wait(before, "reboot: asked for", SOON)?;
    machine.wait(down, lines::CONFIRMED, BOOT)?;
    http::wait_200(port, "/", SOON)?;

    let accepted = laptop.json(&["poweroff"])?;
    ensure!(accepted["accepted"] == "poweroff", "{accepted}");
    // Its output ends with it.
    let ended = machine.wait(0, "no line is like this", SOON).is_err();
    let status = machine.child.wait()?;
    ensure!(ended && status.success(), "{status}");
    let folder = berth_image::workspace::cache().join("run").join(NAME);
    Ok(std::fs::remove_dir_all(folder)?)
}

fn a_second_one_leaves_it_alone(laptop: &Laptop, pid: u32) -> Result<()> {
    let output = laptop.cargo_run(&[]).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{said}");
    for words in
        [format!("\"{NAME}\" runs already (process {pid})"), "berth poweroff".into(), "--name".into()]
    {
        ensure!(said.contains(&words), "{said}");
    }
    Ok(())
}

fn every_question_is_answered(laptop: &Laptop) -> Result<()> {
    for (words, said) in [
        (&["ps"][..], "berth.example/web:1"),
        (&["inspect", "web"], "10.88.0.2"),
        (&["logs", "web"], "response:200"),
        (&["boot-times"], "first container"),
        (&["slots"], "running slot a by a direct boot, found healthy"),
        (&["machine"], "state partition in use"),
        (&["config", "status"], "config applied, from fw_cfg"),
        (&["version"], "berth runs Berth"),
        (&["context", "list"], NAME),
    ] {
        let text = laptop.berth(words)?;
        ensure!(text.contains(said), "berth {words:?} does not say {said:?}:\n{text}");
    }
    ensure!(laptop.json(&["ps"])?[0]["state"] == "healthy");
    ensure!(laptop.json(&["inspect", "web"])?["status"]["name"] == "web");
    ensure!(laptop.json(&["boot-times"])?["steps"].as_array().is_some_and(|steps| steps.len() > 5));
    ensure!(laptop.json(&["slots"])?["running"] == "a");
    ensure!(laptop.json(&["machine"])?["hostname"] == "berth");
    ensure!(laptop.json(&["config", "status"])?["state"] == "applied");
    for line in laptop.berth(&["logs", "--json", "web"])?.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(line["stream"].is_string() && line["text"].is_string(), "{line}");
    }
    Ok(())
}

fn logs_go_on_with_what_comes(laptop: &Laptop, port: u16) -> Result<()> {
    let follow = |words: &[&str]| Program::start(&mut laptop.command(&laptop.berth, words));
    let mut text = follow(&["logs", "-f", "web"])?;
    let mut json = follow(&["logs", "-f", "web", "--json"])?;
    // What was there is there; then something new happens.
    for log in [&mut text, &mut json] {
        log.wait(0, "response:200", SOON)?;
    }
    http::get(port, "/nowhere", SOON)?;
    text.wait(0, "response:404", SOON)?;
    let (_, line) = json.wait(0, "response:404", SOON)?;
    let line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    ensure!(line["stream"] == "err", "{line}");
    Ok(())
}
