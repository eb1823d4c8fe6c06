//! `berth volume`.

use super::human;
use super::style::{Style, Tone};
use super::table::{Column, Table, cell, plain};
use berth_units::control::VolumeStatus;

/// A line a volume; sizes only if one was counted.
pub fn volumes(list: &[VolumeStatus], style: Style) -> String {
    if list.is_empty() {
        return "no volumes\n".to_owned();
    }
    let counted = list.iter().any(|volume| volume.bytes.is_some());
    let mut columns = vec![Column { head: "NAME", right: false, expendable: 0 }];
    if counted {
        columns.push(Column { head: "SIZE", right: false, expendable: 1 });
    }
    columns.push(Column { head: "USED BY", right: false, expendable: 1 });
    let mut table = Table::new(&columns);
    for volume in list {
        let mut row = vec![plain(&volume.name)];
        if counted {
            let size = volume.bytes.map(human::bytes).unwrap_or_default();
            row.push(plain(if volume.whole { size } else { format!("more than {size}") }));
        }
        row.push(match volume.used_by.is_empty() {
            true => cell("-", Tone::Dim),
            false => plain(volume.used_by.join(", ")),
        });
        table.row(row);
    }
    table.render(style)
}
