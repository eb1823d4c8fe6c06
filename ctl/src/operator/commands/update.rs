//! `berth update`: orders are accepted at once, so this follows what the machine makes of them.

use super::progress::Line;
use super::remote::Asker;
use super::{Failure, Out, remark};
use crate::operator::cli::UpdateCommand;
use crate::operator::client::{Client, ClientError, LOOK_AGAIN};
use crate::operator::render::update as render;
use berth_units::control::UpdateOrder;

pub(super) fn run(command: &UpdateCommand, asker: &Asker, out: Out) -> Result<(), Failure> {
    let (order, again) = match command {
        UpdateCommand::Status => {
            let status = asker.ask(Client::update_status)?;
            return out.show(&status, render::status);
        }
        UpdateCommand::Check => (UpdateOrder::Check, false),
        UpdateCommand::Fetch { again } => (UpdateOrder::Fetch, *again),
        UpdateCommand::Apply { again } => (UpdateOrder::Apply, *again),
        UpdateCommand::Reboot { again } => (UpdateOrder::Reboot, *again),
        UpdateCommand::Cancel => (UpdateOrder::Cancel, false),
        UpdateCommand::Rollback => (UpdateOrder::Rollback, false),
    };
    asker.ask(|client| client.order_update(order, again))?;
    let mut line = Line::new(out.json);
    let mut arming = false;
    loop {
        let status = match asker.ask(Client::update_status) {
            // It answers no more because it does what was asked for.
            Err(Failure::Client(
                ClientError::Broken { .. } | ClientError::Unreachable { .. } | ClientError::NotBerth { .. },
            )) if arming => {
                line.end();
                remark(format_args!(
                    "{} reboots into the other slot; \"berth update status\" tells how it goes",
                    asker.name()
                ));
                return Ok(());
            }
            answer => answer?,
        };
        if status.order.is_none() {
            line.end();
            if !status.error.is_empty() {
                if out.json {
                    out.show(&status, render::status)?;
                }
                remark(&status.error);
                return Err(Failure::Said);
            }
            return out.show(&status, |status, _| render::outcome(order, status, asker.name()));
        }
        arming = matches!(order, UpdateOrder::Reboot | UpdateOrder::Rollback);
        line.show(&render::progress(&status));
        std::thread::sleep(LOOK_AGAIN);
    }
}
