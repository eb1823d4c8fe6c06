//! Amazon EC2: what is asked, and what the answers mean ("Instance metadata categories").
//!
//! The network stays DHCP's, which gives the first address of each card; others are named. Between the first request and the last
//! the answers may become another instance's (an image that was just started from a snapshot of memory): the id is asked for again at the
//! end, and all of it anew if it differs.

use crate::engine::{Answer, Engine, Stop};
use crate::limits;
use berth_meta::limits::ENCODED_BYTES;
use berth_meta::said::Said;

const META: &str = "/latest/meta-data/";
const USER: &str = "/latest/user-data";

/// Asks.
pub async fn ask(engine: &mut Engine<'_>) -> Result<Said, Stop> {
    for _ in 0..limits::ROUNDS {
        let id = word(&engine.must(&format!("{META}instance-id"), limits::WORD_BYTES).await?);
        let said = round(engine, &id).await?;
        if word(&engine.must(&format!("{META}instance-id"), limits::WORD_BYTES).await?) == id {
            return Ok(said);
        }
    }
    Err(Stop::Final("its instance-id is another one each time that it is asked".into()))
}

async fn round(engine: &mut Engine<'_>, id: &str) -> Result<Said, Stop> {
    let mut said = Said { id: Some(id.to_owned()), ..Said::default() };
    for name in ["local-hostname", "hostname"] {
        if said.hostname.is_none() {
            said.hostname = text(engine, &format!("{META}{name}")).await?;
        }
    }
    // `0=my-key`, a line each.
    let list = text(engine, &format!("{META}public-keys/")).await?.unwrap_or_default();
    for line in list.lines().take(limits::KEYS) {
        let number = line.split('=').next().unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        if let Some(key) = text(engine, &format!("{META}public-keys/{number}/openssh-key")).await? {
            said.keys.extend(key.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        }
    }
    match engine.may(USER, usize::try_from(ENCODED_BYTES).unwrap_or(usize::MAX)).await? {
        Answer::Body(bytes) if !bytes.iter().all(u8::is_ascii_whitespace) => said.user_data = Some(bytes),
        Answer::Body(_) | Answer::Missing => {}
        Answer::TooLarge => said.trouble.push(format!("user-data has more than {ENCODED_BYTES} bytes")),
    }
    said.notes.extend(more_addresses(engine).await?);
    Ok(said)
}

/// Addresses that DHCP does not give.
async fn more_addresses(engine: &mut Engine<'_>) -> Result<Option<String>, Stop> {
    let macs = format!("{META}network/interfaces/macs/");
    let list = text(engine, &macs).await?.unwrap_or_default();
    let mut more = Vec::new();
    for mac in list.lines().map(|line| line.trim_end_matches('/')).take(limits::CARDS) {
        if mac.len() == 17 && mac.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            let addresses = text(engine, &format!("{macs}{mac}/local-ipv4s")).await?.unwrap_or_default();
            more.extend(addresses.lines().skip(1).map(str::to_owned));
        }
    }
    more.truncate(limits::CARDS);
    Ok((!more.is_empty()).then(|| {
        format!(
            "secondary addresses are not applied: {}; write them into [network] of user-data",
            more.join(", ")
        )
    }))
}

async fn text(engine: &mut Engine<'_>, path: &str) -> Result<Option<String>, Stop> {
    Ok(match engine.may(path, limits::WORD_BYTES).await? {
        Answer::Body(bytes) => Some(word(&bytes)).filter(|text| !text.is_empty()),
        Answer::Missing | Answer::TooLarge => None,
    })
}

fn word(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
