//! What an operator copies out of a unit and into it.

use anyhow::{Context as _, Result};
use berth_ctl::Client;
use berth_ctl::client::InUnit;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

fn of_web(path: &str) -> InUnit<'_> {
    InUnit { unit: "web", path }
}

/// With `web`, which has `/srv`; `run` has its shell do something, and says what it printed.
pub fn copies(client: &Client, run: &dyn Fn(&str) -> Result<String>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let out = |path: &str, here: &str| client.copy_out(of_web(path), false, &at(here), &mut |_| ());
    let into = |here: &str, path: &str| client.copy_in(&at(here), false, of_web(path), &mut |_| ());
    fs::create_dir_all(at("tree/sub"))?;
    fs::write(at("tree/run"), "#!/bin/sh\necho it runs\n")?;
    fs::set_permissions(at("tree/run"), fs::Permissions::from_mode(0o755))?;
    let large: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(at("tree/sub/large"), &large)?;
    symlink("sub/large", at("tree/link"))?;
    // What is there is root's, and runs.
    assert_eq!(into("tree", "/srv")?.tally.entries, 5);
    let look = "/srv/tree/run; [ -h /srv/tree/link ] && echo a link; $b wc -c < /srv/tree/link; \
                $b stat -c %u:%g:%a /srv/tree/run; $b stat -c %Y /srv/tree/run";
    let time = fs::metadata(at("tree/run"))?.mtime();
    assert_eq!(run(look)?, format!("it runs\na link\n2000000\n0:0:755\n{time}\n"));
    // What is replaced keeps its owner, and a folder's contents go into what is there.
    run("$b chown 7:8 /srv/tree/run; echo more > /srv/tree/more")?;
    into("tree/.", "/srv/tree")?;
    assert_eq!(run("$b stat -c %u:%g:%a /srv/tree/run; $b cat /srv/tree/more")?, "7:8:755\nmore\n");
    run("$b mknod /srv/tree/pipe p; $b ln -s / /srv/tree/root")?;
    let report = out("/srv/tree", "back")?;
    assert_eq!(report.remarks, ["web: not copied: /srv/tree/pipe (a pipe)"]);
    assert_eq!(fs::read(at("back/sub/large"))?, large);
    assert_eq!(fs::metadata(at("back/run"))?.mode() & 0o7777, 0o755);
    assert_eq!(fs::read_link(at("back/link"))?, Path::new("sub/large"));
    assert_eq!(fs::read_link(at("back/root"))?, Path::new("/"));
    assert_eq!(fs::read(at("back/more"))?, b"more\n");
    out("/srv/tree/run", "file")?;
    assert_eq!(fs::read(at("file"))?, fs::read(at("tree/run"))?);
    // What the kernel shows is copied by name, not as a part of the root; the state partition is not to be seen there, nor is
    // PID 1's root by any way.
    out("/proc/meminfo", "meminfo")?;
    assert!(fs::read_to_string(at("meminfo"))?.contains("MemTotal"));
    let report = out("/", "root")?;
    assert!(report.remarks.iter().any(|said| said.contains("(what the kernel shows)")), "{report:?}");
    assert!(at("root/bin/busybox").is_file() && at("root/srv/tree/run").is_file());
    assert!(!at("root/proc").exists() && !at("root/var/lib/berth").exists());
    for path in ["/var/lib/berth/config/current/berth.toml", "/proc/1/root/var/lib/berth", "/absent"] {
        let why = out(path, "stolen").err().with_context(|| format!("{path} was copied"))?.to_string();
        assert!(why.contains(path) && !at("stolen").exists(), "{path}: {why}");
    }
    let why = into("tree", "/proc/1/root/var/lib/berth/x").err().context("was copied")?.to_string();
    assert!(why.contains("/proc/1/root/var/lib/berth"), "{why}");
    Ok(())
}
