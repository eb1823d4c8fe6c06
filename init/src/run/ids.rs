//! Which unit has which id range. Stable while the table is kept: a name keeps its range for ever, and ranges never
//! overlap. On disk ids are the container's own (layers and upper are mounted id-mapped), so a lost table costs
//! nothing but the stability of what `ps` shows. A transient unit's range is not kept, and is free again when the unit is
//! removed.
//!
//! Format: one line a unit, `<name> <index>`; the range starts at `ID_BASE + index * ID_RANGE`.

use super::limits;
use berth_units::limits::{ID_BASE, ID_RANGE};
use std::collections::{BTreeMap, BTreeSet};

/// The table.
#[derive(Debug, Default)]
pub struct Ids {
    by_name: BTreeMap<String, u32>,
    taken: BTreeSet<u32>,
    /// Names that are not kept.
    passing: BTreeSet<String>,
}

impl Ids {
    /// Reads a table. Lines that make no sense or contradict an earlier one are left out.
    pub fn parse(text: &str) -> Self {
        let mut ids = Self::default();
        for line in text.lines() {
            let Some((name, index)) = line.split_once(' ') else { continue };
            let Ok(index) = index.parse::<u32>() else { continue };
            if index < limits::IDS
                && !name.is_empty()
                && !ids.by_name.contains_key(name)
                && ids.taken.insert(index)
            {
                ids.by_name.insert(name.to_owned(), index);
            }
        }
        ids
    }

    /// The table as text.
    pub fn text(&self) -> String {
        let kept = self.by_name.iter().filter(|(name, _)| !self.passing.contains(*name));
        kept.map(|(name, index)| format!("{name} {index}\n")).collect()
    }

    /// First id of the unit's range, and whether the text is another one for it. `None`: all ranges are taken.
    pub fn of(&mut self, name: &str, transient: bool) -> Option<(u32, bool)> {
        if let Some(index) = self.by_name.get(name) {
            let is_saved = !transient && self.passing.remove(name);
            return Some((Self::base(*index), is_saved));
        }
        let index = (0..limits::IDS).find(|index| !self.taken.contains(index))?;
        self.taken.insert(index);
        self.by_name.insert(name.to_owned(), index);
        if transient {
            self.passing.insert(name.to_owned());
        }
        Some((Self::base(index), !transient))
    }

    /// A transient unit is gone: another may have its range.
    pub fn release(&mut self, name: &str) {
        if self.passing.remove(name)
            && let Some(index) = self.by_name.remove(name)
        {
            self.taken.remove(&index);
        }
    }

    /// As [`Ids::of`], without making one.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).map(|index| Self::base(*index))
    }

    const fn base(index: u32) -> u32 {
        ID_BASE + index * ID_RANGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_range() {
        let mut ids = Ids::default();
        let (a, new) = ids.of("a", false).unwrap();
        assert_eq!((a, new), (ID_BASE, true));
        assert_eq!(ids.of("b", false).unwrap(), (ID_BASE + ID_RANGE, true));
        let mut again = Ids::parse(&ids.text());
        assert_eq!(again.of("b", false).unwrap(), (ID_BASE + ID_RANGE, false));
        assert_eq!(again.of("c", false).unwrap(), (ID_BASE + 2 * ID_RANGE, true));
        assert_eq!(again.get("a"), Some(ID_BASE));
    }

    #[test]
    fn what_passes_is_not_kept_and_makes_room() {
        let mut ids = Ids::default();
        assert_eq!(ids.of("run-1", true), Some((ID_BASE, false)));
        assert_eq!(ids.of("run-2", true), Some((ID_BASE + ID_RANGE, false)));
        assert_eq!(ids.of("run-2", true), Some((ID_BASE + ID_RANGE, false)));
        assert_eq!(ids.text(), "");
        ids.release("run-1");
        assert_eq!(ids.of("a", false), Some((ID_BASE, true)));
        ids.release("a");
        // Saved: a unit of the config from now on.
        assert_eq!(ids.of("run-2", false), Some((ID_BASE + ID_RANGE, true)));
        assert_eq!(ids.text(), "a 0\nrun-2 1\n");
    }

    #[test]
    fn rubbish_never_makes_ranges_overlap() {
        let mut ids = Ids::parse("a 0\nb 0\nc\n\0\u{7f} x\nd 4000000000\ne 1 2\na 5\nf 2\n");
        assert_eq!(ids.text(), "a 0\nf 2\n");
        assert_eq!(ids.of("b", false).unwrap().0, ID_BASE + ID_RANGE);
    }

    #[test]
    fn the_last_range_fits_below_two_to_the_31() {
        assert!(Ids::base(limits::IDS - 1).checked_add(ID_RANGE).unwrap() < 1 << 31);
    }
}
