//! Which unit waits for which: requirements that exist, no cycle, an order to start and to stop in.
//!
//! An edge leads from a unit to each one that it comes after: `after`, if that unit exists, and `requires`. The
//! instances of a unit are one node: names here are those of [`Unit::service`].

use crate::diag::{Diagnostic, Place, Report, nearest, quote};
use crate::lifecycle::State;
use crate::model::{RestartPolicy, Unit, Until};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Steps of a cycle that are shown with their places.
const SHOWN_STEPS: usize = 16;

/// What a waiting unit's requirements are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deps {
    /// All are up.
    Ready,
    /// At least one is not up yet.
    Waiting,
    /// One in `requires` has failed for good, or does not exist.
    Failed,
}

/// One edge.
#[derive(Debug, Clone)]
struct Edge {
    to: String,
    until: Until,
    required: bool,
    place: Place,
}

/// A checked graph. No cycle, every requirement exists.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    edges: BTreeMap<String, Vec<Edge>>,
    order: Vec<String>,
}

impl Graph {
    /// Checks and orders the units; the report names every unknown requirement and every cycle.
    pub fn new<'a>(units: impl IntoIterator<Item = &'a Unit>) -> Result<Self, Report> {
        let units: Vec<&Unit> = units.into_iter().collect();
        let mut report = Report::default();
        unknown_requirements(&units, &mut report);
        never_complete(&units, &mut report);
        let edges = edges(&units);
        cycles(&edges, &mut report);
        report.finish()?;
        let order = order(&edges);
        Ok(Self { edges, order })
    }

    /// Unit names so that each comes after what it waits for; otherwise by name.
    pub fn start_order(&self) -> &[String] {
        &self.order
    }

    /// The reverse: what others wait for stops last.
    pub fn stop_order(&self) -> impl Iterator<Item = &str> {
        self.order.iter().rev().map(String::as_str)
    }

    /// Units that wait for this one, directly. They stop before it.
    pub fn dependents<'a>(&'a self, unit: &'a str) -> impl Iterator<Item = &'a str> {
        let waits = move |edges: &&Edge| edges.to == unit;
        self.edges
            .iter()
            .filter(move |(_, edges)| edges.iter().any(|e| waits(&e)))
            .map(|(name, _)| name.as_str())
    }

    /// May `unit` start? `states` tells the states of another one's instances, none for one that does not exist.
    ///
    /// A unit that only comes `after` another does not wait for one that is not wanted or has failed: there is
    /// nothing to wait for. A requirement that is stopped is waited for.
    pub fn deps_state<I: IntoIterator<Item = State>>(&self, unit: &str, states: impl Fn(&str) -> I) -> Deps {
        let mut all = Deps::Ready;
        for edge in self.edges.get(unit).into_iter().flatten() {
            let states: Vec<State> = states(&edge.to).into_iter().collect();
            if has_come(edge.until, &states) {
                continue;
            }
            match (is_hopeless(edge.until, &states), edge.required) {
                (true, true) => return Deps::Failed,
                (true, false) => {}
                (false, false) if states.iter().all(at_rest) => {}
                (false, _) => all = Deps::Waiting,
            }
        }
        all
    }
}

/// Nothing more comes of it by itself.
fn at_rest(state: &State) -> bool {
    matches!(state, State::Failed | State::Stopped | State::Finished)
}

/// Whether a unit whose instances are in these states has come so far.
pub fn has_come(until: Until, states: &[State]) -> bool {
    let ready = |state: &State| matches!(state, State::Healthy | State::Finished);
    match until {
        Until::Started => states.iter().any(|state| state.is_up()),
        Until::Ready => states.iter().any(ready),
        Until::Completed => !states.is_empty() && states.iter().all(|state| *state == State::Finished),
    }
}

/// Whether it will not come so far by itself any more.
pub fn is_hopeless(until: Until, states: &[State]) -> bool {
    let failed = |state: &State| *state == State::Failed;
    match until {
        Until::Started | Until::Ready => states.iter().all(failed),
        Until::Completed => states.is_empty() || states.iter().any(failed),
    }
}

fn edges(units: &[&Unit]) -> BTreeMap<String, Vec<Edge>> {
    let known: BTreeSet<&str> = units.iter().map(|unit| unit.service()).collect();
    let mut all = BTreeMap::new();
    for unit in units {
        let requires =
            unit.requires.iter().zip(places(&unit.places.requires)).map(|(to, place)| (to, place, true));
        let after = unit.after.iter().zip(places(&unit.places.after)).map(|(to, place)| (to, place, false));
        let edges = requires
            .chain(after)
            .filter(|(to, _, _)| known.contains(to.unit.as_str()))
            .map(|(to, place, required)| Edge { to: to.unit.clone(), until: to.until, required, place })
            .collect();
        all.insert(unit.service().to_owned(), edges);
    }
    all
}

/// As many places as there are names: units made by hand have none.
fn places(places: &[Place]) -> impl Iterator<Item = Place> + '_ {
    places.iter().cloned().chain(std::iter::repeat_with(Place::default))
}

fn unknown_requirements(units: &[&Unit], report: &mut Report) {
    let known: BTreeSet<&str> = units.iter().map(|unit| unit.service()).collect();
    for unit in units {
        for (name, place) in unit.requires.iter().map(|to| &to.unit).zip(places(&unit.places.requires)) {
            if known.contains(name.as_str()) {
                continue;
            }
            report.push(|| {
                let hint = nearest(name, known.iter().copied().filter(|other| *other != unit.service()))
                    .map_or_else(String::new, |near| format!("; did you mean {}?", quote(near)));
                Diagnostic::at(
                    place,
                    format!(
                        "unit {} requires {}, which does not exist{hint}",
                        quote(&unit.name),
                        quote(name)
                    ),
                )
            });
        }
    }
}

/// What waits for the end of a unit that is started again whenever it ends.
fn never_complete(units: &[&Unit], report: &mut Report) {
    let endless =
        |name: &str| units.iter().any(|u| u.service() == name && u.restart.policy == RestartPolicy::Always);
    for unit in units {
        let requires = unit.requires.iter().zip(places(&unit.places.requires));
        let all = requires.chain(unit.after.iter().zip(places(&unit.places.after)));
        for (to, place) in all.filter(|(to, _)| to.until == Until::Completed && endless(&to.unit)) {
            report.push(|| {
                let (name, to) = (quote(unit.service()), quote(&to.unit));
                let message = format!(
                    "unit {name} waits until {to} has completed, and {to} is started again whenever it ends; give it \
                     policy = \"on-failure\" or \"no\" in its [restart]"
                );
                Diagnostic::at(place, message)
            });
        }
    }
}

/// One mistake for each knot of units that wait for each other: the shortest way round from its first unit.
fn cycles(edges: &BTreeMap<String, Vec<Edge>>, report: &mut Report) {
    // What is left after taking away, again and again, what waits for nothing and what nothing waits for.
    let mut left = knots(edges);
    while let Some(first) = left.iter().next().cloned() {
        match way_round(&first, edges, &left) {
            None => {
                left.remove(&first);
            }
            Some(way) => {
                report.push(|| cycle(&first, &way));
                for step in &way {
                    left.remove(&step.to);
                }
            }
        }
    }
}

/// Units that can lie on a cycle.
fn knots(edges: &BTreeMap<String, Vec<Edge>>) -> BTreeSet<String> {
    let ordered: BTreeSet<String> = order(edges).into_iter().collect();
    edges.keys().filter(|name| !ordered.contains(*name)).cloned().collect()
}

/// The shortest path from `first` back to it, within `left`.
fn way_round(first: &str, edges: &BTreeMap<String, Vec<Edge>>, left: &BTreeSet<String>) -> Option<Vec<Edge>> {
    let mut came: BTreeMap<&str, (&str, &Edge)> = BTreeMap::new();
    let mut queue = VecDeque::from([first]);
    while let Some(from) = queue.pop_front() {
        for edge in edges.get(from).into_iter().flatten().filter(|edge| left.contains(&edge.to)) {
            if came.contains_key(edge.to.as_str()) {
                continue;
            }
            came.insert(&edge.to, (from, edge));
            if edge.to == first {
                let mut way = Vec::new();
                let mut at = first;
                while let Some((from, edge)) = came.get(at) {
                    way.push((*edge).clone());
                    at = from;
                    if at == first {
                        break;
                    }
                }
                way.reverse();
                return Some(way);
            }
            queue.push_back(&edge.to);
        }
    }
    None
}

fn cycle(first: &str, way: &[Edge]) -> Diagnostic {
    let place = way.first().map(|edge| edge.place.clone()).unwrap_or_default();
    if let [edge] = way {
        let word = if edge.required { "requires" } else { "comes after" };
        return Diagnostic::at(place, format!("unit {} {word} itself", quote(first)));
    }
    let mut path = first.to_owned();
    let mut notes = Vec::new();
    let mut from = first;
    for (n, edge) in way.iter().enumerate() {
        path.push_str(" → ");
        path.push_str(&edge.to);
        if n < SHOWN_STEPS {
            let word = if edge.required { "requires" } else { "comes after" };
            notes.push(format!("{from} {word} {} ({})", edge.to, edge.place));
        }
        from = &edge.to;
    }
    if way.len() > SHOWN_STEPS {
        notes.push(format!("and {} more", way.len() - SHOWN_STEPS));
    }
    let message = format!("units wait for each other: {path}; take one of these out");
    Diagnostic { notes, ..Diagnostic::at(place, message) }
}

/// Kahn's algorithm; what is on or behind a cycle is left out.
fn order(edges: &BTreeMap<String, Vec<Edge>>) -> Vec<String> {
    let mut waits: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut waited_for: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, to) in edges {
        let to: BTreeSet<&str> = to.iter().map(|edge| edge.to.as_str()).collect();
        for other in &to {
            waited_for.entry(other).or_default().push(name);
        }
        waits.insert(name, to);
    }
    let mut ready: BTreeSet<&str> =
        waits.iter().filter(|(_, to)| to.is_empty()).map(|(name, _)| *name).collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(name) = ready.pop_first() {
        order.push(name.to_owned());
        for other in waited_for.get(name).into_iter().flatten() {
            if let Some(to) = waits.get_mut(other) {
                to.remove(name);
                if to.is_empty() {
                    ready.insert(other);
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests;
