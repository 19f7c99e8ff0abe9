//! The simulated log: raw partitions, shuffle partitions, results; transactions that are fenced by generation.
//!
//! It promises what a driver of the engine may rely on, and nothing more: a commit is applied as a whole or not at
//! all; whether it was may stay unknown to the one who asked; a writer of an older generation is refused; a message may
//! stand twice in a shuffle partition, the second time much later; a reader may see less than there is.

use std::collections::BTreeMap;

use engine::{
    output::{Output, Row, Source},
    plan::Plan,
};

use crate::{
    outcome::Outcome,
    random::Random,
    reference::{Input, Record},
};

/// A task of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Of a raw partition.
    Map(Source),
    /// Of a shuffle partition.
    Merge(u32),
}

/// What lets a worker write: its membership in a generation of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The worker.
    pub worker: usize,
    /// The generation it believes in.
    pub generation: u64,
}

/// Why a commit did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// Nothing was written: the generation is over, or the task is another's.
    Fenced,
    /// No answer came. It may have been written.
    Unknown,
}

/// One shuffle partition. Messages below `start` were deleted.
#[derive(Clone, Debug, Default)]
pub struct Shuffle {
    /// Offset of the first message that is kept.
    pub start: u64,
    /// All messages ever written; those that were deleted are empty.
    messages: Vec<Vec<u8>>,
    /// Readers see messages before this.
    visible: u64,
}

/// The log.
pub struct Log<'a> {
    input: &'a Input,
    /// Shuffle partitions.
    pub shuffle: Vec<Shuffle>,
    /// Rows in the order of the results topic.
    pub results: Vec<Row>,
    /// What the results topic says when read from its beginning.
    pub outcome: Outcome,
    /// The generation of the group.
    pub generation: u64,
    owners: BTreeMap<Task, usize>,
    committed: BTreeMap<Task, u64>,
    /// Messages that will be delivered once more.
    echoes: Vec<(usize, Vec<u8>)>,
    /// Whether faults still happen.
    pub faulty: bool,
}

impl<'a> Log<'a> {
    /// Makes an empty log over the raw records.
    #[must_use]
    pub fn new(plan: &Plan, input: &'a Input) -> Self {
        Self {
            input,
            shuffle: vec![Shuffle::default(); plan.shuffle_partitions as usize],
            results: Vec::new(),
            outcome: Outcome::default(),
            generation: 0,
            owners: BTreeMap::new(),
            committed: BTreeMap::new(),
            echoes: Vec::new(),
            faulty: true,
        }
    }

    /// Records of a raw partition from `position` on that have arrived by `now`.
    #[must_use]
    pub fn arrived(&self, source: Source, position: u64, now: i64) -> &'a [Record] {
        let records = self.input.get(&source).map_or(&[][..], Vec::as_slice);
        let from = records.partition_point(|record| record.offset < position);
        let until = records.partition_point(|record| record.arrival <= now);
        &records[from..until.max(from)]
    }

    /// The first offset behind the records that have arrived by `now`.
    #[must_use]
    pub fn end(&self, source: Source, now: i64) -> u64 {
        self.arrived(source, 0, now).last().map_or(0, |last| last.offset + 1)
    }

    /// The position up to which a task's input is committed.
    #[must_use]
    pub fn committed(&self, task: Task) -> u64 {
        self.committed.get(&task).copied().unwrap_or_default()
    }

    /// Gives tasks to workers and starts a new generation. Writers of older ones are fenced from here on.
    pub fn assign(&mut self, owners: BTreeMap<Task, usize>) {
        self.generation += 1;
        self.owners = owners;
    }

    /// The tasks of a worker in the current generation.
    #[must_use]
    pub fn owned(&self, worker: usize) -> Vec<Task> {
        self.owners.iter().filter(|(_, owner)| **owner == worker).map(|(task, _)| *task).collect()
    }

    /// Writes output and position together.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn commit(
        &mut self,
        plan: &Plan,
        permit: Permit,
        task: Task,
        position: u64,
        output: &Output,
        random: &mut Random,
    ) -> Result<(), CommitError> {
        if permit.generation != self.generation || self.owners.get(&task) != Some(&permit.worker) {
            return Err(CommitError::Fenced);
        }
        let fault = if self.faulty { random.below(100) } else { 100 };
        if fault < 2 {
            return Err(CommitError::Unknown);
        }
        assert!(position >= self.committed(task), "a commit of {task:?} goes back");
        self.committed.insert(task, position);
        for (partition, message) in output.shuffle.iter().enumerate().filter(|(_, message)| !message.is_empty()) {
            self.shuffle[partition].messages.push(message.clone());
            if self.faulty && random.chance(5) {
                self.echoes.push((partition, message.clone()));
            }
        }
        self.results.extend(output.rows.iter().cloned());
        self.outcome.take(plan, output);
        if fault < 4 { Err(CommitError::Unknown) } else { Ok(()) }
    }

    /// Delivers some messages again and lets readers see more.
    pub fn breathe(&mut self, random: &mut Random) {
        if !self.echoes.is_empty() && (random.chance(20) || !self.faulty) {
            let at = random.below(self.echoes.len() as u64) as usize;
            let (partition, message) = self.echoes.swap_remove(at);
            self.shuffle[partition].messages.push(message);
        }
        for shuffle in &mut self.shuffle {
            let len = shuffle.messages.len() as u64;
            let more = if self.faulty { random.below(len - shuffle.visible + 1) } else { len - shuffle.visible };
            shuffle.visible += more;
        }
    }

    /// Messages that are yet to be delivered again.
    #[must_use]
    pub fn echoes(&self) -> usize {
        self.echoes.len()
    }
}

impl Shuffle {
    /// The message at an offset that readers can see.
    ///
    /// # Panics
    /// If it was deleted: whoever asks must know better.
    #[must_use]
    pub fn message(&self, offset: u64) -> Option<&[u8]> {
        assert!(offset >= self.start, "a deleted message is read");
        (offset < self.visible).then(|| self.messages[offset as usize].as_slice())
    }

    /// The number of messages, also of those that cannot be seen yet.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Deletes what lies before `offset`.
    pub fn delete_before(&mut self, offset: u64) {
        for at in self.start..offset.max(self.start) {
            self.messages[at as usize] = Vec::new();
        }
        self.start = self.start.max(offset);
    }
}
