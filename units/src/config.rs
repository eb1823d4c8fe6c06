//! The machine config, `berth.toml`: one file that says what a machine is and runs.
//!
//! [`parse`] checks what can be told from the text alone, [`check_together`] what depends on the OS image's own
//! units; [`check`] does both and reports all at once. Nothing of a config that is refused is used,
//! except what makes the machine reachable: [`salvage`].

mod contents;
mod docker;
pub mod edit;
mod install;
mod instance;
mod network;
mod salvage;
mod trust;
mod update;

pub use crate::schema::keys::check as check_key;
pub use instance::string as toml_string;
pub use network::cidr;
pub(crate) use network::{BOND, INTERFACE, ROUTE, VLAN};
pub use salvage::salvage;

use crate::control::API_PORT;
use crate::diag::{Diagnostic, Report, quote};
use crate::graph::Graph;
use crate::limits;
use crate::model::{MachineConfig, NetworkMode, Origin, Port, Protocol, Registry, Unit};
use crate::schema::table::{self, Field, Form, Reader, Section, Set};
use crate::schema::text::{self, Document};
use crate::schema::values::{self, ACCESS_KEY, HOSTNAME};
use crate::schema::{self};
use std::collections::BTreeMap;
use std::net::IpAddr;
use toml::Spanned;
use toml::de::DeValue;

/// The one format there is.
const FORMAT: u64 = 1;

const TEXT: Form = Form { expected: "text", check: |_| Ok(()) };
const PROXY: Form = Form { expected: "an address such as \"http://proxy.lan:3128\"", check: proxy };
const HOST: Form = Form { expected: "a host, a domain with a leading dot, or a network", check: host };
const TIME_SERVER: Form =
    Form { expected: "a host's name or address such as \"ntp.lan\"", check: time_server };
/// Tables of the design that this version does not have.
pub(crate) const LATER: &[&str] = &["storage"];

/// The file.
pub(crate) const CONFIG_FILE: &[Section<MachineConfig>] = &[
    Section {
        name: "",
        doc: "Before the first table.",
        later: &[],
        system: false,
        fields: &[
            Field {
                name: "format",
                required: true,
                default: "",
                example: "1",
                doc: "Version of this format.",
                set: Set::Number(FORMAT, FORMAT, |_, _| {}),
            },
            Field {
                name: "hostname",
                required: false,
                default: "`berth-` and the beginning of the machine's id",
                example: "\"node1\"",
                doc: "The machine's name.",
                set: Set::Text(&HOSTNAME, |config, text| config.hostname = Some(text)),
            },
            Field {
                name: "registries",
                required: false,
                default: "each over TLS, as anybody",
                example: "{ \"registry.lan:5000\" = { plain_http = true } }",
                doc: "How a registry is reached, `[registries.\"HOST:PORT\"]`; see below. The name is that of image references, \
                      `docker.io` for Docker Hub.",
                set: Set::Tables("tables such as [registries.\"registry.lan:5000\"]", read_registries),
            },
            Field {
                name: docker::FIELD,
                required: false,
                default: "none",
                example: "'{ \"auths\": { \"registry.lan:5000\": { \"auth\": \"dXNlcjpwYXNzd29yZA==\" } } }'",
                doc: "Credentials for registries: a `config.json` of Docker or podman, the whole file. Helper programs \
                      and credentials for a part of a registry are refused.",
                // What is in it comes last, when the registries are known: `docker::merge`.
                set: Set::Text(&TEXT, |_, _| {}),
            },
            Field {
                name: "secrets",
                required: false,
                default: "none",
                example: "{ shop-db-password = \"correct horse\" }",
                doc: "Texts that units refer to, by their names. No message, log or answer shows any of them, nor a \
                      mistake's own line if it is in this table, `files` or `registries`. They lie in the machine config, \
                      which only PID 1 can read on the state partition, unencrypted.",
                set: Set::Tables("a table from names to texts", contents::read_secrets),
            },
            Field {
                name: "files",
                required: false,
                default: "none",
                example: "{ \"shop.env\" = \"LOG_LEVEL=info\" }",
                doc: "The same for texts that are no secrets: environment files and configuration of programs. No name is \
                      in both.",
                set: Set::Tables("a table from names to texts", contents::read_files),
            },
            Field {
                name: "units",
                required: false,
                default: "none",
                example: "{ web = { container = { image = \"example.org/web:1\" } } }",
                doc: "What runs. `[units.NAME.unit]`, `[units.NAME.container]` and so on are a unit file's tables; the \
                      unit is called NAME: a–z, 0–9 and `-`, at most 63.",
                set: Set::Tables("tables such as [units.web.container]", read_units),
            },
        ],
    },
    Section {
        name: "access",
        doc: "Who may come in. Without a key nobody can.",
        later: &["roles", "console"],
        system: false,
        fields: &[Field {
            name: "keys",
            required: false,
            default: "`[]`",
            example: "[\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC me\"]",
            doc: "The operators' public keys as OpenSSH writes them, `ssh-ed25519` or `ecdsa-sha2-nistp256`.",
            set: Set::Texts(&ACCESS_KEY, |config, keys| {
                config.access_keys = keys.into_iter().map(|(key, _)| key).collect();
            }),
        }],
    },
    network::SECTION,
    Section {
        name: "time",
        doc: "Who is asked for the time, and how units show it.",
        later: &[],
        system: false,
        fields: &[
            Field {
                name: "servers",
                required: false,
                default: "those that DHCP names, or else `0.pool.ntp.org` to `3.pool.ntp.org`",
                example: "[\"ntp1.lan\", \"192.0.2.123\", \"ntp3.lan:1123\"]",
                doc: "Time servers (SNTP), at most 8 addresses of which are used. More than half of those that answer have to \
                  agree, so three are better than two. `[]`: nobody is asked, the clock is the hardware's.",
                set: Set::TextOrTexts(&TIME_SERVER, |config, texts| {
                    config.time_servers = Some(texts.into_iter().map(|(text, _)| text).collect());
                }),
            },
            Field {
                name: "timezone",
                required: false,
                default: "none: the images' own, mostly UTC",
                example: "\"Europe/Berlin\"",
                doc: "The variable `TZ` of every unit that does not set it in `env` or `env_file`. Its image needs the tz database; Berth's \
                  own clock and logs are UTC.",
                set: Set::Text(&trust::ZONE, |config, text| config.timezone = Some(text)),
            },
        ],
    },
    trust::SECTION,
    instance::SECTION,
    update::SECTION,
    install::SECTION,
    Section {
        name: "proxy",
        doc: "How registries and update repositories are reached from a network that lets nobody out directly.",
        later: &[],
        system: false,
        fields: &[
            Field {
                name: "http",
                required: false,
                default: "none",
                example: "\"http://proxy.lan:3128\"",
                doc: "For those without TLS.",
                set: Set::Text(&PROXY, |config, text| config.registries.proxy.http = Some(text)),
            },
            Field {
                name: "https",
                required: false,
                default: "none",
                example: "\"http://proxy.lan:3128\"",
                doc: "For all others.",
                set: Set::Text(&PROXY, |config, text| config.registries.proxy.https = Some(text)),
            },
            Field {
                name: "no_proxy",
                required: false,
                default: "`[]`",
                example: "[\".lan\", \"10.0.0.0/8\"]",
                doc: "Hosts, domains with a leading dot, and networks that are reached directly.",
                set: Set::Texts(&HOST, |config, texts| {
                    config.registries.proxy.no_proxy = texts.into_iter().map(|(text, _)| text).collect();
                }),
            },
        ],
    },
];

/// `[registries."HOST:PORT"]`.
pub(crate) const REGISTRY: &[Field<Registry>] = &[
    Field {
        name: "plain_http",
        required: false,
        default: "`false`",
        example: "true",
        doc: "It is reached without TLS. Digests still say what the layers are; what a tag means, anybody between may say.",
        set: Set::Bool(|registry, yes| registry.plain_http = yes),
    },
    Field {
        name: "ca",
        required: false,
        default: "none",
        example: "\"-----BEGIN CERTIFICATE-----…\"",
        doc: "Certificates (PEM) that are trusted for this registry beside the public ones.",
        set: Set::Text(&TEXT, |registry, text| registry.ca = Some(text)),
    },
    Field {
        name: "auth",
        required: false,
        default: "none",
        example: "\"dXNlcjpwYXNzd29yZA==\"",
        doc: "Base64 of `user:password`, as in Docker's `config.json`.",
        set: Set::Text(&TEXT, |registry, text| registry.auth = Some(text)),
    },
    Field {
        name: "identitytoken",
        required: false,
        default: "none",
        example: "\"eyJhbGciOi…\"",
        doc: "A refresh token, as in Docker's `config.json`.",
        set: Set::Text(&TEXT, |registry, text| registry.identity_token = Some(text)),
    },
];

/// Reads a machine config and checks all that can be told from it alone.
pub fn parse(file_name: &str, bytes: &[u8]) -> Result<MachineConfig, Report> {
    read(file_name, bytes, None)
}

/// Reads a machine config for a machine with these system units.
pub fn check(file_name: &str, bytes: &[u8], system: &[Unit]) -> Result<MachineConfig, Report> {
    read(file_name, bytes, Some(system))
}

fn read(file_name: &str, bytes: &[u8], system: Option<&[Unit]>) -> Result<MachineConfig, Report> {
    let source = text::source(file_name, bytes)?;
    let (document, errors) = text::parse(&source);
    let mut reader = Reader::new(source.clone(), Origin::Config);
    reader.partly = !matches!(document, Document::Whole(_));
    let mut config = MachineConfig::default();
    if let Document::Whole(table) | Document::Partly(table) = &document {
        table::read_sections(&mut reader, CONFIG_FILE, LATER, table, None, &mut config);
        // In a document with holes, a unit that seems to be missing may be in one.
        if !reader.partly {
            contents::resolve(&mut reader, &mut config, table);
            docker::merge(&mut reader, &mut config, table);
            trust::spread(&mut config);
            network::check(&mut reader, &config, table);
            let mut report = Report::default();
            together(system, &config, &mut report);
            reader.report.append(report);
        }
    }
    text::merge(&mut reader, errors);
    reader.report.finish()?;
    instance::settle(&mut config);
    Ok(config)
}

/// Checks a parsed config against the OS image's own units: names, requirements, cycles, ports.
pub fn check_together(system: &[Unit], config: &MachineConfig) -> Result<(), Report> {
    let mut report = Report::default();
    together(Some(system), config, &mut report);
    report.finish()
}

fn together(system: Option<&[Unit]>, config: &MachineConfig, report: &mut Report) {
    for unit in &config.units {
        if system.unwrap_or_default().iter().any(|other| other.name == unit.name) {
            report.push(|| {
                let message = format!("{} is the name of a system unit; take another", quote(&unit.name));
                Diagnostic::at(unit.places.unit.clone(), message)
            });
        }
    }
    let units: Vec<&Unit> = system.unwrap_or_default().iter().chain(&config.units).collect();
    if let Err(mut graph) = Graph::new(units.iter().copied()) {
        if system.is_none() {
            // It may be a system unit.
            graph.diagnostics.retain(|mistake| !mistake.message.contains(", which does not exist"));
        }
        report.append(graph);
    }
    ports(&units, report);
}

/// No two units publish the same port, and none the API's.
fn ports(units: &[&Unit], report: &mut Report) {
    let mut taken: BTreeMap<(u16, bool), Vec<(&Port, &str)>> = BTreeMap::new();
    for unit in units.iter().filter(|unit| unit.network.mode == NetworkMode::Bridge) {
        for (n, port) in unit.network.ports.iter().enumerate() {
            let place = unit.places.ports.get(n).cloned().unwrap_or_default();
            let others = taken.entry((port.host, port.protocol == Protocol::Udp)).or_default();
            if port.host == API_PORT && port.protocol == Protocol::Tcp && !port.host_address.is_loopback() {
                report
                    .push(|| Diagnostic::at(place.clone(), format!("port {API_PORT} is Berth's own API's")));
            }
            let other = others.iter().find(|(other, name)| *name != unit.name && collide(port, other));
            if let Some((_, name)) = other {
                let message = format!("{} is published by unit {} already", show_port(port), quote(name));
                report.push(|| Diagnostic::at(place, message));
            }
            others.push((port, &unit.name));
        }
    }
}

/// Both cannot be bound at once.
pub(crate) fn collide(one: &Port, other: &Port) -> bool {
    let everywhere = one.host_address.is_unspecified() || other.host_address.is_unspecified();
    one.host == other.host
        && one.protocol == other.protocol
        && (everywhere || one.host_address == other.host_address)
}

pub(crate) fn show_port(port: &Port) -> String {
    let protocol = if port.protocol == Protocol::Udp { "udp" } else { "tcp" };
    if port.host_address.is_unspecified() {
        format!("port {}/{protocol}", port.host)
    } else {
        format!("port {}:{}/{protocol}", port.host_address, port.host)
    }
}

fn read_units(reader: &mut Reader, config: &mut MachineConfig, value: &Spanned<DeValue<'_>>) {
    let DeValue::Table(units) = value.get_ref() else {
        reader
            .at(value.span(), || "\"units\" is a list, expected tables such as [units.web.container]".into());
        return;
    };
    if units.len() > limits::UNITS {
        reader.at(value.span(), || {
            format!("there are {} units; a machine runs at most {}", units.len(), limits::UNITS)
        });
        return;
    }
    let whole = value.span();
    for (key, value) in units {
        let name = key.get_ref().as_ref();
        if let Err(why) = values::unit_name(name) {
            reader.at(key.span(), || format!("unit name {} {why}", quote(name)));
        }
        let DeValue::Table(table) = value.get_ref() else {
            reader.at(value.span(), || {
                format!("unit {} is not a table, expected [units.NAME.container] and others", quote(name))
            });
            continue;
        };
        reader.prefix = format!("units.{}.", shown_key(name));
        let place = reader.place(key.span());
        let unit = schema::read_unit(reader, table, name, place, Some(key.span()));
        reader.prefix.clear();
        config.units.push(unit);
    }
    let all = config.units.iter().fold(0, |all: usize, unit| all.saturating_add(unit.instances as usize));
    if all > limits::UNITS {
        reader.at(whole, || {
            format!("there are {all} units, instances counted each; a machine runs at most {}", limits::UNITS)
        });
    }
}

/// A key as it stands in a header.
fn shown_key(name: &str) -> String {
    if values::unit_name(name).is_ok() { name.to_owned() } else { quote(name) }
}

fn read_registries(reader: &mut Reader, config: &mut MachineConfig, value: &Spanned<DeValue<'_>>) {
    let expected = "tables such as [registries.\"registry.lan:5000\"]";
    let DeValue::Table(registries) = value.get_ref() else {
        reader.at(value.span(), || format!("\"registries\" is a list, expected {expected}"));
        return;
    };
    if registries.len() > limits::LIST_ITEMS {
        reader.at(value.span(), || format!("more than {} registries", limits::LIST_ITEMS));
        return;
    }
    for (key, value) in registries {
        let name = key.get_ref().as_ref();
        if let Err(why) = host(name) {
            reader.at(key.span(), || format!("registry {} {why}", quote(name)));
        }
        let DeValue::Table(fields) = value.get_ref() else {
            reader
                .at(value.span(), || format!("registry {} is not a table, expected {expected}", quote(name)));
            continue;
        };
        let mut registry = Registry::default();
        let table = format!("registries.{}", quote(name));
        table::read_fields(reader, &table, REGISTRY, &["mirror", "mirrors"], fields, |_| None, &mut registry);
        config.registries.registries.insert(name.to_owned(), registry);
    }
}

/// `http://host:port`.
fn proxy(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest.map(|rest| rest.trim_end_matches('/')) {
        Some(rest) if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && b != b'/') => Ok(()),
        _ => Err("is not http:// or https:// and a host".into()),
    }
}

/// A host with or without port, a domain, an address or network.
fn host(text: &str) -> Result<(), String> {
    let fits =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'/' | b'*');
    if text.is_empty() || text.len() > 255 || !text.bytes().all(fits) {
        return Err("is not a host".into());
    }
    Ok(())
}

/// A name or an address, perhaps with a port.
fn time_server(text: &str) -> Result<(), String> {
    if text.parse::<IpAddr>().is_ok() || text.parse::<std::net::SocketAddr>().is_ok_and(|a| a.port() != 0) {
        return Ok(());
    }
    let (name, port) = text.rsplit_once(':').unwrap_or((text, "123"));
    let fits = |label: &str| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(inside)
    };
    if name.len() > 253 || !name.trim_end_matches('.').split('.').all(fits) {
        return Err("is not a host".into());
    }
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err("has no valid port".into());
    }
    Ok(())
}
