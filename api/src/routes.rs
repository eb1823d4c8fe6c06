//! What can be asked, and how PID 1's replies become answers. One table: [`route`].

use crate::config;
use crate::exec;
use crate::images;
use crate::install;
use crate::keys::Authorised;
use crate::limits;
use crate::logs::{self, Format, Query};
use crate::metrics::{self, Facts};
use crate::respond::{Body, Refusal, json, with_type};
use crate::run;
use crate::stats::{Sources, Stats};
use crate::upload;
use berth_units::control::client::Client;
use berth_units::control::{Drive, ImageOrder, KERNEL_LOG, OWN_LOG, Reply, Request as Ask, UpdateOrder};
use hyper::body::{Body as _, Incoming};
use hyper::header::{ACCEPT, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// What PID 1 said last about who may come in.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The keys.
    pub authorised: Arc<Authorised>,
    /// The machine's name.
    pub hostname: String,
}

/// `GET /v1/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Of the running Berth.
    pub version: String,
    /// Of this interface; grows when something is taken away or changes its meaning.
    pub api: u32,
    /// The machine's name.
    pub hostname: String,
}

/// Answer to an accepted `POST`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// `reboot`, `poweroff`, `halt`, `config reload`, `pull NAME` …
    pub accepted: String,
    /// Its number in `GET /v1/jobs`, if it is a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
}

/// What all requests share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) socket: PathBuf,
    images: PathBuf,
    pub(crate) access: watch::Receiver<Access>,
    questions: Semaphore,
    uploads: Semaphore,
    log_streams: Arc<Semaphore>,
    figures: Sources,
    scrapes: Arc<Semaphore>,
    execs: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(
        socket: PathBuf,
        images: PathBuf,
        figures: Sources,
        access: watch::Receiver<Access>,
    ) -> Arc<Self> {
        Arc::new(Self {
            socket,
            images,
            access,
            questions: Semaphore::new(limits::QUESTIONS),
            uploads: Semaphore::new(limits::UPLOADS),
            log_streams: Arc::new(Semaphore::new(limits::LOG_STREAMS)),
            figures,
            scrapes: Arc::new(Semaphore::new(limits::SCRAPES)),
            execs: Arc::new(Semaphore::new(limits::EXECS)),
        })
    }

    /// A place among the commands in units, until it is dropped.
    pub(crate) fn exec_place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.execs.clone().try_acquire_owned().map_err(|_| {
            let message = format!("{} commands run in units already; end one", limits::EXECS);
            Refusal::new("busy", message)
        })
    }

    /// A place among those who get everybody's figures.
    fn scrape(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.scrapes.clone().try_acquire_owned().map_err(|_| {
            let message = format!("{} answers of this kind are under way already", limits::SCRAPES);
            Refusal::new("busy", message)
        })
    }

    /// What everybody uses.
    async fn stats(&self) -> Result<Stats, Refusal> {
        let units = match self.ask(Ask::Ps).await?.0 {
            Reply::Units(units) => units,
            other => return Err(unexpected(&other)),
        };
        let figures = self.figures.clone();
        let gathered = tokio::task::spawn_blocking(move || figures.gather(&units)).await;
        gathered.map_err(|error| Refusal::new("failed", format!("figures not gathered: {error}")))
    }

    /// One question to PID 1, on a connection of its own. Errors in PID 1's reply come back as refusals.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
        self.ask_with(ask, None).await
    }

    /// The same, with a descriptor that rides along.
    pub(crate) async fn ask_with(
        &self,
        ask: Ask,
        fd: Option<OwnedFd>,
    ) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
        let unavailable = |why: String| Refusal::new("unavailable", format!("PID 1 did not answer: {why}"));
        let _place = self.questions.acquire().await.map_err(|e| unavailable(e.to_string()))?;
        let socket = self.socket.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
            Client::connect_to(&socket)?.request_with(ask, &fds)
        })
        .await;
        match answer {
            Ok(Ok((Reply::Error { kind, message }, _))) => Err(Refusal::new(&kind, message)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unavailable(error.to_string())),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }
}

/// A request's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    Version,
    Stats,
    Metrics,
    Ask(AskKind),
    Logs(String),
    Images,
    Image(ImageWord),
    Load,
    Act(Act),
    Drive(String, Drive),
    Update(UpdateOrder),
    Exec(String),
    Config { only_look: bool },
    Units { only_look: bool },
    Rollback { only_look: bool },
    ConfigText,
    Run,
    Remove(String),
    Volumes(Option<String>),
    VolumeRemove(String),
    Disks,
    InstallStatus,
    Install,
    Reset,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AskKind {
    Units,
    Unit(String),
    BootTimes,
    Slots,
    Config,
    History,
    Machine,
    Jobs,
    Update,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ImageWord {
    Pull,
    Remove,
    Prune,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Reboot,
    Poweroff,
    Halt,
    ConfigReload,
    ConfigConfirm,
}

/// The table of routes: `Err` is 404 or 405.
fn route(method: &Method, path: &str) -> Result<Route, Refusal> {
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (allow, route) = match words.as_slice() {
        ["v1", "version"] => ("GET", Route::Version),
        ["metrics"] => ("GET", Route::Metrics),
        ["v1", "stats"] => ("GET", Route::Stats),
        ["v1", "units"] => ("GET", Route::Ask(AskKind::Units)),
        ["v1", "volumes"] => ("GET", Route::Volumes(None)),
        ["v1", "volumes", name] => ("GET", Route::Volumes(Some(volume_name(name)?))),
        ["v1", "volumes", name, "remove"] => ("POST", Route::VolumeRemove(volume_name(name)?)),
        ["v1", "disks"] => ("GET", Route::Disks),
        ["v1", "install"] if method == Method::GET => ("GET", Route::InstallStatus),
        ["v1", "install"] => ("POST", Route::Install),
        ["v1", "reset"] => ("POST", Route::Reset),
        ["v1", "run"] => ("POST", Route::Run),
        ["v1", "units", name, "remove"] => ("POST", Route::Remove(unit_name(name)?)),
        ["v1", "units", name] => ("GET", Route::Ask(AskKind::Unit(unit_name(name)?))),
        ["v1", "units", name @ (OWN_LOG | KERNEL_LOG), "logs"] => ("GET", Route::Logs((*name).to_owned())),
        ["v1", "units", name, "logs"] => ("GET", Route::Logs(unit_name(name)?)),
        ["v1", "units", name, "exec"] => ("POST", Route::Exec(unit_name(name)?)),
        ["v1", "units", name, "start"] => ("POST", Route::Drive(unit_name(name)?, Drive::Start)),
        ["v1", "units", name, "stop"] => ("POST", Route::Drive(unit_name(name)?, Drive::Stop)),
        ["v1", "units", name, "restart"] => ("POST", Route::Drive(unit_name(name)?, Drive::Restart)),
        ["v1", "images"] => ("GET", Route::Images),
        ["v1", "images", "pull"] => ("POST", Route::Image(ImageWord::Pull)),
        ["v1", "images", "remove"] => ("POST", Route::Image(ImageWord::Remove)),
        ["v1", "images", "load"] => ("POST", Route::Load),
        ["v1", "images", "prune"] => ("POST", Route::Image(ImageWord::Prune)),
        ["v1", "jobs"] => ("GET", Route::Ask(AskKind::Jobs)),
        ["v1", "boot-times"] => ("GET", Route::Ask(AskKind::BootTimes)),
        ["v1", "slots"] => ("GET", Route::Ask(AskKind::Slots)),
        ["v1", "config"] => ("GET", Route::Ask(AskKind::Config)),
        ["v1", "history"] => ("GET", Route::Ask(AskKind::History)),
        ["v1", "machine"] => ("GET", Route::Ask(AskKind::Machine)),
        ["v1", "update"] => ("GET", Route::Ask(AskKind::Update)),
        ["v1", "update", "check"] => ("POST", Route::Update(UpdateOrder::Check)),
        ["v1", "update", "fetch"] => ("POST", Route::Update(UpdateOrder::Fetch)),
        ["v1", "update", "apply"] => ("POST", Route::Update(UpdateOrder::Apply)),
        ["v1", "update", "reboot"] => ("POST", Route::Update(UpdateOrder::Reboot)),
        ["v1", "update", "rollback"] => ("POST", Route::Update(UpdateOrder::Rollback)),
        ["v1", "update", "cancel"] => ("POST", Route::Update(UpdateOrder::Cancel)),
        ["v1", "config", "apply"] => ("POST", Route::Config { only_look: false }),
        ["v1", "config", "diff"] => ("POST", Route::Config { only_look: true }),
        ["v1", "config", "units"] => ("POST", Route::Units { only_look: false }),
        ["v1", "config", "units", "diff"] => ("POST", Route::Units { only_look: true }),
        ["v1", "config", "rollback"] => ("POST", Route::Rollback { only_look: false }),
        ["v1", "config", "rollback", "diff"] => ("POST", Route::Rollback { only_look: true }),
        ["v1", "config", "text"] => ("GET", Route::ConfigText),
        ["v1", "config", "confirm"] => ("POST", Route::Act(Act::ConfigConfirm)),
        ["v1", "config", "reload"] => ("POST", Route::Act(Act::ConfigReload)),
        ["v1", "reboot"] => ("POST", Route::Act(Act::Reboot)),
        ["v1", "poweroff"] => ("POST", Route::Act(Act::Poweroff)),
        ["v1", "halt"] => ("POST", Route::Act(Act::Halt)),
        _ => {
            return Err(Refusal::new(
                "not-found",
                "nothing is here; there are GET /v1/units, /v1/units/NAME, /v1/units/NAME/logs, /v1/stats, /v1/images, /v1/volumes, /v1/jobs, \
                 /v1/boot-times, /v1/slots, /v1/config, /v1/config/text, /v1/history, /v1/machine, /v1/update, /v1/disks, /v1/install, /v1/version, /metrics and POST /v1/units/NAME/start, \
                 /stop, /restart, /exec, /remove, /v1/run, /v1/volumes/NAME/remove, /v1/images/pull, /load, /remove, /prune, /v1/config/apply, /diff, /units, /rollback, /confirm, /reload, /v1/update/check, /fetch, /apply, /reboot, /cancel, /rollback, /v1/install, /v1/reset, /v1/reboot, \
                 /v1/poweroff, /v1/halt",
            ));
        }
    };
    if method.as_str() == allow {
        return Ok(route);
    }
    let message = format!("{path} is asked by {allow}, not {method}");
    Err(Refusal { status: 405, allow: Some(allow), ..Refusal::new("bad-request", message) })
}

/// Unit names need no escapes in a path; whatever has one names no unit.
fn unit_name(name: &str) -> Result<String, Refusal> {
    if berth_units::instances::is_name(name) {
        return Ok(name.to_owned());
    }
    let shown: String = name.chars().take(80).collect();
    let message = format!(
        "{shown:?} is not a unit's name: a-z, 0-9 and \"-\", at most 63, and for one of several instances a dot and its number"
    );
    Err(Refusal::new("bad-request", message))
}

fn volume_name(name: &str) -> Result<String, Refusal> {
    if berth_units::schema::is_unit_name(name) {
        return Ok(name.to_owned());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Refusal::new(
        "bad-request",
        format!("{shown:?} is not a volume's name: a-z, 0-9 and \"-\", at most 63"),
    ))
}

/// Answers one request of an authorised peer, `who` for the log.
pub async fn answer(shared: Arc<Shared>, who: &str, request: Request<Incoming>) -> Response<Body> {
    match try_answer(shared, who, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

async fn try_answer(
    shared: Arc<Shared>,
    who: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let route = route(request.method(), request.uri().path())?;
    let body = request.body().size_hint().lower();
    if body > limits::BODY_BYTES
        && !matches!(
            route,
            Route::Load
                | Route::Config { .. }
                | Route::Units { .. }
                | Route::Run
                | Route::Reset
                | Route::Exec(_)
        )
    {
        let message = format!("the request's body has {body} bytes; none is expected");
        return Err(Refusal { status: 413, ..Refusal::new("bad-request", message) });
    }
    let query = request.uri().query().unwrap_or_default();
    let takes_query = matches!(
        route,
        Route::Logs(_)
            | Route::Config { .. }
            | Route::Units { .. }
            | Route::Rollback { .. }
            | Route::Update(_)
            | Route::Run
            | Route::Remove(_)
            | Route::Install
            | Route::Reset
            | Route::Image(ImageWord::Pull | ImageWord::Remove)
    );
    if !takes_query && !query.is_empty() {
        return Err(Refusal::new("bad-request", format!("{} takes no parameters", request.uri().path())));
    }
    match route {
        Route::Version => {
            let hostname = shared.access.borrow().hostname.clone();
            let version = env!("CARGO_PKG_VERSION").to_owned();
            Ok(json(StatusCode::OK, &Version { version, api: 1, hostname }))
        }
        Route::Stats => {
            let place = shared.scrape()?;
            let stats = shared.stats().await?;
            let mut response = json(StatusCode::OK, &stats);
            response.body_mut().hold(Box::new(place));
            Ok(response)
        }
        Route::Metrics => {
            let place = shared.scrape()?;
            let mut body = Body::whole(metrics(&shared).await?.into_bytes());
            body.hold(Box::new(place));
            Ok(with_type(StatusCode::OK, metrics::CONTENT_TYPE, body))
        }
        Route::Ask(kind) => answer_from_pid1(&shared, kind).await,
        Route::Logs(unit) => {
            let accept = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            stream_logs(shared, unit, Query::parse(query, accept)?).await
        }
        Route::Images => {
            let Reply::Units(units) = shared.ask(Ask::Ps).await?.0 else {
                return Err(Refusal::new(
                    "failed",
                    "PID 1 answered another question; this is a bug in Berth",
                ));
            };
            let index = shared.images.clone();
            let list = tokio::task::spawn_blocking(move || images::list(&index, &units)).await;
            let list = list.map_err(|error| Refusal::new("failed", format!("images not listed: {error}")))?;
            Ok(json(StatusCode::OK, &list))
        }
        Route::Image(word) => {
            let order = match word {
                ImageWord::Pull => ImageOrder::Pull(images::name_in(query)?),
                ImageWord::Remove => ImageOrder::Remove(images::name_in(query)?),
                ImageWord::Prune => ImageOrder::Prune,
            };
            change(&shared, who, &request, order.to_string(), Ask::Image { order }).await
        }
        Route::Load => load(&shared, who, request).await,
        Route::Act(act) => {
            let (word, ask) = match act {
                Act::Reboot => ("reboot", Ask::Reboot),
                Act::Poweroff => ("poweroff", Ask::Poweroff),
                Act::Halt => ("halt", Ask::Halt),
                Act::ConfigReload => ("config reload", Ask::ConfigReload),
                Act::ConfigConfirm => ("config confirm", Ask::ConfigConfirm),
            };
            change(&shared, who, &request, word.to_owned(), ask).await
        }
        Route::Drive(unit, order) => {
            let word = format!("{order} {unit}");
            change(&shared, who, &request, word, Ask::Drive { unit, order }).await
        }
        Route::Update(order) => {
            let again = match query {
                "" => false,
                "again=true" => true,
                _ => {
                    return Err(Refusal::new("bad-request", "the only parameter of an update is again=true"));
                }
            };
            change(&shared, who, &request, format!("update {order}"), Ask::Update { order, again }).await
        }
        Route::Config { only_look } => {
            is_no_web_page(&request)?;
            let ask = Ask::ConfigApply { confirm_s: config::confirm_in(query)?, only_look };
            config::change(&shared, who, request.into_body(), ask).await
        }
        Route::Units { only_look } => {
            is_no_web_page(&request)?;
            let ask = Ask::UnitsApply { confirm_s: config::confirm_in(query)?, only_look };
            config::change(&shared, who, request.into_body(), ask).await
        }
        Route::Rollback { only_look } => {
            is_no_web_page(&request)?;
            let (to, confirm_s) = config::rollback_in(query)?;
            config::roll_back(&shared, who, Ask::Rollback { to, confirm_s, only_look }).await
        }
        Route::Run => {
            is_no_web_page(&request)?;
            let name = run::name_in(query)?;
            run::begin(&shared, who, request.into_body(), name).await
        }
        Route::Remove(unit) => {
            let force = run::force_in(query)?;
            let word = format!("remove {unit}");
            change(&shared, who, &request, word, Ask::Remove { unit, force }).await
        }
        Route::Volumes(inspect) => match shared.ask(Ask::Volumes { inspect }).await?.0 {
            Reply::Volumes(list) => Ok(json(StatusCode::OK, &list)),
            other => Err(unexpected(&other)),
        },
        Route::VolumeRemove(volume) => {
            let word = format!("remove volume {volume}");
            change(&shared, who, &request, word, Ask::VolumeRemove { volume }).await
        }
        Route::Disks => install::disks(&shared).await,
        Route::InstallStatus => install::status(&shared).await,
        Route::Install => {
            let ask = Ask::Install(install::order_in(query)?);
            change(&shared, who, &request, "install".to_owned(), ask).await
        }
        Route::Reset => {
            is_no_web_page(&request)?;
            let keep = install::keep_in(query)?;
            install::reset(&shared, who, request.into_body(), keep).await
        }
        Route::ConfigText => config::text(&shared).await,
        Route::Exec(unit) => {
            is_no_web_page(&request)?;
            exec::begin(shared, who, unit, request.into_body()).await
        }
    }
}

/// Everything, in Prometheus' form.
async fn metrics(shared: &Shared) -> Result<String, Refusal> {
    let stats = shared.stats().await?;
    let machine = match shared.ask(Ask::Machine).await?.0 {
        Reply::Machine(machine) => machine,
        other => return Err(unexpected(&other)),
    };
    let slots = match shared.ask(Ask::Slots).await?.0 {
        Reply::Slots(slots) => slots,
        other => return Err(unexpected(&other)),
    };
    let config = match shared.ask(Ask::ConfigStatus).await?.0 {
        Reply::ConfigStatus(config) => config,
        other => return Err(unexpected(&other)),
    };
    Ok(metrics::render(&Facts { stats: &stats, machine: &machine, slots: &slots, config: &config }))
}

fn is_no_web_page(request: &Request<Incoming>) -> Result<(), Refusal> {
    if request.headers().contains_key(ORIGIN) {
        // A browser that holds the operator's certificate would send it along with any page's form.
        return Err(Refusal::new("denied", "requests from web pages (Origin) change nothing here"));
    }
    Ok(())
}

/// Takes in an archive. The answer comes when all of it has been passed on; the job tells what the store makes of it.
async fn load(shared: &Shared, who: &str, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    is_no_web_page(&request)?;
    let _place = shared.uploads.try_acquire().map_err(|_| {
        Refusal::new("busy", format!("{} archives are being sent already; try again later", limits::UPLOADS))
    })?;
    eprintln!("load asked for by {who}");
    let (to, theirs) = upload::pipe()?;
    let job = match shared.ask_with(Ask::Image { order: ImageOrder::Load }, Some(theirs)).await? {
        (Reply::Job(id), _) => id,
        (other, _) => return Err(unexpected(&other)),
    };
    upload::pass_on(request.into_body(), to).await?;
    Ok(json(StatusCode::ACCEPTED, &Accepted { accepted: "load".to_owned(), job: Some(job) }))
}

/// What changes something: said in the log, with who asked.
async fn change(
    shared: &Shared,
    who: &str,
    request: &Request<Incoming>,
    word: String,
    ask: Ask,
) -> Result<Response<Body>, Refusal> {
    is_no_web_page(request)?;
    eprintln!("{word} asked for by {who}");
    match shared.ask(ask).await? {
        (Reply::Done, _) => Ok(json(StatusCode::ACCEPTED, &Accepted { accepted: word, job: None })),
        (Reply::Job(id), _) => Ok(json(StatusCode::ACCEPTED, &Accepted { accepted: word, job: Some(id) })),
        (other, _) => Err(unexpected(&other)),
    }
}

async fn answer_from_pid1(shared: &Shared, kind: AskKind) -> Result<Response<Body>, Refusal> {
    let ask = match kind {
        AskKind::Units => Ask::Ps,
        AskKind::Unit(unit) => Ask::Inspect { unit },
        AskKind::BootTimes => Ask::BootTimes,
        AskKind::Slots => Ask::Slots,
        AskKind::Config => Ask::ConfigStatus,
        AskKind::History => Ask::History,
        AskKind::Machine => Ask::Machine,
        AskKind::Jobs => Ask::Jobs,
        AskKind::Update => Ask::UpdateStatus,
    };
    match shared.ask(ask).await?.0 {
        Reply::Units(units) => Ok(json(StatusCode::OK, &units)),
        Reply::Unit(unit) => Ok(json(StatusCode::OK, &unit)),
        Reply::BootTimes(times) => Ok(json(StatusCode::OK, &times)),
        Reply::Slots(slots) => Ok(json(StatusCode::OK, &slots)),
        Reply::Update(status) => Ok(json(StatusCode::OK, &status)),
        Reply::ConfigStatus(status) => Ok(json(StatusCode::OK, &status)),
        Reply::History(history) => Ok(json(StatusCode::OK, &history)),
        Reply::Machine(status) => Ok(json(StatusCode::OK, &status)),
        Reply::Jobs(jobs) => Ok(json(StatusCode::OK, &jobs)),
        other => Err(unexpected(&other)),
    }
}

pub(crate) fn unexpected(reply: &Reply) -> Refusal {
    let word = match reply {
        Reply::Units(_) => "units",
        Reply::Unit(_) => "unit",
        Reply::Log { .. } => "log",
        Reply::Exec => "exec",
        Reply::BootTimes(_) => "boot-times",
        Reply::Slots(_) => "slots",
        Reply::Update(_) => "updates",
        Reply::Disks(_) => "disks",
        Reply::Install(_) => "install",
        Reply::ConfigChange(_) => "config-change",
        Reply::ConfigStatus(_) => "config-status",
        Reply::ConfigText => "config-text",
        Reply::Name(_) => "name",
        Reply::Volumes(_) => "volumes",
        Reply::History(_) => "history",
        Reply::Machine(_) => "machine",
        Reply::Job(_) => "job",
        Reply::Jobs(_) => "jobs",
        Reply::Done => "done",
        Reply::Error { .. } => "error",
    };
    Refusal::new("failed", format!("PID 1 answered another question ({word}); this is a bug in Berth"))
}

async fn stream_logs(shared: Arc<Shared>, unit: String, query: Query) -> Result<Response<Body>, Refusal> {
    let place = shared.log_streams.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{} logs are being read already; close one", limits::LOG_STREAMS);
        Refusal::new("busy", message)
    })?;
    let content_type = match query.format {
        Format::Text => "text/plain; charset=utf-8",
        Format::Json => "application/x-ndjson",
    };
    let receiver = logs::open(shared, unit, query).await?;
    let mut body = Body::stream(receiver);
    body.hold(Box::new(place));
    Ok(with_type(StatusCode::OK, content_type, body))
}

#[cfg(test)]
mod tests;
