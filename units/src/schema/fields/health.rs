//! `[health]` and `[ready]`.

use super::*;

/// How it is looked at.
pub(super) const HEALTH: Section<Unit> = Section {
    name: "health",
    doc: "What shows that the unit is well while it runs: `command`, `http` or `tcp`, one of them. A healthy unit is found \
          by its name; one that is not leaves the answers to it.",
    later: &[],
    system: false,
    fields: &[
        Field {
            name: "command",
            required: false,
            default: "none",
            example: "[\"/bin/check\", \"--quick\"]",
            doc: "A program of the image, run in the container as the unit's own is; exit code 0 is health, the last line \
                  that it writes the reason if it is another.",
            set: Set::Texts(&WORD, |unit, words| health(unit).check = Check::Command(only(words))),
        },
        Field {
            name: "http",
            required: false,
            default: "none",
            example: "\"http://localhost:8080/health\"",
            doc: "Asked from inside the container by Berth's own program, so the image needs none: a status from 200 to 399 is \
                  health.",
            set: Set::Text(&HTTP_TARGET, |unit, text| {
                if let Ok(target) = values::http_target(&text) {
                    health(unit).check = Check::Probe(target);
                }
            }),
        },
        Field {
            name: "tcp",
            required: false,
            default: "none",
            example: "\"localhost:5432\"",
            doc: "The same: health is that it takes a connection.",
            set: Set::Text(&TCP_TARGET, |unit, text| {
                if let Ok(target) = values::tcp_target(&text) {
                    health(unit).check = Check::Probe(target);
                }
            }),
        },
        Field {
            name: "interval",
            required: false,
            default: "`\"10s\"`",
            example: "\"30s\"",
            doc: "Pause between two checks. Until the first success they follow each other faster.",
            set: Set::Text(&CHECK_TIME, |unit, text| set_time(&mut health(unit).interval, &text)),
        },
        Field {
            name: "timeout",
            required: false,
            default: "`\"5s\"`",
            example: "\"2s\"",
            doc: "A check that takes longer is killed, and has failed.",
            set: Set::Text(&CHECK_TIME, |unit, text| set_time(&mut health(unit).timeout, &text)),
        },
        Field {
            name: "retries",
            required: false,
            default: "`3`",
            example: "5",
            doc: "So many failures in a row make the unit unhealthy.",
            set: Set::Number(1, 100, |unit, number| {
                health(unit).retries = u32::try_from(number).unwrap_or(1);
            }),
        },
        Field {
            name: "start_period",
            required: false,
            default: "`\"30s\"`",
            example: "\"2m\"",
            doc: "For so long after the start failures do not count, unless a check has succeeded before.",
            set: Set::Text(&TIME, |unit, text| set_time(&mut health(unit).start_period, &text)),
        },
        Field {
            name: "on_failure",
            required: false,
            default: "`\"restart\"`",
            example: "\"none\"",
            doc: "`restart`: an unhealthy unit is stopped, and follows its `[restart]` as after a failure. `none`: it is left \
                  running.",
            set: Set::Choice(&["restart", "none"], &[], |unit, word| health(unit).tolerant = word == "none"),
        },
    ],
};

/// When it counts as ready.
pub(super) const READY: Section<Unit> = Section {
    name: "ready",
    doc: "What shows that the unit has come up, if it is not the first success of `[health]`. Without either a unit counts as \
          healthy when it has run for two seconds.",
    later: &["log_line"],
    system: false,
    fields: &[
        Field {
            name: "port",
            required: false,
            default: "none; the table needs it, or `notify`",
            example: "5432",
            doc: "It takes TCP connections at this port of its own loopback.",
            set: Set::Number(1, 65_535, |unit, number| {
                ready(unit).sign = Sign::Port(u16::try_from(number).unwrap_or(u16::MAX));
            }),
        },
        Field {
            name: "notify",
            required: false,
            default: "no",
            example: "true",
            doc: "It says so itself, as systemd's services do: `READY=1` to the socket that `NOTIFY_SOCKET` names (sd_notify(3)). \
                  `STATUS=` is shown by `berth ps`, `RELOADING=1` and `STOPPING=1` too; nothing else is heard. Any \
                  process of the unit may speak, 32 times a second.",
            set: Set::Bool(|unit, yes| {
                if yes {
                    ready(unit).sign = Sign::Notify;
                }
            }),
        },
        Field {
            name: "timeout",
            required: false,
            default: "`\"1m\"`",
            example: "\"5m\"",
            doc: "Not ready so long after its start, it is stopped and has failed.",
            set: Set::Text(&CHECK_TIME, |unit, text| set_time(&mut ready(unit).timeout, &text)),
        },
    ],
};

fn health(unit: &mut Unit) -> &mut Health {
    unit.health.get_or_insert_with(|| Health {
        check: Check::Command(Vec::new()),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        retries: 3,
        start_period: Duration::from_secs(30),
        tolerant: false,
    })
}

fn ready(unit: &mut Unit) -> &mut Ready {
    unit.ready.get_or_insert(Ready { sign: Sign::Port(0), timeout: Duration::from_secs(60) })
}
