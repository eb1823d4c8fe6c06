use super::*;

/// A BPF machine of just the instructions used.
fn run(filter: &Filter, arch: u32, number: u32, argument: u32) -> u32 {
    let (mut at, mut acc) = (0_usize, 0_u32);
    loop {
        let op = filter.code()[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { op.jt } else { op.jf });
        match u32::from(op.code) {
            LOAD => {
                acc = match op.k {
                    NUMBER_OFFSET => number,
                    ARCH_OFFSET => arch,
                    FIRST_ARGUMENT_OFFSET => argument,
                    other => panic!("load from {other}"),
                }
            }
            JUMP_EQ => at += jump(acc == op.k),
            JUMP_GE => at += jump(acc >= op.k),
            JUMP_SET => at += jump(acc & op.k != 0),
            RETURN => return op.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn call(filter: &Filter, number: libc::c_long, argument: u32) -> u32 {
    run(filter, AUDIT_ARCH_X86_64, u32::try_from(number).unwrap(), argument)
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

fn agrees(caps: Caps) {
    let (filter, table) = (Filter::build(caps), table(caps));
    for number in 0..KNOWN + 200 {
        let got = run(&filter, AUDIT_ARCH_X86_64, narrow(number), 0);
        let want = match table[number.min(KNOWN)] {
            Action::Refuse => EPERM,
            Action::Unknown => ENOSYS,
            _ => ALLOW,
        };
        assert_eq!(got, want, "call {number} with {:?}", caps.names().collect::<Vec<_>>());
    }
}

#[test]
fn every_capability_set_fits() {
    agrees(Caps::DEFAULT);
    agrees(Caps(0));
    agrees(Caps(u64::MAX));
    for number in 0..41 {
        agrees(Caps(1 << number));
        agrees(Caps(u64::MAX ^ 1 << number));
    }
    // Two rows of `WITH`, or all but two.
    for (first, _) in WITH {
        for (second, _) in WITH {
            let both = 1 << Caps::number(first).unwrap() | 1 << Caps::number(second).unwrap();
            agrees(Caps(both));
            agrees(Caps(u64::MAX ^ both));
        }
    }
}

#[test]
fn a_container_cannot_reach_for_the_kernel() {
    for number in [
        libc::SYS_bpf,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_open_by_handle_at,
        libc::SYS_pivot_root,
        libc::SYS_settimeofday,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_move_mount,
        libc::SYS_mount_setattr,
        libc::SYS_iopl,
        libc::SYS_quotactl,
        libc::SYS_acct,
        libc::SYS_syslog,
    ] {
        assert_eq!(call(&DEFAULT, number, 0), EPERM, "call {number}");
    }
    for number in [
        libc::SYS_read,
        libc::SYS_execve,
        libc::SYS_futex,
        libc::SYS_chroot,
        libc::SYS_openat2,
        libc::SYS_rseq,
    ] {
        assert_eq!(call(&DEFAULT, number, 0), ALLOW, "call {number}");
    }
}

#[test]
fn newer_and_foreign_calls() {
    assert_eq!(call(&DEFAULT, libc::SYS_clone3, 0), ENOSYS);
    for number in [463, 500, 0x4000_0000, 0x4000_0001, u32::MAX] {
        assert_eq!(run(&DEFAULT, AUDIT_ARCH_X86_64, number, 0), ENOSYS);
    }
    // i386
    assert_eq!(run(&DEFAULT, 0x4000_0003, 1, 0), libc::SECCOMP_RET_KILL_PROCESS);
}

#[test]
fn arguments_count_where_they_matter() {
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWCGROUP] {
        assert_eq!(call(&DEFAULT, libc::SYS_clone, flag.cast_unsigned() | 17), EPERM);
    }
    // What glibc gives for a thread and for fork.
    assert_eq!(call(&DEFAULT, libc::SYS_clone, 0x003d_0f00), ALLOW);
    assert_eq!(call(&DEFAULT, libc::SYS_clone, 0x0120_0011), ALLOW);
    assert_eq!(call(&DEFAULT, libc::SYS_personality, 0xffff_ffff), ALLOW);
    assert_eq!(call(&DEFAULT, libc::SYS_personality, 0x004_0000), EPERM);
    assert_eq!(call(&DEFAULT, libc::SYS_socket, libc::AF_INET.cast_unsigned()), ALLOW);
    assert_eq!(call(&DEFAULT, libc::SYS_socket, libc::AF_VSOCK.cast_unsigned()), EPERM);
    let admin = Filter::build(Caps(1 << Caps::number("SYS_ADMIN").unwrap()));
    assert_eq!(call(&admin, libc::SYS_clone, libc::CLONE_NEWUSER.cast_unsigned()), ALLOW);
    assert_eq!(call(&admin, libc::SYS_setns, 0), ALLOW);
}

#[test]
fn a_decision_takes_few_steps() {
    // Longest path through the tree, by the machine above with a counter: bounded by the depth of a balanced tree.
    fn depth(code: &[sock_filter], at: usize) -> usize {
        let op = code[at];
        match u32::from(op.code) {
            RETURN => 1,
            LOAD => 1 + depth(code, at + 1),
            _ => 1 + depth(code, at + 1 + usize::from(op.jt)).max(depth(code, at + 1 + usize::from(op.jf))),
        }
    }
    assert!(depth(DEFAULT.code(), 0) <= 20, "{}", depth(DEFAULT.code(), 0));
    assert!(DEFAULT.len < 300, "{}", DEFAULT.len);
}
