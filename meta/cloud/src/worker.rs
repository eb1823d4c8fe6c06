//! The worker: told which cloud to ask, asks once, tells PID 1, ends.

use crate::engine::{Engine, Pace, Stop};
use crate::{ec2, gce};
use berth_meta::compose::{Place, compose, cut};
use berth_meta::limits::LINE_BYTES;
use berth_meta::providers::{self, PORT, Provider};
use berth_meta::said::Said;
use berth_meta::{Found, Outcome, tell};
use berth_units::control::client::Client;
use berth_units::control::{FromWorker, ToWorker};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Builder;

/// `berth worker cloud`.
pub fn run() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The unit's log is the only place left.
            let _ = io::stderr().write_all(format!("the cloud was not asked: {e}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn work() -> io::Result<()> {
    let mut client = Client::worker()?;
    let (cloud, uuid, deadline) = loop {
        if let (ToWorker::AskCloud { cloud, uuid, deadline_s }, _) = client.recv()? {
            break (cloud, uuid, Duration::from_secs(deadline_s));
        }
    };
    let provider = providers::named(&cloud).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("no cloud is called {cloud:?}"))
    })?;
    let addresses: Vec<SocketAddr> =
        provider.addresses.iter().map(|address| SocketAddr::new(*address, PORT)).collect();
    let mut last = String::new();
    let mut say = |text: &str| {
        if text != last {
            text.clone_into(&mut last);
            // Whether PID 1 hears it will show when the outcome is told.
            let _ = client.tell(FromWorker::Status { text: text.to_owned() });
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let outcome =
        runtime.block_on(ask(provider, &addresses, Pace::of(provider), deadline, uuid.as_deref(), &mut say));
    drop(runtime);
    tell(&client, outcome)?;
    client.finish()
}

/// Asks a cloud until the deadline, and makes a config of what it says.
pub async fn ask(
    provider: &'static Provider,
    addresses: &[SocketAddr],
    pace: Pace,
    deadline: Duration,
    uuid: Option<&str>,
    say: &mut dyn FnMut(&str),
) -> Outcome {
    let mut engine = Engine::new(provider, addresses, pace, deadline, say);
    let said = match provider.name {
        "ec2" => ec2::ask(&mut engine).await,
        "gce" => gce::ask(&mut engine).await,
        other => Err(Stop::Final(format!("nobody knows how to ask {other}"))),
    };
    let mut looked: Vec<String> = engine.troubles().into_iter().map(|line| cut(line, LINE_BYTES)).collect();
    let at = engine.answered_at();
    let name = provider.name;
    let found = match said {
        Ok(said) => {
            looked.push(cut(format!("{name}: {at}: {}", holds(&said)), LINE_BYTES));
            let place = Place { name: format!("{name} ({at})"), source: Some(name) };
            let (composed, notes) = compose(&place, said, uuid);
            return Outcome { found: Found::of(place, composed), looked, notes };
        }
        Err(Stop::Late) => {
            looked.push(format!("{name}: given up after {} s", deadline.as_secs()));
            Found::None { cloud: None }
        }
        Err(Stop::Final(why)) => {
            looked.push(cut(format!("{name}: given up: {why}"), LINE_BYTES));
            Found::None { cloud: None }
        }
    };
    Outcome { found, looked, notes: Vec::new() }
}

/// What it says, in a line.
fn holds(said: &Said) -> String {
    let id = said.id.as_deref().unwrap_or("without an id");
    let user_data = match &said.user_data {
        Some(bytes) => format!("user data of {} bytes", bytes.len()),
        None => "no user data".to_owned(),
    };
    let keys = match said.keys.len() {
        0 => "no keys".to_owned(),
        1 => "1 key".to_owned(),
        count => format!("{count} keys"),
    };
    format!("instance {id}, {user_data}, {keys}")
}
