//! All MERGE tasks of a plan in one place: what a shuffle and its readers are to a fleet.

use std::sync::Arc;

use engine::{
    merge::MergeTask,
    output::{Output, Row},
    plan::Plan,
};

/// The MERGE tasks, fed with what tasks say.
pub struct Stage(Vec<MergeTask>);

impl Stage {
    /// Tasks that have heard nothing.
    #[must_use]
    pub fn new(plan: &Arc<Plan>) -> Self {
        Self((0..plan.shuffle_partitions).map(|partition| MergeTask::new(Arc::clone(plan), partition)).collect())
    }

    /// Merges what a task says, and hands over its rows; whether there was a message.
    ///
    /// # Errors
    /// What `write` says; and where the engine does not understand itself, which is a bug.
    pub fn take(
        &mut self,
        output: &mut Output,
        write: &mut impl FnMut(&[Row]) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let mut heard = false;
        for (merge, message) in self.0.iter_mut().zip(&output.shuffle).filter(|(_, message)| !message.is_empty()) {
            merge.apply(merge.position(), message).map_err(|corrupt| anyhow::anyhow!("a bug: {}", corrupt.0))?;
            heard = true;
        }
        write(&output.rows)?;
        output.clear();
        Ok(heard)
    }

    /// Lets out what the tasks hold; whether that was news for others of them.
    ///
    /// # Errors
    /// As [`Stage::take`].
    pub fn flush(&mut self, write: &mut impl FnMut(&[Row]) -> anyhow::Result<()>) -> anyhow::Result<bool> {
        let mut heard = false;
        for at in 0..self.0.len() {
            let mut output = Output::default();
            self.0[at].flush_all(&mut output);
            heard |= self.take(&mut output, write)?;
        }
        Ok(heard)
    }
}
