//! The machine config: another one, or some of its units, in a request's body, what they change in the answer; one that
//! was in force before; its text.

use crate::limits;
use crate::respond::{Body, Refusal, json, with_type};
use crate::routes::{Shared, unexpected};
use berth_units::control::{Reply, Request as Ask, sealed};
use berth_units::limits::CONFIG_BYTES;
use hyper::body::{Body as _, Incoming};
use hyper::{Response, StatusCode};
use std::os::fd::OwnedFd;
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

/// `to=N` and `confirm=SECONDS`.
pub(crate) fn rollback_in(query: &str) -> Result<(Option<u64>, Option<u64>), Refusal> {
    let (mut to, mut confirm) = (None, None);
    for word in query.split('&').filter(|word| !word.is_empty()) {
        match word.strip_prefix("to=") {
            Some(number) => {
                to = Some(number.parse().map_err(|_| {
                    Refusal::new(
                        "bad-request",
                        format!("{word:?} is not understood; write to= and a generation's number"),
                    )
                })?);
            }
            None => confirm = confirm_in(word)?,
        }
    }
    Ok((to, confirm))
}

/// Has PID 1 put an earlier config in force again.
pub(crate) async fn roll_back(shared: &Shared, who: &str, ask: Ask) -> Result<Response<Body>, Refusal> {
    if let Ask::Rollback { to, only_look: false, .. } = &ask {
        let to = to.map_or("the one before".to_owned(), |number| format!("generation {number}"));
        eprintln!("the config of {to} asked for by {who}");
    }
    match shared.ask(ask).await?.0 {
        Reply::ConfigChange(change) => Ok(json(StatusCode::OK, &change)),
        other => Err(unexpected(&other)),
    }
}

/// The config in force, from which PID 1 has taken the secrets.
pub(crate) async fn text(shared: &Shared) -> Result<Response<Body>, Refusal> {
    let (reply, fds) = shared.ask(Ask::ConfigShow).await?;
    let Reply::ConfigText = reply else { return Err(unexpected(&reply)) };
    let fd = fds.into_iter().next().ok_or_else(|| Refusal::new("failed", "the text did not arrive"))?;
    let text = sealed::read(fd, CONFIG_BYTES)
        .map_err(|error| Refusal::new("failed", format!("the config's text {error}")))?;
    Ok(with_type(StatusCode::OK, "application/toml", Body::whole(text)))
}

/// Hands a config, or some of its units, to PID 1.
pub(crate) async fn change(
    shared: &Shared,
    who: &str,
    body: Incoming,
    ask: Ask,
) -> Result<Response<Body>, Refusal> {
    let (fd, bytes) = take_in(body, "the config").await?;
    match ask {
        Ask::ConfigApply { only_look: false, .. } => {
            eprintln!("another config ({bytes} bytes) sent by {who}");
        }
        Ask::UnitsApply { only_look: false, .. } => eprintln!("units ({bytes} bytes) sent by {who}"),
        _ => {}
    }
    match shared.ask_with(ask, Some(fd)).await?.0 {
        Reply::ConfigChange(change) => Ok(json(StatusCode::OK, &change)),
        other => Err(unexpected(&other)),
    }
}

/// The whole body as a memory file for PID 1, and its bytes; `what` it is, for messages.
pub(crate) async fn take_in(body: Incoming, what: &str) -> Result<(OwnedFd, usize), Refusal> {
    let late = |_| Refusal::new("bad-request", format!("{what} did not arrive in time"));
    let text = timeout(limits::CONFIG_UPLOAD, read(body)).await.map_err(late)??;
    let failed = |error: std::io::Error| Refusal::new("failed", format!("{what} is not passed on: {error}"));
    Ok((sealed::sealed("body", &text).map_err(failed)?, text.len()))
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
        assert_eq!(rollback_in("").unwrap(), (None, None));
        assert_eq!(rollback_in("to=3&confirm=60").unwrap(), (Some(3), Some(60)));
        for bad in ["to=", "to=-1", "to=3&x", "3"] {
            assert!(rollback_in(bad).is_err(), "{bad}");
        }
    }
}
