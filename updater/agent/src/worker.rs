//! The worker.

use crate::limits;
use berth_apply::{ApplyError, Progress, SlotMedia, Step, Window, apply};
use berth_fetch::{Pace, Server};
use berth_tuf::release::{ARCHITECTURE, Offer};
use berth_tuf::state::Folder;
use berth_tuf::time::{Clock, Time};
use berth_tuf::{Client as Tuf, Error as TufError};
use berth_units::control::client::Client;
use berth_units::control::{FromWorker, ToWorker, UpdateOffer, UpdateSource};
use berth_units::model::SLOT_PARTS;
use berth_units::{clock, given, paths};
use berth_updater::layout::Slot;
use berth_updater::verity::{parse_root_hash, to_hex};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Where it finds what.
#[derive(Debug)]
pub struct Places {
    /// What is trusted, and how far it has come: a folder of its own.
    pub state: PathBuf,
    /// The trusted root that came with the image.
    pub root: PathBuf,
    /// The address that came with the image.
    pub address: PathBuf,
    /// The slot's partitions and the ESP, by [`SLOT_PARTS`], or why one is not there.
    pub parts: Vec<(String, io::Result<File>)>,
    /// How patient it is with servers.
    pub pace: Pace,
}

/// `berth worker update`.
pub fn run() -> ExitCode {
    let places = Places {
        state: paths::STATE_UPDATE.into(),
        root: paths::UPDATE_ROOT.into(),
        address: paths::UPDATE_ADDRESS.into(),
        parts: given::block_devices(&given::block_fds(), limits::DESCRIPTORS),
        pace: Pace::default(),
    };
    match Client::worker().and_then(|init| serve(init, &places)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The unit's log is the only place left.
            eprintln!("update: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves one connection that has said hello, until PID 1 ends it.
pub fn serve(mut init: Client, places: &Places) -> io::Result<()> {
    init.tell(FromWorker::Ready)?;
    let mut asked: Option<Asked> = None;
    loop {
        let answer = match init.recv()?.0 {
            ToWorker::UpdateCheck { source, built_s } => {
                asked = None;
                Asked::ask(places, &source, built_s).map(|new| {
                    let offer = new.told();
                    asked = Some(new);
                    FromWorker::UpdateOffer(offer)
                })
            }
            ToWorker::UpdateWrite { root_hash, slot, running } => match asked.as_mut() {
                Some(asked) if asked.told().root_hash == root_hash => {
                    asked.write(places, &slot, &running, &init)
                }
                _ => Err("the update was not written: the repository was not asked for it first".into()),
            },
            _ => continue,
        };
        init.tell(answer.unwrap_or_else(|error| FromWorker::UpdateFailed { error }))?;
    }
}

/// A repository that has been asked.
struct Asked {
    address: String,
    server: Server,
    offer: Offer,
}

impl Asked {
    fn ask(places: &Places, source: &UpdateSource, built_s: u64) -> Result<Self, String> {
        let (address, root) = trusted(places, source)?;
        let server = Server::new(&address, source.ca.clone(), source.proxy.clone(), places.pace);
        let mut server = server.map_err(|error| format!("{address}: {error}"))?;
        let clock = Clock { now: Time::of_system(), built: Time::from_seconds(built_s) };
        let failed = |error: TufError| {
            let hint = if matches!(error, TufError::Expired { .. }) { clock::hint() } else { "" };
            format!("{address}: {error}{hint}")
        };
        let disk = Folder::open(&places.state).map_err(failed)?;
        let mut client = Tuf::open(disk, &root, &clock).map_err(failed)?;
        client.refresh(&mut server).map_err(failed)?;
        let channel = &source.channel;
        let offer = client.offer(&mut server, ARCHITECTURE, channel).map_err(failed)?;
        let offer = offer.ok_or_else(|| {
            format!("{address}: the repository has no channel {channel:?} for {ARCHITECTURE}; see [update] channel")
        })?;
        Ok(Self { address, server, offer })
    }

    fn told(&self) -> UpdateOffer {
        let Offer { release, uki, root, verity } = &self.offer;
        UpdateOffer {
            address: self.address.clone(),
            version: release.version.clone(),
            built_s: release.built,
            root_hash: to_hex(&release.root_hash),
            bytes: uki.length.saturating_add(root.length).saturating_add(verity.length),
        }
    }

    fn write(
        &mut self,
        places: &Places,
        slot: &str,
        running: &str,
        init: &Client,
    ) -> Result<FromWorker, String> {
        let slot = Slot::parse(slot).ok_or_else(|| format!("there is no slot {slot:?}"))?;
        let [mut root, mut verity, mut esp] = parts(&places.parts)?;
        let mut media = SlotMedia {
            slot,
            root: &mut root,
            verity: &mut verity,
            esp: &mut esp,
            running: parse_root_hash(running),
        };
        let mut report = Report { init, total: self.told().bytes, sizes: self.sizes(), last: None };
        let written =
            apply(&self.offer, &mut self.server, &mut media, &places.state, &mut |step| report.step(step));
        written.map_err(|error| self.reason(&error))?;
        Ok(FromWorker::UpdateWritten { root_hash: self.told().root_hash })
    }

    /// Bytes of tree, root and UKI.
    fn sizes(&self) -> [u64; 3] {
        [self.offer.verity.length, self.offer.root.length, self.offer.uki.length]
    }

    fn reason(&self, error: &ApplyError) -> String {
        format!("version {} was not written: {error}", self.offer.release.version)
    }
}

/// Tells PID 1 how far it is, now and then.
struct Report<'a> {
    init: &'a Client,
    total: u64,
    sizes: [u64; 3],
    last: Option<Instant>,
}

impl Report<'_> {
    fn step(&mut self, progress: Progress) {
        let before = match progress.step {
            Step::Tree => 0,
            Step::Root => self.sizes[0],
            Step::Uki => self.sizes[0] + self.sizes[1],
            // Read once more: a sign of life, and no more bytes.
            Step::Check => self.total,
        };
        let done = if progress.step == Step::Check { self.total } else { before + progress.done };
        if self.last.is_some_and(|at| at.elapsed() < limits::REPORT_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        // A connection that is gone is noticed at the next answer.
        let _ = self.init.tell(FromWorker::UpdateProgress { done, total: self.total });
    }
}

/// The repository's address, and what is trusted.
fn trusted(places: &Places, source: &UpdateSource) -> Result<(String, Vec<u8>), String> {
    let own = |path: &Path| match File::open(path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            let read = file.take(limits::ANCHOR_BYTES).read_to_end(&mut bytes);
            read.map(|_| Some(bytes)).map_err(|error| format!("{}: {error}", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    let address = match &source.address {
        Some(address) => Some(address.clone()),
        None => own(&places.address)?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()),
    };
    let root = match &source.root {
        Some(root) => Some(root.clone().into_bytes()),
        None => own(&places.root)?,
    };
    match (address, root) {
        (Some(address), Some(root)) => Ok((address, root)),
        (None, None) => Err(
            "no update repository is known: neither the image nor [update] in the machine config names one"
                .into(),
        ),
        (None, Some(_)) => Err("the update repository's address is not known: write [update] address".into()),
        (Some(address), None) => {
            Err(format!("nothing is trusted for {address}: write [update] root, the text of its 1.root.json"))
        }
    }
}

/// The slot's partitions, in the order of [`SLOT_PARTS`].
fn parts(given: &[(String, io::Result<File>)]) -> Result<[Window; 3], String> {
    let part = |wanted: &str| {
        let found = given.iter().find(|(name, _)| name == wanted);
        let (_, file) =
            found.ok_or_else(|| format!("no descriptor of the other slot's {wanted} was given"))?;
        let file = file.as_ref().map_err(|error| format!("{wanted}: {error}"))?;
        file.try_clone().and_then(Window::whole).map_err(|error| format!("{wanted}: {error}"))
    };
    let [root, verity, esp] = SLOT_PARTS;
    Ok([part(root)?, part(verity)?, part(esp)?])
}
