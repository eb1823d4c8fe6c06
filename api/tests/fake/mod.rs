//! A PID 1 that only talks: the control socket, answers as the test wants them, and a log that it rotates.
//! Used by this crate's tests and the command line's.

#![allow(dead_code, reason = "each test program uses its part")]

mod answers;
mod exec;

pub use answers::*;

use berth_api::server::{ServeError, Settings, serve};
use berth_units::control::{
    FromWorker, ImageOrder, InstallStatus, JobStatus, Reply, Request, ToInit, ToWorker, UpdateStatus, packet,
    sealed,
};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server with a pretended PID 1 behind it.
pub struct Fake {
    pub folder: tempfile::TempDir,
    pub port: u16,
    pub fingerprint: String,
    state: Arc<State>,
    said: Receiver<FromWorker>,
    archives: Receiver<Vec<u8>>,
    command_ended: Receiver<()>,
    stop: UnixStream,
    server: Option<JoinHandle<Result<(), ServeError>>>,
}

struct State {
    worker: Mutex<Option<OwnedFd>>,
    asked: Mutex<Vec<String>>,
    log: Mutex<Log>,
    /// Replies that differ from the usual ones, by the request's `Debug`.
    replies: Mutex<HashMap<String, Reply>>,
    /// Comes instead of what is copied.
    stream: Mutex<Option<Vec<u8>>>,
    /// Says that a command was ended, because nobody wants it any more.
    command_ended: Mutex<Sender<()>>,
    /// Tells the server to stop, when this is asked for.
    stop_at: Mutex<Option<(String, UnixStream)>>,
    /// What job 7 is at each look; the last one stays.
    jobs: Mutex<Vec<JobStatus>>,
    updates: Mutex<Vec<UpdateStatus>>,
    installs: Mutex<Vec<InstallStatus>>,
    /// Archives that came, and how many bytes of one are taken.
    taken: Sender<Vec<u8>>,
    takes: AtomicU64,
}

/// Two segments, as PID 1 keeps them.
struct Log {
    folder: PathBuf,
    generation: u64,
    segments: Vec<PathBuf>,
}

impl Fake {
    /// Starts both; `keys` are authorised.
    pub fn start(keys: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket_path = folder.path().join("control.sock");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let images = folder.path().join("index");
        std::fs::create_dir(&images).unwrap();
        for (name, image) in image_files() {
            std::fs::write(images.join(name), image).unwrap();
        }
        let listener =
            socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&socket_path).unwrap()).unwrap();
        listen(&listener, Backlog::new(32).unwrap()).unwrap();
        // Its `accept` asks nothing of the socket's type.
        let listener = UnixListener::from(listener);

        let (taken, archives) = channel();
        let (end_command, command_ended) = channel();
        let state = Arc::new(State {
            worker: Mutex::new(None),
            asked: Mutex::default(),
            log: Mutex::new(Log { folder: folder.path().to_owned(), generation: 0, segments: Vec::new() }),
            replies: Mutex::default(),
            stream: Mutex::default(),
            command_ended: Mutex::new(end_command),
            stop_at: Mutex::default(),
            jobs: Mutex::new(vec![job("done", "")]),
            updates: Mutex::new(vec![update()]),
            installs: Mutex::new(vec![InstallStatus::default()]),
            taken,
            takes: AtomicU64::new(u64::MAX),
        });
        state.log.lock().unwrap().rotate();
        let (say, said) = channel();
        let first = access_message(keys);
        let serving = state.clone();
        std::thread::spawn(move || {
            loop {
                let connection = OwnedFd::from(listener.accept().unwrap().0);
                let (state, say, first) = (serving.clone(), say.clone(), first.clone());
                std::thread::spawn(move || state.connection(connection, &first, &say));
            }
        });

        let listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        let figures = figures(folder.path());
        let settings = Settings { socket: socket_path, data, images, figures, listen };
        let (stop, told) = UnixStream::pair().unwrap();
        let server = Some(std::thread::spawn(move || serve(&settings, told)));
        let mut fake = Self {
            folder,
            port: 0,
            fingerprint: String::new(),
            state,
            said,
            archives,
            command_ended,
            stop,
            server,
        };
        let FromWorker::ApiKey { fingerprint, port } = fake.hear() else { panic!("the key comes first") };
        (fake.port, fake.fingerprint) = (port, fingerprint);
        assert!(matches!(fake.hear(), FromWorker::Status { .. }));
        assert!(matches!(fake.hear(), FromWorker::Ready));
        fake
    }

    /// The worker's next word.
    pub fn hear(&self) -> FromWorker {
        self.said.recv_timeout(PATIENCE).expect("the API server says something")
    }

    /// Waits until a command was ended because nobody wants it any more.
    pub fn command_ended(&self) {
        self.command_ended.recv_timeout(PATIENCE).expect("the command is ended");
    }

    /// Other keys from now on; returns when the server has said so.
    pub fn authorise(&self, keys: &[&str]) -> String {
        let worker = self.state.worker.lock().unwrap();
        packet::send(worker.as_ref().unwrap().as_fd(), &access_message(keys), &[]).unwrap();
        match self.hear() {
            FromWorker::Status { text } => text,
            other => panic!("{other:?}"),
        }
    }

    /// Answers `request` like this from now on.
    pub fn reply(&self, request: &Request, reply: Reply) {
        self.state.replies.lock().unwrap().insert(format!("{request:?}"), reply);
    }

    /// This is what comes out of the unit from now on, whatever is copied.
    pub fn stream_is(&self, stream: Vec<u8>) {
        *self.state.stream.lock().unwrap() = Some(stream);
    }

    /// Job 7 goes like this from now on.
    pub fn job_goes(&self, looks: Vec<JobStatus>) {
        *self.state.jobs.lock().unwrap() = looks;
    }

    /// What `GET /v1/update` says, look by look.
    pub fn set_installs(&self, looks: Vec<InstallStatus>) {
        *self.state.installs.lock().unwrap() = looks;
    }

    /// The same for updates.
    pub fn set_updates(&self, looks: Vec<UpdateStatus>) {
        *self.state.updates.lock().unwrap() = looks;
    }

    /// The next archive that came.
    pub fn archive(&self) -> Vec<u8> {
        self.archives.recv_timeout(PATIENCE).expect("an archive comes")
    }

    /// Only so many bytes of an archive are taken from now on.
    pub fn takes(&self, bytes: u64) {
        self.state.takes.store(bytes, Ordering::Relaxed);
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Appends to the log, line by line.
    pub fn log(&self, lines: &[&str]) {
        let log = self.state.log.lock().unwrap();
        let mut file = OpenOptions::new().append(true).open(log.segments.last().unwrap()).unwrap();
        for line in lines {
            file.write_all(line.as_bytes()).unwrap();
        }
    }

    /// A new segment; the third oldest goes.
    pub fn rotate(&self) {
        self.state.log.lock().unwrap().rotate();
    }

    /// The server is told to stop just before `request` is answered.
    pub fn stop_at(&self, request: &Request) {
        *self.state.stop_at.lock().unwrap() = Some((format!("{request:?}"), self.stop.try_clone().unwrap()));
    }

    /// Waits until the server, told to stop, has ended.
    pub fn ended(mut self) {
        self.server.take().unwrap().join().unwrap().unwrap();
    }

    /// PID 1 goes away; returns why the server ended.
    pub fn hang_up(mut self) -> String {
        self.shut();
        self.server.take().unwrap().join().unwrap().unwrap_err().to_string()
    }

    fn shut(&self) {
        if let Some(worker) = self.state.worker.lock().unwrap().as_ref() {
            nix::sys::socket::shutdown(worker.as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shut();
    }
}

impl Log {
    fn rotate(&mut self) {
        if !self.segments.is_empty() {
            self.generation += 1;
        }
        let path = self.folder.join(format!("log-{}", self.generation));
        File::create(&path).unwrap();
        self.segments.push(path);
        if self.segments.len() > 2 {
            std::fs::remove_file(self.segments.remove(0)).unwrap();
        }
    }
}

impl State {
    fn connection(&self, connection: OwnedFd, first: &ToWorker, say: &Sender<FromWorker>) {
        let mut buffer = packet::buffer();
        while let Ok((message, fds)) = packet::recv::<ToInit>(connection.as_fd(), &mut buffer) {
            let mut fds = fds;
            if let (ToInit::Request(Request::Image { order: ImageOrder::Load }), true) =
                (&message, !fds.is_empty())
            {
                let fd = fds.remove(0);
                // As the store does: meanwhile, and only as much as it wants.
                let (taken, most) = (self.taken.clone(), self.takes.load(Ordering::Relaxed));
                std::thread::spawn(move || {
                    let mut bytes = Vec::new();
                    File::from(fd).take(most).read_to_end(&mut bytes).unwrap();
                    let _ = taken.send(bytes);
                });
            }
            match message {
                ToInit::Worker(FromWorker::Hello) => {
                    *self.worker.lock().unwrap() = Some(connection.try_clone().unwrap());
                    packet::send(connection.as_fd(), first, &[]).unwrap();
                }
                ToInit::Worker(message) => say.send(message).unwrap(),
                ToInit::Request(request) => {
                    self.asked.lock().unwrap().push(format!("{request:?}"));
                    let text = fds.into_iter().next().map(text_of);
                    let (reply, files) = self.answer(&request, text.as_deref());
                    let fds: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
                    let _ = packet::send(connection.as_fd(), &reply, &fds);
                    return;
                }
            }
        }
    }

    fn answer(&self, request: &Request, text: Option<&str>) -> (Reply, Vec<File>) {
        if let Some((at, stop)) = &mut *self.stop_at.lock().unwrap()
            && *at == format!("{request:?}")
        {
            stop.write_all(b"!").unwrap();
        }
        if let Some(reply) = self.replies.lock().unwrap().get(&format!("{request:?}")) {
            return (reply.clone(), Vec::new());
        }
        let reply = match request {
            Request::Ps => Reply::Units(units()),
            Request::Inspect { unit } if unit == "web" => Reply::Unit(Box::new(detail())),
            Request::Logs { unit } if unit == "web" => {
                let log = self.log.lock().unwrap();
                let files: Vec<File> = log.segments.iter().map(|path| File::open(path).unwrap()).collect();
                return (Reply::Log { generation: log.generation, segments: files.len() }, files);
            }
            Request::Inspect { unit } | Request::Logs { unit } => Reply::Error {
                kind: "not-found".into(),
                message: format!("there is no unit {unit:?}; did you mean \"web\"?"),
            },
            Request::Exec(what) if what.unit == "web" => {
                let ended = self.command_ended.lock().unwrap().clone();
                let stream = self.stream.lock().unwrap().clone().filter(|_| what.copy.is_some());
                return (Reply::Exec, exec::begin(what, stream, ended));
            }
            Request::Exec(what) => {
                let message = format!("there is no unit {:?}; did you mean \"web\"?", what.unit);
                Reply::Error { kind: "not-found".into(), message }
            }
            Request::BootTimes => Reply::BootTimes(boot_times()),
            Request::Slots => Reply::Slots(slots()),
            Request::ConfigStatus => Reply::ConfigStatus(config()),
            Request::Machine => Reply::Machine(machine()),
            Request::History => Reply::History(Box::new(history())),
            Request::Image { .. } => Reply::Job(7),
            Request::Jobs => {
                // Each look finds it further.
                let mut left = self.jobs.lock().unwrap();
                Reply::Jobs(vec![if left.len() > 1 { left.remove(0) } else { left[0].clone() }])
            }
            Request::Rollback { to: Some(9), .. } => {
                Reply::Error { kind: "not-found".into(), message: "there is no generation 9".into() }
            }
            Request::Volumes { inspect: None } => Reply::Volumes(volumes(false)),
            Request::Volumes { .. } => Reply::Volumes(vec![volumes(true).remove(0)]),
            Request::VolumeRemove { volume } if volume == "shop" => {
                Reply::Error { kind: "busy".into(), message: "volume shop is used by db, web".into() }
            }
            Request::VolumeRemove { .. } => Reply::Done,
            Request::Run { name } => Reply::Name(name.clone().unwrap_or_else(|| "run-1".into())),
            Request::Remove { unit, force: false } if unit == "web" => Reply::Error {
                kind: "busy".into(),
                message: "web runs; stop it first, or remove it with -f".into(),
            },
            Request::Remove { .. } => Reply::Done,
            Request::Rollback { .. } => Reply::ConfigChange(Box::new(change())),
            Request::ConfigShow => {
                let text = b"format = 1\n[secrets]\ndb = \"(not shown)\"\n";
                return (Reply::ConfigText, vec![sealed::sealed("x", text).unwrap().into()]);
            }
            Request::ConfigApply { .. } | Request::UnitsApply { .. } => match text {
                Some(text) if !text.contains("mistake") => Reply::ConfigChange(Box::new(change())),
                _ => {
                    Reply::Error { kind: "bad-request".into(), message: "berth.toml:1:1: a mistake\n".into() }
                }
            },
            Request::UpdateStatus => {
                // Each look finds it further.
                let mut left = self.updates.lock().unwrap();
                Reply::Update(Box::new(if left.len() > 1 { left.remove(0) } else { left[0].clone() }))
            }
            Request::Disks => Reply::Disks(disks()),
            Request::InstallStatus => {
                // Each look finds it further.
                let mut left = self.installs.lock().unwrap();
                Reply::Install(Box::new(if left.len() > 1 { left.remove(0) } else { left[0].clone() }))
            }
            Request::Install(_) | Request::Reset { .. } => Reply::Done,
            Request::Reboot
            | Request::Update { .. }
            | Request::Poweroff
            | Request::ConfigConfirm
            | Request::Halt
            | Request::ConfigReload
            | Request::Drive { .. } => Reply::Done,
        };
        (reply, Vec::new())
    }
}

/// What rode along.
fn text_of(fd: OwnedFd) -> String {
    let mut file = File::from(fd);
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

fn access_message(keys: &[&str]) -> ToWorker {
    ToWorker::Access { keys: keys.iter().map(|k| (*k).to_owned()).collect(), hostname: "web1".into() }
}
