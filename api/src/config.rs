//! `POST /v1/config/apply` and `diff`: a machine config in the request's body, what it changes in the answer.

use crate::limits;
use crate::respond::{Body, Refusal, json};
use crate::routes::{Shared, unexpected};
use berth_units::control::sealed::sealed;
use berth_units::control::{Reply, Request as Ask};
use berth_units::limits::CONFIG_BYTES;
use hyper::body::{Body as _, Incoming};
use hyper::{Response, StatusCode};
use std::pin::Pin;
use tokio::time::timeout;

/// `confirm=SECONDS`.
pub(crate) fn confirm_in(query: &str) -> Result<Option<u64>, Refusal> {
    if query.is_empty() {
        return Ok(None);
    }
    let seconds = query.strip_prefix("confirm=").and_then(|text| text.parse().ok());
    match seconds.filter(|seconds| limits::CONFIRM_SECONDS.contains(seconds)) {
        Some(seconds) => Ok(Some(seconds)),
        None => {
            let (least, most) = limits::CONFIRM_SECONDS.into_inner();
            let message =
                format!("{query:?} is not understood; write confirm= and {least} to {most} seconds");
            Err(Refusal::new("bad-request", message))
        }
    }
}

/// Hands a config to PID 1.
pub(crate) async fn change(
    shared: &Shared,
    who: &str,
    body: Incoming,
    confirm_s: Option<u64>,
    only_look: bool,
) -> Result<Response<Body>, Refusal> {
    let late = |_| Refusal::new("bad-request", "the config did not arrive in time");
    let text = timeout(limits::CONFIG_UPLOAD, read(body)).await.map_err(late)??;
    if !only_look {
        eprintln!("another config ({} bytes) sent by {who}", text.len());
    }
    let failed =
        |error: std::io::Error| Refusal::new("failed", format!("the config is not passed on: {error}"));
    let fd = sealed("berth.toml", &text).map_err(failed)?;
    match shared.ask_with(Ask::ConfigApply { confirm_s, only_look }, Some(fd)).await?.0 {
        Reply::ConfigChange(change) => Ok(json(StatusCode::OK, &change)),
        other => Err(unexpected(&other)),
    }
}

/// The whole body, which must be a config's size.
async fn read(mut body: Incoming) -> Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    while let Some(part) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let part = part.map_err(|error| Refusal::new("bad-request", error.to_string()))?;
        if let Ok(data) = part.into_data() {
            text.extend_from_slice(&data);
        }
        if text.len() > CONFIG_BYTES {
            let message = format!("a config has at most {CONFIG_BYTES} bytes");
            return Err(Refusal { status: 413, ..Refusal::new("bad-request", message) });
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_wait_for_a_confirmation() {
        assert_eq!(confirm_in("").unwrap(), None);
        assert_eq!(confirm_in("confirm=300").unwrap(), Some(300));
        for bad in ["confirm=0", "confirm=5m", "confirm=99999999", "now=1"] {
            assert!(confirm_in(bad).unwrap_err().message.contains("confirm="), "{bad}");
        }
    }
}
