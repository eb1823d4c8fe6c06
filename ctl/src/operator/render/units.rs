//! `berth ps` and `berth inspect`.

use super::human;
use super::style::{Style, Tone};
use super::table::{Cell, Column, Table, cell, pairs, plain};
use berth_units::control::{UnitDetail, UnitStatus};
use berth_units::model::{NetworkMode, Origin, Port, Protocol};
use std::net::Ipv4Addr;

const COLUMNS: [Column; 9] = [
    Column { head: "NAME", right: false, expendable: 0 },
    Column { head: "STATE", right: false, expendable: 0 },
    Column { head: "UP", right: true, expendable: 1 },
    Column { head: "RESTARTS", right: true, expendable: 3 },
    Column { head: "MEMORY", right: true, expendable: 4 },
    Column { head: "ADDRESS", right: false, expendable: 5 },
    Column { head: "PORTS", right: false, expendable: 2 },
    Column { head: "IMAGE", right: false, expendable: 6 },
    Column { head: "NOTE", right: false, expendable: 1 },
];

/// The table of units: the user's, or all.
pub fn ps(units: &[UnitStatus], all: bool, style: Style) -> String {
    let mut table = Table::new(&COLUMNS);
    let mut empty = true;
    for unit in units.iter().filter(|unit| all || unit.origin == Origin::Config) {
        empty = false;
        table.row(vec![
            cell(&unit.name, if unit.origin == Origin::System { Tone::Dim } else { Tone::Plain }),
            cell(&unit.state, tone(&unit.state)),
            plain(unit.uptime_s.map(human::seconds).unwrap_or_default()),
            plain(if unit.restarts == 0 { String::new() } else { unit.restarts.to_string() }),
            plain(unit.memory.map(human::bytes).unwrap_or_default()),
            plain(unit.address.map(|a| a.to_string()).unwrap_or_default()),
            plain(ports(&unit.ports)),
            cell(&unit.image, Tone::Dim),
            note(unit),
        ]);
    }
    if empty && !all {
        return "no units: the machine's config names none (\"berth config status\"); \"berth ps --all\" shows the \
                system's own\n"
            .into();
    }
    table.render(style)
}

/// Why it is as it is, then what isolation it gave up.
fn note(unit: &UnitStatus) -> Cell {
    let privileges = unit.privileges.join(", ");
    match (unit.reason.is_empty(), privileges.is_empty()) {
        (true, _) => cell(privileges, Tone::Dim),
        (false, true) => plain(&unit.reason),
        (false, false) => plain(format!("{}; {privileges}", unit.reason)),
    }
}

/// The colour of a unit's state.
pub fn tone(state: &str) -> Tone {
    match state {
        "healthy" | "running" | "finished" => Tone::Good,
        "failed" | "unhealthy" => Tone::Bad,
        "stopped" => Tone::Dim,
        _ => Tone::Notice,
    }
}

/// As a unit file has them.
pub fn ports(ports: &[Port]) -> String {
    let one = |port: &Port| {
        let address = match port.host_address {
            Ipv4Addr::UNSPECIFIED => String::new(),
            address => format!("{address}:"),
        };
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        format!("{address}{}:{}/{protocol}", port.host, port.container)
    };
    ports.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Everything about one unit.
pub fn inspect(unit: &UnitDetail, style: Style) -> String {
    let status = &unit.status;
    let list = |words: &[String]| if words.is_empty() { "-".to_owned() } else { words.join(", ") };
    let maybe = |word: Option<String>| word.unwrap_or_else(|| "-".to_owned());
    let kind = match status.origin {
        Origin::System => "system unit",
        Origin::Config => "from the machine config",
    };
    let network = match unit.network {
        NetworkMode::Bridge => "bridge",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    };
    let state = match (status.uptime_s, status.reason.as_str()) {
        (Some(up), "") => format!("{}, up {}", status.state, human::seconds(up)),
        (Some(up), reason) => format!("{}, up {} ({reason})", status.state, human::seconds(up)),
        (None, "") => status.state.clone(),
        (None, reason) => format!("{} ({reason})", status.state),
    };
    let users = match unit.uid_base {
        Some(base) => format!("its own, from host uid {base}"),
        None => "the host's".to_owned(),
    };
    let mut text = pairs(
        &[
            ("name", plain(&status.name)),
            ("description", plain(&unit.description)),
            ("origin", plain(kind)),
            ("state", cell(state, tone(&status.state))),
            ("restarts", plain(status.restarts.to_string())),
            ("required for boot", plain(if unit.required_for_boot { "yes" } else { "no" })),
            ("after", plain(list(&unit.after))),
            ("requires", plain(list(&unit.requires))),
            ("image", plain(&status.image)),
            ("digest", plain(maybe(unit.digest.clone()))),
            ("command", plain(command(&unit.command))),
            ("process", plain(maybe(status.pid.map(|p| p.to_string())))),
            ("memory", plain(maybe(status.memory.map(human::bytes)))),
            ("network", plain(network)),
            ("address", plain(maybe(status.address.map(|a| a.to_string())))),
            ("ports", plain(if status.ports.is_empty() { "-".into() } else { ports(&status.ports) })),
            ("users", plain(users)),
            ("privileges", plain(list(&status.privileges))),
            ("cgroup", plain(&unit.cgroup)),
        ],
        style,
    );
    if !unit.exits.is_empty() {
        text.push_str(&style.paint(Tone::Head, "exits, newest last"));
        text.push('\n');
        for exit in &unit.exits {
            text.push_str(&format!("  {}\n", super::style::clean(exit)));
        }
    }
    text
}

/// Words with blanks in them quoted, so that it is seen where one ends.
fn command(words: &[String]) -> String {
    let one = |word: &String| {
        let plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "\"'\\".contains(c));
        if plain { word.clone() } else { format!("{word:?}") }
    };
    if words.is_empty() { "-".into() } else { words.iter().map(one).collect::<Vec<_>>().join(" ") }
}
