//! A generation: one line of a machine's history, which says what ran together. PID 1 writes one for each change, as
//! `config/generations/N/record.json` on the state partition; operators are told the same.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The one format of a record there is.
const FORMAT: u32 = 1;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Version of this format: 1.
    pub format: u32,
    /// Counts up from 1 on a machine, and is never used twice.
    pub number: u64,
    /// Seconds since 1970, by the machine's clock of that moment.
    pub made: u64,
    /// Which part of the machine changed.
    pub what: What,
    /// Who or what wanted it: `sent by an operator`, `back to generation 3`.
    pub why: String,
    /// The slot that ran, or for an update is to run: `a`, `b`; `-` where there are none.
    pub slot: String,
    /// The system in it.
    pub version: String,
    /// Its verity root hash, hex; empty if it is not known.
    pub root_hash: String,
    /// SHA-256 of the machine config's text, hex.
    pub config_sha256: String,
    /// The units' images: reference → manifest digest, empty if it was not known yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
    /// What came of it.
    pub state: Verdict,
    /// Why, if there is more to say.
    pub reason: String,
}

/// The part of the machine that a generation changes; each goes back by itself, without the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The machine config, its units included.
    Config,
    /// The system in the slots.
    System,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Config => "config",
            Self::System => "system",
        })
    }
}

/// What came of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It has to show first that it is good, or to be confirmed.
    Trying,
    /// It is, or was when another one followed.
    Committed,
    /// It went back, or was never in force.
    Reverted,
    /// Another one of the same part has followed. Never in a record: it is seen from those that follow.
    Superseded,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Trying => "trying",
            Self::Committed => "committed",
            Self::Reverted => "reverted",
            Self::Superseded => "superseded",
        })
    }
}

impl Generation {
    /// The version of the format that this system writes.
    pub const fn format() -> u32 {
        FORMAT
    }

    /// Reads a record. One of a later format is refused: what it says may mean something else.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if record.format != FORMAT {
            return Err(format!("format {} is another system's", record.format));
        }
        Ok(record)
    }
}

/// `berth history`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// The generation whose config is in force; `None` if it was not kept.
    pub in_force: Option<u64>,
    /// Oldest first.
    pub generations: Vec<Generation>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_and_another_format_refused() {
        let text = br#"{"format": 1, "number": 3, "made": 1795507200, "what": "config", "why": "sent by an operator",
            "slot": "a", "version": "0.1.0", "root_hash": "", "config_sha256": "00", "state": "committed", "reason": ""}"#;
        let record = Generation::parse(text).unwrap();
        assert_eq!((record.number, record.what, record.state), (3, What::Config, Verdict::Committed));
        assert_eq!(Generation::parse(&serde_json::to_vec(&record).unwrap()).unwrap(), record);
        let later = String::from_utf8_lossy(text).replace("\"format\": 1", "\"format\": 2");
        assert!(Generation::parse(later.as_bytes()).unwrap_err().contains("format 2"));
        assert!(Generation::parse(b"{").is_err());
    }
}
