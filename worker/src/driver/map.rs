//! A MAP task on its thread.

use std::sync::{Arc, atomic::Ordering};

use crossbeam_channel::Sender;
use engine::{
    batch::RawBatch,
    map::MapTask,
    output::{Output, Source},
    plan::Plan,
    time::Millis,
};

use super::{DriverError, Shared, commit::commit, recover::recover};
use crate::{
    checkpoint::Snapshot,
    clock, limits,
    metrics::Stage,
    ports::{Log, TopicPartition},
};

/// A MAP task and what its thread remembers for it.
pub(super) struct MapRunner {
    name: String,
    task: MapTask,
    input: TopicPartition,
    batch: RawBatch,
    output: Output,
    idle_after_ms: Option<Millis>,
    last_record_at: Millis,
    last_mark_at: Millis,
    last_commit_at: Millis,
    last_checkpoint_at: Millis,
    uncommitted_bytes: usize,
    has_news: bool,
    is_finished: bool,
}

/// Name of the task of `source`.
pub(super) fn task_name(plan: &Plan, source: Source) -> String {
    format!("map:{}", source.name(plan))
}

impl MapRunner {
    /// Restores the task and replays it to where its outputs were committed.
    pub(super) fn recover(shared: &Arc<Shared>, source: Source) -> Result<Self, DriverError> {
        let name = task_name(&shared.plan, source);
        let input = shared.layout.source(source);
        let context = || (Arc::clone(&shared.plan), Arc::clone(&shared.context));
        let fresh = || MapTask::new(context().0, context().1, source);
        let restore = |bytes: &[u8]| MapTask::restore(context().0, context().1, source, bytes);
        let recovered = recover(shared, &name, input, fresh, restore)?;
        let streams = shared.plan.streams.iter().filter(|stream| stream.topics.contains(&(source.topic as usize)));
        let idle_after_ms = streams.filter_map(|stream| Some(stream.event_time.as_ref()?.idle_after_ms)).max();
        let now = clock::now();
        let mut runner = Self {
            name,
            task: recovered.task,
            input,
            batch: RawBatch::default(),
            output: Output::default(),
            idle_after_ms,
            last_record_at: now,
            last_mark_at: now,
            last_commit_at: now,
            last_checkpoint_at: now,
            uncommitted_bytes: 0,
            has_news: false,
            is_finished: false,
        };
        runner.replay(shared, recovered.committed)?;
        Ok(runner)
    }

    fn replay(&mut self, shared: &Shared, committed: u64) -> Result<(), DriverError> {
        while self.task.position() < committed {
            self.batch.clear();
            shared.log.read(self.input, self.task.position()..committed, limits::MAP_READ_BYTES, &mut self.batch)?;
            if self.batch.records.is_empty() {
                break;
            }
            self.task.process(&mut self.batch);
        }
        self.task.discard();
        Ok(())
    }

    /// Reads, commits and checkpoints as it is time to. Returns whether there was anything to read.
    pub(super) fn step(&mut self, shared: &Shared, queue: &Sender<Snapshot>) -> Result<bool, DriverError> {
        let now = clock::now();
        let read = if Self::may_read(shared) { self.read(shared, now)? } else { false };
        if !read {
            self.look_at_the_end(shared, now)?;
        }
        let due = now - self.last_commit_at >= limits::COMMIT_EVERY_MS;
        if self.has_news && (due || self.uncommitted_bytes >= limits::COMMIT_BYTES_MAX) {
            self.commit(shared, now)?;
            if now - self.last_checkpoint_at >= shared.checkpoint_every_ms {
                self.checkpoint(queue, now);
            }
        }
        Ok(read)
    }

    /// MAP waits while MERGE is behind: what it would add must lie somewhere.
    fn may_read(shared: &Shared) -> bool {
        shared.log.waiting_bytes(shared.layout.shuffle_topic()) < limits::SHUFFLE_BACKLOG_BYTES_MAX
    }

    fn read(&mut self, shared: &Shared, now: Millis) -> Result<bool, DriverError> {
        self.batch.clear();
        shared.log.read(self.input, self.task.position()..u64::MAX, limits::MAP_READ_BYTES, &mut self.batch)?;
        let bytes = self.batch.bytes.len();
        if self.batch.records.is_empty() {
            return Ok(false);
        }
        shared.metrics.read(Stage::Map, self.batch.records.len(), bytes);
        shared.processed.fetch_add(self.batch.records.len() as u64, Ordering::Relaxed);
        let first = self.batch.records[0].offset;
        if first > self.task.position() {
            self.task.skip_to(first);
        }
        self.task.process(&mut self.batch);
        self.last_record_at = now;
        self.uncommitted_bytes += bytes;
        self.has_news = true;
        Ok(true)
    }

    /// At the log's end: a bounded source may be over, a quiet one idle.
    fn look_at_the_end(&mut self, shared: &Shared, now: Millis) -> Result<(), DriverError> {
        let over = !self.is_finished && shared.ingest_done.load(Ordering::Acquire);
        if over && self.task.position() >= shared.log.offsets(self.input).end {
            self.task.finish();
            self.commit(shared, now)?;
            self.is_finished = true;
            shared.finished.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        }
        let Some(idle_after_ms) = self.idle_after_ms.filter(|_| !self.is_finished) else { return Ok(()) };
        let quiet = now - self.last_record_at >= idle_after_ms && now - self.last_mark_at >= limits::MARK_IDLE_EVERY_MS;
        if quiet && self.task.position() >= shared.log.offsets(self.input).end {
            self.task.mark_idle(now);
            self.last_mark_at = now;
            self.has_news = true;
        }
        Ok(())
    }

    fn commit(&mut self, shared: &Shared, now: Millis) -> Result<(), DriverError> {
        self.task.flush(&mut self.output);
        if !self.output.is_empty() || self.uncommitted_bytes > 0 {
            commit(shared, Stage::Map, &mut self.output, self.input, self.task.position())?;
        }
        self.last_commit_at = now;
        self.uncommitted_bytes = 0;
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
        self.commit(shared, now)?;
        self.checkpoint(queue, now);
        Ok(())
    }
}
