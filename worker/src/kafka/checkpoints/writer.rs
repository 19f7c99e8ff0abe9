//! The thread that writes checkpoints and deletes what only older ones need. Nobody waits for it for long: where it cannot
//! write, checkpoints are left out, which their age tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use crossbeam_channel::{Sender, bounded};
use engine::time::Millis;

use super::{Checkpoints, Id, Stored, bucket::Bucket, topic::TopicWriter};
use crate::{
    checkpoint::{Snapshot, frame},
    kafka::{admin::Admin, context::is_news},
    limits,
    ports::LogError,
};

/// What is safe of a task: when the state was taken that was written last, and its position. Written by the writer, read by
/// the task.
#[derive(Clone, Debug)]
pub struct Saved(Arc<Mutex<(Millis, u64)>>);

impl Saved {
    /// Of a task that was just restored.
    #[must_use]
    pub fn new(at: Millis, position: u64) -> Self {
        Self(Arc::new(Mutex::new((at, position))))
    }

    /// When, and which position.
    #[must_use]
    pub fn get(&self) -> (Millis, u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, at: Millis, position: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (at, position);
    }
}

/// A state on its way to the store.
pub struct Taken {
    /// The state.
    pub snapshot: Snapshot,
    /// When it was taken.
    pub at: Millis,
    /// Who wants to know that it is safe.
    pub saved: Saved,
}

/// Checkpoints of one task with their chunks: whole ones, and what is left of others.
type There = [BTreeMap<Id, u32>; 2];

/// The way to the writer. Bounded: a task waits behind the second snapshot, for a moment.
#[derive(Clone)]
pub struct CheckpointQueue {
    snapshots: Sender<Taken>,
    /// What is there of tasks that were recovered. Written by whoever recovers one, which must not wait for a store that is
    /// away; taken by the writer before it writes.
    found: Arc<Mutex<BTreeMap<String, There>>>,
    /// Somebody waited in vain: nobody else does until the writer goes on, which clears it.
    is_stuck: Arc<AtomicBool>,
}

impl CheckpointQueue {
    /// Tells what was found at a recovery, so that it is deleted in time.
    pub fn know(&self, task: &str, stored: &Stored) {
        let (whole, torn): (Vec<_>, Vec<_>) = stored.kept.iter().partition(|(_, kept)| kept.is_complete());
        let there = [whole, torn].map(|all| all.into_iter().map(|(id, kept)| (*id, kept.chunks)).collect());
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(task.into(), there);
    }

    /// Hands a state over, and waits for as long as the writer is busy. Whether it was written, [`Taken::saved`] tells.
    pub fn write_patiently(&self, taken: Taken) {
        // A writer that has ended has a bug, which its end tells.
        drop(self.snapshots.send(taken));
    }

    /// Hands a state over. It is left out where the writer is busy for long: another will come.
    pub fn write(&self, taken: Taken) {
        if self.is_stuck.load(Ordering::Acquire) {
            drop(self.snapshots.try_send(taken));
        } else if self.snapshots.send_timeout(taken, limits::CHECKPOINT_WAIT_MAX).is_err() {
            self.is_stuck.store(true, Ordering::Release);
        }
    }
}

/// The thread that writes.
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
        let target = match &checkpoints.bucket {
            Some(bucket) => Target::Bucket(bucket.clone()),
            None => Target::Topic(checkpoints.topic.writer()?),
        };
        let admin = Admin::new(&checkpoints.cluster)?;
        let (snapshots, taken) = bounded(limits::CHECKPOINT_QUEUE);
        let (found, is_stuck) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let queue = CheckpointQueue { snapshots, found: Arc::clone(&found), is_stuck: Arc::clone(&is_stuck) };
        let (known, torn) = (BTreeMap::new(), BTreeMap::new());
        let mut writer =
            Writer { checkpoints, shuffle, target, admin, known, torn, rests_until: None, stay_until: BTreeMap::new() };
        let body = move || {
            for snapshot in taken {
                is_stuck.store(false, Ordering::Release);
                let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
                writer.know(found);
                writer.hear(&snapshot);
            }
        };
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(body);
        let thread = thread.expect("a process that just started can have one more thread");
        Ok(Self { queue, thread })
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

/// Where chunks go.
enum Target {
    Topic(TopicWriter),
    Bucket(Bucket),
}

impl Target {
    /// Larger ones where each is a request.
    fn chunk_bytes(&self) -> usize {
        match self {
            Self::Topic(_) => limits::CHECKPOINT_CHUNK_BYTES,
            Self::Bucket(_) => limits::OBJECT_PART_BYTES,
        }
    }

    fn put(&self, task: &str, id: Id, (at, of): (u32, u32), chunk: Vec<u8>) -> Result<(), LogError> {
        match self {
            Self::Topic(topic) => topic.put(task, id, at, &chunk),
            Self::Bucket(bucket) => bucket.put(task, id, (at, of), chunk),
        }
    }

    fn delete(&self, task: &str, id: Id, chunks: u32) -> Result<(), LogError> {
        match self {
            Self::Topic(topic) => topic.delete(task, id, chunks),
            Self::Bucket(bucket) => bucket.delete(task, id),
        }
    }

    /// Waits until everything is there.
    fn settle(&self) -> Result<(), LogError> {
        match self {
            Self::Topic(topic) => topic.settle(),
            Self::Bucket(_) => Ok(()),
        }
    }
}

struct Writer {
    checkpoints: Checkpoints,
    shuffle: String,
    target: Target,
    admin: Admin,
    /// Checkpoints by task, with their chunks.
    known: BTreeMap<String, BTreeMap<Id, u32>>,
    /// What is left of others, and is to go.
    torn: BTreeMap<String, BTreeMap<Id, u32>>,
    /// The store failed: until then nothing is tried.
    rests_until: Option<Instant>,
    /// Tasks whose old messages could not be deleted: until then they stay. A leader that is gone costs the whole time of a
    /// request.
    stay_until: BTreeMap<String, Instant>,
}

impl Writer {
    /// Notes what is there of tasks. What is torn goes with the next checkpoint.
    fn know(&mut self, found: BTreeMap<String, There>) {
        for (task, [whole, torn]) in found {
            let left = self.torn.entry(task.clone()).or_default();
            left.extend(torn);
            left.retain(|id, _| !whole.contains_key(id));
            self.known.insert(task, whole);
        }
    }

    /// A checkpoint that cannot be written is left out: those before it are still there, and the next one will come.
    fn hear(&mut self, taken: &Taken) {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let Err(error) = self.take(taken) else { return };
        self.rests_until = Some(Instant::now() + limits::CHECKPOINT_REST);
        let error = format!("{:#}", anyhow::Error::new(error));
        if is_news(&error) {
            tracing::warn!(error, "a checkpoint is left out");
        }
    }

    fn take(&mut self, taken: &Taken) -> Result<(), LogError> {
        let snapshot = &taken.snapshot;
        self.write(snapshot)?;
        taken.saved.reach(taken.at, snapshot.position);
        self.clear(&snapshot.task)?;
        self.prune(&snapshot.task, snapshot.position)
    }

    /// Deletes what is torn.
    fn clear(&mut self, task: &str) -> Result<(), LogError> {
        let Some(torn) = self.torn.get(task).filter(|torn| !torn.is_empty()) else { return Ok(()) };
        torn.iter().try_for_each(|(id, chunks)| self.target.delete(task, *id, *chunks))?;
        self.target.settle()?;
        self.torn.remove(task);
        Ok(())
    }

    fn write(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        let chunks: Vec<&[u8]> = match snapshot.bytes.is_empty() {
            true => vec![&[]],
            false => snapshot.bytes.chunks(self.target.chunk_bytes()).collect(),
        };
        let (generation, fingerprint) = (self.checkpoints.generation, self.checkpoints.fingerprint);
        let (task, id, of) = (&snapshot.task, (snapshot.position, generation), chunks.len() as u32);
        // Until all of it is there.
        self.torn.entry(task.clone()).or_default().insert(id, of);
        for (at, chunk) in (0..of).zip(chunks) {
            self.target.put(task, id, (at, of), frame(fingerprint, at, of, chunk))?;
        }
        self.target.settle()?;
        self.torn.entry(task.clone()).or_default().remove(&id);
        self.known.entry(task.clone()).or_default().insert(id, of);
        Ok(())
    }

    /// Deletes all but the newest up to a position, and the shuffle messages that only older ones need. Those behind it are
    /// another owner's who is farther, or of a log that has gone back: neither says what of ours may go.
    fn prune(&mut self, task: &str, position: u64) -> Result<(), LogError> {
        let known = self.known.entry(task.to_owned()).or_default();
        let positions: BTreeSet<u64> = known.keys().map(|(at, _)| *at).filter(|at| *at <= position).collect();
        let Some(oldest) = positions.iter().rev().nth(limits::CHECKPOINTS_KEPT - 1).copied() else { return Ok(()) };
        let kept = known.split_off(&(oldest, 0));
        let old = std::mem::replace(known, kept);
        self.torn.entry(task.to_owned()).or_default().extend(old);
        self.clear(task)?;
        let is_due = self.stay_until.get(task).is_none_or(|until| Instant::now() >= *until);
        if let Some(partition) = task.strip_prefix("merge:").and_then(|number| number.parse().ok()).filter(|_| is_due)
            && let Err(error) = self.admin.delete_below(&self.shuffle, partition, oldest)
        {
            self.stay_until.insert(task.into(), Instant::now() + limits::SHUFFLE_REST);
            let error = format!("{:#}", anyhow::Error::new(error));
            if is_news(&error) {
                tracing::warn!(task, error, "old shuffle messages stay for now");
            }
        }
        Ok(())
    }
}
