//! The machine as a whole: boot times, slots, config, machine.

use super::human;
use super::style::{Style, Tone, clean};
use super::table::{Column, Table, cell, pairs, plain};
use berth_units::control::{BootTimes, ConfigChange, ConfigReload, ConfigStatus, MachineStatus, SlotsStatus};

/// `berth boot-times`.
pub fn boot_times(times: &BootTimes, style: Style) -> String {
    let phases = [
        ("firmware", times.firmware_us),
        ("loader", times.loader_us),
        ("kernel", Some(times.kernel_us)),
        ("initrd", Some(times.initrd_us)),
        ("first container, since the kernel started", times.first_container_us),
    ];
    let known: Vec<_> =
        phases.iter().filter_map(|(name, us)| us.map(|us| (*name, plain(human::micros(us))))).collect();
    let mut text = pairs(&known, style);
    let mut table = Table::new(&[
        Column { head: "STAGE", right: false, expendable: 2 },
        Column { head: "STEP", right: false, expendable: 0 },
        Column { head: "AT", right: true, expendable: 1 },
        Column { head: "TOOK", right: true, expendable: 0 },
        Column { head: "OUTCOME", right: false, expendable: 0 },
    ]);
    for step in &times.steps {
        let (outcome, tone) =
            if step.outcome.is_empty() { ("done", Tone::Good) } else { (step.outcome.as_str(), Tone::Bad) };
        table.row(vec![
            cell(&step.stage, Tone::Dim),
            plain(&step.name),
            plain(human::micros(step.start_us)),
            plain(human::micros(step.took_us)),
            cell(outcome, tone),
        ]);
    }
    text.push('\n');
    text + &table.render(style)
}

/// `berth slots`.
pub fn slots(slots: &SlotsStatus, style: Style) -> String {
    let firmware = match slots.firmware.as_str() {
        "uefi" => "UEFI",
        "bios" => "BIOS",
        "direct" => "a direct boot",
        other => other,
    };
    let mut text = format!("running slot {} by {}, ", clean(&slots.running), clean(firmware));
    text.push_str(&if slots.confirmed {
        style.paint(Tone::Good, "found healthy")
    } else {
        style.paint(Tone::Notice, "not yet found healthy")
    });
    if let Some(good) = &slots.good {
        text.push_str(&format!("; good slot {}", clean(good)));
        match slots.starts {
            0 => {}
            1 => text.push_str(", started once since it was last healthy"),
            n => text.push_str(&format!(", started {n} times since it was last healthy")),
        }
    }
    if let Some((slot, tries)) = &slots.trial {
        text.push_str(&format!("; slot {} on trial, {tries} tries left", clean(slot)));
    }
    text.push('\n');
    if let Some(why) = &slots.rescue {
        text.push_str(&style.paint(Tone::Bad, &format!("rescue: {}", clean(why))));
        text.push('\n');
    }
    if let Some(note) = &slots.record_note {
        text.push_str(&style.paint(Tone::Notice, &format!("when this boot began: {}", clean(note))));
        text.push('\n');
    }
    let mut table = Table::new(&[
        Column { head: "SLOT", right: false, expendable: 0 },
        Column { head: "STATE", right: false, expendable: 0 },
        Column { head: "VERSION", right: false, expendable: 1 },
        Column { head: "ROOT HASH", right: false, expendable: 2 },
        Column { head: "WHY", right: false, expendable: 1 },
    ]);
    for slot in &slots.slots {
        let tone = match slot.state.as_str() {
            "good" => Tone::Good,
            "failed" => Tone::Bad,
            "empty" | "spare" => Tone::Dim,
            _ => Tone::Notice,
        };
        table.row(vec![
            plain(&slot.name),
            cell(&slot.state, tone),
            plain(&slot.version),
            // Enough to tell two apart; --json has all of it.
            plain(slot.root_hash.chars().take(12).collect::<String>()),
            plain(&slot.reason),
        ]);
    }
    text.push_str(&table.render(style));
    if let Some(panic) = &slots.panic {
        text.push_str("the kernel panicked in an earlier start, and said:\n");
        for line in panic.lines() {
            text.push_str(&format!("  {}\n", clean(line)));
        }
    }
    text
}

/// `berth config status`.
pub fn config(config: &ConfigStatus, style: Style) -> String {
    let (sentence, tone) = match config.state.as_str() {
        "applied" => (format!("config applied, from {}", config.source), Tone::Good),
        "refused" => (format!("config from {} REFUSED, no unit of it runs", config.source), Tone::Bad),
        "none" => ("no config found".to_owned(), Tone::Notice),
        "reading" => ("still looking for a config".to_owned(), Tone::Notice),
        other => (other.to_owned(), Tone::Notice),
    };
    let mut text = style.paint(tone, &clean(&sentence)) + "\n";
    if !config.note.is_empty() {
        text.push_str(&clean(&config.note));
        text.push('\n');
    }
    if !config.instance.is_empty() {
        text.push_str(&format!("instance {}\n", clean(&config.instance)));
    }
    if !config.sha256.is_empty() {
        text.push_str(&format!("sha256 {}\n", clean(&config.sha256)));
    }
    text.push_str(&notes(&config.notes));
    if !config.looked.is_empty() {
        text.push_str("looked for, in this order:\n");
        for line in &config.looked {
            text.push_str(&format!("  {}\n", clean(line)));
        }
    }
    if !config.report.is_empty() {
        text.push('\n');
        text.push_str(&lines(&config.report));
    }
    if let Some(again) = &config.reload {
        text.push_str("\nasked for again: ");
        text.push_str(&reload(again, style));
    }
    text
}

/// What of a config has no effect.
fn notes(notes: &[String]) -> String {
    let lines: String = notes.iter().map(|note| format!("  {}\n", clean(note))).collect();
    if lines.is_empty() { lines } else { format!("notes:\n{lines}") }
}

/// `berth config reload`.
pub fn reload(reload: &ConfigReload, style: Style) -> String {
    let source = &reload.source;
    let (sentence, tone) = match reload.state.as_str() {
        "kept" => (format!("config from {source} kept; in force from the next boot"), Tone::Good),
        "refused" => (format!("config from {source} REFUSED, nothing has changed"), Tone::Bad),
        "none" => ("no config found, nothing has changed".to_owned(), Tone::Bad),
        "failed" => ("not done, nothing has changed".to_owned(), Tone::Bad),
        "reading" | "keeping" => ("not done yet".to_owned(), Tone::Notice),
        other => (other.to_owned(), Tone::Notice),
    };
    let mut text = style.paint(tone, &clean(&sentence)) + "\n";
    if reload.state == "none" {
        text.push_str("looked for, in this order:\n");
        text.extend(reload.looked.iter().map(|line| format!("  {}\n", clean(line))));
    }
    text + &notes(&reload.notes) + &lines(&reload.report)
}

/// What another config changes.
pub fn change(change: &ConfigChange, style: Style) -> String {
    let mut text = String::new();
    let mut line = |sign: &str, tone: Tone, words: String| {
        text.push_str(&style.paint(tone, &format!("{sign} {}", clean(&words))));
        text.push('\n');
    };
    for unit in &change.added {
        line("+", Tone::Good, format!("unit {unit}"));
    }
    for unit in &change.removed {
        line("-", Tone::Bad, format!("unit {unit}"));
    }
    for unit in &change.changed {
        let tables: Vec<String> = unit.tables.iter().map(|table| format!("[{table}]")).collect();
        let how = if unit.restarts { "restarted" } else { "goes on running" };
        line("~", Tone::Notice, format!("unit {}: {}; {how}", unit.unit, tables.join(" ")));
    }
    for what in &change.machine {
        line("~", Tone::Notice, what.clone());
    }
    for what in &change.next_boot {
        line("~", Tone::Notice, format!("{what}: in force from the next boot"));
    }
    if text.is_empty() { "nothing changes\n".to_owned() } else { text }
}

fn lines(report: &str) -> String {
    report.lines().map(|line| clean(line) + "\n").collect()
}

/// `berth machine`.
pub fn machine(machine: &MachineStatus, style: Style) -> String {
    let addresses: Vec<String> = machine.addresses.iter().map(|(i, a)| format!("{a} on {i}")).collect();
    let memory = format!(
        "{} of {} available, PID 1 uses {}",
        human::bytes(machine.memory_available_kib.saturating_mul(1024)),
        human::bytes(machine.memory_kib.saturating_mul(1024)),
        human::bytes(machine.pid1_rss_kib.saturating_mul(1024)),
    );
    let state = match (machine.state_problem.as_str(), machine.state_note.as_str()) {
        ("", "") => cell("state partition in use", Tone::Good),
        ("", note) => cell(format!("state partition in use; at this start: {note}"), Tone::Good),
        (problem, _) => cell(format!("TEMPORARY: {problem}"), Tone::Bad),
    };
    let clock = &machine.clock;
    let said = match clock.ago_s {
        Some(ago) => format!("; {} ago: {}", human::seconds(ago), clock.said),
        None => String::new(),
    };
    let now = human::utc(clock.now_s);
    let clock = match clock.set {
        true => cell(format!("{now}, set{said}"), Tone::Good),
        false => cell(format!("{now}, NOT SET{said}; \"berth ps --all\" shows what time says"), Tone::Bad),
    };
    pairs(
        &[
            ("name", plain(&machine.hostname)),
            ("machine id", plain(&machine.machine_id)),
            ("version", plain(&machine.version)),
            ("kernel", plain(&machine.kernel)),
            ("up", plain(human::seconds(machine.uptime_s))),
            ("clock", clock),
            ("addresses", plain(if addresses.is_empty() { "none".into() } else { addresses.join(", ") })),
            ("memory", plain(memory)),
            ("state", state),
        ],
        style,
    )
}
