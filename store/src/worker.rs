//! The worker: hears from PID 1 what is wanted, and answers.

use crate::bytes::FileBytes;
use crate::collect::Needed;
use crate::error::Error;
use crate::layout::{self, Layout};
use crate::prepare::{Outcome, Store};
use crate::{limits, load, show};
use berth_units::control::client::Client;
use berth_units::control::{FromWorker, ToWorker};
use berth_units::given;
use berth_units::paths;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc;

/// Where images may come from: archives and layouts in the OS image, attached disks, and, for what is in none of these,
/// the folder that the fetcher fills.
pub struct Places {
    system: PathBuf,
    fetched: PathBuf,
    disks: Vec<(String, Rc<FileBytes>)>,
    problems: Vec<String>,
}

impl Places {
    /// `block_fds` as in the environment variable `BERTH_BLOCK_FDS`: `vdb=5,sr0=6`.
    pub fn new(system: &Path, fetched: &Path, block_fds: &str) -> Self {
        let mut places = Self {
            system: system.to_owned(),
            fetched: fetched.to_owned(),
            disks: Vec::new(),
            problems: Vec::new(),
        };
        for (name, file) in given::block_devices(block_fds, limits::SOURCES) {
            match file.and_then(FileBytes::new) {
                Ok(bytes) => places.disks.push((format!("disk {name}"), Rc::new(bytes))),
                Err(e) => places.problems.push(format!("disk {}: {e}", show::name(name.as_bytes()))),
            }
        }
        places
    }

    /// Looks into each place. A disk that is no archive is somebody else's; an unreadable archive is a problem that
    /// is told when the image is not found elsewhere.
    pub fn look(&self) -> (Vec<Layout>, Vec<String>) {
        let mut layouts = Vec::new();
        let mut problems = self.problems.clone();
        let mut keep = |layout: Result<Layout, Error>| match layout {
            Ok(layout) => layouts.push(layout),
            Err(e) => problems.push(e.to_string()),
        };
        let mut system: Vec<PathBuf> = std::fs::read_dir(&self.system)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        system.retain(|path| path.is_dir() || path.extension().is_some_and(|e| e == "tar"));
        system.sort();
        for path in system.iter().take(limits::SOURCES) {
            keep(Layout::path(path));
        }
        for (name, bytes) in &self.disks {
            if layout::is_tar(bytes) {
                keep(Layout::archive(name, Box::new(Rc::clone(bytes))));
            }
        }
        (layouts, problems)
    }

    /// Makes an image ready: from what is attached or shipped, else from what was fetched.
    fn prepare(&self, store: &Store, reference: &str, pulled: bool) -> Result<Outcome, Error> {
        let fetched = || Layout::path(&self.fetched);
        let outcome = if pulled {
            store.prepare_kept(&fetched()?, reference)?
        } else {
            let (layouts, problems) = self.look();
            let absent = match store.prepare(&layouts, &problems, reference) {
                Err(absent @ Error::NotFound(_)) => absent,
                found => return found,
            };
            if !self.fetched.join("index.json").exists() {
                return Err(absent);
            }
            match store.prepare(&[fetched()?], &[], reference) {
                Err(Error::NotFound(_)) => return Err(absent),
                found => found?,
            }
        };
        // A layer is kept once. Should this not be possible now, it costs room and nothing else.
        for blob in &outcome.blobs {
            let _ = std::fs::remove_file(self.fetched.join(blob));
        }
        Ok(outcome)
    }
}

/// `berth worker store`. Returns when PID 1 is gone, or the state partition cannot be used.
pub fn run() -> ExitCode {
    let served = Client::worker().map_err(|e| e.to_string()).and_then(|client| {
        let fds = given::block_fds();
        let fetched = Path::new(paths::STATE_FETCHED);
        let places = Places::new(Path::new(paths::SYSTEM_IMAGES), fetched, &fds);
        serve(client, Path::new(paths::STATE_IMAGES), &places)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The unit's log is the only place left.
            let _ = io::Write::write_all(&mut io::stderr(), format!("image store: {e}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Serves one connection that has said hello.
pub fn serve(client: Client, root: &Path, places: &Places) -> Result<(), String> {
    let store = Store::open(root).map_err(|e| e.to_string())?;
    let (tell, heard) = mpsc::channel();
    let mut ears = Client::from_fd(
        client.as_fd().try_clone_to_owned().map_err(|e| format!("no second descriptor: {e}"))?,
    );
    let of_init = tell.clone();
    // It listens in a thread of its own, which ends with the connection: archives are received meanwhile.
    let listener = std::thread::Builder::new().spawn(move || {
        loop {
            let message = ears.recv();
            let last = message.is_err();
            if of_init.send(Heard::Init(message)).is_err() || last {
                return;
            }
        }
    });
    listener.map_err(|e| format!("no thread: {e}"))?;
    client.tell(FromWorker::Ready).map_err(|e| e.to_string())?;
    let mut needed = Needed::default();
    while let Ok(heard) = heard.recv() {
        let (message, fds) = match heard {
            Heard::Init(Ok(message)) => message,
            Heard::Init(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Heard::Init(Err(e)) => return Err(format!("PID 1 not understood: {e}")),
            Heard::Received(job, received) => {
                let (images, error) = match received {
                    Ok(()) => load::unpack(&store, &load::place(root, job)),
                    Err(e) => (Vec::new(), Some(show::bounded(e.to_string()))),
                };
                client.tell(FromWorker::Loaded { job, images, error }).map_err(|e| e.to_string())?;
                continue;
            }
        };
        let answer = match message {
            ToWorker::Prepare { reference, pulled } => match places.prepare(&store, &reference, pulled) {
                Ok(outcome) => {
                    let text = show::bounded(sentence(&reference, &outcome));
                    client.tell(FromWorker::Status { text }).map_err(|e| e.to_string())?;
                    FromWorker::Prepared { reference }
                }
                Err(e) => {
                    let error = show::bounded(format!(
                        "image {} not prepared: {e}",
                        show::name(reference.as_bytes())
                    ));
                    FromWorker::PrepareFailed { reference, error, absent: matches!(e, Error::NotFound(_)) }
                }
            },
            ToWorker::InUse { reference, layers } => {
                needed.add(reference, layers);
                continue;
            }
            ToWorker::Collect { sweep } => {
                let done = store.collect(&places.fetched, &std::mem::take(&mut needed), &sweep);
                let trouble = done.trouble.map(show::bounded);
                FromWorker::Collected { images: done.images, layers: done.layers, bytes: done.bytes, trouble }
            }
            ToWorker::Load { job } => {
                let Err(why) = receive(job, fds, load::place(root, job), tell.clone()) else { continue };
                FromWorker::Loaded { job, images: Vec::new(), error: Some(why) }
            }
            // The rest of the protocol is for other workers.
            _ => continue,
        };
        client.tell(answer).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// What the worker waits for.
enum Heard {
    /// PID 1's next message.
    Init(io::Result<(ToWorker, Vec<OwnedFd>)>),
    /// The archive of a job is here, or is not.
    Received(u64, Result<(), Error>),
}

/// Begins to receive an archive.
fn receive(job: u64, fds: Vec<OwnedFd>, to: PathBuf, tell: mpsc::Sender<Heard>) -> Result<(), String> {
    let from = fds.into_iter().next().ok_or("no archive came along")?;
    let work = move || {
        let received = load::receive(File::from(from), &to);
        if received.is_err() {
            // The next start would do it, too.
            let _ = std::fs::remove_file(&to);
        }
        // Nobody hears it: the worker has ended.
        let _ = tell.send(Heard::Received(job, received));
    };
    std::thread::Builder::new().spawn(work).map(drop).map_err(|e| format!("no thread: {e}"))
}

fn sentence(reference: &str, outcome: &Outcome) -> String {
    let layers = outcome.image.layers.len();
    let mut text =
        format!("{reference} is ready: {layers} layers, {} of them unpacked now", outcome.unpacked);
    for note in &outcome.notes {
        text.push_str("; ");
        text.push_str(note);
    }
    text
}

#[cfg(test)]
mod tests;
