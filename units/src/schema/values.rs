//! What single values must look like. Each check says what is wrong; the form's `expected` says what would be right.

use super::table::Form;
use crate::control::{KERNEL_LOG, OWN_LOG};
use crate::diag::{nearest, quote};
use crate::limits;
use crate::model::{
    CAPABILITIES, Content, DEFAULT_CAPABILITIES, Dependency, Device, Mount, MountSource, Port, Protocol,
    SystemMount, Until, Volume,
};
use crate::probe::Target;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Checked length of one image reference, path or hostname, bytes: the kernel's longest path.
const LONGEST_PATH: usize = 4095;
const LONGEST_IMAGE: usize = 255;
/// Linux's HOST_NAME_MAX.
const LONGEST_HOSTNAME: usize = 64;

pub(crate) const LINE: Form = Form { expected: "one line of text such as \"The shop\"", check: line };
pub(crate) const DEPENDENCY: Form = Form {
    expected: "a unit's name such as \"db\", \"db:ready\" or \"job:completed\"",
    check: |text| dependency(text).map(|_| ()),
};
pub(crate) const HTTP_TARGET: Form = Form {
    expected: "an address such as \"http://localhost:8080/health\"",
    check: |text| http_target(text).map(|_| ()),
};
pub(crate) const TCP_TARGET: Form =
    Form { expected: "an address such as \"localhost:5432\"", check: |text| tcp_target(text).map(|_| ()) };
pub(crate) const TIME: Form =
    Form { expected: "a time such as \"30s\"", check: |text| time(text).map(|_| ()) };
pub(crate) const CHECK_TIME: Form = Form { expected: "a time such as \"10s\"", check: check_time };
pub(crate) const IMAGE: Form = Form { expected: "an image such as \"example.org/web:1\"", check: image };
pub(crate) const WORD: Form = Form { expected: "a string such as \"--port=80\"", check: word };
pub(crate) const ENV_NAME: Form = Form { expected: "a variable's name such as \"PORT\"", check: env_name };
pub(crate) const ENV_VALUE: Form = Form { expected: "a string such as \"80\"", check: word };
pub(crate) const CONTENT_NAME: Form =
    Form { expected: "a name such as \"db-password\"", check: content_name };
pub(crate) const PATH: Form = Form { expected: "an absolute path such as \"/srv\"", check: path };
pub(crate) const TMPFS_PATH: Form = Form { expected: "an absolute path such as \"/tmp\"", check: tmpfs_path };
pub(crate) const TMPFS_SIZE: Form = Form { expected: "a size such as \"64M\"", check: tmpfs_size };
pub(crate) const MEMORY: Form = Form { expected: "a size such as \"64M\"", check: memory };
pub(crate) const SWAP: Form =
    Form { expected: "a size such as \"64M\", or \"0\"", check: |text| size(text).map(|_| ()) };
pub(crate) const USER: Form = Form { expected: "a user such as \"1000:1000\" or \"www-data\"", check: user };
pub(crate) const PORT: Form =
    Form { expected: "a port such as \"8080:80\" or \"127.0.0.1:5353:53/udp\"", check: is_port };
pub(crate) const DELAY: Form = Form { expected: "a time such as \"500ms\" or \"1m30s\"", check: delay };
pub(crate) const INTERVAL: Form = Form { expected: "a time such as \"10m\"", check: interval };
pub(crate) const STOP_TIME: Form = Form { expected: "a time such as \"10s\"", check: stop_time };
pub(crate) const CAPABILITY: Form =
    Form { expected: "a capability such as \"NET_ADMIN\"", check: capability };
pub(crate) const MOUNT: Form = Form { expected: "a mount such as \"/run/x:/run/x:rw\"", check: is_mount };
pub(crate) const UNIT_MOUNT: Form = Form {
    expected: "a mount such as \"shop.conf:/etc/shop.conf\"",
    check: |text| unit_mount(text).map(|_| ()),
};
pub(crate) const DEVICE: Form = Form {
    expected: "a device such as \"/dev/fuse\" or \"/dev/ttyS1:/dev/modem\"",
    check: |text| device(text).map(|_| ()),
};
pub(crate) const IO_RATE: Form = Form { expected: "a size such as \"10M\"", check: io_rate };
pub(crate) const VOLUME: Form =
    Form { expected: "a volume such as \"data:/var/lib/data\"", check: |text| volume(text).map(|_| ()) };
pub(crate) const SIGNAL: Form = Form { expected: "a signal such as \"SIGQUIT\"", check: signal };
pub(crate) const CAPABILITIES_OR_DEFAULT: Form =
    Form { expected: "capabilities such as [\"default\", \"NET_ADMIN\"]", check: capability_or_default };
pub(crate) const CPUSET: Form = Form { expected: "CPUs such as \"0-3,6\"", check: cpuset };
pub(crate) const HOSTNAME: Form =
    Form { expected: "a name such as \"node1\" or \"node1.example.org\"", check: hostname };
pub(crate) const ACCESS_KEY: Form =
    Form { expected: "a line such as \"ssh-ed25519 AAAA… me\"", check: super::keys::check };

fn line(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        Err("has a line break or control character".into())
    } else {
        Ok(())
    }
}

/// A unit's name: cgroup, folder, hostname and DNS label at once.
pub(crate) fn unit_name(text: &str) -> Result<(), String> {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.len() > limits::NAME_BYTES {
        return Err(format!("is longer than {} bytes", limits::NAME_BYTES));
    }
    if text == OWN_LOG {
        return Err("is Berth's own name, under which its log is kept".into());
    }
    if text == KERNEL_LOG {
        return Err("is the kernel's name, under which its log is kept".into());
    }
    if !bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-') {
        return Err("may only have a–z, 0–9 and -".into());
    }
    if !edge(bytes.first()) || !edge(bytes.last()) {
        return Err("must begin and end with a letter or digit".into());
    }
    Ok(())
}

/// `db`, `db:ready`.
pub(crate) fn dependency(text: &str) -> Result<Dependency, String> {
    let (unit, word) = text.split_once(':').map_or((text, None), |(unit, word)| (unit, Some(word)));
    unit_name(unit)?;
    let until = match word {
        None => Until::default(),
        Some(word) => [Until::Started, Until::Ready, Until::Completed]
            .into_iter()
            .find(|until| until.word() == word)
            .ok_or_else(|| format!("has {}; a unit is started, ready or completed", quote(word)))?,
    };
    Ok(Dependency { unit: unit.to_owned(), until })
}

/// `http://localhost:8080/health`.
pub(crate) fn http_target(text: &str) -> Result<Target, String> {
    match Target::parse(text) {
        Ok(target @ Target::Http { .. }) => Ok(target),
        Ok(Target::Tcp { .. }) => Err("begins with tcp:; that is another field, tcp".to_owned()),
        Err(why) => Err(format!("is not understood: {why}")),
    }
}

/// `localhost:5432`.
pub(crate) fn tcp_target(text: &str) -> Result<Target, String> {
    Target::parse(&format!("tcp:{text}")).map_err(|why| format!("is not understood: {why}"))
}

fn check_time(text: &str) -> Result<(), String> {
    let time = time(text)?;
    if time < limits::SHORTEST_CHECK {
        return Err(format!("is shorter than {}", show_time(limits::SHORTEST_CHECK)));
    }
    if time > limits::LONGEST_CHECK {
        return Err(format!("is longer than {}", show_time(limits::LONGEST_CHECK)));
    }
    Ok(())
}

fn image(text: &str) -> Result<(), String> {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':');
    if name.is_empty() {
        return Err("is empty".into());
    }
    if text.len() > LONGEST_IMAGE {
        return Err(format!("is longer than {LONGEST_IMAGE} bytes"));
    }
    if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        return Err(format!("has {}, which no image name has", quote(&bad.to_string())));
    }
    match digest {
        None => Ok(()),
        Some(digest) => {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                Ok(())
            } else {
                Err("has something other than sha256: and 64 lower-case hex digits after @".into())
            }
        }
    }
}

fn word(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        Err("has a NUL character, which no program can be given".into())
    } else {
        Ok(())
    }
}

fn env_name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.contains(['=', '\0']) { Err("has = or NUL".into()) } else { Ok(()) }
}

/// A file name: of a secret, or of a file that the config carries.
pub(crate) fn content_name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > limits::CONTENT_NAME_BYTES {
        return Err(format!("has not 1 to {} bytes", limits::CONTENT_NAME_BYTES));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err("may only have letters, digits, and . _ -".into());
    }
    if text.starts_with(['.', '-']) { Err("begins with a dot or dash".into()) } else { Ok(()) }
}

fn path(text: &str) -> Result<(), String> {
    word(text)?;
    if !text.starts_with('/') {
        return Err("does not begin with /".into());
    }
    if text.len() > LONGEST_PATH {
        return Err(format!("is longer than {LONGEST_PATH} bytes"));
    }
    if text.split('/').any(|part| part == "..") {
        return Err("has .. in it".into());
    }
    Ok(())
}

/// A path as a list of names, without empty ones and dots.
fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()
}

fn tmpfs_path(text: &str) -> Result<(), String> {
    path(text)?;
    match parts(text).first() {
        None => Err("is the root itself".into()),
        Some(top @ (&"proc" | &"sys")) => Err(format!("is in /{top}, which is the kernel's")),
        Some(_) => Ok(()),
    }
}

/// `64M`: a whole number and K, M, G or T, powers of 1024; without a letter bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        other => {
            return Err(format!("has {} for a unit of size, which are K, M, G and T", quote(other)));
        }
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("does not begin with a whole number".into());
    }
    let number: u64 = digits.parse().map_err(|_| "is too large".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes <= limits::LARGEST_SIZE)
        .ok_or_else(|| "is too large".to_owned())
}

fn at_least(text: &str, least: u64, shown: &str) -> Result<(), String> {
    if size(text)? < least { Err(format!("is less than {shown}")) } else { Ok(()) }
}

fn tmpfs_size(text: &str) -> Result<(), String> {
    at_least(text, limits::SMALLEST_TMPFS, "one page, 4K")
}

fn memory(text: &str) -> Result<(), String> {
    at_least(text, limits::SMALLEST_MEMORY, "1M, with which nothing starts")
}

/// `1m30s`: whole numbers, each with ms, s, m, h or d.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let too_long = || "is too long".to_owned();
    let mut rest = text;
    let mut millis: u64 = 0;
    if rest.is_empty() {
        return Err("is empty".into());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err("does not begin with a whole number".into());
        }
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err("has no unit; times have ms, s, m, h or d".into()),
            other => {
                return Err(format!("has {} for a unit of time, which are ms, s, m, h and d", quote(other)));
            }
        };
        let number: u64 = number.parse().map_err(|_| too_long())?;
        millis = number.checked_mul(factor).and_then(|ms| millis.checked_add(ms)).ok_or_else(too_long)?;
        rest = tail;
    }
    let time = Duration::from_millis(millis);
    if time > limits::LONGEST_TIME { Err("is longer than a year".into()) } else { Ok(time) }
}

/// A time as it is written.
pub(crate) fn show_time(time: Duration) -> String {
    let millis = time.as_millis();
    if millis == 0 || !millis.is_multiple_of(1000) {
        return format!("{millis}ms");
    }
    let seconds = time.as_secs();
    [(86_400, 'd'), (3_600, 'h'), (60, 'm')]
        .iter()
        .find(|(length, _)| seconds.is_multiple_of(*length))
        .map_or_else(|| format!("{seconds}s"), |(length, unit)| format!("{}{unit}", seconds / length))
}

fn delay(text: &str) -> Result<(), String> {
    if time(text)? < limits::RESTART_MIN_DELAY {
        return Err(format!("is shorter than {}", show_time(limits::RESTART_MIN_DELAY)));
    }
    Ok(())
}

fn interval(text: &str) -> Result<(), String> {
    if time(text)?.is_zero() { Err("is nothing".into()) } else { Ok(()) }
}

fn stop_time(text: &str) -> Result<(), String> {
    if time(text)? > limits::LONGEST_STOP {
        return Err(format!("is longer than {}", show_time(limits::LONGEST_STOP)));
    }
    Ok(())
}

fn user(text: &str) -> Result<(), String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    for half in [Some(user), group].into_iter().flatten() {
        if half.is_empty() {
            return Err("has an empty part".into());
        }
        if half.bytes().all(|b| b.is_ascii_digit()) {
            if !half.parse::<u32>().is_ok_and(|id| id < limits::ID_RANGE) {
                return Err(format!(
                    "has an id above {}, the last of a unit's own range",
                    limits::ID_RANGE - 1
                ));
            }
        } else if half.len() > 32
            || half.starts_with('-')
            || !half.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        {
            return Err(format!("has {}, which is neither a number nor a name", quote(half)));
        }
    }
    Ok(())
}

/// `[address:]machine:container[/tcp|udp]`.
pub(crate) fn port(text: &str) -> Result<Port, String> {
    let (numbers, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((numbers, "tcp")) => (numbers, Protocol::Tcp),
        Some((numbers, "udp")) => (numbers, Protocol::Udp),
        Some((_, other)) => {
            return Err(format!("has {} for a protocol, which are tcp and udp", quote(other)));
        }
    };
    if numbers.starts_with('[') {
        return Err("has an IPv6 address, which is not there yet in this version of Berth".into());
    }
    let parts: Vec<&str> = numbers.split(':').collect();
    let (address, host, container) = match parts.as_slice() {
        [host, container] => (None, *host, *container),
        [address, host, container] => (Some(*address), *host, *container),
        [_] => return Err("names one port; the machine's comes first, then the container's".into()),
        _ => return Err("has too many parts".into()),
    };
    let number = |text: &str| {
        if text.contains('-') {
            return Err("has a range of ports, which is not there yet in this version of Berth".to_owned());
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            if let Ok(number @ 1..) = text.parse::<u16>() {
                return Ok(number);
            }
            return Err(format!("has {} for a port, which are 1 to 65535", quote(text)));
        }
        Err(format!("has {} for a port, which is no number", quote(text)))
    };
    let host_address = match address {
        None => Ipv4Addr::UNSPECIFIED,
        Some(address) => address
            .parse()
            .map_err(|_| format!("has {} for an address, which is no IPv4 address", quote(address)))?,
    };
    Ok(Port { host_address, host: number(host)?, container: number(container)?, protocol })
}

fn is_port(text: &str) -> Result<(), String> {
    port(text).map(|_| ())
}

/// `source:target[:ro|rw]`.
pub(crate) fn mount(text: &str) -> Result<SystemMount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, writable) = match parts.as_slice() {
        [source, target] | [source, target, "ro"] => (*source, *target, false),
        [source, target, "rw"] => (*source, *target, true),
        _ => return Err("is not source:target, with :ro or :rw behind".into()),
    };
    path(source).map_err(|why| format!("has a source that {why}"))?;
    path(target).map_err(|why| format!("has a target that {why}"))?;
    Ok(SystemMount { source: source.to_owned(), target: target.to_owned(), writable })
}

fn is_mount(text: &str) -> Result<(), String> {
    mount(text).map(|_| ())
}

/// `name:/path`, with `:ro` behind if it is not to be written.
pub(crate) fn volume(text: &str) -> Result<Volume, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (name, target, read_only) = match parts.as_slice() {
        [name, target] | [name, target, "rw"] => (*name, *target, false),
        [name, target, "ro"] => (*name, *target, true),
        _ => return Err("is not NAME:/path, with :ro behind if it is not to be written".into()),
    };
    if name.starts_with('/') || name.starts_with('.') {
        return Err("names a path of the machine; volumes have a name, and lie on the state partition".into());
    }
    unit_name(name).map_err(|why| format!("has a name that {why}"))?;
    path(target).map_err(|why| format!("has a path that {why}"))?;
    if target == "/" {
        return Err("would take the place of the whole root".into());
    }
    Ok(Volume { name: name.to_owned(), target: target.to_owned(), read_only })
}

/// `NAME:/path` of a text in the config, or `/path/of/the/machine:/path`, with `:rw` behind if it is to be written.
pub(crate) fn unit_mount(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, writable) = match parts.as_slice() {
        [source, target] | [source, target, "ro"] => (*source, *target, false),
        [source, target, "rw"] => (*source, *target, true),
        _ => return Err("is not SOURCE:/path, with :rw behind if it is to be written".into()),
    };
    tmpfs_path(target).map_err(|why| format!("has a path that {why}"))?;
    let source = if source.starts_with('/') {
        path(source).map_err(|why| format!("has a source that {why}"))?;
        MountSource::Host(source.to_owned())
    } else if writable {
        return Err(
            "is to be written, and is a text of the machine config; what is written belongs in a volume"
                .into(),
        );
    } else {
        content_name(source).map_err(|why| format!("has a name that {why}"))?;
        MountSource::Config(Content { from: source.to_owned(), text: None })
    };
    Ok(Mount { source, target: target.to_owned(), writable })
}

/// `/dev/x`, `/dev/x:/dev/y`, with `:ro` behind if it is not to be written.
pub(crate) fn device(text: &str) -> Result<Device, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source] => (*source, *source, false),
        [source, "ro"] => (*source, *source, true),
        [source, "rw"] => (*source, *source, false),
        [source, target] | [source, target, "rw"] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        _ => {
            return Err(
                "is not /dev/NAME, or /dev/NAME:/dev/OTHER, with :ro behind if it is only to be read".into(),
            );
        }
    };
    for path in [source, target] {
        self::path(path).map_err(|why| format!("has a path that {why}"))?;
        match parts_of_device(path).as_slice() {
            [] => return Err("has a path outside /dev".into()),
            [top @ ("pts" | "shm" | "mqueue"), ..] => {
                return Err(format!("is in /dev/{top}, which each container has for itself"));
            }
            _ => {}
        }
    }
    Ok(Device { source: source.to_owned(), target: target.to_owned(), read_only })
}

/// What comes behind `/dev`; nothing if the path is not there.
fn parts_of_device(path: &str) -> Vec<&str> {
    match parts(path).as_slice() {
        ["dev", rest @ ..] => rest.to_vec(),
        _ => Vec::new(),
    }
}

fn io_rate(text: &str) -> Result<(), String> {
    at_least(text, limits::SMALLEST_IO_RATE, "4K, a page")
}

/// A name of signal(7) with or without `SIG`, or a number.
fn signal(text: &str) -> Result<(), String> {
    crate::signals::number(text).map(|_| ()).ok_or_else(|| "is not a signal".to_owned())
}

fn capability_or_default(text: &str) -> Result<(), String> {
    if text == DEFAULT_CAPABILITIES { Ok(()) } else { capability(text) }
}

/// As `cpuset.cpus` has it: numbers and ranges. Which CPUs there are only the machine knows.
fn cpuset(text: &str) -> Result<(), String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let range = |part: &str| match part.split_once('-') {
        None => number(part).is_some(),
        Some((first, last)) => {
            matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last)
        }
    };
    if text.len() <= 256 && text.split(',').all(range) {
        Ok(())
    } else {
        Err("is not a list of CPUs and ranges".into())
    }
}

fn capability(text: &str) -> Result<(), String> {
    if CAPABILITIES.contains(&text) {
        return Ok(());
    }
    if let Some(bare) = text.strip_prefix("CAP_").filter(|bare| CAPABILITIES.contains(bare)) {
        return Err(format!("is written without CAP_: {}", quote(bare)));
    }
    match nearest(text, CAPABILITIES) {
        Some(near) => Err(format!("is not a capability; did you mean {}?", quote(near))),
        None => Err("is not a capability".into()),
    }
}

fn hostname(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.len() > LONGEST_HOSTNAME {
        return Err(format!("is longer than {LONGEST_HOSTNAME} bytes"));
    }
    for label in text.split('.') {
        let bytes = label.as_bytes();
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        if label.len() > 63 || !edge(bytes.first()) || !edge(bytes.last()) {
            return Err(
                "has a part between dots that does not begin and end with a letter or digit, or is longer than 63".into()
            );
        }
        if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-') {
            return Err("may only have letters, digits, - and dots".into());
        }
    }
    Ok(())
}
