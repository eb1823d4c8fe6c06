//! `docker_config`: credentials as Docker and podman keep them, the whole file as one text.
//!
//! What it says of a registry is what `auth` and `identitytoken` of that registry's table would say. No message shows any
//! of it.

use crate::diag::quote;
use crate::model::{MachineConfig, Registry};
use crate::schema::table::Reader;
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

/// Its name in the config.
pub(super) const FIELD: &str = "docker_config";
/// How Docker calls its own registry there, and what names begin with.
const HUB: &str = "docker.io";

/// Gives each registry what stands there about it.
pub(super) fn merge(reader: &mut Reader, config: &mut MachineConfig, table: &DeTable<'_>) {
    let Some(value) = table.get(FIELD) else { return };
    let DeValue::String(text) = value.get_ref() else { return };
    let auths = match auths(text) {
        Ok(auths) => auths,
        Err(why) => return reader.at(value.span(), || format!("{FIELD} {why}")),
    };
    for (name, entry) in &auths {
        let credentials = host(name).and_then(|host| Ok((host, credentials(entry)?)));
        match credentials {
            Ok((host, (auth, identity_token))) => {
                let registry: &mut Registry = config.registries.registries.entry(host.clone()).or_default();
                if registry.auth.is_some() || registry.identity_token.is_some() {
                    reader.at(value.span(), || {
                        format!(
                            "{FIELD} has credentials for {}, of which there are others already",
                            quote(&host)
                        )
                    });
                }
                (registry.auth, registry.identity_token) = (auth, identity_token);
            }
            Err(why) => reader.at(value.span(), || format!("{FIELD}: {} {why}", quote(name))),
        }
    }
}

fn auths(text: &str) -> Result<Map<String, Value>, String> {
    // serde_json's own message may quote what stands there.
    let file: Value = serde_json::from_str(text)
        .map_err(|error| format!("is no JSON: line {}, column {}", error.line(), error.column()))?;
    let helper = |field: &str| {
        let value = &file[field];
        value.as_str().is_some_and(|name| !name.is_empty())
            || value.as_object().is_some_and(|o| !o.is_empty())
    };
    if helper("credsStore") || helper("credHelpers") {
        return Err("leaves passwords to a helper program, which this machine does not have; with an empty \
                    DOCKER_CONFIG folder \"docker login\" writes them into the file"
            .to_owned());
    }
    match &file["auths"] {
        Value::Object(auths) if auths.len() <= crate::limits::LIST_ITEMS => Ok(auths.clone()),
        Value::Object(auths) => Err(format!("has {} registries", auths.len())),
        _ => Err("has no \"auths\", which \"docker login\" writes".to_owned()),
    }
}

/// `https://index.docker.io/v1/` → `docker.io`.
fn host(name: &str) -> Result<String, String> {
    let bare = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    super::host(host)?;
    if !matches!(path.trim_end_matches('/'), "" | "v1" | "v2") {
        return Err("is a part of a registry; credentials here are for a whole one".to_owned());
    }
    Ok(match host {
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    })
}

fn credentials(entry: &Value) -> Result<(Option<String>, Option<String>), String> {
    let text = |field: &str| entry[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match (text("auth"), text("identitytoken")) {
        (None, None) => Err("has neither \"auth\" nor \"identitytoken\"; log in again".to_owned()),
        both => Ok(both),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str, more: &str) -> Result<MachineConfig, String> {
        let text = format!("format = 1\n{FIELD} = '''\n{json}\n'''\n{more}");
        crate::config::check("berth.toml", text.as_bytes(), &[]).map_err(|report| report.to_string())
    }

    #[test]
    fn what_docker_login_writes_is_taken() {
        let json = r#"{ "auths": {
            "https://index.docker.io/v1/": { "auth": "dTpw" },
            "registry.lan:5000": { "auth": "YTpi", "identitytoken": "t" } },
          "HttpHeaders": { "User-Agent": "Docker-Client" }, "credsStore": "" }"#;
        let registries =
            checked(json, "[registries.\"registry.lan:5000\"]\nplain_http = true\n").unwrap().registries;
        let hub = &registries.registries[HUB];
        assert_eq!((hub.auth.as_deref(), hub.identity_token.as_deref()), (Some("dTpw"), None));
        let lan = &registries.registries["registry.lan:5000"];
        assert!(lan.plain_http && lan.identity_token.as_deref() == Some("t"));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_showing_it() {
        for (json, more, why) in [
            ("hunter2", "", "is no JSON: line 1, column 1"),
            ("[]", "", "has no \"auths\""),
            (r#"{"auths":{},"credsStore":"hunter2"}"#, "", "helper program"),
            (r#"{"auths":{},"credHelpers":{"a":"hunter2"}}"#, "", "helper program"),
            (r#"{"auths":{"r.lan":{"username":"hunter2"}}}"#, "", "log in again"),
            (r#"{"auths":{"r.lan/team":{"auth":"hunter2"}}}"#, "", "part of a registry"),
            (r#"{"auths":{"r lan":{"auth":"hunter2"}}}"#, "", "is not a host"),
            (
                r#"{"auths":{"r.lan":{"auth":"hunter2"}}}"#,
                "[registries.\"r.lan\"]\nauth = \"hunter2\"\n",
                "there are others already",
            ),
        ] {
            let report = checked(json, more).unwrap_err();
            assert!(report.contains(why) && !report.contains("hunter2"), "{report}");
        }
        let report =
            crate::config::check("berth.toml", b"format = 1\ndocker_config = { a = \"hunter2\" }\n", &[]);
        let report = report.unwrap_err().to_string();
        assert!(report.contains("expected text") && !report.contains("hunter2"), "{report}");
    }
}
