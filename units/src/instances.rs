//! Several containers of one unit: `web` with `instances = 3` runs as `web.1`, `web.2` and `web.3`.
//!
//! Each is a unit of its own from here on: its state, log, limits, id range and address. What they share is the name that
//! others depend on and that DNS knows ([`Unit::service`]), and the volumes, which are named by their own names.

use crate::model::Unit;

/// What stands between a unit's name and the number of an instance; no unit's own name has it.
const DOT: char = '.';

/// The units as they run: each with several instances replaced by these.
pub fn expand(units: impl IntoIterator<Item = Unit>) -> Vec<Unit> {
    let mut all = Vec::new();
    for unit in units {
        if unit.instances <= 1 {
            all.push(unit);
            continue;
        }
        for number in 1..=unit.instances {
            let instance_of = Some(unit.name.clone());
            all.push(Unit { name: name(&unit.name, number), instance_of, ..unit.clone() });
        }
    }
    all
}

/// What an instance is called.
pub fn name(service: &str, number: u32) -> String {
    format!("{service}{DOT}{number}")
}

/// A unit's name, or the name and number of an instance: `web`, `web.12`.
pub fn is_name(text: &str) -> bool {
    let (service, number) = text.split_once(DOT).unwrap_or((text, "1"));
    let digits = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    digits
        && number.parse().is_ok_and(|number: u32| (1..=crate::limits::INSTANCES).contains(&number))
        && crate::schema::values::unit_name(service).is_ok()
}

/// Whether a unit of that name is this one, or an instance of it.
pub fn is_of(unit: &str, name: &str) -> bool {
    unit.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(DOT))
}

/// What the instances of a unit share: of `web.3` it is `web`, of a unit without instances its name.
pub fn service(name: &str) -> &str {
    name.split_once(DOT).map_or(name, |(service, _)| service)
}

/// As a host name, whose dots would separate domains.
pub fn hostname(name: &str) -> String {
    name.replace(DOT, "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Place;
    use crate::model::Origin;

    #[test]
    fn each_instance_is_a_unit() {
        let unit = |name: &str, instances| Unit {
            instances,
            ..crate::schema::blank(name, Origin::Config, Place::default())
        };
        let all = expand([unit("db", 1), unit("web", 3)]);
        let names: Vec<_> = all.iter().map(|unit| (unit.name.as_str(), unit.service())).collect();
        assert_eq!(names, [("db", "db"), ("web.1", "web"), ("web.2", "web"), ("web.3", "web")]);
        assert!(names.iter().all(|(name, _)| is_name(name)));
        assert!(all.iter().all(|unit| service(&unit.name) == unit.service()));
        assert_eq!(hostname("web.3"), "web-3");
        assert!(is_of("web.3", "web") && is_of("web.3", "web.3") && is_of("web", "web"));
        assert!(!is_of("web.3", "web.1") && !is_of("website", "web") && !is_of("web", "web.1"));
    }

    #[test]
    fn names_of_instances() {
        for good in ["web", "web.1", "web.100", "a-1.7"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".1", "web.", "web.0", "web.01", "web.101", "web.1.2", "web.+1", "We.1", "berth.1"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
