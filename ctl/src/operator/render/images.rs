//! `berth images`, and how far a pull is.

use super::human;
use super::style::{Style, Tone};
use super::table::{Column, Table, cell, plain};
use berth_api::images::Image;
use berth_units::control::JobStatus;

const COLUMNS: [Column; 4] = [
    Column { head: "NAME", right: false, expendable: 0 },
    Column { head: "DIGEST", right: false, expendable: 2 },
    Column { head: "SIZE", right: true, expendable: 1 },
    Column { head: "USED BY", right: false, expendable: 0 },
];

/// The first digits of a digest are enough to tell images apart.
const DIGITS: usize = 12;

/// The table.
pub fn table(images: &[Image], style: Style) -> String {
    if images.is_empty() {
        return "no images: none has been needed or pulled yet\n".into();
    }
    let mut table = Table::new(&COLUMNS);
    for image in images {
        let digest = image.digest.trim_start_matches("sha256:");
        table.row(vec![
            plain(&image.name),
            cell(digest.get(..DIGITS).unwrap_or(digest), Tone::Dim),
            plain(human::bytes(image.bytes)),
            match (image.used_by.is_empty(), image.kept) {
                (false, _) => plain(image.used_by.join(", ")),
                (true, true) => cell("no unit, kept until removed", Tone::Dim),
                (true, false) => cell("no unit, goes after the next boot", Tone::Dim),
            },
        ]);
    }
    table.render(style)
}

/// One line of progress.
pub fn progress(job: &JobStatus) -> String {
    match (job.state.as_str(), job.total) {
        ("pulling", Some(total)) if total > 0 => {
            let percent = u128::from(job.done) * 100 / u128::from(total);
            format!("pulling, {} of {} ({percent} %)", human::bytes(job.done), human::bytes(total))
        }
        (state, _) if job.message.is_empty() => state.to_owned(),
        _ => job.message.clone(),
    }
}
