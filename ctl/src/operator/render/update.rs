//! `berth update`.

use super::human;
use super::style::{Style, Tone, clean};
use super::table::{Column, Table, cell, pairs, plain};
use berth_units::control::{UpdateOrder, UpdateStatus};

/// `berth update status`.
pub fn status(status: &UpdateStatus, style: Style) -> String {
    let mut rows = vec![("runs", plain(&status.version)), ("state", state(status))];
    if let Some(offer) = &status.offer {
        let ago =
            status.checked_ago_s.map_or(String::new(), |s| format!(", asked {} ago", human::seconds(s)));
        let what = if status.up_to_date { ", which runs" } else { "" };
        let built = human::utc(offer.built_s);
        rows.push(("offered", plain(format!("{}{what}, built {built}{ago}", offer.version))));
        rows.push(("from", plain(&offer.address)));
    }
    if let Some(version) = &status.written {
        rows.push(("other slot", plain(format!("{version}, written and checked"))));
    }
    rows.push(("channel", plain(&status.channel)));
    let automatic = if status.automatic { format!("yes, {} UTC", status.window) } else { "no".into() };
    rows.push(("automatic", plain(automatic)));
    if !status.last.is_empty() {
        rows.push(("last", plain(&status.last)));
    }
    if !status.error.is_empty() {
        rows.push(("failed", cell(&status.error, Tone::Bad)));
    }
    let mut text = pairs(&rows, style);
    if !status.quarantine.is_empty() {
        text.push_str("\nNot taken again, unless with --again:\n");
        let mut table = Table::new(&[
            Column { head: "VERSION", right: false, expendable: 0 },
            Column { head: "SINCE", right: false, expendable: 1 },
            Column { head: "WHY", right: false, expendable: 0 },
        ]);
        for one in &status.quarantine {
            table.row(vec![plain(&one.version), plain(human::utc(one.at_s)), plain(&one.reason)]);
        }
        text.push_str(&table.render(style));
    }
    text
}

fn state(status: &UpdateStatus) -> super::table::Cell {
    match status.state.as_str() {
        "armed" => cell("an update is started the next time the machine starts", Tone::Notice),
        "assessing" => cell(format!("on trial: {}", status.assessing), Tone::Notice),
        "idle" => plain("nothing is under way"),
        _ => plain(progress(status)),
    }
}

/// One line of progress.
pub fn progress(status: &UpdateStatus) -> String {
    let version = status.offer.as_ref().map_or("", |offer| &offer.version);
    match status.state.as_str() {
        "checking" => "asking the repository".into(),
        "writing" if status.total > 0 && status.done > 0 => {
            let percent = u128::from(status.done) * 100 / u128::from(status.total);
            format!(
                "writing version {}, {} of {} ({percent} %)",
                clean(version),
                human::bytes(status.done),
                human::bytes(status.total)
            )
        }
        "writing" => format!("writing version {}", clean(version)),
        "arming" => "telling the boot loader".into(),
        other => clean(other),
    }
}

/// What came of an order.
pub fn outcome(order: UpdateOrder, status: &UpdateStatus, name: &str) -> String {
    let offered = status.offer.as_ref().map_or("", |offer| &offer.version);
    let offered = clean(offered);
    match order {
        UpdateOrder::Rollback => format!("{name} reboots into the other slot\n"),
        UpdateOrder::Cancel => format!("{name} starts {} again the next time\n", clean(&status.version)),
        _ if status.up_to_date => format!("{name} runs {offered}, the newest\n"),
        UpdateOrder::Check => {
            format!("version {offered} is offered; {name} runs {}\n", clean(&status.version))
        }
        UpdateOrder::Fetch => {
            format!(
                "version {offered} is written to the other slot and checked; \"berth update apply\" has it started\n"
            )
        }
        UpdateOrder::Apply => format!("version {offered} is started the next time {name} starts\n"),
        UpdateOrder::Reboot => format!("{name} reboots into version {offered}\n"),
    }
}
