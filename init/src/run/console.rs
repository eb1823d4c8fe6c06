//! What the console says: every line that operators read and tests wait for, in one place. A line is a subject
//! (a unit's name, or one of `berth`, `config`, `slot`, `ready`, `stop`), padded, and one sentence.

use super::kernel::Halt;
use super::text;
use berth_units::control::{Copy, Drive, ImageOrder};
use std::time::Duration;

/// Bytes of a program's name that are shown.
const PROGRAM_BYTES: usize = 64;

/// The beginning of a sum, as people compare it.
fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

fn line(subject: &str, sentence: impl std::fmt::Display) -> String {
    format!("{subject:<8} {sentence}")
}

/// First line of the main loop.
pub fn hello(version: &str, slot: &str, hostname: &str) -> String {
    line("berth", format_args!("{version}, slot {slot}, host {hostname}"))
}

/// Rescue, and why.
pub fn rescue(reason: &str) -> String {
    line("berth", format_args!("rescue: {reason}; network and API only, no user units"))
}

/// How an installation goes.
pub fn install(sentence: &str) -> String {
    line("install", sentence)
}

/// An operator has a unit do something.
pub fn driven(unit: &str, order: Drive) -> String {
    line(unit, format_args!("{order} asked for by an operator"))
}

/// The name changed with the config.
pub fn hostname(name: &str) -> String {
    line("berth", format_args!("host {name}"))
}

/// The machine's addresses.
pub fn addresses(addresses: &[(String, String)]) -> String {
    if addresses.is_empty() {
        return line("net", "no address");
    }
    let list: Vec<String> =
        addresses.iter().map(|(interface, address)| format!("{interface} {address}")).collect();
    line("net", list.join(", "))
}

/// The API listens.
pub fn api(port: u16, fingerprint: &str) -> String {
    line("api", format_args!("listening on :{port}, key {fingerprint}"))
}

/// A worker's own sentence.
pub fn status(unit: &str, text: &str) -> String {
    line(unit, text)
}

/// Config in force.
pub fn config_applied(source: &str, sha256: &str, units: usize) -> String {
    let short = short(sha256);
    line("config", format_args!("applied from {source}, sha256:{short}, {units} units"))
}

/// Config refused; the report follows line by line.
pub fn config_refused(source: &str) -> String {
    line("config", format_args!("refused, from {source}:"))
}

/// What follows from it.
pub fn config_note(note: &str) -> String {
    line("config", note)
}

/// One line of a report.
pub fn report(text: &str) -> String {
    format!("         {text}")
}

/// The kept config was made for another machine.
pub fn config_of_another(instance: &str) -> String {
    line("config", format_args!("kept, but of another machine, {instance}: looked for anew"))
}

/// The cloud is asked.
pub fn cloud_asked(cloud: &str, limit: Duration) -> String {
    let seconds = limit.as_secs();
    line(
        "config",
        format_args!("none here; the firmware says that this is {cloud}: asked for {seconds} s at most"),
    )
}

/// No config anywhere.
pub fn config_none() -> String {
    line("config", "none found: DHCP on every interface, no units; looked for:")
}

/// Meta did not come back.
pub fn config_gave_up(why: &str) -> String {
    line("config", format_args!("none: {why}; DHCP on every interface, no units"))
}

/// The config could not be kept.
pub fn config_not_stored(why: &str) -> String {
    line("config", format_args!("not kept, it will be looked for again at the next boot: {why}"))
}

/// An operator wants the source asked again.
pub fn config_again() -> String {
    line("config", "looked for again, as an operator asks")
}

/// An operator wants another config, which passed.
pub fn config_sent(why: &str, sha256: &str, confirm: Option<Duration>) -> String {
    let short = short(sha256);
    let until = confirm.map_or(String::new(), |time| {
        format!(", goes back after {} unless it is confirmed", text::seconds(time))
    });
    line("config", format_args!("{why}, sha256:{short}{until}"))
}

/// It is to stay.
pub fn config_confirmed() -> String {
    line("config", "confirmed by an operator")
}

/// It was not confirmed.
pub fn config_reverted() -> String {
    line("config", "not confirmed in time: the one before is put back")
}

/// It could not be kept, and so is not in force.
pub fn config_not_applied(why: &str) -> String {
    line("config", format_args!("what an operator sent is not in force, it cannot be kept: {why}"))
}

/// A line of the history could not be written.
pub fn generation_not_written(number: u64, why: &str) -> String {
    line("config", format_args!("generation {number} is not in the history: {why}"))
}

/// A unit that another config does not have is down.
pub fn unit_gone(unit: &str) -> String {
    line(unit, "is not in the config any more")
}

/// A transient unit is down, and nothing of it left.
pub fn removed(unit: &str) -> String {
    line(unit, "removed")
}

/// An operator has removed a volume.
pub fn volume_removed(volume: &str) -> String {
    line("berth", format_args!("volume {volume} removed by an operator"))
}

/// Another config takes the place of the kept one.
pub fn config_kept(source: &str, sha256: &str) -> String {
    let short = short(sha256);
    line("config", format_args!("from {source}, sha256:{short}, is kept and in force from the next boot"))
}

/// Another config was refused; the report follows line by line.
pub fn config_not_replaced(source: &str) -> String {
    line("config", format_args!("refused, from {source}; what is in force stays:"))
}

/// No other config anywhere.
pub fn config_not_found_again() -> String {
    line("config", "none found; what is in force stays")
}

/// The source could not be asked again, or its config not be kept.
pub fn config_reload_failed(why: &str) -> String {
    line("config", format_args!("not replaced: {why}"))
}

/// A transient unit.
pub fn run(unit: &str, image: &str) -> String {
    line(unit, format_args!("run by an operator (image {image}), until the machine starts again"))
}

/// A unit's program runs.
pub fn running(unit: &str, image: &str) -> String {
    line(unit, format_args!("running (image {image})"))
}

/// Nothing of the machine is kept from a unit that starts.
pub fn privileged(unit: &str, given_up: &[String]) -> String {
    line(unit, format_args!("can do anything to this machine: {}", given_up.join(", ")))
}

/// A unit is healthy.
pub fn healthy(unit: &str) -> String {
    line(unit, "healthy")
}

/// An operator's command runs in a unit. Its program is told, not its arguments: they may hold a secret.
pub fn entered(unit: &str, command: &[String]) -> String {
    let program = text::bounded(command.first().map_or("", String::as_str), PROGRAM_BYTES);
    line(unit, format_args!("{program:?} run in it by an operator"))
}

/// An operator copies a file or a folder.
pub fn copied(unit: &str, copy: &Copy) -> String {
    let (word, path) = match copy {
        Copy::Read { path, .. } => ("read by", path),
        Copy::Write { path, .. } => ("written by", path),
    };
    line(unit, format_args!("{:?} {word} an operator", text::bounded(path, PROGRAM_BYTES)))
}

/// Any other state.
pub fn state(unit: &str, state: &str, reason: &str) -> String {
    if reason.is_empty() { line(unit, state) } else { line(unit, format_args!("{state}: {reason}")) }
}

/// The slot is good, and the record says so.
pub fn slot_good(slot: &str, now: Duration) -> String {
    line("slot", format_args!("{slot} is good, everything healthy at {}", text::seconds(now)))
}

/// A rescue can be reached: the next start is a normal one.
pub fn slot_rescued(slot: &str) -> String {
    line("slot", format_args!("{slot} can be reached in rescue; the next start is a normal one"))
}

/// Updates: what was found, done, decided.
pub fn update(what: &str) -> String {
    line("update", what)
}

/// The slot is healthy, but the record was not written.
pub fn slot_not_written(slot: &str, why: &str) -> String {
    line("slot", format_args!("{slot} is healthy, but the boot record was not written: {why}"))
}

/// The slot is not good, but there is nothing better to start.
pub fn slot_degraded(slot: &str, reason: &str) -> String {
    line("slot", format_args!("{slot} is degraded: {reason}"))
}

/// The slot on trial has failed.
pub fn slot_failed(slot: &str, reason: &str) -> String {
    line("slot", format_args!("{slot} failed its trial: {reason}; rebooting"))
}

/// The slot is broken.
pub fn slot_broken(slot: &str, reason: &str) -> String {
    line("slot", format_args!("{slot} is broken: {reason}; rebooting"))
}

/// End of the boot: every unit has had its first try.
pub fn ready(first_container: Option<Duration>, now: Duration, up: usize, of: usize) -> String {
    match first_container {
        Some(at) => line(
            "ready",
            format_args!(
                "first container at {}, {up} of {of} units up at {}",
                text::seconds(at),
                text::seconds(now)
            ),
        ),
        None => line("ready", format_args!("no container, {up} of {of} units up at {}", text::seconds(now))),
    }
}

/// What nothing needed was removed.
pub fn collected(images: u64, layers: u64, bytes: u64) -> String {
    line("store", format_args!("removed what nothing needs: {}", text::removed(images, layers, bytes)))
}

/// An operator has something done with images.
pub fn ordered(order: &ImageOrder) -> String {
    line("store", format_args!("{order} asked for by an operator"))
}

/// It was not, or not all of it.
pub fn not_collected(why: &str) -> String {
    line("store", format_args!("what nothing needs was not removed: {why}"))
}

/// The machine goes down.
pub fn halting(halt: Halt, why: &str) -> String {
    let verb = match halt {
        Halt::Reboot => "reboot",
        Halt::Poweroff => "power off",
        Halt::Halt => "halt",
    };
    line("stop", format_args!("{verb}: {why}"))
}

/// Units were killed because time ran out.
pub fn halt_killed(units: &[String]) -> String {
    line("stop", format_args!("killed, they did not stop in time: {}", units.join(", ")))
}

/// A last step that failed, or did not end.
pub fn gave_up(doing: &str, why: &str) -> String {
    let doing = if doing.is_empty() { "the last steps" } else { doing };
    line("stop", format_args!("gave up {doing}: {why}"))
}

/// The last line of a machine that is halted.
pub const HALTED: &str = "halted; the machine may be switched off";

/// Last line before the last steps.
pub fn halt_finish() -> String {
    line("stop", "all units stopped; syncing and unmounting")
}
