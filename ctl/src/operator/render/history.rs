//! `berth history`.

use super::human;
use super::style::{Style, Tone};
use super::table::{Column, Table, cell, plain};
use berth_units::generation::{History, Verdict};

/// A line a generation, the newest first.
pub fn history(history: &History, style: Style) -> String {
    if history.generations.is_empty() {
        return "nothing has been changed yet\n".to_owned();
    }
    let mut table = Table::new(&[
        Column { head: "", right: false, expendable: 0 },
        Column { head: "NO", right: true, expendable: 0 },
        Column { head: "WHEN", right: false, expendable: 2 },
        Column { head: "WHAT", right: false, expendable: 0 },
        Column { head: "SLOT", right: false, expendable: 1 },
        Column { head: "VERSION", right: false, expendable: 1 },
        Column { head: "STATE", right: false, expendable: 0 },
        Column { head: "WHY", right: false, expendable: 0 },
    ]);
    for generation in history.generations.iter().rev() {
        let tone = match generation.state {
            Verdict::Trying => Tone::Notice,
            Verdict::Committed => Tone::Good,
            Verdict::Reverted => Tone::Bad,
            Verdict::Superseded => Tone::Dim,
        };
        let in_force = history.in_force == Some(generation.number);
        let why = match generation.reason.as_str() {
            "" => generation.why.clone(),
            reason => format!("{}: {reason}", generation.why),
        };
        let made = if generation.made == 0 { "-".into() } else { human::utc(generation.made) };
        table.row(vec![
            plain(if in_force { "*" } else { "" }),
            plain(generation.number.to_string()),
            cell(made, Tone::Dim),
            plain(generation.what.to_string()),
            plain(&generation.slot),
            plain(&generation.version),
            cell(generation.state.to_string(), tone),
            plain(why),
        ]);
    }
    table.render(style)
}
