//! An archive that an operator sends: passed on through a pipe, whose other end PID 1 hands to the store. Nothing of it is
//! kept or looked at here.

use crate::limits;
use crate::respond::Refusal;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::time::timeout;

/// Both ends: ours, and the store's.
pub fn pipe() -> Result<(pipe::Sender, OwnedFd), Refusal> {
    let failed = |e: io::Error| Refusal::new("failed", format!("no pipe for the archive: {e}"));
    let (theirs, ours) = io::pipe().map_err(failed)?;
    Ok((pipe::Sender::from_owned_fd(ours.into()).map_err(failed)?, theirs.into()))
}

/// Passes a request's body on, to its end or until the store does not want more: then its job says why.
pub async fn pass_on(mut body: Incoming, mut to: pipe::Sender) -> Result<(), Refusal> {
    let silent = |_| {
        let seconds = limits::UPLOAD_STALL.as_secs();
        Refusal::new("failed", format!("the archive was not sent to its end: nothing came for {seconds} s"))
    };
    loop {
        let frame = match timeout(limits::UPLOAD_STALL, body.frame()).await.map_err(silent)? {
            None => return Ok(()),
            Some(Err(error)) => {
                return Err(Refusal::new("failed", format!("the archive was not sent to its end: {error}")));
            }
            Some(Ok(frame)) => frame,
        };
        let Some(data) = frame.data_ref() else { continue };
        match timeout(limits::UPLOAD_TAKEN, to.write_all(data)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Refusal::new("failed", "the store does not take the archive; try again")),
        }
    }
}
