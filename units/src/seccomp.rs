//! The seccomp filter of every container: Docker's default list or less, for x86_64.
//!
//! A table says for each system call what happens to it; [`Filter::build`] turns the table into a balanced tree of
//! BPF comparisons, about seven for any call. It is a `const fn`: the filter for the default capabilities is made
//! by the compiler and lies ready in the program; a system unit with other capabilities has its own made at start.
//!
//! Refused calls fail with EPERM, those newer than the table with ENOSYS (so that a libc falls back to an older way),
//! as does `clone3`, whose flags a filter cannot see. Other architectures' calls end the process.

#![expect(
    clippy::cast_possible_truncation,
    reason = "a const fn has no other cast; numbers here are below 512"
)]

use crate::launch::Caps;
use libc::sock_filter;

/// Calls known here: up to Linux 6.12's newest, `mseal`.
const KNOWN: usize = libc::SYS_mseal as usize + 1;
/// Instructions that a filter may have; `every_capability_set_fits` shows that it suffices.
const ROOM: usize = 512;

/// Calls that libc has no names for yet (`arch/x86/entry/syscalls/syscall_64.tbl`).
mod newer {
    pub(super) const IO_PGETEVENTS: libc::c_long = 333;
    pub(super) const CACHESTAT: libc::c_long = 451;
    pub(super) const MAP_SHADOW_STACK: libc::c_long = 453;
    pub(super) const FUTEX_WAKE: libc::c_long = 454;
    pub(super) const FUTEX_WAIT: libc::c_long = 455;
    pub(super) const FUTEX_REQUEUE: libc::c_long = 456;
}

/// What happens to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Refuse,
    Allow,
    Unknown,
    /// `clone`, without new namespaces.
    Clone,
    /// `personality`, with what changes nothing that matters (and what asks).
    Personality,
    /// `socket`, but not to the hypervisor nor into the kernel's crypto code.
    Socket,
}

/// Allowed whatever the capabilities. Beside Docker's refusals (add_key, keyctl, request_key, bpf, userfaultfd,
/// kexec, …) it leaves out io_uring, as Docker does since 2023.
#[rustfmt::skip]
const ALLOWED: &[libc::c_long] = {
    use libc::*;
    &[
        SYS_accept, SYS_accept4, SYS_access, SYS_adjtimex, SYS_alarm, SYS_arch_prctl, SYS_bind, SYS_brk,
        SYS_capget, SYS_capset, SYS_chdir, SYS_chmod, SYS_chown, SYS_clock_adjtime, SYS_clock_getres, SYS_clock_gettime,
        SYS_clock_nanosleep, SYS_close, SYS_close_range, SYS_connect, SYS_copy_file_range, SYS_creat, SYS_dup, SYS_dup2,
        SYS_dup3, SYS_epoll_create, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_epoll_wait,
        SYS_eventfd, SYS_eventfd2, SYS_execve, SYS_execveat, SYS_exit, SYS_exit_group, SYS_faccessat, SYS_faccessat2,
        SYS_fadvise64, SYS_fallocate, SYS_fanotify_mark, SYS_fchdir, SYS_fchmod, SYS_fchmodat, SYS_fchmodat2, SYS_fchown,
        SYS_fchownat, SYS_fcntl, SYS_fdatasync, SYS_fgetxattr, SYS_flistxattr, SYS_flock, SYS_fork, SYS_fremovexattr,
        SYS_fsetxattr, SYS_fstat, SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_futex,
        SYS_futex_waitv, SYS_futimesat, SYS_getcpu, SYS_getcwd, SYS_getdents, SYS_getdents64, SYS_getegid,
        SYS_geteuid, SYS_getgid, SYS_getgroups, SYS_getitimer, SYS_getpeername, SYS_getpgid, SYS_getpgrp, SYS_getpid,
        SYS_getppid, SYS_getpriority, SYS_getrandom, SYS_getresgid, SYS_getresuid, SYS_getrlimit, SYS_get_robust_list,
        SYS_getrusage, SYS_getsid, SYS_getsockname, SYS_getsockopt, SYS_get_thread_area, SYS_gettid, SYS_gettimeofday,
        SYS_getuid, SYS_getxattr, SYS_inotify_add_watch, SYS_inotify_init, SYS_inotify_init1, SYS_inotify_rm_watch,
        SYS_io_cancel, SYS_ioctl, SYS_io_destroy, SYS_io_getevents, SYS_ioprio_get, SYS_ioprio_set,
        SYS_io_setup, SYS_io_submit, SYS_kill, SYS_landlock_add_rule, SYS_landlock_create_ruleset,
        SYS_landlock_restrict_self, SYS_lchown, SYS_lgetxattr, SYS_link, SYS_linkat, SYS_listen, SYS_listxattr,
        SYS_llistxattr, SYS_lremovexattr, SYS_lseek, SYS_lsetxattr, SYS_lstat, SYS_madvise,
        SYS_membarrier, SYS_memfd_create, SYS_memfd_secret, SYS_mincore, SYS_mkdir, SYS_mkdirat, SYS_mknod, SYS_mknodat,
        SYS_mlock, SYS_mlock2, SYS_mlockall, SYS_mmap, SYS_modify_ldt, SYS_mprotect, SYS_mq_getsetattr, SYS_mq_notify,
        SYS_mq_open, SYS_mq_timedreceive, SYS_mq_timedsend, SYS_mq_unlink, SYS_mremap, SYS_mseal, SYS_msgctl, SYS_msgget,
        SYS_msgrcv, SYS_msgsnd, SYS_msync, SYS_munlock, SYS_munlockall, SYS_munmap, SYS_name_to_handle_at, SYS_nanosleep,
        SYS_newfstatat, SYS_open, SYS_openat, SYS_openat2, SYS_pause, SYS_pidfd_open, SYS_pidfd_send_signal, SYS_pipe,
        SYS_pipe2, SYS_pkey_alloc, SYS_pkey_free, SYS_pkey_mprotect, SYS_poll, SYS_ppoll, SYS_prctl, SYS_pread64,
        SYS_preadv, SYS_preadv2, SYS_prlimit64, SYS_process_mrelease, SYS_process_vm_readv, SYS_process_vm_writev,
        SYS_pselect6, SYS_ptrace, SYS_pwrite64, SYS_pwritev, SYS_pwritev2, SYS_read, SYS_readahead, SYS_readlink,
        SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg, SYS_remap_file_pages, SYS_removexattr,
        SYS_rename, SYS_renameat, SYS_renameat2, SYS_restart_syscall, SYS_rmdir, SYS_rseq, SYS_rt_sigaction,
        SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigqueueinfo, SYS_rt_sigreturn, SYS_rt_sigsuspend,
        SYS_rt_sigtimedwait, SYS_rt_tgsigqueueinfo, SYS_sched_getaffinity, SYS_sched_getattr, SYS_sched_getparam,
        SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_sched_getscheduler, SYS_sched_rr_get_interval,
        SYS_sched_setaffinity, SYS_sched_setattr, SYS_sched_setparam, SYS_sched_setscheduler, SYS_sched_yield,
        SYS_seccomp, SYS_select, SYS_semctl, SYS_semget, SYS_semop, SYS_semtimedop, SYS_sendfile, SYS_sendmmsg,
        SYS_sendmsg, SYS_sendto, SYS_setfsgid, SYS_setfsuid, SYS_setgid, SYS_setgroups, SYS_setitimer, SYS_setpgid,
        SYS_setpriority, SYS_setregid, SYS_setresgid, SYS_setresuid, SYS_setreuid, SYS_setrlimit, SYS_set_robust_list,
        SYS_setsid, SYS_setsockopt, SYS_set_thread_area, SYS_set_tid_address, SYS_setuid, SYS_setxattr, SYS_shmat,
        SYS_shmctl, SYS_shmdt, SYS_shmget, SYS_shutdown, SYS_sigaltstack, SYS_signalfd, SYS_signalfd4, SYS_socketpair,
        SYS_splice, SYS_stat, SYS_statfs, SYS_statx, SYS_symlink, SYS_symlinkat, SYS_sync, SYS_sync_file_range, SYS_syncfs,
        SYS_sysinfo, SYS_tee, SYS_tgkill, SYS_time, SYS_timer_create, SYS_timer_delete, SYS_timer_getoverrun,
        SYS_timer_gettime, SYS_timer_settime, SYS_timerfd_create, SYS_timerfd_gettime, SYS_timerfd_settime, SYS_times,
        SYS_tkill, SYS_truncate, SYS_umask, SYS_uname, SYS_unlink, SYS_unlinkat, SYS_utime, SYS_utimensat, SYS_utimes,
        SYS_vfork, SYS_vmsplice, SYS_wait4, SYS_waitid, SYS_write, SYS_writev,
        newer::IO_PGETEVENTS, newer::CACHESTAT, newer::MAP_SHADOW_STACK, newer::FUTEX_WAKE, newer::FUTEX_WAIT,
        newer::FUTEX_REQUEUE,
    ]
};

/// Allowed together with a capability; without it they would fail anyway, but only deep inside the kernel.
#[rustfmt::skip]
const WITH: &[(&str, &[libc::c_long])] = {
    use libc::*;
    &[
        ("DAC_READ_SEARCH", &[SYS_open_by_handle_at]),
        ("SYS_ADMIN", &[
            SYS_bpf, SYS_clone, SYS_clone3, SYS_fanotify_init, SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_fspick, SYS_mount,
            SYS_mount_setattr, SYS_move_mount, SYS_open_tree, SYS_perf_event_open, SYS_pivot_root, SYS_quotactl,
            SYS_quotactl_fd, SYS_setdomainname, SYS_sethostname, SYS_setns, SYS_syslog, SYS_umount2, SYS_unshare,
        ]),
        ("SYS_BOOT", &[SYS_reboot]),
        ("SYS_CHROOT", &[SYS_chroot]),
        ("SYS_MODULE", &[SYS_delete_module, SYS_init_module, SYS_finit_module]),
        ("SYS_PACCT", &[SYS_acct]),
        ("SYS_PTRACE", &[SYS_kcmp, SYS_pidfd_getfd, SYS_process_madvise]),
        ("SYS_RAWIO", &[SYS_iopl, SYS_ioperm]),
        ("SYS_TIME", &[SYS_settimeofday, SYS_clock_settime]),
        ("SYS_TTY_CONFIG", &[SYS_vhangup]),
        ("SYS_NICE", &[SYS_get_mempolicy, SYS_mbind, SYS_set_mempolicy, SYS_set_mempolicy_home_node]),
        ("SYSLOG", &[SYS_syslog]),
        ("BPF", &[SYS_bpf]),
        ("PERFMON", &[SYS_perf_event_open]),
    ]
};

/// A filter, ready to be loaded.
#[derive(Clone)]
pub struct Filter {
    code: [sock_filter; ROOM],
    len: usize,
}

/// For [`Caps::DEFAULT`], made by the compiler.
pub static DEFAULT: Filter = Filter::build(Caps::DEFAULT);

impl Filter {
    /// The filter for a container with these capabilities.
    pub const fn build(caps: Caps) -> Self {
        let table = table(caps);
        let mut filter = Filter { code: [op(0, 0, 0, 0); ROOM], len: 0 };
        filter.push(op(LOAD, 0, 0, ARCH_OFFSET));
        filter.push(op(JUMP_EQ, 1, 0, AUDIT_ARCH_X86_64));
        filter.push(op(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS));
        filter.push(op(LOAD, 0, 0, NUMBER_OFFSET));
        filter.tree(&table, 0, KNOWN + 1);
        filter
    }

    /// The instructions.
    pub fn code(&self) -> &[sock_filter] {
        &self.code[..self.len]
    }

    const fn push(&mut self, op: sock_filter) {
        self.code[self.len] = op;
        self.len += 1;
    }

    /// Decides calls `low..high`, of which some differ or none.
    const fn tree(&mut self, table: &[Action; KNOWN + 1], low: usize, high: usize) {
        let mut runs = 1;
        let mut i = low + 1;
        while i < high {
            runs += (table[i] as u8 != table[i - 1] as u8) as usize;
            i += 1;
        }
        if runs == 1 {
            return self.leaf(table[low]);
        }
        // The start of the middle run.
        let (mut middle, mut passed) = (low, 0);
        while passed < runs / 2 {
            middle += 1;
            passed += (table[middle] as u8 != table[middle - 1] as u8) as usize;
        }
        let node = self.len;
        self.push(op(JUMP_GE, 0, 0, narrow(middle)));
        self.tree(table, low, middle);
        let skip = self.len - node - 1;
        assert!(skip < 256, "a jump of the seccomp filter is too far");
        self.code[node].jt = skip as u8;
        self.tree(table, middle, high);
    }

    const fn leaf(&mut self, action: Action) {
        const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        match action {
            Action::Refuse => self.push(op(RETURN, 0, 0, EPERM)),
            Action::Unknown => self.push(op(RETURN, 0, 0, ENOSYS)),
            Action::Allow => self.push(op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW)),
            Action::Clone => {
                self.push(op(LOAD, 0, 0, FIRST_ARGUMENT_OFFSET));
                self.push(op(JUMP_SET, 0, 1, NAMESPACES));
                self.push(op(RETURN, 0, 0, EPERM));
                self.push(op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
            }
            Action::Personality => self.first_argument(&PERSONALITIES, libc::SECCOMP_RET_ALLOW, EPERM),
            Action::Socket => self.first_argument(&NO_SOCKETS, EPERM, libc::SECCOMP_RET_ALLOW),
        }
    }

    /// `listed` if the first argument is one of `values`, else `other`. The kernel takes both arguments checked so as
    /// 32-bit numbers, and so does this.
    const fn first_argument(&mut self, values: &[u32], listed: u32, other: u32) {
        self.push(op(LOAD, 0, 0, FIRST_ARGUMENT_OFFSET));
        let mut i = 0;
        while i < values.len() {
            self.push(op(JUMP_EQ, 0, 1, values[i]));
            self.push(op(RETURN, 0, 0, listed));
            i += 1;
        }
        self.push(op(RETURN, 0, 0, other));
    }
}

/// `CLONE_NEW*` as far as `clone` takes them.
const NAMESPACES: u32 = 0x7e02_0000;
/// Linux, 32-bit Linux, either without address randomisation of its layout, and the question.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
const NO_SOCKETS: [u32; 2] = [libc::AF_VSOCK as u32, libc::AF_ALG as u32];

// `struct seccomp_data`: number, architecture, instruction pointer, arguments.
const NUMBER_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;
const FIRST_ARGUMENT_OFFSET: u32 = 16;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP_EQ: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_GE: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const JUMP_SET: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

const fn op(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

const fn narrow(number: usize) -> u32 {
    number as u32
}

const fn table(caps: Caps) -> [Action; KNOWN + 1] {
    let mut table = [Action::Refuse; KNOWN + 1];
    // 335 to 423 do not exist on this architecture; from KNOWN on, also the x32 calls, none exists yet.
    let mut i = 335;
    while i <= 423 {
        table[i] = Action::Unknown;
        i += 1;
    }
    table[KNOWN] = Action::Unknown;
    allow(&mut table, ALLOWED);
    set(&mut table, libc::SYS_clone, Action::Clone);
    set(&mut table, libc::SYS_clone3, Action::Unknown);
    set(&mut table, libc::SYS_personality, Action::Personality);
    set(&mut table, libc::SYS_socket, Action::Socket);
    let mut i = 0;
    while i < WITH.len() {
        if caps.has(WITH[i].0) {
            allow(&mut table, WITH[i].1);
        }
        i += 1;
    }
    table
}

const fn allow(table: &mut [Action; KNOWN + 1], calls: &[libc::c_long]) {
    let mut i = 0;
    while i < calls.len() {
        set(table, calls[i], Action::Allow);
        i += 1;
    }
}

const fn set(table: &mut [Action; KNOWN + 1], call: libc::c_long, action: Action) {
    table[call.unsigned_abs() as usize] = action;
}

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
