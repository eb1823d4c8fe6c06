//! The shipped image, with the real programs: what is in its root, and how large it is.

use anyhow::Result;
use berth_tests::built;

/// Every file of the root that may be executed. PID 1 is the third program of the system; it lies in the initrd.
const PROGRAMS: [&str; 2] = ["/usr/lib/berth/berth", "/usr/lib/berth/e2fsck"];
/// The whole disk through `zstd -9`, bytes.
const COMPRESSED: usize = 40_000_000;

#[test]
fn the_root_has_two_programs_and_no_setuid_file() -> Result<()> {
    let files = &built()?.outputs.bundle.files;
    let root: Vec<_> = files.iter().filter(|f| f.place == "root").collect();
    let mut programs: Vec<&str> = Vec::new();
    for file in &root {
        let mode = u32::from_str_radix(&file.mode, 8)?;
        assert_eq!(mode & 0o7022, 0, "{} has mode {}", file.path, file.mode);
        if mode & 0o111 != 0 {
            programs.push(&file.path);
        }
    }
    programs.sort_unstable();
    assert_eq!(programs, PROGRAMS);
    Ok(())
}

#[test]
fn the_whole_disk_is_small() -> Result<()> {
    let built = built()?;
    let output = built.tools.command("zstd").args(["-9", "-q", "-c"]).arg(&built.outputs.raw).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.len() < COMPRESSED, "{} bytes", output.stdout.len());
    Ok(())
}
