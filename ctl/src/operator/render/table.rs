//! Aligned columns that never wrap: on a narrow terminal the less important ones go, then the last one is cut.

use super::style::{Style, Tone, clean};

/// Between two columns.
const GAP: usize = 2;
/// The last column is cut down to this before another one goes.
const LAST_AT_LEAST: usize = 16;

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Heading.
    pub head: &'static str,
    /// Numbers are.
    pub right: bool,
    /// When there is too little room, the column with the highest number goes first; 0 never goes.
    pub expendable: u8,
}

/// One field.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// A field in a colour.
pub fn cell(text: impl AsRef<str>, tone: Tone) -> Cell {
    Cell { text: clean(text.as_ref()), tone }
}

/// A field.
pub fn plain(text: impl AsRef<str>) -> Cell {
    cell(text, Tone::Plain)
}

/// See the module.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Without rows.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, which has a field for each column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The text, one line a row and one for the headings. A column without any content is left out.
    pub fn render(&self, style: Style) -> String {
        let mut shown: Vec<usize> = (0..self.columns.len()).filter(|&c| self.has_content(c)).collect();
        let mut last_width = None;
        if let Some(room) = style.columns {
            loop {
                let wide: usize = shown.iter().map(|&c| self.width(c) + GAP).sum();
                let over = (wide.saturating_sub(GAP)).saturating_sub(room);
                let Some(&last) = shown.last() else { break };
                let cut = self.width(last).saturating_sub(over);
                if over == 0 || cut >= LAST_AT_LEAST.min(self.width(last)) {
                    last_width = Some(cut);
                    break;
                }
                let Some(gone) = self.least_important(&shown) else {
                    last_width = Some(cut.max(1));
                    break;
                };
                shown.retain(|&c| c != gone);
            }
        }
        let mut text = String::new();
        let heads: Vec<Cell> = self.columns.iter().map(|c| cell(c.head, Tone::Head)).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            text.push_str(&self.line(row, &shown, last_width, style));
            text.push('\n');
        }
        text
    }

    fn has_content(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(|c| c.expendable == 0)
            || self.rows.iter().any(|row| row.get(column).is_some_and(|cell| !cell.text.is_empty()))
    }

    fn width(&self, column: usize) -> usize {
        let head = self.columns.get(column).map_or(0, |c| c.head.chars().count());
        let widest = self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.text.chars().count()).max();
        head.max(widest.unwrap_or(0))
    }

    fn least_important(&self, shown: &[usize]) -> Option<usize> {
        let weight = |c: &usize| self.columns.get(*c).map_or(0, |column| column.expendable);
        shown.iter().copied().filter(|c| weight(c) > 0).max_by_key(weight)
    }

    fn line(&self, row: &[Cell], shown: &[usize], last_width: Option<usize>, style: Style) -> String {
        let mut line = String::new();
        for (at, &column) in shown.iter().enumerate() {
            let Some(cell) = row.get(column) else { continue };
            let last = at + 1 == shown.len();
            let text = match last_width {
                Some(width) if last => cut(&cell.text, width),
                _ => cell.text.clone(),
            };
            let pad = " ".repeat(self.width(column).saturating_sub(text.chars().count()));
            let painted = style.paint(cell.tone, &text);
            match (self.columns.get(column).is_some_and(|c| c.right), last) {
                (true, _) => line.push_str(&(pad + &painted)),
                (false, true) => line.push_str(&painted),
                (false, false) => line.push_str(&(painted + &pad)),
            }
            if !last {
                line.push_str(&" ".repeat(GAP));
            }
        }
        line.trim_end().to_owned()
    }
}

/// `text` in at most `width` characters, with `…` where something is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

/// `name  value` lines, aligned; a value with several lines is indented.
pub fn pairs(pairs: &[(&str, Cell)], style: Style) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + GAP;
    let mut text = String::new();
    for (name, cell) in pairs {
        let pad = " ".repeat(width - name.chars().count());
        text.push_str(&style.paint(Tone::Head, name));
        text.push_str(&pad);
        text.push_str(&style.paint(cell.tone, &cell.text));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |head, right, expendable| Column { head, right, expendable };
        let mut table = Table::new(&[
            column("NAME", false, 0),
            column("SIZE", true, 2),
            column("EMPTY", false, 1),
            column("NOTE", false, 0),
        ]);
        table.row(vec![
            plain("web"),
            plain("12 MiB"),
            plain(""),
            plain("a note that is rather long, this one"),
        ]);
        table.row(vec![plain("longer-name"), plain("1 B"), plain(""), plain("")]);
        table
    }

    fn at(columns: Option<usize>) -> String {
        table().render(Style { colour: false, columns })
    }

    #[test]
    fn as_wide_as_needed() {
        assert_eq!(
            at(None),
            "NAME           SIZE  NOTE\n\
             web          12 MiB  a note that is rather long, this one\n\
             longer-name     1 B\n"
        );
        assert_eq!(at(None), at(Some(200)));
    }

    #[test]
    fn narrow_terminals_cut_then_drop() {
        assert_eq!(
            at(Some(40)),
            "NAME           SIZE  NOTE\n\
             web          12 MiB  a note that is rat…\n\
             longer-name     1 B\n"
        );
        assert_eq!(
            at(Some(32)),
            "NAME         NOTE\n\
             web          a note that is rat…\n\
             longer-name\n"
        );
        for columns in 20..100 {
            assert!(at(Some(columns)).lines().all(|l| l.chars().count() <= columns), "{columns}");
        }
        at(Some(1));
    }
}
