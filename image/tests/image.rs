//! What a build leaves, judged by other people's programs, and the same twice.
//!
//! The programs inside are stand-ins: what is tested here does not run them, and a build with them takes seconds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use berth_image::run::{output, run, silent};
use berth_image::tools::{self, Tools};
use berth_image::{Format, Options, Outputs, build, uki, workspace};
use berth_updater::layout;
use berth_updater::verity::to_hex;
use serde_json::Value;

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("image")
}

fn programs() -> PathBuf {
    let programs = dir().join("programs");
    fs::create_dir_all(&programs).unwrap();
    for name in ["init", "berth"] {
        fs::write(programs.join(name), b"\x7fELF stand-in").unwrap();
    }
    programs
}

fn built() -> &'static (Tools, Outputs) {
    static BUILT: OnceLock<(Tools, Outputs)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let options = Options {
            programs: Some(programs()),
            out: dir().join("first"),
            install: true,
            formats: Format::ALL.into(),
            ..Options::default()
        };
        (tools::ensure_with(true, &silent).unwrap(), build(&options, &silent).unwrap())
    })
}

/// A partition of the disk as a file of its own.
fn cut(outputs: &Outputs, part: layout::Part) -> PathBuf {
    let mut disk = berth_image::disk::Disk::open(&outputs.raw).unwrap();
    let bytes = disk.read(part, 0, usize::try_from(part.bytes).unwrap()).unwrap();
    let path = dir().join(format!("{}.part", part.label));
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn veritysetup_agrees_with_our_sums() {
    let (tools, outputs) = built();
    let bundle = &outputs.bundle;
    let mut command = tools.command("veritysetup");
    command.arg("verify").args([&bundle.root, &bundle.verity]).arg(to_hex(&bundle.root_hash));
    run("verifying", &mut command).unwrap();
    let cmdline = fs::read_to_string(&outputs.cmdline).unwrap();
    assert!(cmdline.contains(&format!("roothash={}", to_hex(&bundle.root_hash))));
}

#[test]
fn file_systems_are_sound() {
    let (tools, outputs) = built();
    run("root", tools.command("fsck.erofs").arg(&outputs.bundle.root)).unwrap();
    run("ESP", tools.command("fsck.fat").arg("-n").arg(cut(outputs, layout::PARTS[1]))).unwrap();
    let state = cut(outputs, layout::STATE);
    run("state", tools.command("e2fsck").args(["-f", "-n"]).arg(&state)).unwrap();
    let text = output("state", tools.command("dumpe2fs").arg("-h").arg(&state)).unwrap();
    let text = String::from_utf8(text).unwrap();
    let features = text.lines().find(|line| line.starts_with("Filesystem features:")).unwrap();
    for feature in ["verity", "project", "quota", "metadata_csum_seed", "orphan_file", "64bit"] {
        assert!(features.contains(feature), "{feature} is missing in {features}");
    }
    assert!(text.contains("Total journal size:       64M"), "{text}");
    run("qcow2", tools.command("qemu-img").arg("check").arg(&outputs.formats[&Format::Qcow2])).unwrap();
}

#[test]
fn the_uki_holds_what_direct_boot_uses() {
    let (_, outputs) = built();
    let file = fs::read(&outputs.bundle.uki).unwrap();
    let part = |name: &str| {
        let all = uki::sections(&file).unwrap();
        let part = all.into_iter().find(|part| part.name == name).unwrap();
        file[usize::try_from(part.at).unwrap()..][..usize::try_from(part.bytes).unwrap()].to_vec()
    };
    assert_eq!(part(".linux"), fs::read(&outputs.kernel).unwrap());
    let initrd = fs::read(&outputs.initrd).unwrap();
    for name in [&b"/virtio_blk.ko\0"[..], b"/dm-verity.ko\0", b"init\0"] {
        assert!(initrd.windows(name.len()).any(|at| at == name), "{}", String::from_utf8_lossy(name));
    }
    let cmdline = String::from_utf8(part(".cmdline")).unwrap();
    let direct = fs::read_to_string(&outputs.cmdline).unwrap();
    assert_eq!(cmdline.replace(" berth.loader=grub", ""), direct.trim_end());
    assert!(String::from_utf8(part(".osrel")).unwrap().contains("ID=berth\n"));
}

#[test]
fn the_root_holds_these_files_and_no_others() {
    let (_, outputs) = built();
    let manifest: Value = serde_json::from_slice(&fs::read(&outputs.manifest).unwrap()).unwrap();
    let text = |file: &Value, key: &str| file[key].as_str().unwrap().to_owned();
    let mut rest = Vec::new();
    for file in manifest["files"].as_array().unwrap() {
        let path = text(file, "path");
        assert_eq!(text(file, "sha256").len(), 64);
        assert!(!text(file, "package").is_empty() && !text(file, "version").is_empty(), "{path}");
        // No setuid, setgid or sticky bit, nothing that others may write.
        assert!(["0644", "0755"].contains(&text(file, "mode").as_str()), "{path}");
        let is_unit = path.starts_with("/usr/lib/berth/units/") && path.ends_with(".toml");
        if text(file, "place") == "root" && !path.starts_with("/usr/lib/modules/") && !is_unit {
            rest.push(path);
        }
    }
    let expected = [
        "/usr/lib/berth/berth",
        "/usr/lib/berth/boot/BOOTX64.EFI",
        "/usr/lib/berth/boot/boot.img",
        "/usr/lib/berth/boot/core.img",
        "/usr/lib/berth/e2fsck",
        "/usr/lib/berth/state.ext4.zst",
        "/usr/lib/os-release",
    ];
    assert_eq!(rest, expected);
    assert!(!fs::read_to_string(&outputs.manifest).unwrap().contains(workspace::repo().to_str().unwrap()));
}

#[test]
fn the_sbom_is_spdx_and_names_what_it_relates() {
    let (_, outputs) = built();
    let sbom: Value = serde_json::from_slice(&fs::read(&outputs.sbom).unwrap()).unwrap();
    assert_eq!(sbom["spdxVersion"], "SPDX-2.3");
    let ids: std::collections::BTreeSet<&str> = ["packages", "files"]
        .iter()
        .flat_map(|list| sbom[list].as_array().unwrap())
        .map(|entry| entry["SPDXID"].as_str().unwrap())
        .chain(["SPDXRef-DOCUMENT"])
        .collect();
    let count = sbom["packages"].as_array().unwrap().len() + sbom["files"].as_array().unwrap().len() + 1;
    assert_eq!(ids.len(), count, "an identifier is there twice");
    for relation in sbom["relationships"].as_array().unwrap() {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            assert!(ids.contains(relation[end].as_str().unwrap()), "{relation}");
        }
    }
    for id in &ids {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        assert!(id.strip_prefix("SPDXRef-").unwrap().chars().all(valid), "{id}");
    }
    let names: Vec<&str> = sbom["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    assert!(
        ["berth", "e2fsck-static", "systemd-boot-efi", "sha2", "nix"].iter().all(|name| names.contains(name))
    );
}

#[test]
fn what_is_left_for_an_update_is_a_release() {
    let (_, outputs) = built();
    let built = berth_repo::Built::open(&outputs.update).unwrap();
    assert_eq!(built.release().root_hash, outputs.bundle.root_hash);
    assert_eq!(built.release().version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn built_again_elsewhere_it_is_the_same() {
    let (_, first) = built();
    // A cache of its own: everything of ours is made again. What Debian made is shared.
    let cache = dir().join("cache");
    let _ = fs::remove_dir_all(&cache);
    fs::create_dir_all(&cache).unwrap();
    for stage in ["tools", "debian"] {
        std::os::unix::fs::symlink(workspace::cache().join(stage), cache.join(stage)).unwrap();
    }
    let other = dir().join("a longer folder/with another name");
    let mut command = Command::new(env!("CARGO_BIN_EXE_image"));
    command
        .args([
            "build", "--format", "qcow2", "--format", "vhd", "--format", "gce", "--format", "iso", "--out",
        ])
        .arg(&other)
        .arg("--programs")
        .arg(programs());
    // The same inputs, and the same time even if somebody commits while this runs.
    let manifest: Value = serde_json::from_slice(&fs::read(&first.manifest).unwrap()).unwrap();
    command.env("SOURCE_DATE_EPOCH", manifest["build_time"].to_string());
    run("building again", command.env(workspace::CACHE_ENV, &cache)).unwrap();
    for name in ["berth.raw", "vmlinuz", "initrd", "cmdline.txt", "manifest.json", "sbom.spdx.json"]
        .into_iter()
        .chain(Format::ALL.map(Format::file))
        .chain(["update/berth.efi", "update/root.erofs", "update/root.verity", "update/release.json"])
    {
        same(&first.raw.with_file_name(name), &other.join(name));
    }
    fs::remove_dir_all(&cache).unwrap();
    fs::remove_dir_all(&other).unwrap();
}

/// Fails with the first differing byte.
fn same(one: &Path, two: &Path) {
    let (mut a, mut b) = (File::open(one).unwrap(), File::open(two).unwrap());
    let length = a.seek(SeekFrom::End(0)).unwrap();
    assert_eq!(length, b.seek(SeekFrom::End(0)).unwrap(), "{}", one.display());
    a.rewind().unwrap();
    b.rewind().unwrap();
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    while at < length {
        let count = a.read(&mut left).unwrap();
        b.read_exact(&mut right[..count]).unwrap();
        if left[..count] != right[..count] {
            let offset = left.iter().zip(&right).position(|(x, y)| x != y).unwrap();
            panic!("{} differs at byte {}", one.display(), at + offset as u64);
        }
        at += count as u64;
    }
}
