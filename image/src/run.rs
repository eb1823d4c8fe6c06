//! Running other programs: an error names the program, how it ended and the last lines that it wrote.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How many of a failed program's last lines are shown.
const TAIL_LINES: usize = 20;

/// Told what is being done, one line at a time. The library itself never prints.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// Tells nobody.
pub fn silent(_: &str) {}

/// Runs to the end with no input; its output is returned, its messages are shown only when it fails.
pub fn output(what: &str, command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().to_owned();
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{what}: could not start {}", program.display()))?;
    if !out.status.success() {
        let mut text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&out.stderr));
        bail!("{what}: {} failed ({})\n{}", shown(command), out.status, tail(&text));
    }
    Ok(out.stdout)
}

/// Like [`output`], for its effect alone.
pub fn run(what: &str, command: &mut Command) -> Result<()> {
    output(what, command).map(drop)
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines.get(from..).unwrap_or_default().iter().map(|line| format!("    {line}\n")).collect()
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
