//! Devices that a unit is given beside those of every container.
//!
//! A node opens only on a file system without `nodev` that the host's root has mounted, and the container's `/dev` is the
//! only such one in it; to make a node takes CAP_MKNOD over the host's own users, which no unit but a privileged one has. So what
//! lies in `/dev` is all that a unit can open, and the kernel needs no further list (the devices of cgroup v1, or a program
//! for cgroup v2) to keep it from more.
//!
//! The nodes belong to the host's root, whom the container cannot be: what is given for reading stays so, whatever
//! capabilities its user 0 has over its own users.

use super::fault::{At, Fault, Step};
use super::plan::Plan;
use super::setup::{c_path, make_dir};
use crate::disks::{self, Disk};
use crate::limits::DEVICES;
use crate::model::Device;
use crate::sys::mount;
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Folders below `/dev` that a container has for itself.
const OWN: [&str; 3] = ["/dev/pts", "/dev/shm", "/dev/mqueue"];

/// Makes the plan's devices below `dev`, in the working folder.
pub(super) fn make(plan: &Plan) -> Step<()> {
    let given = if plan.privileged { all() } else { Vec::new() };
    for device in &given {
        // One that goes away meanwhile is none that is missed.
        let _ = node(device, &BTreeSet::new(), 0o600);
    }
    if plan.devices.is_empty() {
        // To find the disks takes a walk through sysfs.
        return Ok(());
    }
    let own = if plan.privileged { BTreeSet::new() } else { own_disks(&plan.state) };
    plan.devices.iter().try_for_each(|device| {
        // To everybody in the container: whom its program runs as is not known here.
        node(device, &own, if device.read_only { 0o444 } else { 0o666 })
    })
}

fn node(device: &Device, own: &BTreeSet<Disk>, mode: u32) -> Step<()> {
    let Device { source, target, .. } = device;
    let failed = || format!("give it the device {source}");
    let found = mount::open_plain(&c_path(source.as_ref())?, libc::O_PATH, 0);
    let about = match found {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Fault::new(failed(), "the machine does not have it"));
        }
        found => fs::File::from(found.at(failed)?).metadata().at(failed)?,
    };
    let Some(kind) = kind(&about) else {
        return Err(Fault::new(failed(), "it is no device"));
    };
    if kind == libc::S_IFBLK && !Disk::of(about.rdev()).whole().is_disjoint(own) {
        return Err(Fault::new(failed(), "it is on the disk that Berth itself lies on"));
    }
    if kind == libc::S_IFCHR && disks::is_way_to(Disk::of(about.rdev()), own) {
        return Err(Fault::new(failed(), "it leads to the disk that Berth itself lies on"));
    }
    let path = Path::new(target.trim_start_matches('/'));
    let mut folder = PathBuf::new();
    for part in path.parent().into_iter().flatten() {
        folder.push(part);
        if !folder.is_dir() {
            make_dir(&folder.to_string_lossy())?;
        }
    }
    if fs::symlink_metadata(path).is_ok() {
        // In its place: what every container has under that name.
        fs::remove_file(path).at(failed)?;
    }
    mount::mknod(nix::fcntl::AT_FDCWD, &c_path(path)?, kind | mode, about.rdev()).at(failed)?;
    // Whatever the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at(failed)
}

fn kind(about: &Metadata) -> Option<u32> {
    match about.file_type() {
        kind if kind.is_char_device() => Some(libc::S_IFCHR),
        kind if kind.is_block_device() => Some(libc::S_IFBLK),
        _ => None,
    }
}

/// The disks under the state and under the root.
fn own_disks(state: &Path) -> BTreeSet<Disk> {
    let disks = [state, Path::new("/")].into_iter().filter_map(|path| fs::metadata(path).ok());
    disks.flat_map(|about| Disk::of(about.dev()).whole()).collect()
}

/// Every device of the machine, but for what each container has for itself.
fn all() -> Vec<Device> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/dev")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            let path = entry.path();
            if about.is_dir() {
                if !OWN.iter().any(|own| path == Path::new(own)) {
                    folders.push(path);
                }
            } else if let (Some(_), Some(path)) = (kind(&about), path.to_str()) {
                let own = super::setup::is_everybodys(path);
                if !own && found.len() < DEVICES {
                    found.push(Device { source: path.to_owned(), target: path.to_owned(), read_only: false });
                }
            }
        }
    }
    found
}
