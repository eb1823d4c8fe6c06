//! Every field of a unit file. The reference page and the parser both come from here.

mod container;
mod health;
mod resources;
mod system;

use super::table::{Field, Section, Set};
use super::values::{self, *};
use crate::diag::Place;
use crate::limits;
use crate::model::{
    Check, Content, Dependency, Health, NetworkMode, Ready, RestartPolicy, Sign, SystemGrants, Unit,
};
use std::time::Duration;

/// Tables of the design that this version does not have.
pub(crate) const LATER: &[&str] = &["schedule", "logs", "update"];

/// A unit file.
pub(crate) const UNIT_FILE: &[Section<Unit>] = &[
    Section {
        name: "",
        doc: "Beside the tables below.",
        later: &[],
        system: false,
        fields: &[Field {
            name: "secrets",
            required: false,
            default: "`{}`",
            example: "{ db-password = \"shop-db-password\" }",
            doc: "Secrets for the program, by reference: `/run/secrets/NAME` is a file in memory that holds the text which the \
                  machine config has under the name behind it, in `[secrets]` or `[files]`. It belongs to the unit's \
                  user, with mode 0400.",
            set: Set::Pairs(&CONTENT_NAME, &CONTENT_NAME, |unit, pairs| {
                unit.secrets = pairs.into_iter().map(|(name, from)| (name, content(from))).collect();
            }),
        }],
    },
    Section {
        name: "unit",
        doc: "What the unit is, and what it waits for.",
        later: &["wants", "conflicts"],
        system: false,
        fields: &[
            Field {
                name: "description",
                required: false,
                default: "`\"\"`",
                example: "\"The shop\"",
                doc: "One line for people.",
                set: Set::Text(&LINE, |unit, text| unit.description = text),
            },
            Field {
                name: "after",
                required: false,
                default: "`[]`",
                example: "[\"db:ready\"]",
                doc: "Start only when these units run or have finished; with `:ready` behind the name when they are healthy, with \
                      `:completed` when they have ended with success. Of a unit with several instances one is enough (all for \
                      `:completed`). A unit that does not exist, is not wanted or has failed is not waited for. They also \
                      stop only after this one.",
                set: Set::Texts(&DEPENDENCY, |unit, names| {
                    (unit.after, unit.places.after) = dependencies(names);
                }),
            },
            Field {
                name: "requires",
                required: false,
                default: "`[]`",
                example: "[\"db\"]",
                doc: "As `after`, and these units must exist; if one fails for good, this one is not started.",
                set: Set::Texts(&DEPENDENCY, |unit, names| {
                    (unit.requires, unit.places.requires) = dependencies(names);
                }),
            },
            Field {
                name: "instances",
                required: false,
                default: "`1`",
                example: "3",
                doc: "Containers of this unit. With more than one they are called NAME.1, NAME.2 and so on, each with its own \
                      state, log and address, and share the volumes; the unit's name leads by DNS to all that are healthy. \
                      They cannot publish ports.",
                set: Set::Number(1, limits::INSTANCES as u64, |unit, number| {
                    unit.instances = u32::try_from(number).unwrap_or(1);
                }),
            },
            Field {
                name: "enabled",
                required: false,
                default: "`true`",
                example: "false",
                doc: "Whether it is started with the machine. What is not can be started by an operator, until the machine \
                      goes down. `berth stop --disable` and `berth start --enable` write this field.",
                set: Set::Bool(|unit, yes| unit.enabled = yes),
            },
            Field {
                name: "required_for_boot",
                required: false,
                default: "`false`",
                example: "true",
                doc: "A freshly updated system is kept only once this unit is healthy; else the machine goes back to \
                      the slot that it ran before.",
                set: Set::Bool(|unit, yes| unit.required_for_boot = yes),
            },
        ],
    },
    container::CONTAINER,
    Section {
        name: "network",
        doc: "How the unit is connected.",
        later: &["dns", "aliases"],
        system: false,
        fields: &[
            Field {
                name: "mode",
                required: false,
                default: "`\"bridge\"`",
                example: "\"bridge\"",
                doc: "`bridge`: an own network with an address behind the machine's. `host`: the machine's own network. \
                      `none`: no network but loopback.",
                set: Set::Choice(&["bridge", "host", "none"], &["unit:"], |unit, word| {
                    unit.network.mode = match word {
                        "host" => NetworkMode::Host,
                        "none" => NetworkMode::None,
                        _ => NetworkMode::Bridge,
                    };
                }),
            },
            Field {
                name: "ports",
                required: false,
                default: "`[]`",
                example: "[\"8080:80\", \"127.0.0.1:5353:53/udp\"]",
                doc: "Ports of the machine that lead into the unit: `machine:container`, with an address of the machine \
                      in front if not all are meant, and `/udp` behind if it is not TCP. Only with `mode = \"bridge\"`. \
                      No two units can have the same one.",
                set: Set::Texts(&PORT, |unit, texts| {
                    let ports = texts
                        .into_iter()
                        .filter_map(|(text, place)| Some((values::port(&text).ok()?, place)));
                    (unit.network.ports, unit.places.ports) = ports.unzip();
                }),
            },
        ],
    },
    resources::RESOURCES,
    Section {
        name: "restart",
        doc: "What follows when the program ends by itself. Times are whole numbers with `ms`, `s`, `m`, `h` or `d`, \
              several of them behind each other if need be.",
        later: &["backoff", "on_limit"],
        system: false,
        fields: &[
            Field {
                name: "policy",
                required: false,
                default: "`\"always\"`",
                example: "\"on-failure\"",
                doc: "`always`: it is started again. `on-failure`: only if it ended with an exit code other than 0, or by \
                      a signal. `no`: never.",
                set: Set::Choice(&["always", "on-failure", "no"], &[], |unit, word| {
                    unit.restart.policy = match word {
                        "no" => RestartPolicy::No,
                        "on-failure" => RestartPolicy::OnFailure,
                        _ => RestartPolicy::Always,
                    };
                }),
            },
            Field {
                name: "delay",
                required: false,
                default: "`\"500ms\"`",
                example: "\"1s\"",
                doc: "Pause before the first restart. It doubles with each one, and is as short again after a run of at \
                      least `max_delay`.",
                set: Set::Text(&DELAY, |unit, text| set_time(&mut unit.restart.delay, &text)),
            },
            Field {
                name: "max_delay",
                required: false,
                default: "`\"1m\"`",
                example: "\"5m\"",
                doc: "Longest pause.",
                set: Set::Text(&DELAY, |unit, text| set_time(&mut unit.restart.max_delay, &text)),
            },
            Field {
                name: "limit",
                required: false,
                default: "`10`",
                example: "5",
                doc: "After so many restarts within `interval` the unit has failed and stays down until the \
                      next boot. 0: no limit.",
                set: Set::Number(0, limits::RESTARTS_REMEMBERED as u64, |unit, number| {
                    unit.restart.limit = u32::try_from(number).unwrap_or(u32::MAX);
                }),
            },
            Field {
                name: "interval",
                required: false,
                default: "`\"10m\"`",
                example: "\"1h\"",
                doc: "See `limit`.",
                set: Set::Text(&INTERVAL, |unit, text| set_time(&mut unit.restart.interval, &text)),
            },
        ],
    },
    health::HEALTH,
    health::READY,
    system::SYSTEM,
];

/// The strings without their places.
fn only(texts: Vec<(String, Place)>) -> Vec<String> {
    texts.into_iter().map(|(text, _)| text).collect()
}

fn content(from: String) -> Content {
    Content { from, text: None }
}

fn set_time(field: &mut Duration, text: &str) {
    if let Ok(time) = values::time(text) {
        *field = time;
    }
}

fn dependencies(texts: Vec<(String, Place)>) -> (Vec<Dependency>, Vec<Place>) {
    texts.into_iter().filter_map(|(text, place)| Some((values::dependency(&text).ok()?, place))).unzip()
}
