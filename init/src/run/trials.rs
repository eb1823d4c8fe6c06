//! What PID 1 remembers of updates over reboots: which version is on trial and what was well before it, which versions did not
//! prove themselves. One small file, replaced as a whole; without it a machine still boots, and judges a trial by
//! what every boot is judged by.

use berth_units::control::update::Quarantined;
use serde::{Deserialize, Serialize};

/// The one format there is.
const FORMAT: u32 = 1;
/// Versions kept in quarantine; the oldest goes.
const QUARANTINED: usize = 32;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trials {
    format: u32,
    /// The version on trial.
    pub trial: Option<Trial>,
    /// Versions that are not taken again unless told, oldest first.
    pub quarantine: Vec<Quarantined>,
    /// What became of the last trial.
    pub last: String,
    /// The version that was, or is being, written to the slot that does not run, as long as it has not stayed.
    #[serde(default)]
    pub unproven: Option<String>,
}

/// A version that is to prove itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Its number in the history.
    pub generation: u64,
    /// Where it is: `a` or `b`.
    pub slot: String,
    /// Its version.
    pub version: String,
    /// 64 hex digits.
    pub root_hash: String,
    /// The version that it is to replace.
    pub from: String,
    /// Root hash of that; in quarantine from when this one stays, if an operator went back from it.
    pub back_from: Option<String>,
    /// There was a machine config.
    pub configured: bool,
    /// Units that were well when the reboot was asked for: they have to be so again.
    pub units: Vec<String>,
    /// Why it failed, if it could still say so.
    pub verdict: Option<Sick>,
}

/// Why a version failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sick {
    /// One sentence.
    pub reason: String,
    /// Units that were not well, of those that were before.
    pub units: Vec<String>,
}

impl Default for Trials {
    fn default() -> Self {
        Self { format: FORMAT, trial: None, quarantine: Vec::new(), last: String::new(), unproven: None }
    }
}

impl Trials {
    /// Reads the file; what cannot be read counts as nothing, with the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let read: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if read.format != FORMAT {
            return Err(format!("is of format {}, not {FORMAT}", read.format));
        }
        Ok(read)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Why this version is not taken, if it is not.
    pub fn quarantined(&self, root_hash: &str) -> Option<&Quarantined> {
        self.quarantine.iter().find(|one| one.root_hash == root_hash)
    }

    /// It is not taken again unless told.
    pub fn put_in_quarantine(&mut self, trial: &Trial, reason: &str, at_s: u64) {
        self.let_go(&trial.root_hash);
        if self.quarantine.len() >= QUARANTINED {
            self.quarantine.remove(0);
        }
        self.quarantine.push(Quarantined {
            version: trial.version.clone(),
            root_hash: trial.root_hash.clone(),
            reason: super::text::bounded(reason, super::limits::TEXT_BYTES),
            at_s,
        });
    }

    /// It may be taken again.
    pub fn let_go(&mut self, root_hash: &str) {
        self.quarantine.retain(|one| one.root_hash != root_hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(version: &str) -> Trial {
        Trial {
            generation: 1,
            slot: "b".into(),
            version: version.into(),
            root_hash: format!("{version:0>64}"),
            from: "1".into(),
            back_from: None,
            configured: true,
            units: vec!["web".into()],
            verdict: None,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut trials = Trials { trial: Some(trial("2")), last: "went well".into(), ..Trials::default() };
        trials.put_in_quarantine(&trial("3"), "kernel panic", 7);
        assert_eq!(Trials::parse(&trials.text()), Ok(trials));
        assert_eq!(Trials::parse(""), Ok(Trials::default()));
        assert!(Trials::parse("{").is_err());
        assert!(
            Trials::parse(&Trials::default().text().replace(":1", ":2")).unwrap_err().contains("format 2")
        );
    }

    #[test]
    fn quarantine_is_bounded_and_holds_each_version_once() {
        let mut trials = Trials::default();
        for number in 0..100 {
            trials.put_in_quarantine(&trial(&number.to_string()), "sick", number);
        }
        trials.put_in_quarantine(&trial("99"), "sicker", 100);
        assert_eq!(trials.quarantine.len(), QUARANTINED);
        assert_eq!(trials.quarantined(&trial("99").root_hash).unwrap().reason, "sicker");
        assert_eq!(trials.quarantined(&trial("1").root_hash), None);
        trials.let_go(&trial("99").root_hash);
        assert_eq!(trials.quarantined(&trial("99").root_hash), None);
    }
}
