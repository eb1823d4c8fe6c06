use super::*;
use crate::model::{Dependency, Origin, RestartPolicy};
use proptest::prelude::*;

fn unit(name: &str, after: &[&str], requires: &[&str]) -> Unit {
    let own = |names: &[&str]| names.iter().map(|text| dependency(text)).collect();
    Unit {
        after: own(after),
        requires: own(requires),
        ..crate::schema::blank(name, Origin::Config, Place::default())
    }
}

fn dependency(text: &str) -> Dependency {
    crate::schema::values::dependency(text).unwrap()
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

#[test]
fn a_dependency_can_ask_for_health_or_for_success() {
    let mut job = unit("job", &[], &[]);
    job.restart.policy = RestartPolicy::OnFailure;
    let units = [unit("web", &[], &["db:ready", "job:completed"]), unit("db", &[], &[]), job];
    let graph = Graph::new(&units).unwrap();
    let deps = |db: &[State], job: &[State]| {
        graph.deps_state("web", |name| if name == "db" { db.to_vec() } else { job.to_vec() })
    };
    use State::{Backoff, Failed, Finished, Healthy, Running, Stopped, Unhealthy};
    assert_eq!(deps(&[Running], &[Finished]), Deps::Waiting);
    assert_eq!(deps(&[Unhealthy], &[Finished]), Deps::Waiting);
    assert_eq!(deps(&[Healthy], &[Running]), Deps::Waiting);
    assert_eq!(deps(&[Healthy], &[Finished]), Deps::Ready);
    assert_eq!(deps(&[Healthy], &[Failed]), Deps::Failed);
    // Of several, one is enough to be started or ready; all have to complete.
    assert_eq!(deps(&[Failed, Healthy, Backoff], &[Finished, Finished]), Deps::Ready);
    assert_eq!(deps(&[Failed, Stopped], &[Finished]), Deps::Waiting);
    assert_eq!(deps(&[Failed, Failed], &[Finished]), Deps::Failed);
    assert_eq!(deps(&[Healthy], &[Finished, Healthy]), Deps::Waiting);
    assert_eq!(deps(&[Healthy], &[]), Deps::Failed);
}

#[test]
fn what_only_comes_after_waits_for_nothing_that_is_not_coming() {
    let units = [unit("web", &["db:ready"], &[]), unit("db", &[], &[])];
    let graph = Graph::new(&units).unwrap();
    let deps = |db: &[State]| graph.deps_state("web", |_| db.to_vec());
    assert_eq!(deps(&[State::Running]), Deps::Waiting);
    assert_eq!(deps(&[State::Unhealthy]), Deps::Waiting);
    for gone in [&[State::Failed][..], &[State::Stopped], &[State::Failed, State::Stopped], &[]] {
        assert_eq!(deps(gone), Deps::Ready, "{gone:?}");
    }

    let mut job = unit("job", &[], &[]);
    job.restart.policy = RestartPolicy::OnFailure;
    let graph = Graph::new(&[unit("web", &["job:completed"], &[]), job]).unwrap();
    let deps = |job: &[State]| graph.deps_state("web", |_| job.to_vec());
    assert_eq!(deps(&[State::Finished, State::Running]), Deps::Waiting);
    assert_eq!(deps(&[State::Finished, State::Stopped]), Deps::Ready, "an operator stopped one of them");
}

#[test]
fn what_never_ends_is_not_waited_for_to_end() {
    let units = [unit("web", &["job:completed"], &[]), unit("job", &[], &[])];
    let report = said(&units);
    assert!(report.contains("unit \"web\" waits until \"job\" has completed"), "{report}");
    assert!(report.contains("policy = \"on-failure\""), "{report}");
}

#[test]
fn instances_are_one_to_those_that_depend_on_them() {
    let web = Unit { instances: 3, ..unit("web", &[], &["db"]) };
    let units = crate::instances::expand([unit("proxy", &[], &["web:ready"]), web, unit("db", &[], &[])]);
    let graph = Graph::new(&units).unwrap();
    assert_eq!(graph.start_order(), ["db", "web", "proxy"]);
    assert_eq!(graph.dependents("web").collect::<Vec<_>>(), ["proxy"]);
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
            list.push(dependency(&name(*to)));
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
