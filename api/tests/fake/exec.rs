//! Commands that the pretended PID 1 plays: `cat`, `false`, `sleep` (until nobody wants it any more), and none else. What is copied
//! is read and written by `berth worker copy` itself, where that program is built, or is a stream that the test has left.

use berth_units::control::{ExecEvent, ExecRequest, packet};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc::Sender;

/// Begins one; what rides along. When it ends because nobody wants it any more, `ended` hears of it.
pub fn begin(request: &ExecRequest, stream: Option<Vec<u8>>, ended: Sender<()>) -> Vec<File> {
    let (peer, far) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let (input, to_input) = std::io::pipe().unwrap();
    let (from_output, output) = std::io::pipe().unwrap();
    let (from_errors, errors) = std::io::pipe().unwrap();
    let (command, copy) = (request.command.clone(), request.copy.clone());
    let (input, output, errors) = (
        File::from(OwnedFd::from(input)),
        File::from(OwnedFd::from(output)),
        File::from(OwnedFd::from(errors)),
    );
    let wants_terminal = request.terminal;
    std::thread::spawn(move || {
        // In a terminal's place, both ways by one descriptor: it rides along with the word that the command runs.
        let (terminal, output) = match wants_terminal {
            true => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                (Some(OwnedFd::from(ours)), File::from(OwnedFd::from(theirs)))
            }
            false => (None, output),
        };
        let tell = |event: ExecEvent| {
            let terminal = terminal.as_ref().filter(|_| event == ExecEvent::Running);
            let fds: Vec<_> = terminal.iter().map(|fd| fd.as_fd()).collect();
            let _ = packet::send(peer.as_fd(), &event, &fds);
        };
        if let Some(stream) = stream {
            tell(ExecEvent::Running);
            // Whoever does not believe it takes no more.
            let _ = (&output).write_all(&stream);
            return tell(ExecEvent::Exited { code: 0 });
        }
        if let Some(copy) = copy {
            let Some(berth) = option_env!("CARGO_BIN_EXE_berth") else {
                panic!("this test program has no berth")
            };
            tell(ExecEvent::Running);
            let mut worker = Command::new(berth)
                .args(&copy.words()[1..])
                .stdin(input)
                .stdout(output)
                .stderr(errors)
                .spawn()
                .unwrap();
            let code = worker.wait().unwrap().code().unwrap();
            return tell(ExecEvent::Exited { code });
        }
        match command[0].as_str() {
            "cat" => {
                tell(ExecEvent::Running);
                std::io::copy(&mut &input, &mut &output).unwrap();
                tell(ExecEvent::Exited { code: 0 });
            }
            "false" => {
                tell(ExecEvent::Running);
                (&errors).write_all(b"no\n").unwrap();
                tell(ExecEvent::Exited { code: 3 });
            }
            "sleep" => {
                tell(ExecEvent::Running);
                (&output).write_all(b"asleep\n").unwrap();
                let _ = packet::recv::<ExecEvent>(peer.as_fd(), &mut packet::buffer());
                let _ = ended.send(());
            }
            other => tell(ExecEvent::Failed { reason: format!("exec: {other}: no such program") }),
        }
    });
    if wants_terminal {
        return vec![far.into()];
    }
    [far, to_input.into(), from_output.into(), from_errors.into()].map(File::from).into()
}
