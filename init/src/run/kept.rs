//! What earlier boots kept on the state partition, read in a child: the disk may hang.

use super::passed::Passed;
use super::{files, generations, limits};
use crate::sys::child;
use berth_units::paths;
use std::path::Path;

/// All of it.
#[derive(Debug, Default)]
pub struct Kept {
    /// The machine config, if there is one.
    pub config: Option<Vec<u8>>,
    /// What was changed, and what came of it.
    pub history: generations::Kept,
    /// The id table.
    pub ids: String,
    /// What is remembered of trials.
    pub trials: String,
    /// What went wrong. Then nothing of the above is there.
    pub trouble: Option<String>,
}

/// Makes the folders that units and workers are given, and reads.
pub fn read() -> Kept {
    let (Ok(config), Ok(history), Ok(ids), Ok(trials)) =
        (Passed::new(), Passed::new(), Passed::new(), Passed::new())
    else {
        return Kept { trouble: Some("no memory for the kept config".into()), ..Kept::default() };
    };
    let state = Path::new(paths::STATE_CONFIG);
    let read = child::run(limits::CHILD_STORE, || {
        let folders = files::make_folders();
        let found = generations::config(state);
        config.put(found.as_deref().unwrap_or_default())?;
        let kept = serde_json::to_vec(&generations::kept(state)).map_err(|error| error.to_string())?;
        history.put(&kept)?;
        ids.put(files::kept_ids().as_bytes())?;
        trials.put(files::kept_trials().as_bytes())?;
        folders?;
        Ok(if found.is_some() { "found".into() } else { String::new() })
    });
    // The child has seen to it that none is too long.
    let all = |passed: Passed| passed.read(u64::MAX).unwrap_or_default();
    match read {
        Ok(found) => Kept {
            config: (found == "found").then(|| all(config)),
            history: serde_json::from_slice(&all(history)).unwrap_or_default(),
            ids: String::from_utf8(all(ids)).unwrap_or_default(),
            trials: String::from_utf8(all(trials)).unwrap_or_default(),
            trouble: None,
        },
        Err(error) => Kept { trouble: Some(error.to_string()), ..Kept::default() },
    }
}
