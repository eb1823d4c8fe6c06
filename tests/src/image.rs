//! The image and the demonstration's container, built once for all tests of a run.

use anyhow::{Context, Result, ensure};
use berth_image::disk::Disk;
use berth_image::tools::Tools;
use berth_image::{Bundle, Format, Options, Outputs};
use berth_qemu::{demo, disk};
use berth_updater::layout;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What was built.
pub struct Built {
    /// The tools tree.
    pub tools: Tools,
    /// The image.
    pub outputs: Outputs,
    /// The demonstration's web image, an OCI archive.
    pub web: PathBuf,
}

/// Runs a tool of e2fsprogs on the state partition inside a disk's file; its words.
pub fn state_tool(built: &Built, name: &str, arguments: &[&str], disk: &Path) -> Result<String> {
    let at = Disk::open(disk)?.offset(layout::STATE)?;
    tool(built, name, arguments, &format!("{}?offset={at}", disk.display()))
}

fn tool(built: &Built, name: &str, arguments: &[&str], target: &str) -> Result<String> {
    let out = built.tools.command(name).args(arguments).arg(target).output()?;
    let text = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    ensure!(out.status.success(), "{name} {}: {}\n{text}", arguments.join(" "), out.status);
    Ok(text)
}

/// Puts a folder of the state partition, as it is after a power cut, below `to`; the disk stays as it is. Once what a cut may
/// leave is mended, nothing may be wrong.
pub fn state_after_a_cut(built: &Built, of: &Path, folder: &str, to: &Path) -> Result<()> {
    let copy = to.join("state.ext4");
    let mut from = File::open(of)?;
    from.seek(SeekFrom::Start(Disk::open(of)?.offset(layout::STATE)?))?;
    std::io::copy(&mut from, &mut File::create(&copy)?)?;
    let target = copy.display().to_string();
    disk::mend_ext4(&built.tools, &copy)?;
    tool(built, "e2fsck", &["-f", "-n"], &target)?;
    tool(built, "debugfs", &["-R", &format!("rdump {folder} {}", to.display())], &target)?;
    Ok(std::fs::remove_file(&copy)?)
}

/// Builds what is stale; the same result for every caller of this process. (Several test programs never build at once:
/// cargo runs them one after the other, and the build itself takes a lock.)
pub fn built() -> Result<&'static Built> {
    static BUILT: OnceLock<std::result::Result<Built, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|e| format!("{e:#}"))).as_ref().map_err(|e| anyhow::anyhow!("{e}"))
}

fn build() -> Result<Built> {
    let say = |line: &str| eprintln!("{line}");
    let tools = berth_image::tools::ensure(&say)?;
    let options = Options { formats: [Format::Iso].into(), ..Options::default() };
    let outputs = berth_image::build(&options, &say)?;
    let folder = outputs.raw.parent().context("the image lies in no folder")?.join("tests");
    std::fs::create_dir_all(&folder)?;
    let web = folder.join("web.oci.tar");
    demo::write_web_image(&tools, &web)?;
    Ok(Built { tools, outputs, web })
}

/// The same OS with a PID 1 that can be asked to misbehave.
pub(crate) fn faulty() -> Result<Bundle> {
    let say = |line: &str| eprintln!("{line}");
    let init = Some(berth_image::programs::faulty_init(&say)?);
    berth_image::bundle(&Options { version: "faulty".into(), init, ..Options::default() }, &say)
}
