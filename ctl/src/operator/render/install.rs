//! `berth disks`, `berth install`.

use super::human;
use super::style::{Style, Tone, clean};
use super::table::{Column, Table, cell, pairs, plain};
use berth_units::control::{DiskStatus, InstallStatus};

/// A line a disk.
pub fn disks(disks: &[DiskStatus], style: Style) -> String {
    if disks.is_empty() {
        return "no disks\n".to_owned();
    }
    let column = |head, right, expendable| Column { head, right, expendable };
    let mut table = Table::new(&[
        column("DISK", false, 0),
        column("SIZE", true, 0),
        column("SECTOR", true, 2),
        column("MODEL", false, 3),
        column("SERIAL", false, 1),
        column("HOLDS", false, 1),
        column("FOR AN INSTALLATION", false, 0),
    ]);
    for disk in disks {
        let verdict = if disk.trouble.is_empty() {
            cell("free", Tone::Good)
        } else {
            cell(format!("no: {}", clean(&disk.trouble)), Tone::Dim)
        };
        table.row(vec![
            plain(&disk.path),
            plain(human::bytes(disk.bytes)),
            plain(disk.sector_bytes.to_string()),
            plain(&disk.model),
            plain(&disk.serial),
            plain(&disk.holds),
            verdict,
        ]);
    }
    table.render(style)
}

/// `berth install --status`.
pub fn status(status: &InstallStatus, style: Style) -> String {
    let mut rows = vec![("state", plain(progress(status)))];
    if !status.disk.is_empty() {
        rows.push(("disk", plain(&status.disk)));
    }
    if !status.error.is_empty() {
        rows.push(("failed", cell(&status.error, Tone::Bad)));
    }
    pairs(&rows, style)
}

/// One line.
pub fn progress(status: &InstallStatus) -> String {
    match status.state.as_str() {
        "none" => "nothing is installed".into(),
        "choosing" => "choosing the disk".into(),
        "done" => format!("Berth is on {}", clean(&status.disk)),
        "there already" => {
            format!(
                "Berth is on {} already, by this config: take the medium out and start again",
                clean(&status.disk)
            )
        }
        "failed" => "failed".into(),
        step => {
            let share = status.done.saturating_mul(100).checked_div(status.total).unwrap_or(0);
            format!("{} {}, {share} %", clean(step), clean(&status.disk))
        }
    }
}
