use super::*;
use crate::model::{Container, Network, Origin, Places, Resources, Restart};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn unit(name: &str, after: &[&str], requires: &[&str]) -> Unit {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Unit {
        name: name.into(),
        origin: Origin::Config,
        description: String::new(),
        after: own(after),
        requires: own(requires),
        required_for_boot: false,
        secrets: BTreeMap::new(),
        container: Container { image: "x".into(), ..Container::default() },
        network: Network::default(),
        resources: Resources::default(),
        restart: Restart::default(),
        system: None,
        places: Places::default(),
    }
}

fn said(units: &[Unit]) -> String {
    Graph::new(units).unwrap_err().to_string()
}

#[test]
fn order_and_reverse() {
    let units = [
        unit("web", &["absent", "log"], &["db"]),
        unit("db", &["net"], &[]),
        unit("net", &[], &[]),
        unit("log", &[], &[]),
    ];
    let graph = Graph::new(&units).unwrap();
    assert_eq!(graph.start_order(), ["log", "net", "db", "web"]);
    assert_eq!(graph.stop_order().collect::<Vec<_>>(), ["web", "db", "net", "log"]);
    assert_eq!(graph.dependents("net").collect::<Vec<_>>(), ["db"]);
}

#[test]
fn mistakes_are_named() {
    assert_eq!(
        said(&[unit("web", &[], &["databse"]), unit("database", &[], &[])]),
        "?: unit \"web\" requires \"databse\", which does not exist; did you mean \"database\"?\n"
    );
    assert_eq!(said(&[unit("a", &["a"], &[])]), "?: unit \"a\" comes after itself\n");
    assert_eq!(
        said(&[
            unit("a", &["b"], &[]),
            unit("b", &[], &["c"]),
            unit("c", &["a"], &[]),
            unit("z", &["a"], &[])
        ]),
        "?: units wait for each other: a → b → c → a; take one of these out\n  a comes after b (?)\n  b requires c (?)\n  \
         c comes after a (?)\n"
    );
    // Two knots, each told once.
    let two = said(&[
        unit("a", &["b"], &[]),
        unit("b", &["a"], &[]),
        unit("c", &["d"], &[]),
        unit("d", &["c", "a"], &[]),
    ]);
    assert_eq!(two.matches("wait for each other").count(), 2, "{two}");
}

#[test]
fn readiness() {
    let units = [unit("web", &["log"], &["db"]), unit("db", &[], &[]), unit("log", &[], &[])];
    let graph = Graph::new(&units).unwrap();
    let ask = |db: Option<State>, log: Option<State>| {
        graph.deps_state("web", |name| if name == "db" { db } else { log })
    };
    use State::*;
    assert_eq!(ask(Some(Running), Some(Finished)), Deps::Ready);
    assert_eq!(ask(Some(Healthy), Some(Starting)), Deps::Waiting);
    assert_eq!(ask(Some(Backoff), None), Deps::Waiting);
    assert_eq!(ask(Some(Stopped), None), Deps::Waiting);
    assert_eq!(ask(Some(Healthy), Some(Stopped)), Deps::Ready);
    assert_eq!(ask(Some(Healthy), Some(Failed)), Deps::Ready);
    assert_eq!(ask(Some(Failed), Some(Starting)), Deps::Failed);
    assert_eq!(ask(None, Some(Running)), Deps::Failed);
    assert_eq!(graph.deps_state("db", |_| None), Deps::Ready);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Either a cycle is reported, and it is one, or every unit comes after what it waits for.
    #[test]
    fn ordered_or_refused(edges in prop::collection::vec((0usize..8, 0usize..8, any::<bool>()), 0..14)) {
        let name = |n: usize| format!("u{n}");
        let mut units: Vec<Unit> = (0..8).map(|n| unit(&name(n), &[], &[])).collect();
        for (from, to, required) in &edges {
            let list = if *required { &mut units[*from].requires } else { &mut units[*from].after };
            list.push(name(*to));
        }
        match Graph::new(&units) {
            Ok(graph) => {
                let at = |unit: &str| graph.start_order().iter().position(|other| other == unit).unwrap();
                prop_assert_eq!(graph.start_order().len(), 8);
                for (from, to, _) in edges {
                    prop_assert!(at(&name(to)) < at(&name(from)));
                }
            }
            Err(report) => {
                prop_assert!(!report.is_empty());
                for diagnostic in report.diagnostics {
                    let Some(path) = diagnostic.message.strip_prefix("units wait for each other: ") else {
                        prop_assert!(diagnostic.message.ends_with("itself"));
                        continue;
                    };
                    let path: Vec<&str> = path.split(';').next().unwrap().split(" → ").collect();
                    prop_assert_eq!(path.first(), path.last());
                    for pair in path.windows(2) {
                        prop_assert!(edges.iter().any(|(from, to, _)| name(*from) == pair[0] && name(*to) == pair[1]));
                    }
                }
            }
        }
    }
}
