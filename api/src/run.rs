//! `POST /v1/run`: a transient unit, its unit file in the request's body; `POST /v1/units/NAME/remove`.

use crate::config;
use crate::respond::{Body, Refusal, json};
use crate::routes::{Shared, unexpected};
use berth_units::control::{Reply, Request as Ask};
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};

/// Answer to `POST /v1/run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// What the unit is called.
    pub unit: String,
}

/// `name=NAME`.
pub(crate) fn name_in(query: &str) -> Result<Option<String>, Refusal> {
    if query.is_empty() {
        return Ok(None);
    }
    let name = query.strip_prefix("name=").filter(|name| berth_units::schema::is_unit_name(name));
    name.map(|name| Some(name.to_owned())).ok_or_else(|| {
        let shown: String = query.chars().take(80).collect();
        let message = format!(
            "{shown:?} is not understood; write name= and a unit's name: a-z, 0-9 and \"-\", at most 63"
        );
        Refusal::new("bad-request", message)
    })
}

/// `force=1`.
pub(crate) fn force_in(query: &str) -> Result<bool, Refusal> {
    match query {
        "" | "force=0" => Ok(false),
        "force=1" => Ok(true),
        _ => Err(Refusal::new("bad-request", "the only parameter here is force=1")),
    }
}

/// Hands the unit to PID 1.
pub(crate) async fn begin(
    shared: &Shared,
    who: &str,
    body: Incoming,
    name: Option<String>,
) -> Result<Response<Body>, Refusal> {
    let (fd, _) = config::take_in(body, "the unit").await?;
    match shared.ask_with(Ask::Run { name }, Some(fd)).await?.0 {
        Reply::Name(unit) => {
            eprintln!("unit {unit} run by {who}");
            Ok(json(StatusCode::ACCEPTED, &Begun { unit }))
        }
        other => Err(unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        assert_eq!(name_in("").unwrap(), None);
        assert_eq!(name_in("name=web").unwrap().as_deref(), Some("web"));
        for bad in ["name=", "name=Web", "name=web.1", "name=a&b", "web"] {
            assert!(name_in(bad).is_err(), "{bad}");
        }
        assert!(force_in("force=1").unwrap() && !force_in("").unwrap() && force_in("force").is_err());
    }
}
