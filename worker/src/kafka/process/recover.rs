//! Carries out what [`engine::recovery::decide`] decides for a partition that was just given to us.

use std::sync::Arc;

use engine::{
    plan::Plan,
    recovery::{Decision, Facts, decide},
};

use super::{ProcessError, Shared, sources::Role, task::Work};
use crate::kafka::checkpoints::Stored;

/// A task's state, where to read on, and up to where without output.
pub struct Recovered {
    /// The state.
    pub work: Work,
    /// The first offset to read.
    pub from: u64,
    /// The offset up to which outputs were committed.
    pub committed: u64,
}

/// Restores the newest usable state of a task. `committed` is none where it never committed.
///
/// # Errors
/// [`ProcessError::StateLost`] where input is gone that no readable checkpoint covers.
pub fn recover(
    (shared, plan): (&Shared, &Arc<Plan>),
    role: &Role,
    name: &str,
    stored: &Stored,
    committed: Option<u64>,
    log_start: u64,
) -> Result<Recovered, ProcessError> {
    let fresh = |from, committed| {
        let work = role.fresh(plan, &shared.context);
        Recovered { work, from, committed }
    };
    let is_map = matches!(role, Role::Source(_));
    let Some(committed) = committed else {
        // A topic that is older than the pipeline may begin anywhere; the shuffle is ours.
        return if is_map || log_start == 0 { Ok(fresh(log_start, log_start)) } else { Err(lost(name, log_start)) };
    };
    // A task that stopped in order needs nothing below the committed offset; what retention deleted above is counted.
    let needed_from = if is_map { log_start.min(committed) } else { log_start };
    let mut facts = Facts { committed, log_start: needed_from, checkpoints: stored.found() };
    loop {
        match decide(&facts) {
            Decision::Fresh => return Ok(fresh(0, committed)),
            Decision::StateLost { .. } => return Err(lost(name, log_start)),
            Decision::Restore(found) => {
                let restored = match stored.bytes(&found)? {
                    Some(bytes) => role.restore(plan, &shared.context, &bytes).map_err(|it| it.to_string()),
                    None => Err("it is not as it was written".into()),
                };
                match restored {
                    Ok(work) => return Ok(Recovered { work, from: found.position, committed }),
                    Err(error) => {
                        tracing::warn!(
                            task = name,
                            position = found.position,
                            error,
                            "skipping an unreadable checkpoint"
                        );
                        facts.checkpoints.retain(|other| *other != found);
                    }
                }
            }
        }
    }
}

fn lost(name: &str, log_start: u64) -> ProcessError {
    ProcessError::StateLost { task: name.into(), log_start }
}
