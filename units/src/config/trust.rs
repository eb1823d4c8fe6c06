//! What a machine config says of all units and all servers at once: the time zone, and whom to trust beside the public
//! certificate authorities.

use crate::env_file;
use crate::model::MachineConfig;
use crate::schema::table::{Field, Form, Section, Set};

/// The longest name of the tz database has 32 bytes.
const ZONE_BYTES: usize = 64;
/// The variable from which C libraries and language run-times take the zone (POSIX).
const ZONE_VARIABLE: &str = "TZ";

pub(super) const ZONE: Form =
    Form { expected: "a zone of the tz database such as \"Europe/Berlin\"", check: zone };
const AUTHORITIES: Form =
    Form { expected: "certificates such as \"-----BEGIN CERTIFICATE-----…\"", check: authorities };

pub(super) const SECTION: Section<MachineConfig> = Section {
    name: "trust",
    doc: "Who is trusted beside the public certificate authorities.",
    later: &[],
    system: false,
    fields: &[Field {
        name: "ca",
        required: false,
        default: "none",
        example: "\"-----BEGIN CERTIFICATE-----\\nMIIB…\\n-----END CERTIFICATE-----\\n\"",
        doc: "Certificates (PEM) that are trusted for every registry and for the update repository. `ca` in `[registries]` and \
              `[update]` is for one of them. Units have their images' own.",
        set: Set::TextOrTexts(&AUTHORITIES, |config, texts| {
            let text: String = texts.iter().map(|(text, _)| format!("{}\n", text.trim())).collect();
            config.trust = Some(text).filter(|text| !text.is_empty());
        }),
    }],
};

/// The shape of a zone's name. Whether an image knows it is the image's.
fn zone(text: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-');
    let part =
        |part: &str| part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && part.bytes().all(fits);
    if text.len() > ZONE_BYTES || !text.split('/').all(part) {
        return Err("is not a zone's name".into());
    }
    Ok(())
}

fn authorities(text: &str) -> Result<(), String> {
    if text.contains("PRIVATE KEY-----") {
        return Err("holds a private key, which has no place here and is not secret any more".into());
    }
    let count = |what: &str| text.matches(what).count();
    let (begin, end) = (count("-----BEGIN CERTIFICATE-----"), count("-----END CERTIFICATE-----"));
    if begin == 0 || begin != end {
        return Err("is not PEM with a certificate in it".into());
    }
    Ok(())
}

/// Gives the zone to each unit that does not say another one, and the authorities to all that ask servers.
pub(super) fn spread(config: &mut MachineConfig) {
    if let Some(zone) = &config.timezone {
        for unit in &mut config.units {
            let says = |content: &crate::model::Content| {
                let pairs = content.text.as_ref().and_then(|text| env_file::parse(text.reveal()).ok());
                pairs.is_some_and(|pairs| pairs.iter().any(|(name, _)| *name == ZONE_VARIABLE))
            };
            if !unit.container.env_file.iter().any(says) {
                unit.container.env.entry(ZONE_VARIABLE.to_owned()).or_insert_with(|| zone.clone());
            }
        }
    }
    if let Some(trust) = &config.trust {
        config.registries.ca = Some(trust.clone());
        let own = config.update.ca.take().map(|own| format!("{}\n", own.trim())).unwrap_or_default();
        config.update.ca = Some(own + trust);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\\n";

    #[test]
    fn a_zone_reaches_every_unit_that_says_no_other() {
        let text = "format = 1\n[time]\ntimezone = \"America/Argentina/Buenos_Aires\"\n[files]\n\"x.env\" = \"TZ=UTC\"\n\
                    [units.a.container]\nimage = \"x\"\n[units.b.container]\nimage = \"x\"\nenv = { TZ = \"Asia/Tokyo\" }\n\
                    [units.c.container]\nimage = \"x\"\nenv_file = \"x.env\"\n";
        let config = parse("berth.toml", text.as_bytes()).unwrap();
        let zones: Vec<_> = config.units.iter().map(|unit| unit.container.env.get("TZ").cloned()).collect();
        assert_eq!(
            zones,
            [Some("America/Argentina/Buenos_Aires".to_owned()), Some("Asia/Tokyo".to_owned()), None]
        );
        for bad in ["", "/etc/localtime", "../x", "Europe/", "CET-1CEST,M3.5.0", "Europe/Ber lin", "5"] {
            assert!(zone(bad).is_err(), "{bad}");
        }
        for good in ["UTC", "Etc/GMT+1", "Europe/Berlin"] {
            zone(good).unwrap();
        }
    }

    #[test]
    fn authorities_are_trusted_for_registries_and_updates() {
        let text = format!("format = 1\n[trust]\nca = [\"{PEM}\", \"{PEM}\"]\n[update]\nca = \"own\"\n");
        let config = parse("berth.toml", text.as_bytes()).unwrap();
        let both = PEM.replace("\\n", "\n").repeat(2);
        assert_eq!(config.registries.ca.as_deref(), Some(both.as_str()));
        assert_eq!(config.update.ca, Some(format!("own\n{both}")));
        let report = parse("berth.toml", b"format = 1\n[trust]\nca = \"x\"\n").unwrap_err().to_string();
        assert!(report.contains("is not PEM with a certificate in it"), "{report}");
        assert!(authorities("-----BEGIN PRIVATE KEY-----").unwrap_err().contains("not secret any more"));
    }
}
