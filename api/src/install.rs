//! Disks, installation, and starting a machine anew.

use crate::config;
use crate::respond::{Body, Refusal, json};
use crate::routes::{Accepted, Shared, unexpected};
use berth_units::control::{Keep, Reply, Request as Ask};
use berth_units::model::{AfterInstall, DiskRule, InstallSettings};
use hyper::body::Incoming;
use hyper::{Response, StatusCode};

/// `GET /v1/disks`.
pub(crate) async fn disks(shared: &Shared) -> Result<Response<Body>, Refusal> {
    match shared.ask(Ask::Disks).await?.0 {
        Reply::Disks(disks) => Ok(json(StatusCode::OK, &disks)),
        other => Err(unexpected(&other)),
    }
}

/// `GET /v1/install`.
pub(crate) async fn status(shared: &Shared) -> Result<Response<Body>, Refusal> {
    match shared.ask(Ask::InstallStatus).await?.0 {
        Reply::Install(status) => Ok(json(StatusCode::OK, &status)),
        other => Err(unexpected(&other)),
    }
}

/// `disk=RULE`, `min_size=BYTES`, `erase=true`, `removable=true`, `then=WORD`.
pub(crate) fn order_in(query: &str) -> Result<InstallSettings, Refusal> {
    let mut settings = InstallSettings::default();
    for word in query.split('&').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let value = &crate::images::unescaped(value)?;
        let bad = || {
            let message = format!(
                "{word:?} is not understood; there are disk=, min_size=BYTES, erase=true, removable=true and then="
            );
            Refusal::new("bad-request", message)
        };
        match name {
            "disk" => settings.disk = Some(DiskRule::parse(value).ok_or_else(bad)?),
            "min_size" => settings.min_size = value.parse().map_err(|_| bad())?,
            "erase" => settings.erase = value.parse().map_err(|_| bad())?,
            "removable" => settings.removable = value.parse().map_err(|_| bad())?,
            "then" => settings.then = AfterInstall::parse(value).ok_or_else(bad)?,
            _ => return Err(bad()),
        }
    }
    Ok(settings)
}

/// `keep=volumes` or `keep=nothing`.
pub(crate) fn keep_in(query: &str) -> Result<Keep, Refusal> {
    query.strip_prefix("keep=").and_then(Keep::parse).ok_or_else(|| {
        Refusal::new("bad-request", "say what stays: keep=volumes or keep=nothing; the rest is lost for good")
    })
}

/// `POST /v1/reset`: a config may be its body.
pub(crate) async fn reset(
    shared: &Shared,
    who: &str,
    body: Incoming,
    keep: Keep,
) -> Result<Response<Body>, Refusal> {
    let (fd, bytes) = config::take_in(body, "the config").await?;
    let word = format!("reset, keeping {}", keep.word());
    eprintln!("{word} asked for by {who}");
    match shared.ask_with(Ask::Reset { keep }, (bytes > 0).then_some(fd)).await?.0 {
        Reply::Done => Ok(json(StatusCode::ACCEPTED, &Accepted { accepted: word, job: None })),
        other => Err(unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_what_the_query_says() {
        let order = order_in("disk=serial%3AS4%20X&erase=true&then=poweroff&min_size=5").unwrap();
        assert_eq!(order.disk, Some(DiskRule::Serial("S4 X".into())));
        assert!(order.erase && !order.removable && order.min_size == 5);
        assert_eq!(order.then, AfterInstall::Poweroff);
        assert_eq!(order_in("").unwrap(), InstallSettings::default());
        for bad in ["disk=sda", "erase=yes", "x=1", "then=never", "min_size=1G"] {
            assert!(order_in(bad).is_err(), "{bad}");
        }
        assert_eq!(keep_in("keep=nothing").unwrap(), Keep::Nothing);
        assert!(keep_in("").is_err() && keep_in("keep=all").is_err());
    }
}
