//! Borders that have more than one implementation, and the guarantees that whoever stands behind them owes.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use engine::{batch::RawBatch, time::Millis};

/// Why the log did not do what it was asked. One variant for each thing a caller may do about it.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The pipeline is stopping: leave quietly, nothing of the call was written.
    #[error("the log is closed")]
    Closed,
    /// Somebody newer writes in this task's place: drop the task, touch nothing more.
    #[error("another process writes to the log now")]
    Fenced,
    /// The disk or the broker failed: nothing of the call counts; stop, and start again once it is repaired.
    #[error("failed to {action} the log in {place}")]
    Io {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// Directory or address.
        place: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Bytes in the log are not what was written: stop and tell a person.
    #[error("the log in {place} is damaged: {what}")]
    Damaged {
        /// Directory or address.
        place: String,
        /// Which entry, and how.
        what: String,
    },
    /// A record is larger than its topic takes, by a setting of whoever looks after it: nothing of the call was written, and never
    /// will be.
    #[error("an event is larger than {topics} may take: raise `max.message.bytes` there, or send smaller ones")]
    TooLarge {
        /// The topic, or those of which it may be one.
        topics: String,
    },
    /// The log has no such topic: the caller's bug, or a manifest that was changed behind our back.
    #[error("the log has no topic `{0}`")]
    UnknownTopic(String),
}

/// A record on its way into a raw topic.
#[derive(Clone, Copy, Debug)]
pub struct IngestRecord<'a> {
    /// Name of the topic.
    pub topic: &'a str,
    /// Partition: see [`partition_of`].
    pub partition: u32,
    /// The bytes of the event.
    pub payload: &'a [u8],
    /// What those who read are to know of events that are still to come: see [`engine::batch::Bound::low`].
    pub low: Option<Low<'a>>,
}

/// Up to which event time all have written that divide something among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Low<'a> {
    /// The field that has the time: its path, with dots.
    pub field: &'a str,
    /// The time.
    pub time: Millis,
}

/// What an ingester writes to; each has its own.
///
/// Guarantees: `commit` is atomic (all records and the progress, or nothing), survives a kill of the process once it has
/// returned, keeps the order of records within a partition, and blocks while too much waits to be processed. `progress`
/// returns what the last successful commit under that name said.
pub trait IngestLog: Send {
    /// Appends records and remembers the progress of `ingester`, together.
    ///
    /// # Errors
    /// [`LogError::Closed`] when the pipeline stops; else when the log failed.
    fn commit(&mut self, ingester: &str, records: &[IngestRecord<'_>], progress: &[u8]) -> Result<(), LogError>;

    /// What `ingester` said at its last commit.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn progress(&self, ingester: &str) -> Result<Option<Vec<u8>>, LogError>;

    /// `ingester` ends in order and will not ask for its progress again, if it is one of several that each have their own.
    fn end(&mut self, _ingester: &str) {}

    /// The number of partitions of a raw topic; 0 if there is none of that name.
    fn partitions(&self, topic: &str) -> u32;

    /// Where replicas of the ingester divide its work among them: which part is ours.
    fn shares(&mut self) -> Option<&mut dyn Shares> {
        None
    }
}

/// How replicas of an ingester divide its work: by shares, of which there are [`crate::ingest::limits::SHARES`]. The progress
/// of each is one under the name that [`share_name`] gives.
///
/// Guarantees: of all replicas that believe a share theirs, one can commit for it, and it has seen the progress that every
/// commit before said; the others get [`LogError::Fenced`] for their commits, and the share is no longer theirs. A commit
/// may be under way when it returns: should it fail, [`Shares::ours`] tells that shares have changed, or the next commit
/// of that share fails.
pub trait Shares {
    /// The shares that are ours, where that has changed since the last call.
    ///
    /// # Errors
    /// [`LogError::Closed`] when the pipeline stops; else when the log cannot be read.
    fn ours(&mut self) -> Result<Option<Vec<u32>>, LogError>;

    /// The newest progress of every share that has one, as far as it was heard of.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn heard(&mut self) -> Result<&BTreeMap<u32, Vec<u8>>, LogError>;
}

/// The name under which the progress of a share is kept.
#[must_use]
pub fn share_name(ingester: &str, share: u32) -> String {
    format!("{ingester}/{share}")
}

/// A topic of the log, found by name once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    /// Number of the topic in this log.
    pub id: u32,
    /// How many partitions it has.
    pub partitions: u32,
}

impl Topic {
    /// One of its partitions.
    #[must_use]
    pub fn partition(self, partition: u32) -> TopicPartition {
        TopicPartition { topic: self.id, partition }
    }
}

/// A partition of a topic of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// [`Topic::id`].
    pub topic: u32,
    /// Partition.
    pub partition: u32,
}

/// Records to append to one partition: bytes side by side, lengths apart.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Payloads, one after the other.
    pub bytes: Vec<u8>,
    /// Their lengths.
    pub lengths: Vec<u32>,
}

impl Records {
    /// Appends a record.
    ///
    /// # Panics
    /// If it is 4 GiB or longer: everybody bounds records far below.
    pub fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.lengths.push(u32::try_from(payload.len()).expect("records are bounded far below 4 GiB"));
    }

    /// Appends the record that `write` writes.
    ///
    /// # Panics
    /// As [`Records::push`].
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.lengths.push(u32::try_from(self.bytes.len() - start).expect("records are bounded far below 4 GiB"));
    }

    /// Whether there is nothing to append.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
    }
}

/// The consumer that processes raw topics and the shuffle; what it has passed waits no more.
pub const PROCESS: &str = "process";

/// How far a consumer has read a partition.
#[derive(Clone, Copy, Debug)]
pub struct Position<'a> {
    /// Who: a consumer group in Kafka's words.
    pub consumer: &'a str,
    /// What it reads.
    pub at: TopicPartition,
    /// The offset that it reads next.
    pub next: u64,
}

/// What is written at once, or not at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commit<'a> {
    /// Records by partition; a partition may come once. Empty ones are skipped.
    pub appends: &'a [(TopicPartition, &'a Records)],
    /// How far a consumer has read its input.
    pub position: Option<Position<'a>>,
    /// What an ingester wants to find again.
    pub progress: Option<(&'a str, &'a [u8])>,
}

/// The log of a pipeline. Here an embedded store; in a cluster, Kafka.
///
/// Guarantees that tasks rely on:
/// - `commit` is atomic, and what it wrote is visible to readers only as a whole; once it returned, a kill of the process
///   takes nothing back (a power cut may, but only a suffix: never a commit without all commits before it).
/// - Offsets of a partition only grow, also over restarts; readers see records in the order of their offsets.
/// - A position that was committed is the one that [`Log::position`] returns until the next is committed.
/// - One process writes: another is refused when it opens the log, or fenced when it commits.
pub trait Log: Send + Sync {
    /// Finds a topic.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`].
    fn topic(&self, name: &str) -> Result<Topic, LogError>;

    /// The first offset that is still there, and the one behind the last.
    fn offsets(&self, at: TopicPartition) -> Range<u64>;

    /// The offset behind the last record that a power cut cannot take back.
    fn durable_end(&self, at: TopicPartition) -> u64;

    /// Appends the records with offsets in `reach` to `batch`, until it holds `bytes_max` or there are no more; at least one
    /// record if there is one. Records before the first that is still there are left out: their offsets show it.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn read(
        &self,
        at: TopicPartition,
        reach: Range<u64>,
        bytes_max: usize,
        batch: &mut RawBatch,
    ) -> Result<(), LogError>;

    /// Writes everything in `commit`, or nothing.
    ///
    /// # Errors
    /// When nothing was written, or nothing of it counts. The task that commits must then be dropped.
    fn commit(&self, commit: &Commit<'_>) -> Result<(), LogError>;

    /// The position that `consumer` committed last.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn position(&self, consumer: &str, at: TopicPartition) -> Result<Option<u64>, LogError>;

    /// A number that changes whenever there is something new to read.
    fn changes(&self) -> u64;

    /// Waits until [`Log::changes`] is no longer `seen`, at most for `timeout`; returns it.
    fn wait(&self, seen: u64, timeout: Duration) -> u64;
}

/// The partition of a keyed record, as Java's `DefaultPartitioner` computes it, so that other producers and ours agree.
/// Records without a key go round robin by batch.
#[must_use]
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// MurmurHash2 with Kafka's seed.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("a chunk of four")).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().enumerate().fold(0, |tail, (at, byte)| tail | u32::from(*byte) << (8 * at));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_kafka() {
        let cases: [(&[u8], i32); 7] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
            (b"", 275_646_681),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key) as i32, expected, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_key_always_goes_to_the_same_partition() {
        assert_eq!(partition_of(b"user_1", 4), partition_of(b"user_1", 4));
        assert!(partition_of(b"user_1", 3) < 3);
        assert_eq!(partition_of(b"user_1", 0), 0);
    }
}
