//! What stands between the units that run and those of another config, and what has to be restarted for it.

use crate::control::{ConfigChange, UnitChange};
use crate::model::Unit;
use std::collections::BTreeMap;

/// Tables whose change a running unit takes on as it is.
const IN_PLACE: [&str; 2] = ["unit", "restart"];

/// The tables in which two units of the same name differ.
pub fn tables(before: &Unit, after: &Unit) -> Vec<&'static str> {
    let of = |unit: &Unit| (unit.enabled, unit.required_for_boot, unit.instances);
    let unit = (&before.description, &before.after, &before.requires, of(before))
        != (&after.description, &after.after, &after.requires, of(after));
    [
        ("unit", unit),
        ("container", before.container != after.container),
        ("secrets", before.secrets != after.secrets),
        ("network", before.network != after.network),
        ("resources", before.resources != after.resources),
        ("restart", before.restart != after.restart),
        ("health", before.health != after.health),
        ("ready", before.ready != after.ready),
    ]
    .into_iter()
    .filter_map(|(table, differs)| differs.then_some(table))
    .collect()
}

/// Whether a running unit has to be restarted to become the other.
pub fn restarts(before: &Unit, after: &Unit) -> bool {
    tables(before, after).iter().any(|table| !IN_PLACE.contains(table))
}

/// What becomes of the units, instances each for itself.
pub fn units<'a>(
    before: impl IntoIterator<Item = &'a Unit>,
    after: impl IntoIterator<Item = &'a Unit>,
) -> ConfigChange {
    let before: BTreeMap<&str, &Unit> = before.into_iter().map(|unit| (unit.name.as_str(), unit)).collect();
    let after: BTreeMap<&str, &Unit> = after.into_iter().map(|unit| (unit.name.as_str(), unit)).collect();
    let only = |these: &BTreeMap<&str, &Unit>, others: &BTreeMap<&str, &Unit>| {
        these.keys().filter(|name| !others.contains_key(*name)).map(|name| (*name).to_owned()).collect()
    };
    let changed = before.iter().filter_map(|(name, before)| {
        let after = after.get(name)?;
        let tables = tables(before, after);
        (!tables.is_empty()).then(|| UnitChange {
            unit: (*name).to_owned(),
            tables: tables.into_iter().map(str::to_owned).collect(),
            restarts: restarts(before, after),
        })
    });
    ConfigChange {
        added: only(&after, &before),
        removed: only(&before, &after),
        changed: changed.collect(),
        ..ConfigChange::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Place;
    use crate::instances::expand;
    use crate::model::Origin;

    #[test]
    fn what_is_told_and_what_restarts() {
        let unit = |name: &str, instances| Unit {
            instances,
            ..crate::schema::blank(name, Origin::Config, Place::default())
        };
        let before = expand([unit("db", 1), unit("old", 1), unit("web", 2)]);
        let mut db = unit("db", 1);
        db.resources.memory = Some(1 << 26);
        db.description = "the database".into();
        let after = expand([db, unit("new", 1), unit("web", 3)]);
        let change = units(&before, &after);
        assert_eq!((change.added, change.removed), (vec!["new".into(), "web.3".into()], vec!["old".into()]));
        let changed: Vec<_> =
            change.changed.iter().map(|c| (c.unit.as_str(), c.tables.join(" "), c.restarts)).collect();
        assert_eq!(
            changed,
            [
                ("db", "unit resources".to_owned(), true),
                ("web.1", "unit".to_owned(), false),
                ("web.2", "unit".to_owned(), false)
            ]
        );
    }
}
