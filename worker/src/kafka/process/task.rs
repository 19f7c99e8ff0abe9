//! A task of the engine on a thread: it reads its partition, and replays it first.

use engine::{
    batch::RawBatch, codec::Corrupt, map::MapTask, merge::MergeTask, output::Output, plan::Plan, time::Millis,
};

use super::{
    ProcessError,
    member::{Member, Place, Rebalances},
    recover::Recovered,
    sources::Role,
};
use crate::{
    checkpoint::Snapshot,
    kafka::{
        batches::PartitionQueue,
        checkpoints::{Saved, Taken},
        context::is_news,
    },
    limits,
    metrics::Stage,
};

/// The engine's half of a task.
pub enum Work {
    /// Of a raw partition, or that of repaired records.
    Map(Box<MapTask>),
    /// Of a shuffle partition.
    Merge(Box<MergeTask>),
}

impl Work {
    /// The next offset that the state wants.
    #[must_use]
    pub fn position(&self) -> u64 {
        match self {
            Self::Map(task) => task.position(),
            Self::Merge(task) => task.position(),
        }
    }

    fn discard(&mut self) {
        match self {
            Self::Map(task) => task.discard(),
            Self::Merge(task) => task.discard(),
        }
    }
}

/// What a look into the partition came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many records.
    Records(usize),
    /// The log no longer has what comes next.
    OutOfRange,
}

/// A task and what its thread remembers for it.
pub struct Task {
    /// Its name, as checkpoints know it.
    pub name: String,
    /// What it reads.
    pub place: Place,
    /// What the engine made of it so far.
    pub work: Work,
    /// There is something to commit.
    pub has_news: bool,
    /// Bytes read since the last commit.
    pub uncommitted_bytes: usize,
    queue: PartitionQueue<Rebalances>,
    /// Up to here everything was committed before: it makes state, and no output.
    replay_until: Option<u64>,
    batch: RawBatch,
    idle_after_ms: Option<Millis>,
    last_record_at: Millis,
    last_mark_at: Millis,
    last_checkpoint_at: Millis,
    /// What is safe: the restored state, then the checkpoint that was written last.
    saved: Saved,
}

impl Task {
    /// Makes a task of a restored state, which reads on at `from`. What lies below `committed` is replayed.
    #[must_use]
    pub fn new(role: &Role, plan: &Plan, member: &Member, place: Place, recovered: Recovered, now: Millis) -> Self {
        let Recovered { work, from, committed } = recovered;
        let saved = Saved::new(now, work.position());
        let mut task = Self {
            name: role.task_name(plan),
            queue: PartitionQueue::split(member.consumer(), &place.topic, place.partition),
            idle_after_ms: role.idle_after_ms(plan),
            place,
            work,
            has_news: false,
            uncommitted_bytes: 0,
            replay_until: Some(committed),
            batch: RawBatch::default(),
            last_record_at: now,
            last_mark_at: now,
            last_checkpoint_at: now,
            saved,
        };
        if from >= committed {
            task.end_replay();
        }
        task
    }

    /// Whether it is still behind what it once committed.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        self.replay_until.is_some()
    }

    fn end_replay(&mut self) {
        self.work.discard();
        self.replay_until = None;
        // Rows that were held back before are told again, and a ledger may have been.
        self.has_news = true;
    }

    /// Reads what is there, up to a batch.
    ///
    /// # Errors
    /// [`ProcessError::Corrupt`] where a message of the shuffle makes no sense.
    pub fn read(&mut self, now: Millis) -> Result<Read, ProcessError> {
        self.batch.clear();
        let taken = self.queue.take(&mut self.batch, limits::MAP_READ_BYTES);
        let count = self.batch.records.len();
        if count > 0 {
            self.last_record_at = now;
            self.uncommitted_bytes += self.batch.bytes.len();
            self.has_news = true;
            self.apply()?;
        }
        if let Some(trouble) = taken.trouble
            && is_news(&format!("{}: {trouble}", self.name))
        {
            tracing::warn!(task = self.name, %trouble, "reading goes on");
        }
        if taken.out_of_range {
            return Ok(Read::OutOfRange);
        }
        Ok(Read::Records(count))
    }

    /// Gives the batch to the engine; where it crosses the committed offset, in two parts.
    fn apply(&mut self) -> Result<(), ProcessError> {
        let Some(until) = self.replay_until else { return self.process() };
        let at = self.batch.records.partition_point(|record| record.offset < until);
        let rest = self.batch.records.split_off(at);
        self.process()?;
        if rest.is_empty() && self.work.position() < until {
            return Ok(());
        }
        self.end_replay();
        self.batch.records = rest;
        self.process()
    }

    fn process(&mut self) -> Result<(), ProcessError> {
        if self.batch.records.is_empty() {
            return Ok(());
        }
        match &mut self.work {
            Work::Map(task) => task.process(&mut self.batch),
            Work::Merge(task) => {
                for record in &self.batch.records {
                    let corrupt = |source: Corrupt| ProcessError::Corrupt {
                        task: self.name.clone(),
                        offset: record.offset,
                        source,
                    };
                    task.apply(record.offset, self.batch.payload(record)).map_err(corrupt)?;
                }
            }
        }
        Ok(())
    }

    /// Marks a quiet partition idle. `is_at_end` asks the broker, with the offset behind the last record: only a partition
    /// that was read to its very end is idle, and one whose broker does not answer is not.
    pub fn mark_if_idle(&mut self, now: Millis, is_at_end: impl FnOnce(&Place, u64) -> bool) {
        let (Some(idle_after_ms), None) = (self.idle_after_ms, self.replay_until) else { return };
        let quiet = now - self.last_record_at >= idle_after_ms
            && !(0..limits::MARK_IDLE_EVERY_MS).contains(&(now - self.last_mark_at));
        if !quiet {
            return;
        }
        self.last_mark_at = now;
        if let Work::Map(task) = &mut self.work
            && is_at_end(&self.place, task.position())
        {
            task.mark_idle(now);
            self.has_news = true;
        }
    }

    /// Jumps over what retention deleted before it was read; false where that cannot be.
    pub fn skip_to(&mut self, offset: u64) -> bool {
        match &mut self.work {
            Work::Map(task) if self.replay_until.is_none() && offset > task.position() => {
                let gone = offset - task.position();
                tracing::warn!(
                    task = self.name,
                    gone,
                    "retention deleted records before they were read: they count as expired"
                );
                task.skip_to(offset);
                self.has_news = true;
                // What the checkpoint before covers can no longer be replayed from here.
                self.last_checkpoint_at = 0;
                true
            }
            _ => false,
        }
    }

    /// Splits the queue anew after the partition was assigned again.
    pub fn split(&mut self, member: &Member) {
        self.queue = PartitionQueue::split(member.consumer(), &self.place.topic, self.place.partition);
    }

    /// Moves what is to be committed into `output`. With `whole`, nothing is held back, so that a snapshot may follow.
    pub fn flush(&mut self, now: Millis, whole: bool, output: &mut Output) {
        self.has_news = match &mut self.work {
            Work::Map(task) => {
                task.flush(output);
                false
            }
            Work::Merge(task) if whole => {
                task.flush_all(output);
                false
            }
            Work::Merge(task) => task.flush(now, output),
        };
        self.uncommitted_bytes = 0;
    }

    /// Whether it is time for a checkpoint with the next commit.
    #[must_use]
    pub fn wants_checkpoint(&self, now: Millis, every_ms: Millis) -> bool {
        // A clock that was set back must not hold anything up until it is there again.
        !(0..every_ms).contains(&(now - self.last_checkpoint_at))
    }

    /// Whether there is something that no checkpoint has, and it is time: also where there is nothing else to commit.
    #[must_use]
    pub fn is_due(&self, now: Millis, every_ms: Millis) -> bool {
        self.wants_checkpoint(now, every_ms) && self.waits_since().is_some()
    }

    /// Since when there is something that no checkpoint has.
    #[must_use]
    pub fn waits_since(&self) -> Option<Millis> {
        let (at, position) = self.saved.get();
        (self.work.position() > position).then_some(at)
    }

    /// Which of the two stages it belongs to.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.work {
            Work::Map(_) => Stage::Map,
            Work::Merge(_) => Stage::Merge,
        }
    }

    /// A checkpoint follows the next commit.
    pub fn checkpoint_soon(&mut self) {
        self.last_checkpoint_at = 0;
    }

    /// The state. Only right after a commit that flushed it whole.
    pub fn snapshot(&mut self, now: Millis) -> Taken {
        let mut bytes = Vec::new();
        match &self.work {
            Work::Map(task) => task.snapshot(&mut bytes),
            Work::Merge(task) => task.snapshot(&mut bytes),
        }
        self.last_checkpoint_at = now;
        let snapshot = Snapshot { task: self.name.clone(), position: self.work.position(), bytes };
        Taken { snapshot, at: now, saved: self.saved.clone() }
    }
}
