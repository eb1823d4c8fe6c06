//! `berth disks`, `berth install`, `berth reset`.

use super::local::read;
use super::progress::Line;
use super::remote::Asker;
use super::{Failure, Out, remark};
use crate::operator::cli::{InstallArgs, ResetArgs};
use crate::operator::client::{Client, ClientError, LOOK_AGAIN};
use crate::operator::render::install as render;
use berth_units::control::Keep;
use berth_units::model::{AfterInstall, DiskRule, InstallSettings};

pub(super) fn disks(asker: &Asker, out: Out) -> Result<(), Failure> {
    out.show(&asker.ask(Client::disks)?, |disks, style| render::disks(disks, style))
}

pub(super) fn install(args: &InstallArgs, asker: &Asker, out: Out) -> Result<(), Failure> {
    if args.status {
        return out.show(&asker.ask(Client::install_status)?, render::status);
    }
    let settings = settings(args)?;
    asker.ask(|client| client.install(&settings))?;
    let mut line = Line::new(out.json);
    let mut going = false;
    loop {
        let status = match asker.ask(Client::install_status) {
            // It answers no more because it reboots, as was asked for.
            Err(Failure::Client(
                ClientError::Broken { .. } | ClientError::Unreachable { .. } | ClientError::NotBerth { .. },
            )) if going => {
                line.end();
                remark(format_args!(
                    "{} is installed; take the medium out if it starts from it again",
                    asker.name()
                ));
                return Ok(());
            }
            answer => answer?,
        };
        match status.state.as_str() {
            "failed" => {
                line.end();
                remark(&status.error);
                return Err(Failure::Said);
            }
            "done" | "there already" => {
                line.end();
                return out.show(&status, render::status);
            }
            _ => {}
        }
        going = status.state != "choosing";
        line.show(&render::progress(&status));
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn settings(args: &InstallArgs) -> Result<InstallSettings, Failure> {
    let usage = |text: String| Failure::Usage(text);
    let size = args.min_size.as_deref().map(berth_units::schema::size).transpose();
    Ok(InstallSettings {
        disk: Some(DiskRule::parse(&args.disk).ok_or_else(|| {
            usage(format!(
                "{:?} names no disk; write only, smallest, largest, serial:NUMBER, or a path such as /dev/sda",
                args.disk
            ))
        })?),
        min_size: size.map_err(|why| usage(format!("--min-size {why}")))?.unwrap_or_default(),
        erase: args.erase,
        removable: args.removable,
        then: AfterInstall::parse(&args.then).ok_or_else(|| usage(format!("{:?} is not reboot, poweroff or stay", args.then)))?,
    })
}

pub(super) fn reset(args: &ResetArgs, asker: &Asker, out: Out) -> Result<(), Failure> {
    let keep = Keep::parse(&args.keep).unwrap_or(Keep::Volumes);
    let config = args.config.as_deref().map(read).transpose()?;
    let accepted = asker.ask(|client| client.reset(keep, config.clone().unwrap_or_default()))?;
    out.show(&accepted, |_, _| {
        format!("{} reboots and comes up as a new machine, with a new key\n", asker.name())
    })
}
