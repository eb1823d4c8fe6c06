//! The table as a picture and as a page: `docs/lifecycle.md` is this.

use super::State;
use super::table::{Next, Row, TABLE, When};
use crate::limits;
use crate::schema::values::show_time;
use std::fmt::Write as _;

/// What `Life::settle` may answer.
const SETTLED: [State; 5] = [State::Stopped, State::Waiting, State::Backoff, State::Failed, State::Finished];

/// A Mermaid state diagram of the table.
pub fn diagram() -> String {
    let mut out = String::from("stateDiagram-v2\n    [*] --> stopped\n    state settle <<choice>>\n");
    for from in State::ALL {
        let mut edges: Vec<(&str, Vec<String>)> = Vec::new();
        for row in TABLE.iter().filter(|row| row.state == from) {
            let to = match row.next {
                Next::Stay => continue,
                Next::To(to) if to == from => continue,
                Next::To(to) => to.word(),
                Next::Settle => "settle",
            };
            let label = format!("{:?}", row.event);
            match edges.iter_mut().find(|(known, _)| *known == to) {
                Some((_, labels)) => labels.push(label),
                None => edges.push((to, vec![label])),
            }
        }
        for (to, labels) in edges {
            let _ = writeln!(out, "    {} --> {to}: {}", from.word(), labels.join(", "));
        }
    }
    for to in SETTLED {
        let _ = writeln!(out, "    settle --> {}", to.word());
    }
    out
}

fn cells(row: &Row) -> [String; 5] {
    let when = match row.when {
        When::Always => "",
        When::Empty => "cgroup empty",
        When::Over => "cgroup empty and exit known",
        When::Settles => "it has no check",
        When::Tolerant => "`on_failure = \"none\"`",
        When::Intolerant => "`on_failure = \"restart\"`",
    };
    let next = match row.next {
        Next::Stay => "(stays)".to_owned(),
        Next::To(to) => to.word().to_owned(),
        Next::Settle => "*settle*".to_owned(),
    };
    let effects: Vec<String> = row.effects.iter().map(|effect| format!("{effect:?}")).collect();
    [row.state.word().to_owned(), format!("{:?}", row.event), when.to_owned(), next, effects.join(", ")]
}

/// The whole of `docs/lifecycle.md`.
pub fn page() -> String {
    let mut out = String::from(
        "# The life of a unit\n\n\
         Generated from the transition table in `units/src/lifecycle/table.rs`; a test compares the two. What the \
         words mean, and why it is so, stands at the top of `units/src/lifecycle.rs`.\n\n```mermaid\n",
    );
    out.push_str(&diagram());
    out.push_str(
        "```\n\n*settle* is where a run has ended (or an image could not be had):\n\n\
         | wanted | restart policy | ended | next |\n|---|---|---|---|\n\
         | no | any | any | stopped |\n\
         | stopped, then wanted again | any | any | waiting |\n\
         | yes | no, on-failure | with success | finished |\n\
         | yes | no | with failure | failed |\n\
         | yes | on-failure | with failure | backoff; failed when `limit` restarts lie within `interval` |\n\
         | yes | always | any | backoff; failed when `limit` restarts lie within `interval` |\n\n",
    );
    out.push_str("| state | its timer | when it runs out |\n|---|---|---|\n");
    let timers = [
        (State::Preparing, show_time(limits::PREPARE_AGAIN), "the store is asked again"),
        (State::Starting, show_time(limits::START_LIMIT), "the start is given up and killed"),
        (
            State::Running,
            format!("{}, units without a check that are not workers", show_time(limits::SETTLE)),
            "healthy",
        ),
        (State::Stopping, "`stop_timeout`".to_owned(), "the cgroup is killed"),
        (
            State::Killing,
            show_time(limits::KILL_AGAIN),
            "the cgroup is killed again; or, if it is empty, the exit status is given up",
        ),
        (State::Backoff, "`delay`, doubled up to `max_delay`".to_owned(), "the unit is restarted"),
    ];
    for (state, timer, then) in timers {
        let _ = writeln!(out, "| {state} | {timer} | {then} |");
    }
    out.push_str(
        "\nThe table. What is not in it changes nothing. Entering a state arms its timer or disarms the former one; \
         every change of state ends with `Changed`.\n\n\
         | state | event | if | next | effects |\n|---|---|---|---|---|\n",
    );
    for row in TABLE {
        let _ = writeln!(out, "| {} |", cells(row).join(" | "));
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_docs_is_this_one() {
        crate::bless::check("docs/lifecycle.md", &super::page());
    }
}
