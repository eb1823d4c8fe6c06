//! Short-lived children for work that may block, the one kind of process outside a container.

use super::waiting;
use berth_units::control::packet;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Bytes of text that a child may hand back: what it found on some hundred disks.
const ANSWER_BYTES: u64 = 64 * 1024;

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

    /// Waits until it has answered or the deadline passes; then it is killed.
    pub fn wait(self, limit: Duration) -> Result<String, ChildError> {
        let end = Instant::now() + limit;
        let mut text = Vec::new();
        let mut answer = std::fs::File::from(self.answer);
        loop {
            if !readable_by(answer.as_raw_fd(), end) || text.len() as u64 > ANSWER_BYTES {
                // SAFETY: kill has no memory preconditions; the child has not been reaped, so the pid is its own.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
                reap(self.pid);
                return Err(ChildError::Deadline(limit));
            }
            let mut part = [0; 512];
            match answer.read(&mut part) {
                Ok(0) => break,
                Ok(count) => text.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ChildError::Process(error)),
            }
        }
        reap(self.pid);
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

/// As [`run`], for work that also hands over a descriptor: it comes only with a good answer, in time.
pub fn run_for_fd(
    limit: Duration,
    work: impl FnOnce() -> Result<(String, Option<OwnedFd>), String>,
) -> Result<(String, Option<OwnedFd>), ChildError> {
    let (ours, theirs) = UnixDatagram::pair().map_err(ChildError::Process)?;
    let answer = run(limit, || {
        let (text, fd) = work()?;
        if let Some(fd) = fd {
            packet::send(theirs.as_fd(), &(), &[fd.as_fd()]).map_err(|error| error.to_string())?;
        }
        Ok(text)
    })?;
    ours.set_nonblocking(true).map_err(ChildError::Process)?;
    let fds = packet::recv::<()>(ours.as_fd(), &mut [0; 16]).map_or_else(|_| Vec::new(), |(_, fds)| fds);
    Ok((answer, fds.into_iter().next()))
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
            // Now: a thread of its own that is stuck in the kernel would keep it open.
            drop(answer);
            // SAFETY: always sound; no destructors or exit handlers of PID 1 may run here.
            unsafe { libc::_exit(0) }
        }
        pid => Ok(Child { pid, answer: read_end }),
    }
}

/// Does the same with each of these at once, and takes what is done in time; the others are named after it. For a
/// child: a thread that is stuck in the kernel is left behind when the child ends.
pub fn each<T: Send + 'static>(
    names: Vec<String>,
    limit: Duration,
    work: impl Fn(&str) -> T + Clone + Send + 'static,
) -> (Vec<T>, Vec<String>) {
    let end = Instant::now() + limit;
    let (done, dones) = mpsc::channel();
    let mut results: Vec<Option<T>> = names.iter().map(|_| None).collect();
    for (i, name) in names.iter().cloned().enumerate() {
        let (done, work) = (done.clone(), work.clone());
        // One that cannot be started is as good as late.
        let _ = std::thread::Builder::new().spawn(move || done.send((i, work(&name))));
    }
    drop(done);
    while let Ok((i, result)) = dones.recv_timeout(end.saturating_duration_since(Instant::now())) {
        if let Some(slot) = results.get_mut(i) {
            *slot = Some(result);
        }
    }
    let late = results.iter().zip(names).filter(|(result, _)| result.is_none()).map(|(_, name)| name);
    let late = late.collect();
    (results.into_iter().flatten().collect(), late)
}

fn readable_by(fd: i32, end: Instant) -> bool {
    loop {
        let due = waiting::meanwhile();
        let left = end.saturating_duration_since(Instant::now());
        if readable(fd, left.min(due)) {
            return true;
        }
        if left <= due {
            return false;
        }
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

/// It has answered, or was killed. If it is not gone yet, the event loop, which reaps all children, will see it.
fn reap(pid: libc::pid_t) {
    // SAFETY: a null status pointer is allowed.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
}

/// For tests: never comes back.
#[cfg(test)]
pub fn hang() -> ! {
    loop {
        std::thread::park();
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
        let error = run(Duration::from_millis(50), || hang()).unwrap_err();
        assert!(matches!(error, ChildError::Deadline(_)));
    }

    #[test]
    fn a_descriptor_comes_with_a_good_answer_only() {
        let limit = Duration::from_secs(10);
        let open = || std::fs::File::open("/dev/null").map(OwnedFd::from).map_err(|error| error.to_string());
        let (text, fd) = run_for_fd(limit, || Ok(("here".into(), Some(open()?)))).unwrap();
        assert!(text == "here" && fd.is_some());
        assert!(run_for_fd(limit, || Ok((String::new(), None))).unwrap().1.is_none());
        assert!(run_for_fd(limit, || Err("no".into())).is_err());
    }

    #[test]
    fn the_watchdog_is_petted_while_a_child_is_waited_for() {
        let pets = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = pets.clone();
        waiting::set(Duration::from_millis(10), move || count.set(count.get() + 1));
        assert!(run(Duration::from_millis(100), || hang()).is_err());
        assert!(pets.get() >= 3, "{}", pets.get());
    }

    #[test]
    fn of_many_only_those_that_hang_are_left_out() {
        let names = ["a", "sick", "b", "ill"].map(String::from).to_vec();
        let work = || {
            let (done, late) = each(names, Duration::from_millis(200), |name| {
                if name.len() > 1 {
                    hang();
                }
                name.to_owned()
            });
            Ok(format!("{} without {}", done.join(" "), late.join(" ")))
        };
        assert_eq!(run(Duration::from_secs(10), work).unwrap(), "a b without sick ill");
    }
}
