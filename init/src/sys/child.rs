//! Short-lived children for work that may block, the one kind of process outside a container.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes of text that a child may hand back.
const ANSWER_BYTES: u64 = 4096;

/// A child that was started and not waited for.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
    answer: OwnedFd,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The work itself failed; its own words.
    #[error("{0}")]
    Failed(String),
    /// It was killed at its deadline. If it is stuck in the kernel it stays a zombie-to-be, reaped when it ends.
    #[error("not done within {0:?}")]
    Deadline(Duration),
    /// It could not be started, or died without an answer.
    #[error("helper process: {0}")]
    Process(io::Error),
}

impl Child {
    /// Its process id, for whoever reaps.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when it has ended.
    pub fn fd(&self) -> impl AsFd + '_ {
        &self.answer
    }

    /// Its process id, and the pipe on which its answer comes (`+` or `-`, then text): for an event loop, which
    /// reaps every child itself.
    pub fn into_parts(self) -> (i32, OwnedFd) {
        (self.pid, self.answer)
    }

    /// Waits until it ends or the deadline passes; then it is killed.
    pub fn wait(self, limit: Duration) -> Result<String, ChildError> {
        let end = Instant::now() + limit;
        let mut text = Vec::new();
        let mut answer = std::fs::File::from(self.answer);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !readable(answer.as_raw_fd(), left) {
                // SAFETY: kill has no memory preconditions; the child has not been reaped, so the pid is its own.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
                reap(self.pid, libc::WNOHANG);
                return Err(ChildError::Deadline(limit));
            }
            let mut part = [0; 512];
            match answer.read(&mut part) {
                Ok(0) => break,
                Ok(count) if (text.len() as u64) < ANSWER_BYTES => text.extend_from_slice(&part[..count]),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ChildError::Process(error)),
            }
        }
        reap(self.pid, 0);
        let text = String::from_utf8_lossy(&text).into_owned();
        match text.split_at_checked(1) {
            Some(("+", good)) => Ok(good.to_owned()),
            Some(("-", bad)) => Err(ChildError::Failed(bad.to_owned())),
            _ => Err(ChildError::Process(io::Error::other("it ended without an answer"))),
        }
    }
}

/// Runs `work` in a child process and waits for its text, at most `limit`.
pub fn run(limit: Duration, work: impl FnOnce() -> Result<String, String>) -> Result<String, ChildError> {
    start(work)?.wait(limit)
}

/// Starts `work` in a child process.
pub fn start(work: impl FnOnce() -> Result<String, String>) -> Result<Child, ChildError> {
    let mut ends = [0; 2];
    // SAFETY: `ends` is two ints that the kernel fills.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(ChildError::Process(io::Error::last_os_error()));
    }
    // SAFETY: both descriptors are fresh and owned by nobody else.
    let (read_end, write_end) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: PID 1 has one thread, so the child may run any code after fork; it leaves by `_exit` below.
    match unsafe { libc::fork() } {
        -1 => Err(ChildError::Process(io::Error::last_os_error())),
        0 => {
            drop(read_end);
            // SAFETY: no memory is involved. A child must not outlive PID 1's interest, nor catch its signals.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let mut answer = std::fs::File::from(write_end);
            let _ = match result {
                Ok(Ok(text)) => write!(answer, "+{text}"),
                Ok(Err(text)) => write!(answer, "-{text}"),
                Err(_) => write!(answer, "-it crashed"),
            };
            // SAFETY: always sound; no destructors or exit handlers of PID 1 may run here.
            unsafe { libc::_exit(0) }
        }
        pid => Ok(Child { pid, answer: read_end }),
    }
}

fn readable(fd: i32, limit: Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let millis = libc::c_int::try_from(left.as_millis()).unwrap_or(libc::c_int::MAX).max(1);
        // SAFETY: one pollfd, valid for the call.
        match unsafe { libc::poll(&raw mut poll, 1, millis) } {
            0 => return false,
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            count => return count > 0,
        }
    }
}

fn reap(pid: libc::pid_t, flags: libc::c_int) {
    loop {
        // SAFETY: a null status pointer is allowed.
        let result = unsafe { libc::waitpid(pid, std::ptr::null_mut(), flags) };
        if result != -1 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back() {
        assert_eq!(run(Duration::from_secs(10), || Ok("yes".into())).unwrap(), "yes");
        let error = run(Duration::from_secs(10), || Err("no".into())).unwrap_err();
        assert_eq!(error.to_string(), "no");
    }

    #[test]
    fn what_hangs_is_killed_at_its_deadline() {
        let hang = || loop {
            std::thread::park();
        };
        let error = run(Duration::from_millis(50), hang).unwrap_err();
        assert!(matches!(error, ChildError::Deadline(_)));
    }
}
