//! Updates of the system: what operators ask and are told, and what the unit `update` is told.

use crate::model::Proxy;
use serde::{Deserialize, Serialize};

/// What an operator may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// Ask the repository what it offers.
    Check,
    /// And write that to the other slot, from which nothing is started yet.
    Fetch,
    /// And start it the next time the machine starts.
    Apply,
    /// And reboot now.
    Reboot,
    /// Do not start it after all.
    Cancel,
    /// Reboot into the version in the other slot, whatever the repository has; the one that runs is not taken again unless told.
    Rollback,
}

impl std::fmt::Display for UpdateOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Check => "check",
            Self::Fetch => "fetch",
            Self::Apply => "apply",
            Self::Reboot => "reboot",
            Self::Cancel => "cancel",
            Self::Rollback => "rollback",
        })
    }
}

/// Where updates come from, for the unit that gets them. What is `None` is as the image has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UpdateSource {
    /// `[update] address`.
    pub address: Option<String>,
    /// `[update] root`: a trusted root's text.
    pub root: Option<String>,
    /// `[update] ca`.
    pub ca: Option<String>,
    /// `[update] channel`.
    pub channel: String,
    /// `[proxy]`.
    pub proxy: Proxy,
}

/// What a repository offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateOffer {
    /// Where it was asked for.
    pub address: String,
    /// The system's version.
    pub version: String,
    /// When it was built, seconds since 1970.
    pub built_s: u64,
    /// 64 hex digits, which say what it is.
    pub root_hash: String,
    /// Bytes of its parts.
    pub bytes: u64,
}

/// `berth update status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// The running slot's version.
    pub version: String,
    /// `idle`, `checking`, `writing`, `arming`, `armed` (the next start is into the update), `assessing`.
    pub state: String,
    /// What is being done for whom: the order under way.
    pub order: Option<UpdateOrder>,
    /// Bytes that are there, while it is written.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// What the repository offered when it was asked last, in this boot.
    pub offer: Option<UpdateOffer>,
    /// That is what runs already.
    pub up_to_date: bool,
    /// Seconds since it was asked.
    pub checked_ago_s: Option<u64>,
    /// Version in the other slot that was written and checked, and is not on trial yet.
    pub written: Option<String>,
    /// Why the last order failed; empty when it did not.
    pub error: String,
    /// While a new version is being judged: what is waited for.
    pub assessing: String,
    /// What became of the last update: one sentence.
    pub last: String,
    /// Versions that are not taken again unless told.
    pub quarantine: Vec<Quarantined>,
    /// `[update] automatic`.
    pub automatic: bool,
    /// `[update] window`.
    pub window: String,
    /// `[update] channel`.
    pub channel: String,
}

/// A version that did not prove itself on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its version.
    pub version: String,
    /// 64 hex digits.
    pub root_hash: String,
    /// Why.
    pub reason: String,
    /// When, seconds since 1970.
    pub at_s: u64,
}
