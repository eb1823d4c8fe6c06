//! Images: what is there, and getting and removing them.

use super::progress::Line;
use super::remote::Asker;
use super::{Failure, Out, remark};
use crate::operator::cli::ImageCommand;
use crate::operator::client::{Client, ClientError, LOOK_AGAIN};
use crate::operator::render::human;
use crate::operator::render::images;
use berth_units::control::{ImageOrder, JobStatus};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// `berth images`, `berth image …`, and their short forms.
pub fn run(command: &ImageCommand, asker: &Asker, out: Out) -> Result<(), Failure> {
    match command {
        ImageCommand::Ls => {
            asker.ask(Client::images).and_then(|list| out.show(&list, |l, s| images::table(l, s)))
        }
        ImageCommand::Pull { image } => order(&ImageOrder::Pull(image.clone()), asker, out),
        ImageCommand::Load { file } => load(file, asker, out),
        ImageCommand::Rm { images } => {
            images.iter().try_for_each(|image| order(&ImageOrder::Remove(image.clone()), asker, out))
        }
        ImageCommand::Prune => order(&ImageOrder::Prune, asker, out),
    }
}

/// Asks for it, and tells how it goes until it is over. The machine goes on by itself, should this program end.
fn order(order: &ImageOrder, asker: &Asker, out: Out) -> Result<(), Failure> {
    let id = asker.ask(|client| client.order_image(order))?;
    follow(order, id, &mut Line::new(out.json), asker, out)
}

/// Sends an archive, then the same.
fn load(file: &Path, asker: &Asker, out: Out) -> Result<(), Failure> {
    let unreadable = |e: io::Error| Failure::Usage(format!("{} cannot be read: {e}", file.display()));
    let (archive, size): (Box<dyn Read + Send>, _) = match file.to_str() {
        Some("-") => (Box::new(io::stdin()), None),
        _ => {
            let archive = File::open(file).map_err(unreadable)?;
            let size = archive.metadata().map_err(unreadable)?.len();
            (Box::new(archive), Some(size))
        }
    };
    let line = RefCell::new(Line::new(out.json));
    let sent = |bytes: u64| {
        let of = size.map_or_else(String::new, |size| format!(" of {}", human::bytes(size)));
        line.borrow_mut().show(&format!("load: sent {}{of}", human::bytes(bytes)));
    };
    let id = match asker.ask(|client| client.load(archive, &sent)) {
        Err(Failure::Client(ClientError::Broken { machine, why })) => {
            // A machine that wants no more ends the connection, and its answer may be lost with it; the job is not.
            let jobs = asker.ask(Client::jobs)?;
            let failed = jobs.iter().rev().find(|job| job.order == ImageOrder::Load && job.state == "failed");
            failed.map(|job| job.id).ok_or(Failure::Client(ClientError::Broken { machine, why }))?
        }
        other => other?,
    };
    follow(&ImageOrder::Load, id, &mut line.borrow_mut(), asker, out)
}

fn follow(order: &ImageOrder, id: u64, line: &mut Line, asker: &Asker, out: Out) -> Result<(), Failure> {
    loop {
        let jobs = asker.ask(Client::jobs)?;
        let Some(job) = jobs.into_iter().find(|job| job.id == id) else {
            line.end();
            remark(format_args!("{order}: the machine was restarted meanwhile, or has forgotten it"));
            return Err(Failure::Said);
        };
        if job.is_over() {
            line.end();
            out.show(&job, |job, _| sentence(job))?;
            return if job.state == "done" { Ok(()) } else { Err(Failure::Said) };
        }
        line.show(&format!("{order}: {}", images::progress(&job)));
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn sentence(job: &JobStatus) -> String {
    let what = match (&job.order, job.state.as_str()) {
        (ImageOrder::Pull(image), "done") => format!("{image} is here"),
        (ImageOrder::Remove(image), "done") => format!("{image} is removed"),
        (ImageOrder::Load, "done") => "loaded".to_owned(),
        (ImageOrder::Prune, "done") => "what no unit needs is removed".to_owned(),
        (order, state) => format!("{order}: {state}"),
    };
    if job.message.is_empty() { what + "\n" } else { format!("{what}: {}\n", job.message) }
}
