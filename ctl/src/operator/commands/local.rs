//! Commands that ask nobody: keys, contexts, checks.

use super::{Failure, Out, home_of, remark};
use crate::operator::cli::{ContextCommand, Global, KeyCommand};
use crate::operator::home::{Context, Home, HomeError, check_name};
use crate::operator::private::PrivateKey;
use crate::operator::render::Style;
use crate::operator::render::style::Tone;
use crate::operator::render::table::{Column, Table, cell, plain};
use berth_units::diag::Report;
use berth_units::limits::CONFIG_BYTES;
use berth_units::model::Origin;
use berth_units::schema::json;
use serde::Serialize;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct KeyShown {
    file: String,
    public_line: String,
    fingerprint: String,
}

/// `berth key …`.
pub fn key(command: &KeyCommand, global: &Global, out: Out) -> Result<(), Failure> {
    let home = home_of(global)?;
    let key = match (command, &global.key) {
        (KeyCommand::New, _) => home.create_key()?,
        (_, Some(path)) => PrivateKey::load(path)?,
        (_, None) => home.key()?,
    };
    if let KeyCommand::ExportCert = command {
        if io::stdout().is_terminal() {
            remark("what follows contains your private key");
        }
        return out.text(key.to_cert_pem()?);
    }
    if let (KeyCommand::New, false) = (command, out.json) {
        remark(format_args!("key made: {}; this line goes into [access] keys:", key.path.display()));
    }
    let shown = KeyShown {
        file: key.path.display().to_string(),
        public_line: key.public_line(),
        fingerprint: key.spki().fingerprint(),
    };
    out.show(&shown, |shown, _| format!("{}\n", shown.public_line))
}

/// `berth context …`.
pub fn context(command: &ContextCommand, home: &Home, out: Out) -> Result<(), Failure> {
    match command {
        ContextCommand::Add { name, address, machine_key, replace } => {
            check_name(name)?;
            let (host, port) = split_address(address)?;
            let mut all = home.contexts()?;
            if all.contexts.contains_key(name) && !replace {
                let why = format!("there is a context {name:?} already; --replace replaces it");
                return Err(Failure::Usage(why));
            }
            let machine_key = machine_key.as_deref().map(fingerprint).transpose()?;
            let key = all.contexts.get(name).and_then(|old| old.key.clone());
            all.contexts.insert(name.clone(), Context { address: host, port, machine_key, key });
            let first = all.current.is_none();
            if first {
                all.current = Some(name.clone());
            }
            home.write_contexts(&all)?;
            done(out, format_args!("context {name} added{}", if first { ", and in use" } else { "" }))
        }
        ContextCommand::List => list(home, out),
        ContextCommand::Use { name } => {
            let mut all = home.contexts()?;
            all.get_mut(name)?;
            all.current = Some(name.clone());
            home.write_contexts(&all)?;
            done(out, format_args!("context {name} in use"))
        }
        ContextCommand::Pin { name, fingerprint: shown } => {
            let shown = shown.as_deref().map(fingerprint).transpose()?;
            home.pin(name, shown.as_deref())?;
            done(
                out,
                match shown {
                    Some(_) => format!("key of {name} pinned"),
                    None => format!("key of {name} forgotten; the next connection pins what it sees"),
                },
            )
        }
        ContextCommand::ExportCert { .. } => Err(Failure::Usage("this command asks a machine".into())),
        ContextCommand::Remove { name } => {
            let mut all = home.contexts()?;
            let removed = all.contexts.remove(name);
            removed.ok_or_else(|| all.unknown(name))?;
            if all.current.as_ref() == Some(name) {
                all.current = None;
            }
            home.write_contexts(&all)?;
            done(out, format_args!("context {name} removed"))
        }
    }
}

fn done(out: Out, text: impl std::fmt::Display) -> Result<(), Failure> {
    let text = text.to_string();
    out.show(&serde_json::json!({ "done": text }), |_, _| format!("{text}\n"))
}

fn list(home: &Home, out: Out) -> Result<(), Failure> {
    let all = home.contexts()?;
    out.show(&all, |all, style: Style| {
        if all.contexts.is_empty() {
            return "no contexts; \"berth context add NAME ADDRESS\" makes one\n".into();
        }
        let mut table = Table::new(&[
            Column { head: "NAME", right: false, expendable: 0 },
            Column { head: "IN USE", right: false, expendable: 1 },
            Column { head: "ADDRESS", right: false, expendable: 0 },
            Column { head: "KEY", right: false, expendable: 3 },
            Column { head: "MACHINE KEY", right: false, expendable: 2 },
        ]);
        for (name, context) in &all.contexts {
            let current = all.current.as_ref() == Some(name);
            let address = match context.address.contains(':') {
                true => format!("[{}]:{}", context.address, context.port),
                false => format!("{}:{}", context.address, context.port),
            };
            table.row(vec![
                plain(name),
                cell(if current { "yes" } else { "" }, Tone::Good),
                plain(address),
                plain(context.key.as_ref().map(|k| k.display().to_string()).unwrap_or_default()),
                match &context.machine_key {
                    Some(key) => plain(key),
                    None => cell("pinned by the first connection", Tone::Notice),
                },
            ]);
        }
        table.render(style)
    })
}

/// `host`, `host:port`, `[v6]:port`, `v6`.
fn split_address(text: &str) -> Result<(String, u16), Failure> {
    let wrong = |why: &str| Failure::Usage(format!("{text:?} is not an address: {why}"));
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("\"[\" is not closed"))?;
        (host, rest.strip_prefix(':'))
    } else {
        match text.rsplit_once(':') {
            // More than one colon without brackets: IPv6 alone.
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (text, None),
        }
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/@?#\"".contains(c)) {
        return Err(wrong("expected a host name or IP address, without \"https://\""));
    }
    let port = match port {
        None => berth_units::control::API_PORT,
        Some(port) => match port.parse() {
            Ok(port @ 1..) => port,
            _ => return Err(wrong("the port is a number from 1 to 65535")),
        },
    };
    Ok((host.to_owned(), port))
}

fn fingerprint(text: &str) -> Result<String, Failure> {
    let lower = text.trim().to_ascii_lowercase();
    let hex = lower.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(lower);
    }
    Err(Failure::Usage(format!("{text:?} is not a key's fingerprint: \"sha256:\" and 64 hex digits")))
}

/// One file's verdict, for `--json`.
#[derive(Serialize)]
struct Checked {
    file: String,
    ok: bool,
    report: String,
}

/// Refuses a config that the machine would refuse.
pub fn check_text(file: &Path, text: &[u8]) -> Result<(), Failure> {
    let checked = berth_units::config::parse(&shown_name(file), text);
    checked.map(drop).map_err(|report| Failure::Usage(format!("the config is not taken:\n{report}")))
}

/// `berth unit schema`.
pub fn schema(of_config: bool, out: Out) -> Result<(), Failure> {
    out.text(json::text(&if of_config { json::machine_config() } else { json::unit() }))
}

/// `berth unit check FILE…`.
pub fn check_units(files: &[PathBuf], out: Out) -> Result<(), Failure> {
    let mut verdicts = Vec::new();
    for file in files {
        let unit = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = shown_name(file);
        let verdict = berth_units::schema::parse_unit(&name, &unit, &read(file)?, Origin::Config);
        verdicts.push((name, verdict.map(|unit| format!("unit {}", unit.name))));
    }
    show_verdicts(verdicts, out)
}

fn show_verdicts(verdicts: Vec<(String, Result<String, Report>)>, out: Out) -> Result<(), Failure> {
    let all_fine = verdicts.iter().all(|(_, verdict)| verdict.is_ok());
    if out.json {
        let list: Vec<Checked> = verdicts
            .into_iter()
            .map(|(file, verdict)| {
                let report = verdict.as_ref().err().map(Report::to_string).unwrap_or_default();
                Checked { file, ok: verdict.is_ok(), report }
            })
            .collect();
        out.show(&list, |_, _| String::new())?;
    } else {
        for (file, verdict) in verdicts {
            out.text(match verdict {
                Ok(what) => format!("{file}: {what}, no mistakes\n"),
                Err(report) if out.style.colour => report.coloured(),
                Err(report) => report.to_string(),
            })?;
        }
    }
    if all_fine { Ok(()) } else { Err(Failure::Said) }
}

pub(super) fn shown_name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".into() } else { file.display().to_string() }
}

/// A little more than is allowed, so that the checker can say that it is too much.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = CONFIG_BYTES as u64 + 1;
    let result = if file == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|open| open.take(most).read_to_end(&mut bytes))
    };
    result.map_err(|error| HomeError::File { path: file.to_owned(), error })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("web1", "web1", 7443),
            ("web1:99", "web1", 99),
            ("192.0.2.1:7443", "192.0.2.1", 7443),
            ("2001:db8::1", "2001:db8::1", 7443),
            ("[2001:db8::1]:99", "2001:db8::1", 99),
            ("[2001:db8::1]", "2001:db8::1", 7443),
        ] {
            assert_eq!(split_address(text).unwrap(), (host.to_owned(), port), "{text}");
        }
        for text in ["", ":99", "web1:0", "web1:x", "https://web1", "[::1", "a b"] {
            assert!(split_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn fingerprints() {
        let hex = "AB".repeat(32);
        assert_eq!(fingerprint(&format!("sha256:{hex}")).unwrap(), format!("sha256:{}", "ab".repeat(32)));
        assert!(fingerprint(&hex).is_err());
        assert!(fingerprint("sha256:12").is_err());
    }
}
