//! A MERGE task on its thread.

use std::sync::Arc;

use crossbeam_channel::Sender;
use engine::{batch::RawBatch, merge::MergeTask, output::Output, time::Millis};

use super::{DriverError, Shared, commit::commit, recover::recover};
use crate::{
    checkpoint::Snapshot,
    clock, limits,
    metrics::Stage,
    ports::{Log, TopicPartition},
};

/// A MERGE task and what its thread remembers for it.
pub(super) struct MergeRunner {
    name: String,
    task: MergeTask,
    input: TopicPartition,
    batch: RawBatch,
    output: Output,
    last_commit_at: Millis,
    last_checkpoint_at: Millis,
    has_news: bool,
}

/// Name of the task of `partition`.
pub(super) fn task_name(partition: u32) -> String {
    format!("merge:{partition}")
}

impl MergeRunner {
    /// Restores the task and replays it to where its outputs were committed.
    pub(super) fn recover(shared: &Arc<Shared>, partition: u32) -> Result<Self, DriverError> {
        let name = task_name(partition);
        let input = shared.layout.shuffle(partition);
        let fresh = || MergeTask::new(Arc::clone(&shared.plan), partition);
        let restore = |bytes: &[u8]| MergeTask::restore(Arc::clone(&shared.plan), partition, bytes);
        let recovered = recover(shared, &name, input, fresh, restore)?;
        let now = clock::now();
        let mut runner = Self {
            name,
            task: recovered.task,
            input,
            batch: RawBatch::default(),
            output: Output::default(),
            last_commit_at: now,
            last_checkpoint_at: now,
            has_news: false,
        };
        while runner.task.position() < recovered.committed {
            if !runner.read(shared, recovered.committed)? {
                break;
            }
        }
        runner.task.discard();
        Ok(runner)
    }

    /// Applies the next messages below offset `until`. Returns whether there were any.
    fn read(&mut self, shared: &Shared, until: u64) -> Result<bool, DriverError> {
        self.batch.clear();
        shared.log.read(self.input, self.task.position()..until, limits::MERGE_READ_BYTES, &mut self.batch)?;
        shared.metrics.read(Stage::Merge, self.batch.records.len(), self.batch.bytes.len());
        for record in &self.batch.records {
            self.task.apply(record.offset, self.batch.payload(record)).map_err(|source| DriverError::Corrupt {
                task: self.name.clone(),
                offset: record.offset,
                source,
            })?;
        }
        Ok(!self.batch.records.is_empty())
    }

    /// Reads, commits and checkpoints as it is time to. Returns whether there was anything to read.
    pub(super) fn step(&mut self, shared: &Shared, queue: &Sender<Snapshot>) -> Result<bool, DriverError> {
        let now = clock::now();
        let read = self.read(shared, u64::MAX)?;
        self.has_news |= read;
        if self.has_news && now - self.last_commit_at >= limits::COMMIT_EVERY_MS / 2 {
            if now - self.last_checkpoint_at >= shared.checkpoint_every_ms {
                self.task.flush_all(&mut self.output);
                self.commit(shared, now)?;
                self.checkpoint(queue, now);
            } else {
                let held_back = self.task.flush(now, &mut self.output);
                self.commit(shared, now)?;
                self.has_news = held_back;
            }
        }
        Ok(read)
    }

    fn commit(&mut self, shared: &Shared, now: Millis) -> Result<(), DriverError> {
        commit(shared, Stage::Merge, &mut self.output, self.input, self.task.position())?;
        self.last_commit_at = now;
        self.has_news = false;
        Ok(())
    }

    fn checkpoint(&mut self, queue: &Sender<Snapshot>, now: Millis) {
        let mut bytes = Vec::new();
        self.task.snapshot(&mut bytes);
        // A writer that has failed stops the process; the commit above is safe without this.
        drop(queue.send(Snapshot { task: self.name.clone(), position: self.task.position(), bytes }));
        self.last_checkpoint_at = now;
    }

    /// Commits and checkpoints for the last time.
    pub(super) fn finish(&mut self, shared: &Shared, queue: &Sender<Snapshot>) -> Result<(), DriverError> {
        let now = clock::now();
        while self.read(shared, u64::MAX)? {}
        self.task.flush_all(&mut self.output);
        self.commit(shared, now)?;
        self.checkpoint(queue, now);
        Ok(())
    }
}
