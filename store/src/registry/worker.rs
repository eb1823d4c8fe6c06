//! The worker: hears from PID 1 which image is wanted, and answers.

use super::fetch::{Fetcher, Progress};
use super::{Error, Pace};
use crate::digest::Digest;
use crate::{limits, show};
use berth_units::control::client::Client;
use berth_units::control::{FromWorker, ToWorker};
use berth_units::image::PreparedImage;
use berth_units::paths;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use tokio::sync::{Semaphore, mpsc};

/// `berth worker fetch`. Returns when PID 1 is gone, or the folder cannot be used.
pub fn run() -> ExitCode {
    let index = Path::new(paths::STATE_IMAGES).join("index");
    let served = Client::worker()
        .map_err(|e| e.to_string())
        .and_then(|client| serve(client, Path::new(paths::STATE_FETCHED), &index, Pace::default()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The unit's log is the only place left.
            let _ = io::Write::write_all(&mut io::stderr(), format!("fetcher: {e}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Serves one connection that has said hello. `index` is where the store keeps descriptions of what is ready.
pub fn serve(client: Client, folder: &Path, index: &Path, pace: Pace) -> Result<(), String> {
    let fetcher = Fetcher::open(folder, pace).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For the resolver, which blocks.
        .max_blocking_threads(4)
        .build()
        .map_err(|e| format!("no event loop: {e}"))?;
    let (sender, heard) = mpsc::unbounded_channel();
    let mut ears = Client::from_fd(
        client.as_fd().try_clone_to_owned().map_err(|e| format!("no second descriptor: {e}"))?,
    );
    // The protocol's client blocks: it listens in a thread of its own, which ends with the connection.
    std::thread::Builder::new()
        .spawn(move || {
            loop {
                let message = ears.recv().map(|(message, _)| message);
                let last = message.is_err();
                if sender.send(message).is_err() || last {
                    return;
                }
            }
        })
        .map_err(|e| format!("no thread: {e}"))?;
    client.tell(FromWorker::Ready).map_err(|e| e.to_string())?;
    let worker = Rc::new(Worker {
        client,
        fetcher,
        index: index.to_owned(),
        busy: RefCell::default(),
        places: Semaphore::new(limits::IMAGES),
    });
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, worker.listen(heard))
}

struct Worker {
    client: Client,
    fetcher: Fetcher,
    index: PathBuf,
    /// What is asked for and not answered.
    busy: RefCell<BTreeSet<String>>,
    places: Semaphore,
}

impl Worker {
    async fn listen(
        self: Rc<Self>,
        mut heard: mpsc::UnboundedReceiver<io::Result<ToWorker>>,
    ) -> Result<(), String> {
        while let Some(message) = heard.recv().await {
            match message {
                Ok(ToWorker::Registries { settings }) => self.fetcher.set(settings),
                // Asked again before it was answered: one answer does for both.
                Ok(ToWorker::Fetch { reference }) if self.busy.borrow_mut().insert(reference.clone()) => {
                    tokio::task::spawn_local(Rc::clone(&self).answer(reference));
                }
                // The rest of the protocol is for other workers.
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(e) => return Err(format!("PID 1 not understood: {e}")),
            }
        }
        Ok(())
    }

    async fn answer(self: Rc<Self>, reference: String) {
        let _place = self.places.acquire().await;
        let most = Cell::new(0);
        let tell = |progress: Progress| {
            if progress.done > most.replace(most.get().max(progress.done)) {
                let (done, total) = (progress.done, Some(progress.total));
                // A lost report is made up for by the next one; a lost connection shows by itself.
                let reference = reference.clone();
                let _ = self.client.tell(FromWorker::FetchProgress { reference, done, total });
            }
        };
        let unpacked = unpacked(&self.index);
        let have = |diff_id: &Digest| unpacked.contains(&diff_id.hex());
        let fetched = self.fetcher.fetch(&reference, &have, &tell).await;
        self.busy.borrow_mut().remove(&reference);
        let answer = match fetched {
            Ok(fetched) => {
                let digest = fetched.digest.to_string();
                FromWorker::Fetched { reference: reference.clone(), digest }
            }
            Err(e) => {
                FromWorker::FetchFailed { error: sentence(&reference, &e), reference: reference.clone() }
            }
        };
        let _ = self.client.tell(answer);
    }
}

/// Layers that the store has unpacked, by its descriptions.
fn unpacked(index: &Path) -> BTreeSet<String> {
    let files = std::fs::read_dir(index).into_iter().flatten().flatten().take(limits::DESCRIPTORS);
    let most = berth_units::limits::IMAGE_INDEX_BYTES as u64;
    files
        .filter_map(|file| {
            let mut bytes = Vec::new();
            std::fs::File::open(file.path()).ok()?.take(most).read_to_end(&mut bytes).ok()?;
            PreparedImage::parse(&bytes).ok()
        })
        .flat_map(|image| image.layers)
        .collect()
}

fn sentence(reference: &str, error: &Error) -> String {
    show::bounded(format!("image {} not pulled: {error}", show::name(reference.as_bytes())))
}
