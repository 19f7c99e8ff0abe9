//! Checkpoints of tasks: framed chunks in a keyspace of the embedded log, written by a thread of their own.
//!
//! A key is `task, 0, position, generation, chunk`; a chunk carries the format version, the fingerprint of the plan, its number
//! and how many there are, and a checksum over all of it. Which checkpoint a task starts from is decided by
//! [`engine::recovery::decide`] alone; this module only tells what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::recovery::Found;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    limits,
    log::{SharedLog, error::plain},
    ports::LogError,
};

/// Version of the chunk format.
const VERSION: u8 = 1;

/// Version, fingerprint, chunk, chunks, checksum.
const HEAD: usize = 1 + 8 + 4 + 4 + 8;

/// A snapshot on its way to the store.
#[derive(Debug)]
pub struct Snapshot {
    /// Name of the task.
    pub task: String,
    /// Its position.
    pub position: u64,
    /// The state.
    pub bytes: Vec<u8>,
}

/// The store of checkpoints of one data directory.
#[derive(Clone)]
pub struct CheckpointStore {
    log: SharedLog,
    /// Of the plan: a checkpoint of another plan is none.
    fingerprint: u64,
    /// Of this process: two processes never write the same key.
    generation: u64,
}

fn store(action: &'static str) -> impl Fn(fjall::Error) -> LogError {
    move |error| LogError::Io { action, place: "the checkpoints".into(), source: plain(error) }
}

impl CheckpointStore {
    /// Opens the store.
    #[must_use]
    pub fn new(log: SharedLog, fingerprint: u64, generation: u64) -> Self {
        Self { log, fingerprint, generation }
    }

    /// Writes a snapshot and deletes all but the newest complete ones of its task.
    ///
    /// # Errors
    /// Where the log fails.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(), LogError> {
        let chunks: Vec<&[u8]> = match snapshot.bytes.is_empty() {
            true => vec![&[]],
            false => snapshot.bytes.chunks(limits::CHECKPOINT_CHUNK_BYTES).collect(),
        };
        for (at, chunk) in chunks.iter().enumerate() {
            let key = key(&snapshot.task, snapshot.position, self.generation, at as u32);
            let value = frame(self.fingerprint, at as u32, chunks.len() as u32, chunk);
            self.log.checkpoints().insert(key, value).map_err(store("write"))?;
        }
        self.prune(&snapshot.task)
    }

    /// Deletes all but the newest. Only keys are looked at: this process wrote them whole, and older torn ones go in time.
    fn prune(&self, task: &str) -> Result<(), LogError> {
        let positions = self.positions(task)?;
        let Some(oldest_kept) = positions.iter().rev().nth(limits::CHECKPOINTS_KEPT - 1) else { return Ok(()) };
        for guard in self.log.checkpoints().prefix(task_prefix(task)) {
            let key = guard.key().map_err(store("read"))?;
            if position_of(task, &key).is_some_and(|position| position < *oldest_kept) {
                self.log.checkpoints().remove(key).map_err(store("write"))?;
            }
        }
        Ok(())
    }

    fn positions(&self, task: &str) -> Result<BTreeSet<u64>, LogError> {
        let keys = self.log.checkpoints().prefix(task_prefix(task)).map(fjall::Guard::key);
        let keys: Vec<_> = keys.collect::<Result<_, _>>().map_err(store("read"))?;
        Ok(keys.iter().filter_map(|key| position_of(task, key)).collect())
    }

    /// Every checkpoint of `task`, complete or not, by position. Chunks are verified.
    ///
    /// # Errors
    /// Where the log fails.
    pub fn list(&self, task: &str) -> Result<Vec<Found>, LogError> {
        let chunks = self.chunks(task)?;
        let found = |((position, generation), chunks): (&(u64, u64), &Chunks)| Found {
            position: *position,
            generation: *generation,
            complete: chunks.complete(),
        };
        Ok(chunks.iter().map(found).collect())
    }

    /// The positions and readable chunks of `task`.
    fn chunks(&self, task: &str) -> Result<BTreeMap<(u64, u64), Chunks>, LogError> {
        let mut found: BTreeMap<(u64, u64), Chunks> = BTreeMap::new();
        for guard in self.log.checkpoints().prefix(task_prefix(task)) {
            let (key, value) = guard.into_inner().map_err(store("read"))?;
            let Some(id) = position_of(task, &key).zip(generation_of(task, &key)) else { continue };
            let chunks = found.entry(id).or_default();
            if let Some((at, of, _)) = unframe(self.fingerprint, &value) {
                chunks.of = of;
                chunks.seen.push(at);
            }
        }
        Ok(found)
    }

    /// Reads the state of a complete checkpoint.
    ///
    /// # Errors
    /// Where the log fails, or the checkpoint is not complete.
    pub fn read(&self, task: &str, found: &Found) -> Result<Vec<u8>, LogError> {
        let damaged = || LogError::Damaged {
            place: "the checkpoints".into(),
            what: format!("the checkpoint of {task} at {}", found.position),
        };
        let mut bytes = Vec::new();
        let mut of = 1;
        let mut at = 0;
        while at < of {
            let key = key(task, found.position, found.generation, at);
            let value = self.log.checkpoints().get(key).map_err(store("read"))?.ok_or_else(damaged)?;
            let (_, chunks, chunk) = unframe(self.fingerprint, &value).ok_or_else(damaged)?;
            bytes.extend_from_slice(chunk);
            of = chunks;
            at += 1;
        }
        Ok(bytes)
    }

    /// Position of the oldest checkpoint of `task` once as many are kept as should be: what was read before it is not
    /// needed any more.
    ///
    /// # Errors
    /// Where the log fails.
    pub fn oldest(&self, task: &str) -> Result<Option<u64>, LogError> {
        let positions = self.positions(task)?;
        Ok(positions.first().copied().filter(|_| positions.len() >= limits::CHECKPOINTS_KEPT))
    }

    /// Deletes every checkpoint: they belong to a plan that is gone.
    ///
    /// # Errors
    /// Where the log fails.
    pub fn clear(&self) -> Result<(), LogError> {
        for guard in self.log.checkpoints().iter() {
            let key = guard.key().map_err(store("read"))?;
            self.log.checkpoints().remove(key).map_err(store("write"))?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Chunks {
    of: u32,
    seen: Vec<u32>,
}

impl Chunks {
    fn complete(&self) -> bool {
        self.of > 0 && self.seen.len() as u32 == self.of
    }
}

/// The thread that writes checkpoints, and the queue to it.
pub struct CheckpointWriter {
    queue: Sender<Snapshot>,
    thread: JoinHandle<Result<(), LogError>>,
}

impl CheckpointWriter {
    /// Starts the thread. `written` hears of every checkpoint that is safe, and how long it took.
    ///
    /// # Panics
    /// If the system gives no thread.
    pub fn start(store: CheckpointStore, mut written: impl FnMut(&Snapshot, Duration) + Send + 'static) -> Self {
        let (queue, snapshots): (Sender<Snapshot>, Receiver<Snapshot>) = bounded(limits::CHECKPOINT_QUEUE);
        let work = move || {
            for snapshot in snapshots {
                let began = Instant::now();
                store.write(&snapshot)?;
                written(&snapshot, began.elapsed());
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(work);
        Self { queue, thread: thread.expect("a process that just started can have one more thread") }
    }

    /// The queue for driver threads. Sending fails once the writer has failed.
    #[must_use]
    pub fn queue(&self) -> Sender<Snapshot> {
        self.queue.clone()
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// What made the writer fail.
    pub fn finish(self) -> Result<(), LogError> {
        drop(self.queue);
        self.thread.join().unwrap_or(Err(LogError::Closed))
    }
}

fn task_prefix(task: &str) -> Vec<u8> {
    [task.as_bytes(), &[0]].concat()
}

/// The key of a chunk: `task, 0, position, generation, chunk`.
pub(crate) fn key(task: &str, position: u64, generation: u64, chunk: u32) -> Vec<u8> {
    let mut key = task_prefix(task);
    key.extend_from_slice(&position.to_be_bytes());
    key.extend_from_slice(&generation.to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// Task, position, generation and chunk of a key that [`key`] wrote.
#[cfg(feature = "fleet")]
pub fn key_parts(key: &[u8]) -> Option<(&str, u64, u64, u32)> {
    let end = memchr::memchr(0, key)?;
    let task = std::str::from_utf8(&key[..end]).ok()?;
    let chunk = key.get(end + 17..)?.try_into().ok().map(u32::from_be_bytes)?;
    Some((task, position_of(task, key)?, generation_of(task, key)?, chunk))
}

fn word(task: &str, key: &[u8], at: usize) -> Option<u64> {
    let start = task.len() + 1 + at;
    key.get(start..start + 8)?.try_into().ok().map(u64::from_be_bytes)
}

fn position_of(task: &str, key: &[u8]) -> Option<u64> {
    word(task, key, 0)
}

fn generation_of(task: &str, key: &[u8]) -> Option<u64> {
    word(task, key, 8)
}

/// A chunk with everything that is needed to trust it.
pub(crate) fn frame(fingerprint: u64, chunk: u32, chunks: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + bytes.len());
    out.push(VERSION);
    out.extend_from_slice(&fingerprint.to_le_bytes());
    out.extend_from_slice(&chunk.to_le_bytes());
    out.extend_from_slice(&chunks.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(bytes);
    let sum = checksum(&out);
    out[HEAD - 8..HEAD].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Over everything but the checksum itself.
fn checksum(framed: &[u8]) -> u64 {
    xxh3_64(&framed[..HEAD - 8]) ^ xxh3_64(&framed[HEAD..]).rotate_left(1)
}

/// Chunk number, number of chunks, bytes; `None` where it is torn, corrupt, of another version or another plan.
pub(crate) fn unframe(fingerprint: u64, framed: &[u8]) -> Option<(u32, u32, &[u8])> {
    if framed.len() < HEAD || framed[0] != VERSION {
        return None;
    }
    let long = |at: usize| framed[at..at + 8].try_into().ok().map(u64::from_le_bytes);
    let short = |at: usize| framed[at..at + 4].try_into().ok().map(u32::from_le_bytes);
    let intact = long(1)? == fingerprint && long(HEAD - 8)? == checksum(framed);
    let (chunk, chunks) = (short(9)?, short(13)?);
    (intact && chunk < chunks).then_some((chunk, chunks, &framed[HEAD..]))
}
