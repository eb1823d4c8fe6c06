//! `berth iso`.

use super::local::{check_text, read};
use super::{Failure, Out};
use crate::operator::cli::IsoCommand;
use berth_updater::layout::KIND_SEED;
use berth_updater::medium;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

pub(super) fn run(command: &IsoCommand, out: Out) -> Result<(), Failure> {
    let IsoCommand::Customise { iso, config, without: _ } = command;
    let seed = match config {
        Some(file) => {
            let text = read(file)?;
            check_text(file, &text)?;
            let packed = pack(&text).map_err(|error| local(file, &error))?;
            Some((file, packed))
        }
        None => None,
    };
    let packed = seed.as_ref().map(|(_, packed)| packed.as_slice());
    customise(iso, packed).map_err(|why| Failure::Usage(format!("{}: {why}", iso.display())))?;
    let said = match &seed {
        Some((file, _)) => format!("{} has the config {}\n", iso.display(), file.display()),
        None => format!("{} has no config\n", iso.display()),
    };
    out.show(&serde_json::json!({ "iso": iso, "config": config }), |_, _| said)
}

fn local(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Usage(format!("{}: {error}", file.display()))
}

fn pack(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(text)?;
    packed.finish()
}

fn customise(iso: &Path, seed: Option<&[u8]>) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut file = OpenOptions::new().read(true).write(true).open(iso).map_err(|error| text(&error))?;
    let place = medium::seed_place(&mut file, KIND_SEED).map_err(|error| text(&error))?;
    let at = place.ok_or("it is no installation medium of Berth's: it has no place for a config")?;
    medium::erase_seed(&file, at).map_err(|error| text(&error))?;
    if let Some(seed) = seed {
        medium::write_seed(&file, at, seed).map_err(|error| text(&error))?;
    }
    file.sync_all().map_err(|error| text(&error))
}
