//! The last steps before exec, the same for a container's first program and for one that enters later: user,
//! capabilities, working folder, seccomp, and the search for the program.

use super::fault::{At, Fault, Step};
use super::inside::read_bounded;
use super::plan::{Caps, Plan};
use super::setup::c_path;
use super::user::{self, Identity};
use crate::seccomp::{self, Filter};
use crate::sys::process;
use nix::unistd::{Gid, Uid};
use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

/// Exit code if the program could not be started, as shells have it.
pub(super) const NOT_STARTED: i32 = 127;
/// Bytes of `/etc/passwd` or `/etc/group` that are read.
const ACCOUNTS_BYTES: u64 = 1 << 20;

/// User 0 of its own namespace. Without one it is the host's already.
pub(super) fn become_root(plan: &Plan) -> Step<()> {
    nix::unistd::setgroups(&[]).at(|| "drop supplementary groups")?;
    if plan.id_base.is_some() {
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        nix::unistd::setresgid(gid, gid, gid).at(|| "become its group 0")?;
        nix::unistd::setresuid(uid, uid, uid).at(|| "become its user 0")?;
    }
    Ok(())
}

/// Looks a user up in the accounts of the root that this process has now.
pub(super) fn who(spec: &str) -> Step<Identity> {
    let passwd = read_bounded(c"/etc/passwd", ACCOUNTS_BYTES);
    let group = read_bounded(c"/etc/group", ACCOUNTS_BYTES);
    user::resolve(spec, &passwd, &group).at(|| format!("look up user {spec:?}"))
}

/// `HOME`, unless it is set.
pub(super) fn add_home(env: &mut Vec<String>, identity: &Identity) {
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
}

/// Nothing of PID 1's keyring can be reached.
pub(super) fn new_keyring() -> Step<()> {
    match process::new_session_keyring() {
        // A kernel without keyrings has none to share.
        Err(error) if error.raw_os_error() != Some(libc::ENOSYS) => {
            Err(error).at(|| "begin a session keyring")
        }
        _ => Ok(()),
    }
}

/// Becomes the user with these capabilities at most, in the working folder; a user other than root keeps them only if
/// they are `ambient`. Unless `new_privs`, no program that it starts gains rights.
pub(super) fn drop_privileges(
    identity: &Identity,
    caps: Caps,
    ambient: bool,
    cwd: &str,
    new_privs: bool,
) -> Step<()> {
    let is_root = identity.uid == 0;
    let ambient = if ambient && !is_root { caps.0 } else { 0 };
    process::bound_capabilities(caps.0).at(|| "drop capabilities")?;
    if ambient != 0 {
        process::keep_capabilities().at(|| "keep capabilities")?;
    }
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups).at(|| "set supplementary groups")?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    nix::unistd::setresgid(gid, gid, gid).at(|| format!("become group {gid}"))?;
    nix::unistd::setresuid(uid, uid, uid).at(|| format!("become user {uid}"))?;
    enter_cwd(cwd)?;
    if !new_privs {
        process::no_new_privileges().at(|| "set no_new_privs")?;
    }
    let keep = if is_root { caps.0 } else { ambient };
    process::set_capabilities(keep, ambient).at(|| "set capabilities")
}

/// No descriptor of a folder outside is open any more, so no path leads out (CVE-2024-21626); this checks it.
fn enter_cwd(cwd: &str) -> Step<()> {
    let failed = || format!("enter the working folder {cwd}");
    std::env::set_current_dir(cwd).at(failed)?;
    let here = std::env::current_dir().at(failed)?;
    if here.is_absolute() { Ok(()) } else { Err(Fault::new(failed(), "it lies outside the container")) }
}

/// The filter of a unit, for this process and what it becomes; a privileged one has none.
pub(super) fn load_filter(plan: &Plan) -> Step<()> {
    if plan.privileged {
        return Ok(());
    }
    let caps = plan.caps;
    let own;
    let filter = if caps == Caps::DEFAULT {
        &seccomp::DEFAULT
    } else {
        own = Filter::build(caps);
        &own
    };
    process::install_filter(filter.code()).at(|| "load the seccomp filter")
}

fn c_strings(list: &[String]) -> Step<Vec<CString>> {
    // Without its text, which may be a password.
    list.iter().map(|s| CString::new(s.as_str()).at(|| "pass command and environment")).collect()
}

/// A command line and an environment, ready for exec.
pub(super) struct Command<'a> {
    name: &'a str,
    path: &'a str,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl<'a> Command<'a> {
    pub(super) fn new(argv: &'a [String], env: &'a [String]) -> Step<Self> {
        Ok(Self {
            name: argv.first().map(String::as_str).unwrap_or_default(),
            path: env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default(),
            argv: c_strings(argv)?,
            env: c_strings(env)?,
        })
    }

    /// Runs an open file.
    pub(super) fn exec_file(&self, file: BorrowedFd<'_>) -> Fault {
        let error = process::exec_file(file, &self.argv, &self.env);
        Fault::new(format!("exec {:?}", self.name), format!("the machine's own program: {error}"))
    }

    /// Looks the program up in `PATH` as `execvp` does, but inside, and says what was wrong.
    pub(super) fn exec(&self) -> Fault {
        let (name, step) = (self.name, || format!("exec {:?}", self.name));
        if name.is_empty() {
            return Fault::new(step(), "the command is empty");
        }
        if name.contains('/') {
            let path = match c_path(name.as_ref()) {
                Ok(path) => path,
                Err(fault) => return fault,
            };
            return Fault::new(step(), explain(name, &process::exec(&path, &self.argv, &self.env)));
        }
        let mut denied = None;
        for folder in self.path.split(':') {
            let file = if folder.is_empty() { format!("./{name}") } else { format!("{folder}/{name}") };
            let Ok(c_file) = c_path(file.as_ref()) else { continue };
            let error = process::exec(&c_file, &self.argv, &self.env);
            match error.raw_os_error() {
                Some(libc::ENOENT) if std::fs::symlink_metadata(&file).is_err() => {}
                Some(libc::ENOTDIR) => {}
                Some(libc::EACCES) => denied = Some(explain(&file, &error)),
                _ => return Fault::new(step(), explain(&file, &error)),
            }
        }
        Fault::new(step(), denied.unwrap_or_else(|| format!("no such program in PATH ({})", self.path)))
    }
}

fn explain(file: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) if std::fs::metadata(file).is_ok() => {
            format!("{file} is there, but the interpreter that it names is not")
        }
        Some(libc::ENOENT) => format!("{file} does not exist in the image"),
        Some(libc::EACCES) => format!("{file} may not be executed by this user, or lies on a noexec mount"),
        Some(libc::ENOEXEC) => format!("{file} is no program for this machine (x86_64)"),
        _ => format!("{file}: {error}"),
    }
}
