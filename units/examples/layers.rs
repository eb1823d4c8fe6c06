//! How fast an image starts and is read in each form that its layers can have, as the only program of a machine. The disk
//! has a folder a form, in which every layer is a folder or an erofs file, and beside it `program`: what is read of the
//! image when something starts. `bench layers` makes the disk and reads the lines, `FORM FIGURE MILLISECONDS`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "launch_check/guest.rs"]
mod guest;
#[path = "layers/sys.rs"]
mod sys;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Starts of each form, cold and warm.
const ROUNDS: usize = 9;
/// A form whose files are sealed by fs-verity first.
const VERITY: &str = "verity";
const STATE: &str = "/state";
const ROOT: &str = "/run/root";

fn main() {
    if std::process::id() != 1 {
        panic!("this is the only program of a machine: `bench layers`");
    }
    let done = std::panic::catch_unwind(|| {
        guest::prepare();
        measure();
    });
    println!("{}", if done.is_ok() { "done" } else { "failed" });
    guest::power_off();
}

fn measure() {
    let program = fs::read_to_string(format!("{STATE}/program")).unwrap();
    let forms = forms();
    for form in forms.iter().filter(|form| form.contains(VERITY)) {
        let begun = Instant::now();
        layers(form).iter().for_each(|layer| sys::seal(&File::open(layer).unwrap()).unwrap());
        tell(form, "seal", begun);
    }
    for _ in 0..ROUNDS {
        for form in &forms {
            for figure in ["cold", "warm"] {
                if figure == "cold" {
                    forget();
                }
                let begun = Instant::now();
                let mounts = appear(form);
                read(&Path::new(ROOT).join(program.trim()));
                tell(form, figure, begun);
                disappear(mounts);
            }
        }
    }
    for form in &forms {
        let mounts = appear(form);
        forget();
        let begun = Instant::now();
        let bytes = read_all(Path::new(ROOT));
        tell(form, "read", begun);
        println!("{form} bytes {bytes}");
        disappear(mounts);
    }
}

fn tell(form: &str, figure: &str, begun: Instant) {
    println!("{form} {figure} {:.3}", begun.elapsed().as_secs_f64() * 1000.0);
}

fn forms() -> Vec<String> {
    let entries = fs::read_dir(STATE).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut forms: Vec<String> = entries.filter(|name| name.contains("form-")).collect();
    forms.sort();
    forms
}

/// From the lowest.
fn layers(form: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(STATE).join(form)).unwrap();
    let mut layers: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    layers.sort();
    layers
}

/// Mounts the layers and an overlay of them, writable as a container's is; what is to be unmounted.
fn appear(form: &str) -> Vec<PathBuf> {
    let mut mounts = Vec::new();
    let mut lower = Vec::new();
    let none: Option<&str> = None;
    for (number, layer) in layers(form).into_iter().enumerate() {
        if layer.is_dir() {
            lower.push(layer);
            continue;
        }
        let at = PathBuf::from(format!("/run/layer-{number}"));
        fs::create_dir_all(&at).unwrap();
        mount(Some(&layer), &at, Some("erofs"), MsFlags::MS_RDONLY, none).unwrap();
        lower.push(at.clone());
        mounts.push(at);
    }
    let [upper, work] = ["upper", "work"].map(|name| format!("{STATE}/{name}"));
    for folder in [&upper, &work, ROOT] {
        fs::create_dir_all(folder).unwrap();
    }
    let lower: Vec<_> = lower.iter().rev().map(|path| path.display().to_string()).collect();
    let options = format!("lowerdir={},upperdir={upper},workdir={work}", lower.join(":"));
    mount(Some("overlay"), ROOT, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
    mounts.push(ROOT.into());
    mounts
}

fn disappear(mounts: Vec<PathBuf>) {
    for path in mounts.iter().rev() {
        umount2(path, MntFlags::empty()).unwrap();
    }
}

/// Drops what the kernel remembers of disks.
fn forget() {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
}

fn read(path: &Path) -> u64 {
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 128 * 1024];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return bytes,
            count => bytes += count as u64,
        }
    }
}

fn read_all(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            bytes += read_all(&entry.path());
        } else if kind.is_file() {
            bytes += read(&entry.path());
        }
    }
    bytes
}
