//! The embedded log: the topics of one pipeline in one fjall database. Stands where Kafka stands in a cluster.
//!
//! ```text
//! keyspace of a topic:  (partition, end offset) → entry            keyspace `meta`:  position/…, progress/…, start/…
//! ```
//! A commit is one fjall batch under one lock, so offsets appear in the order in which they were given out. It is safe
//! from a kill once the call returns (the bytes are the kernel's), and from a power cut once [`Log::durable_end`] has
//! passed it: the syncer forces the journal to disk every [`limits::FSYNC_EVERY`] or so, or each commit does under
//! [`Fsync::Always`]. A power cut takes a suffix of all commits, never one from their middle.
//!
//! What is absent: consumer groups, rebalances, compaction by key. One process owns the directory; fjall locks it.

mod backlog;
mod entry;
pub(crate) mod error;
mod inlet;
mod making;
mod open;
pub mod record;
mod state;
mod sync;
pub mod topics;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use engine::batch::RawBatch;
use fjall::{Database, Keyspace, PersistMode};

pub use inlet::Inlet;
pub use open::OpenError;
pub use sync::Syncer;
pub use topics::TopicSpec;

use crate::{
    clock, limits,
    ports::{Commit, Log, LogError, PROCESS, Records, Topic, TopicPartition},
};
use backlog::Backlog;
use topics::{OpenPartition, OpenTopic};

/// When commits are forced to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Fsync {
    /// About ten times a second: a power cut takes the last moments; a kill takes nothing.
    #[default]
    Interval,
    /// Before each commit returns: a power cut takes nothing that was acknowledged.
    Always,
}

/// The log. Shared by all threads; every method may be called by any of them.
pub struct EmbeddedLog {
    place: PathBuf,
    database: Database,
    meta: Keyspace,
    checkpoints: Keyspace,
    topics: Vec<OpenTopic>,
    names: BTreeMap<String, u32>,
    fsync: Fsync,
    /// Held from giving out offsets until they can be read.
    append: Mutex<()>,
    /// Who writes: commits. Who reads: writers that may have to wait.
    backlog: Mutex<Backlog>,
    changes: AtomicU64,
    /// Guards nothing but the sleep: waiters look at `changes` while they hold it, notifiers take it in between.
    sleep: Mutex<()>,
    wake: Condvar,
    closed: AtomicBool,
}

impl EmbeddedLog {
    /// Sleeps until less than `bytes_max` of the topic's records wait to be processed.
    ///
    /// # Errors
    /// [`LogError::Closed`] if the log is closed meanwhile.
    pub fn wait_for_room(&self, topic: Topic, bytes_max: u64) -> Result<(), LogError> {
        loop {
            let seen = self.changes();
            if self.is_closed() {
                return Err(LogError::Closed);
            }
            if self.waiting_bytes(topic) < bytes_max {
                return Ok(());
            }
            self.wait(seen, Duration::from_secs(1));
        }
    }

    /// Bytes of the topic's records that nobody has processed yet.
    #[must_use]
    pub fn waiting_bytes(&self, topic: Topic) -> u64 {
        lock(&self.backlog).bytes(topic.id)
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self, topic: Topic) -> &str {
        &self.topics[topic.id as usize].name
    }

    /// The names of all topics, in order.
    pub fn topic_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// What an ingester wanted to find again.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn progress(&self, ingester: &str) -> Result<Option<Vec<u8>>, LogError> {
        let found = self.meta.get(state::progress_key(ingester)).map_err(|source| self.failed("read", source))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// Ends the log for writers: those that wait, and all that come, get [`LogError::Closed`]. What was committed stays
    /// readable.
    pub fn close_inlets(&self) {
        self.closed.store(true, Ordering::Release);
        self.announce();
    }

    /// Whether the log was closed for writers.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Waits until the log is closed for ingesters, at most for `timeout`.
    pub fn wait_for_close(&self, timeout: Duration) {
        let sleep = lock(&self.sleep);
        drop(self.wake.wait_timeout_while(sleep, timeout, |()| !self.is_closed()));
    }

    /// Wakes everybody who waits, because a flag beside the log changed.
    pub fn nudge(&self) {
        self.announce();
    }

    /// The keyspace of checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> &Keyspace {
        &self.checkpoints
    }

    /// A small thing that the run remembers beside the log, such as which plan it belongs to.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn remembered(&self, name: &str) -> Result<Option<Vec<u8>>, LogError> {
        let found = self.meta.get(format!("run/{name}")).map_err(|source| self.failed("read", source))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// Remembers a small thing for [`EmbeddedLog::remembered`].
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn remember(&self, name: &str, value: &[u8]) -> Result<(), LogError> {
        self.meta.insert(format!("run/{name}"), value).map_err(|source| self.failed("write", source))?;
        self.database.persist(PersistMode::SyncData).map_err(|source| self.failed("write", source))
    }

    /// Whether something was committed that no fsync covers yet.
    fn is_dirty(&self) -> bool {
        let behind = |partition: &OpenPartition| partition.durable_end.load(Ordering::Acquire) < partition.end();
        self.topics.iter().any(|topic| topic.partitions.iter().any(behind))
    }

    /// Forces everything that was committed to disk.
    ///
    /// # Errors
    /// When the disk fails; the log then refuses all further commits.
    pub fn sync(&self) -> Result<(), LogError> {
        let ends: Vec<Vec<u64>> = {
            let _order = lock(&self.append);
            self.topics.iter().map(|topic| topic.partitions.iter().map(OpenPartition::end).collect()).collect()
        };
        self.database.persist(PersistMode::SyncData).map_err(|source| self.failed("write", source))?;
        for (topic, ends) in self.topics.iter().zip(ends) {
            for (partition, end) in topic.partitions.iter().zip(ends) {
                partition.durable_end.fetch_max(end, Ordering::AcqRel);
            }
        }
        self.announce();
        Ok(())
    }

    /// Deletes whole entries that end at or before `below`.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn delete_below(&self, at: TopicPartition, below: u64) -> Result<(), LogError> {
        while self.delete_some_below(at, below)? {}
        Ok(())
    }

    /// Deletes at most [`limits::DELETE_ENTRIES_MAX`] entries; whether there may be more.
    fn delete_some_below(&self, at: TopicPartition, below: u64) -> Result<bool, LogError> {
        let topic = &self.topics[at.topic as usize];
        let partition = &topic.partitions[at.partition as usize];
        let below = below.min(partition.end());
        if partition.start() >= below {
            return Ok(false);
        }
        let (from, to) = (entry::key(at.partition, partition.start()), entry::key(at.partition, below));
        let mut batch = self.database.batch();
        let mut start = partition.start();
        for found in topic.keyspace.range(from..=to).take(limits::DELETE_ENTRIES_MAX) {
            let key = found.key().map_err(|source| self.failed("read", source))?;
            start = entry::end_of(&key).map_err(|corrupt| self.damaged(at, corrupt))?;
            batch.remove(&topic.keyspace, key);
        }
        if batch.is_empty() {
            return Ok(false);
        }
        let more = batch.len() == limits::DELETE_ENTRIES_MAX;
        batch.insert(&self.meta, state::start_key(&topic.name, at.partition), start.to_be_bytes());
        batch.commit().map_err(|source| self.failed("write", source))?;
        partition.start.fetch_max(start, Ordering::AcqRel);
        Ok(more)
    }

    /// The first offset that arrived at or after `time`, by entries: at most one entry too early.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn first_since(&self, at: TopicPartition, time: engine::time::Millis) -> Result<u64, LogError> {
        let topic = &self.topics[at.topic as usize];
        let offsets = self.offsets(at);
        let mut from = offsets.start;
        for found in Self::entries(topic, at.partition, offsets.start) {
            let (end, value) = self.entry(at, found)?;
            let arrival = entry::head(&value).map_err(|corrupt| self.damaged(at, corrupt))?.arrival;
            if arrival >= time {
                break;
            }
            from = end;
        }
        Ok(from)
    }

    /// The entry that holds the offset `from`, and all behind it.
    fn entries(topic: &OpenTopic, partition: u32, from: u64) -> fjall::Iter {
        topic.keyspace.range(entry::key(partition, from.saturating_add(1))..=entry::key(partition, u64::MAX))
    }

    fn entry(&self, at: TopicPartition, found: fjall::Guard) -> Result<(u64, fjall::Slice), LogError> {
        let (key, value) = found.into_inner().map_err(|source| self.failed("read", source))?;
        Ok((entry::end_of(&key).map_err(|corrupt| self.damaged(at, corrupt))?, value))
    }

    /// Wakes everybody who waits.
    fn announce(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        drop(lock(&self.sleep));
        self.wake.notify_all();
    }
}

impl Log for EmbeddedLog {
    fn topic(&self, name: &str) -> Result<Topic, LogError> {
        let id = *self.names.get(name).ok_or_else(|| LogError::UnknownTopic(name.into()))?;
        Ok(Topic { id, partitions: self.topics[id as usize].partitions.len() as u32 })
    }

    fn offsets(&self, at: TopicPartition) -> Range<u64> {
        let partition = &self.topics[at.topic as usize].partitions[at.partition as usize];
        partition.start()..partition.end()
    }

    fn durable_end(&self, at: TopicPartition) -> u64 {
        self.topics[at.topic as usize].partitions[at.partition as usize].durable_end.load(Ordering::Acquire)
    }

    fn read(
        &self,
        at: TopicPartition,
        reach: Range<u64>,
        bytes_max: usize,
        batch: &mut RawBatch,
    ) -> Result<(), LogError> {
        // Ends before what is being committed right now: offsets below it can all be seen.
        let to = reach.end.min(self.offsets(at).end);
        if reach.start >= to {
            return Ok(());
        }
        for found in Self::entries(&self.topics[at.topic as usize], at.partition, reach.start) {
            let (end, value) = self.entry(at, found)?;
            entry::decode(&value, end, reach.start, to, batch).map_err(|corrupt| self.damaged(at, corrupt))?;
            if end >= to || batch.bytes.len() >= bytes_max {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, commit: &Commit<'_>) -> Result<(), LogError> {
        let arrival = clock::now();
        let entries: Vec<NewEntry> =
            commit.appends.iter().flat_map(|(at, records)| self.encode(*at, records, arrival)).collect();
        let order = lock(&self.append);
        let ends = self.write(commit, &entries)?;
        for (entry, end) in entries.iter().zip(ends) {
            self.topics[entry.at.topic as usize].partitions[entry.at.partition as usize].advance(end, self.fsync);
        }
        drop(order);
        self.announce();
        Ok(())
    }

    fn position(&self, consumer: &str, at: TopicPartition) -> Result<Option<u64>, LogError> {
        let key = state::position_key(consumer, &self.topics[at.topic as usize].name, at.partition);
        let found = self.meta.get(key).map_err(|source| self.failed("read", source))?;
        found.map(|value| state::number(&value).map_err(|corrupt| self.damaged(at, corrupt))).transpose()
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let sleep = lock(&self.sleep);
        let waited = self.wake.wait_timeout_while(sleep, timeout, |()| self.changes() == seen);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.changes()
    }
}

/// An entry on its way: everything but its offsets.
struct NewEntry {
    at: TopicPartition,
    records: u64,
    /// Bytes before compression.
    bytes: u64,
    value: Vec<u8>,
}

impl EmbeddedLog {
    /// Cuts records into entries and encodes them, outside of all locks.
    fn encode(&self, at: TopicPartition, records: &Records, arrival: engine::time::Millis) -> Vec<NewEntry> {
        let compress = self.topics[at.topic as usize].compress;
        let mut entries = Vec::new();
        let (mut lengths, mut bytes) = (&records.lengths[..], &records.bytes[..]);
        while !lengths.is_empty() {
            let (count, size) = first_entry(lengths);
            let value = entry::encode(&bytes[..size], &lengths[..count], arrival, compress);
            entries.push(NewEntry { at, records: count as u64, bytes: size as u64, value });
            (lengths, bytes) = (&lengths[count..], &bytes[size..]);
        }
        entries
    }

    /// Writes one fjall batch and returns the end offset of each entry. The caller holds `append`.
    fn write(&self, commit: &Commit<'_>, entries: &[NewEntry]) -> Result<Vec<u64>, LogError> {
        let mut batch = self.database.batch();
        if self.fsync == Fsync::Always {
            batch = batch.durability(Some(PersistMode::SyncData));
        }
        let mut ends: BTreeMap<TopicPartition, u64> = BTreeMap::new();
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let end = ends.entry(entry.at).or_insert_with(|| self.offsets(entry.at).end);
            *end += entry.records;
            batch.insert(
                &self.topics[entry.at.topic as usize].keyspace,
                entry::key(entry.at.partition, *end),
                &entry.value[..],
            );
            all.push(*end);
        }
        if let Some(position) = commit.position {
            let topic = &self.topics[position.at.topic as usize].name;
            let key = state::position_key(position.consumer, topic, position.at.partition);
            batch.insert(&self.meta, key, position.next.to_be_bytes());
        }
        if let Some((ingester, progress)) = commit.progress {
            batch.insert(&self.meta, state::progress_key(ingester), progress);
        }
        batch.commit().map_err(|source| self.failed("write", source))?;
        self.count(commit, entries, &all);
        Ok(all)
    }

    /// Keeps the books of what waits. The caller holds `append`, so entries come in order.
    fn count(&self, commit: &Commit<'_>, entries: &[NewEntry], ends: &[u64]) {
        let mut backlog = lock(&self.backlog);
        for (entry, end) in entries.iter().zip(ends) {
            if self.topics[entry.at.topic as usize].processed {
                backlog.append(entry.at, *end, entry.bytes);
            }
        }
        if let Some(position) = commit.position.filter(|position| position.consumer == PROCESS) {
            backlog.pass(position.at, position.next);
        }
    }
}

/// How many of the records fit into one entry, at least one, and their bytes.
fn first_entry(lengths: &[u32]) -> (usize, usize) {
    let mut bytes = 0;
    for (count, length) in lengths.iter().take(limits::ENTRY_RECORDS_MAX).enumerate() {
        let more = bytes + *length as usize;
        if count > 0 && more > limits::ENTRY_BYTES_MAX {
            return (count, bytes);
        }
        bytes = more;
    }
    (lengths.len().min(limits::ENTRY_RECORDS_MAX), bytes)
}

/// Locks, also behind a thread that panicked: what the locks guard is consistent between any two statements, and the run
/// ends anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A log that many threads share.
pub type SharedLog = Arc<EmbeddedLog>;

#[cfg(test)]
mod tests;
