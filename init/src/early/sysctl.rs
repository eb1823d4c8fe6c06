//! Kernel settings of the main stage: one table, each with its reason.

use super::files;

/// One setting.
pub struct Setting {
    /// Below `/proc/sys`.
    pub name: &'static str,
    /// Written as it is.
    pub value: &'static str,
    /// Why; for the docs.
    pub why: &'static str,
}

const fn set(name: &'static str, value: &'static str, why: &'static str) -> Setting {
    Setting { name, value, why }
}

/// All of them.
pub const SETTINGS: [Setting; 30] = [
    set("kernel/modprobe", "", "there is no modprobe; PID 1 loads modules"),
    set("kernel/core_pattern", "|/dev/null", "a core dump of a container goes nowhere"),
    set("kernel/kptr_restrict", "2", "no kernel addresses for anybody"),
    set("kernel/dmesg_restrict", "1", "the kernel's log is the host's"),
    set("kernel/unprivileged_bpf_disabled", "1", "BPF only with its capability, for good"),
    set("kernel/perf_event_paranoid", "3", "no profiling of others"),
    set("kernel/yama/ptrace_scope", "1", "debug only one's own children"),
    set("kernel/kexec_load_disabled", "1", "no other kernel, for good"),
    set("kernel/sysrq", "0", "no keyboard commands to the kernel"),
    set("kernel/panic_on_oops", "1", "a kernel that tripped is not trusted; the slot's tries decide"),
    set("kernel/panic", "3", "and restarts by itself"),
    set("kernel/hung_task_timeout_secs", "120", "stuck tasks are named in the kernel's log"),
    set("kernel/pid_max", "4194304", "room for many containers"),
    set("net/core/bpf_jit_harden", "2", "against spraying code through BPF"),
    set("fs/protected_hardlinks", "1", "links only to what one may write"),
    set("fs/protected_symlinks", "1", "no following of others' links in shared folders"),
    set("fs/protected_fifos", "2", "no writing into others' pipes in shared folders"),
    set("fs/protected_regular", "2", "no writing into others' files in shared folders"),
    set(
        "fs/file-max",
        "9223372036854775807",
        "open files are their unit's memory; a number for all would be one unit's to use up",
    ),
    set("fs/suid_dumpable", "0", "no dumps of privileged programs"),
    set("fs/inotify/max_user_instances", "8192", "containers share a user's quota with nobody"),
    set("fs/inotify/max_user_watches", "1048576", "the same"),
    set("vm/overcommit_memory", "1", "limits are cgroups', as container images expect"),
    set("vm/max_map_count", "262144", "databases in containers ask for it"),
    set("vm/mmap_rnd_bits", "32", "as much address randomisation as there is"),
    set("net/ipv4/conf/all/rp_filter", "2", "no packets from addresses without a route back"),
    set("net/ipv4/conf/all/accept_redirects", "0", "routes come from the network agent"),
    set("net/ipv6/conf/all/accept_redirects", "0", "the same"),
    set("net/ipv4/conf/all/send_redirects", "0", "bridged units need none"),
    set("net/ipv6/conf/default/accept_ra", "2", "cards listen to routers even when units are forwarded for"),
];

/// Writes all of them; names those that the kernel does not know or refuses.
pub fn apply() -> Result<String, String> {
    let mut refused = Vec::new();
    for setting in &SETTINGS {
        if let Err(error) =
            files::poke(format!("/proc/sys/{}", setting.name), &format!("{}\n", setting.value))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            refused.push(format!("{}: {error}", setting.name));
        }
    }
    if refused.is_empty() { Ok(String::new()) } else { Err(refused.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_set_once() {
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }
}
