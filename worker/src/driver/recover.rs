//! Executes the recovery decision: reads the checkpoint it names, or starts empty; there is no choice here.

use engine::{
    codec::Corrupt,
    recovery::{Decision, Facts, decide},
};

use super::{DriverError, Shared};
use crate::ports::{Log, PROCESS, TopicPartition};

/// A task as it was at a checkpoint, and the offset up to which it must be replayed.
pub(super) struct Recovered<T> {
    pub(super) task: T,
    pub(super) committed: u64,
}

/// Restores the newest usable state of task `name`, whose input is `input`.
pub(super) fn recover<T>(
    shared: &Shared,
    name: &str,
    input: TopicPartition,
    fresh: impl FnOnce() -> T,
    restore: impl Fn(&[u8]) -> Result<T, Corrupt>,
) -> Result<Recovered<T>, DriverError> {
    let committed = shared.log.position(PROCESS, input)?.unwrap_or(0);
    let log_start = shared.log.offsets(input).start;
    let mut facts = Facts { committed, log_start, checkpoints: shared.checkpoints.list(name)? };
    loop {
        match decide(&facts) {
            Decision::Fresh => return Ok(Recovered { task: fresh(), committed }),
            Decision::StateLost { log_start } => {
                return Err(DriverError::StateLost { task: name.to_owned(), log_start });
            }
            Decision::Restore(found) => {
                let bytes = shared.checkpoints.read(name, &found)?;
                match restore(&bytes) {
                    Ok(task) => return Ok(Recovered { task, committed }),
                    Err(error) => {
                        tracing::warn!(task = name, position = found.position, %error, "skipping an unreadable checkpoint");
                        facts.checkpoints.retain(|other| *other != found);
                    }
                }
            }
        }
    }
}
