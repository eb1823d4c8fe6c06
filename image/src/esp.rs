//! Files on a disk's ESP, by mtools: no mount, no privileges.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run;
use crate::tools::Tools;
use crate::{limits, stamp};

/// The FAT file system at an offset of a disk.
pub struct Esp<'a> {
    tools: &'a Tools,
    disk: PathBuf,
    offset: u64,
    epoch: u64,
}

impl<'a> Esp<'a> {
    /// Of the disk file, starting at byte `offset`.
    pub fn new(tools: &'a Tools, disk: &Path, offset: u64) -> Result<Esp<'a>> {
        Ok(Esp { tools, disk: disk.to_owned(), offset, epoch: stamp::epoch()? })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.tools.command(name);
        // FAT has local times; UTC keeps them the same everywhere.
        command.env("SOURCE_DATE_EPOCH", self.epoch.to_string()).env("TZ", "UTC");
        command.arg("-i").arg(format!("{}@@{}", self.disk.display(), self.offset));
        command
    }

    /// Makes an empty FAT32 of that many bytes.
    pub fn format(&self, bytes: u64) -> Result<()> {
        self.make(bytes, &["-F"])
    }

    /// Makes an empty FAT16 of that many bytes, for an ESP that nothing is ever added to.
    pub fn format_small(&self, bytes: u64) -> Result<()> {
        self.make(bytes, &[])
    }

    fn make(&self, bytes: u64, kind: &[&str]) -> Result<()> {
        let mut command = self.command("mformat");
        command.args(kind).args(["-h", "255", "-s", "63", "-N", "42455254", "-v", "BERTH"]);
        command.args([
            "-c",
            &limits::ESP_CLUSTER_SECTORS.to_string(),
            "-H",
            &(self.offset / 512).to_string(),
        ]);
        command.args(["-T", &(bytes / 512).to_string(), "::"]);
        run::run("making the ESP", &mut command)
    }

    /// Makes a folder.
    pub fn mkdir(&self, path: &str) -> Result<()> {
        run::run("making a folder on the ESP", self.command("mmd").arg(format!("::{path}")))
    }

    /// Writes a file, over an old one if there is one.
    pub fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let mut command = self.command("mcopy");
        command.args(["-o", "-", &format!("::{path}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("could not start mcopy")?;
        let sent = child.stdin.take().map(|mut input| input.write_all(bytes));
        let out = child.wait_with_output().context("mcopy")?;
        if !out.status.success() {
            bail!("could not write {path} to the ESP: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        sent.transpose().with_context(|| format!("could not write {path} to the ESP")).map(drop)
    }

    /// Reads a file.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        run::output("reading a file of the ESP", self.command("mtype").arg(format!("::{path}")))
    }

    /// Removes a file; it is no error when there is none.
    pub fn remove(&self, path: &str) -> Result<()> {
        if self.exists(path) {
            run::run("removing a file of the ESP", self.command("mdel").arg(format!("::{path}")))?;
        }
        Ok(())
    }

    /// Whether there is such a file.
    pub fn exists(&self, path: &str) -> bool {
        run::run("looking for a file", self.command("mdir").args(["-b", &format!("::{path}")])).is_ok()
    }
}
