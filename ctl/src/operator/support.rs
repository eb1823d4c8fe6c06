//! `berth support`: all that a machine tells of itself, in one archive for whoever is to help. Everything in it is an answer
//! that an operator can ask for one by one, and none of these has a secret in it.

use super::client::{Client, ClientError, LogOptions};
use berth_api::logs::{Line, Stream};
use berth_store::build;
use berth_units::control::{KERNEL_LOG, OWN_LOG};
use serde::Serialize;
use std::fmt::Display;
use std::io;

/// Lines of one log, at most; the newest.
const LOG_LINES: u64 = 20_000;

/// Files by their names. What the machine does not answer has the reason in its place.
#[derive(Debug)]
pub struct Bundle {
    folder: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Bundle {
    /// Asks for everything. A machine that does not even say its version is an error.
    pub fn gather(client: &Client) -> Result<Self, ClientError> {
        let version = client.version()?;
        let mut bundle = Self { folder: format!("support-{}", version.hostname), files: Vec::new() };
        bundle.json("version", Ok(&version));
        bundle.json("machine", client.machine());
        bundle.json("slots", client.slots());
        bundle.json("boot-times", client.boot_times());
        bundle.json("history", client.history());
        bundle.json("config-status", client.config_status());
        bundle.text("config.toml", client.config_text());
        bundle.json("images", client.images());
        bundle.json("jobs", client.jobs());
        bundle.json("stats", client.stats());
        bundle.text("metrics.txt", client.metrics());
        let units = client.units();
        let names: Vec<String> = units.iter().flatten().map(|unit| unit.name.clone()).collect();
        bundle.json("units", units);
        for name in &names {
            bundle.json(&format!("units/{name}"), client.unit(name));
            bundle.text(&format!("logs/{name}.txt"), log(client, name));
        }
        for name in [OWN_LOG, KERNEL_LOG] {
            bundle.text(&format!("logs/{name}.txt"), log(client, name));
        }
        Ok(bundle)
    }

    /// What it is called, and the folder in it.
    pub fn name(&self) -> &str {
        &self.folder
    }

    /// Every file.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// As one `tar.gz`.
    pub fn archive(&self) -> io::Result<Vec<u8>> {
        let files: Vec<(String, Vec<u8>)> = self
            .files
            .iter()
            .map(|(name, bytes)| (format!("{}/{name}", self.folder), bytes.clone()))
            .collect();
        build::gzipped(&build::archive(&files)?)
    }

    fn json<T: Serialize>(&mut self, name: &str, answer: Result<T, ClientError>) {
        let text = answer.map_err(|error| error.to_string());
        let text =
            text.and_then(|value| serde_json::to_string_pretty(&value).map_err(|error| error.to_string()));
        self.text(&format!("{name}.json"), text);
    }

    fn text<E: Display>(&mut self, name: &str, answer: Result<String, E>) {
        let (name, text) = match answer {
            Ok(text) => (name.to_owned(), text),
            Err(error) => (format!("{name}.missing"), format!("{error}\n")),
        };
        self.files.push((name, text.into_bytes()));
    }
}

/// A log as it is printed with its times.
fn log(client: &Client, unit: &str) -> Result<String, ClientError> {
    let options = LogOptions { tail: Some(LOG_LINES), ..LogOptions::default() };
    let mut text = String::new();
    for line in client.logs(unit, options)? {
        let Line { time, stream, text: said } = line?;
        let from = match stream {
            Stream::Out => "out",
            Stream::Err => "err",
            Stream::Berth => "berth",
        };
        text.push_str(&format!("{} {from} {said}\n", time.as_deref().unwrap_or("-")));
    }
    Ok(text)
}
