//! Checkpoints in a compacted topic. Keys and chunks are those of [`crate::checkpoint`]; the partition follows from the task.
//!
//! Written beside the transactions: a checkpoint of a commit that never happened lies beyond the committed offset, where
//! recovery does not look. Three are kept for each task; older ones are deleted by key.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::recovery::Found;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::{
    admin::Admin,
    client::{Cluster, failed},
    compacted::read_all,
    connection::Connection,
    context::{Logged, is_news},
    names::Names,
};
use crate::{
    checkpoint::{Snapshot, frame, key, key_parts, unframe},
    limits,
    ports::{LogError, partition_of},
};

/// How long a checkpoint may take to be written.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// Position and generation of a checkpoint.
type Id = (u64, u64);

/// Checkpoints of one task as they were read.
#[derive(Debug, Default)]
pub struct Stored {
    chunks: BTreeMap<Id, BTreeMap<u32, Vec<u8>>>,
    /// How many chunks a readable one says there are.
    of: BTreeMap<Id, u32>,
    /// Every key that is there, readable or not: what there is to delete one day.
    keys: BTreeMap<Id, u32>,
}

impl Stored {
    /// All of them, whole or not.
    #[must_use]
    pub fn found(&self) -> Vec<Found> {
        let found = |id: &Id| Found { position: id.0, generation: id.1, complete: self.is_complete(id) };
        self.keys.keys().map(found).collect()
    }

    /// The position of the newest whole one.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.keys.keys().filter(|id| self.is_complete(id)).map(|(position, _)| *position).max()
    }

    fn is_complete(&self, id: &Id) -> bool {
        self.of.get(id).is_some_and(|of| self.chunks[id].len() as u32 == *of)
    }

    /// The state of a complete one.
    #[must_use]
    pub fn bytes(&self, found: &Found) -> Vec<u8> {
        let chunks = self.chunks.get(&(found.position, found.generation));
        chunks.into_iter().flat_map(BTreeMap::values).flatten().copied().collect()
    }
}

/// Where checkpoints lie.
#[derive(Clone)]
pub struct Checkpoints {
    cluster: Cluster,
    topic: String,
    partitions: u32,
    fingerprint: u64,
    generation: u64,
}

impl Checkpoints {
    /// Finds them. `generation` is larger for later processes.
    #[must_use]
    pub fn new(cluster: &Cluster, names: &Names, partitions: u32, fingerprint: u64, generation: u64) -> Self {
        Self { cluster: cluster.clone(), topic: names.checkpoints(), partitions, fingerprint, generation }
    }

    fn partition(&self, task: &str) -> u32 {
        partition_of(task.as_bytes(), self.partitions)
    }

    /// Reads those of `tasks`.
    ///
    /// # Errors
    /// Where the topic cannot be read.
    pub fn read(&self, tasks: &[String]) -> Result<BTreeMap<String, Stored>, LogError> {
        let mut found: BTreeMap<String, Stored> = tasks.iter().map(|task| (task.clone(), Stored::default())).collect();
        let partitions: BTreeSet<u32> = tasks.iter().map(|task| self.partition(task)).collect();
        let partitions: Vec<u32> = partitions.into_iter().collect();
        read_all(&self.cluster, &self.topic, &partitions, |_, key, value| {
            let Some((task, position, generation, chunk)) = key_parts(key) else { return };
            let Some(stored) = found.get_mut(task) else { return };
            let id = (position, generation);
            match value {
                Some(value) => {
                    let chunks = stored.keys.entry(id).or_default();
                    *chunks = (*chunks).max(chunk + 1);
                    if let Some((at, of, bytes)) = unframe(self.fingerprint, value).filter(|(at, ..)| *at == chunk) {
                        stored.of.insert(id, of);
                        stored.chunks.entry(id).or_default().insert(at, bytes.to_vec());
                    } else {
                        // The last word on a key counts: what was readable before it will be compacted away.
                        stored.chunks.entry(id).or_default().remove(&chunk);
                    }
                }
                None => {
                    stored.keys.remove(&id);
                    stored.of.remove(&id);
                    stored.chunks.remove(&id);
                }
            }
        })?;
        Ok(found)
    }
}

/// What the writer hears.
enum Message {
    /// These are there already: whole ones, and what is left of others.
    Known(String, BTreeMap<Id, u32>, BTreeMap<Id, u32>),
    /// Write this.
    Write(Snapshot),
}

/// The way to the writer. Bounded: a task waits behind the second snapshot.
#[derive(Clone)]
pub struct CheckpointQueue(Sender<Message>);

impl CheckpointQueue {
    /// Tells what was found at a recovery, so that it is deleted in time.
    pub fn know(&self, task: &str, stored: &Stored) {
        // A writer that has failed said so; commits are safe without it.
        let (whole, torn) =
            stored.keys.iter().map(|(id, chunks)| (*id, *chunks)).partition(|(id, _)| stored.is_complete(id));
        drop(self.0.send(Message::Known(task.into(), whole, torn)));
    }

    /// Hands a snapshot over.
    pub fn write(&self, snapshot: Snapshot) {
        drop(self.0.send(Message::Write(snapshot)));
    }
}

/// The thread that writes checkpoints and deletes what only older ones need.
pub struct CheckpointWriter {
    queue: CheckpointQueue,
    thread: JoinHandle<()>,
}

impl CheckpointWriter {
    /// Starts the thread. `shuffle` is the topic whose messages below the oldest kept checkpoint are deleted.
    ///
    /// # Errors
    /// Where the configuration is refused.
    ///
    /// # Panics
    /// If the system gives no thread.
    pub fn start(checkpoints: Checkpoints, shuffle: String) -> Result<Self, LogError> {
        let producer = checkpoints.cluster.create(&checkpoints.cluster.producer())?;
        let admin = Admin::new(&checkpoints.cluster)?;
        let (queue, messages) = bounded(limits::CHECKPOINT_QUEUE);
        let known = BTreeMap::new();
        let mut writer = Writer { checkpoints, shuffle, producer, admin, known, torn: BTreeMap::new() };
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(move || writer.run(&messages));
        let thread = thread.expect("a process that just started can have one more thread");
        Ok(Self { queue: CheckpointQueue(queue), thread })
    }

    /// The queue for processing threads.
    #[must_use]
    pub fn queue(&self) -> CheckpointQueue {
        self.queue.clone()
    }

    /// Whether the writer has ended, which only a bug can bring about.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until everything is written, or was tried.
    ///
    /// # Errors
    /// If the writer has a bug.
    pub fn finish(self) -> Result<(), LogError> {
        drop(self.queue);
        self.thread.join().map_err(|_| LogError::Closed)
    }
}

struct Writer {
    checkpoints: Checkpoints,
    shuffle: String,
    producer: Connection<BaseProducer<Logged>>,
    admin: Admin,
    /// Checkpoints by task, with their chunks.
    known: BTreeMap<String, BTreeMap<Id, u32>>,
    /// What is left of others, and is to go.
    torn: BTreeMap<String, BTreeMap<Id, u32>>,
}

impl Writer {
    /// A checkpoint that cannot be written is left out: those before it are still there, and the next one will come.
    fn run(&mut self, messages: &Receiver<Message>) {
        for message in messages {
            let done = match message {
                Message::Known(task, whole, torn) => {
                    let left = self.torn.entry(task.clone()).or_default();
                    left.extend(torn);
                    left.retain(|id, _| !whole.contains_key(id));
                    self.known.insert(task.clone(), whole);
                    self.clear(&task)
                }
                Message::Write(snapshot) => self.take(&snapshot),
            };
            if let Err(error) = done
                && is_news(&error.to_string())
            {
                tracing::warn!(%error, "a checkpoint is left out");
            }
        }
    }

    fn take(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        self.write(snapshot)?;
        self.clear(&snapshot.task)?;
        self.prune(&snapshot.task)
    }

    /// Deletes what is torn.
    fn clear(&mut self, task: &str) -> Result<(), LogError> {
        let Some(torn) = self.torn.get(task).filter(|torn| !torn.is_empty()) else { return Ok(()) };
        self.delete(task, torn)?;
        self.torn.remove(task);
        Ok(())
    }

    fn write(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        let chunks: Vec<&[u8]> = match snapshot.bytes.is_empty() {
            true => vec![&[]],
            false => snapshot.bytes.chunks(limits::CHECKPOINT_CHUNK_BYTES).collect(),
        };
        let (generation, fingerprint) = (self.checkpoints.generation, self.checkpoints.fingerprint);
        let (task, id, count) = (&snapshot.task, (snapshot.position, generation), chunks.len() as u32);
        // Until all of it is there.
        self.torn.entry(task.clone()).or_default().insert(id, count);
        for (at, chunk) in chunks.iter().enumerate() {
            let key = key(task, snapshot.position, generation, at as u32);
            let value = frame(fingerprint, at as u32, count, chunk);
            self.send(task, &key, Some(&value))?;
        }
        self.flush()?;
        self.torn.entry(task.clone()).or_default().remove(&id);
        self.known.entry(task.clone()).or_default().insert(id, count);
        Ok(())
    }

    /// Deletes all but the newest, and the shuffle messages that only older ones need.
    fn prune(&mut self, task: &str) -> Result<(), LogError> {
        let known = self.known.entry(task.to_owned()).or_default();
        let positions: BTreeSet<u64> = known.keys().map(|(position, _)| *position).collect();
        let Some(oldest) = positions.iter().rev().nth(limits::CHECKPOINTS_KEPT - 1).copied() else { return Ok(()) };
        let kept = known.split_off(&(oldest, 0));
        let old = std::mem::replace(known, kept);
        self.torn.entry(task.to_owned()).or_default().extend(old);
        self.clear(task)?;
        if let Some(partition) = task.strip_prefix("merge:").and_then(|number| number.parse().ok())
            && let Err(error) = self.admin.delete_below(&self.shuffle, partition, oldest)
        {
            tracing::warn!(task, %error, "old shuffle messages stay for now");
        }
        Ok(())
    }

    fn delete(&self, task: &str, checkpoints: &BTreeMap<Id, u32>) -> Result<(), LogError> {
        for ((position, generation), chunks) in checkpoints {
            for chunk in 0..*chunks {
                self.send(task, &key(task, *position, *generation, chunk), None)?;
            }
        }
        self.flush()
    }

    fn send(&self, task: &str, key: &[u8], value: Option<&[u8]>) -> Result<(), LogError> {
        let record = BaseRecord::to(&self.checkpoints.topic).key(key);
        let record = record.partition(self.checkpoints.partition(task) as i32);
        let record = match value {
            Some(value) => record.payload(value),
            None => record,
        };
        self.producer.send(record).map_err(|(error, _)| failed("write", &self.checkpoints.topic, error))
    }

    fn flush(&self) -> Result<(), LogError> {
        self.producer.flush(WRITE_TIME_MAX).map_err(|error| failed("write", &self.checkpoints.topic, error))
    }
}
