//! The agent, as its unit runs it (only its three capabilities), in a network of namespaces: the machine, the world
//! outside with a DHCP server, and units in user namespaces of their own. Real kernel, real packets.
//!
//! Not the usual harness: the program is also the agent's process and runs each scenario in a namespace of its own.
//! The DHCP server is ours, or Debian's dnsmasq.
//! Needs `unshare` and `setpriv` of util-linux, and `bash`; without root it makes itself root of a user namespace first.

// Clippy knows tests by their attribute only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::exit)]

mod dhcp;
mod lab;
mod names;
mod scenarios;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some([_, folder]) = args.get(1..3).filter(|args| args[0] == "agent") {
        return lab::agent_process(Path::new(folder));
    }
    if !nix::unistd::geteuid().is_root() {
        let exe = std::env::current_exe().expect("own path");
        let error = Command::new("unshare").arg("-Ur").arg(exe).args(&args[1..]).exec();
        panic!("unshare not run: {error}");
    }
    let wanted: Vec<&String> = args[1..].iter().filter(|arg| !arg.starts_with('-')).collect();
    for (name, scenario) in scenarios::ALL.into_iter().chain(names::ALL).chain(dhcp::ALL) {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            let begin = std::time::Instant::now();
            // A failed assertion ends the program with its message.
            std::thread::spawn(scenario).join().map_or_else(|_| std::process::exit(101), drop);
            println!("test {name} ... ok ({:.2} s)", begin.elapsed().as_secs_f32());
        }
    }
    ExitCode::SUCCESS
}
