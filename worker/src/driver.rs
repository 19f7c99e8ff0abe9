//! Driver threads: each owns tasks and does for them what the pure engine cannot: read, commit, wait, recover.

mod commit;
mod layout;
mod map;
mod merge;
mod recover;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::Sender;
use engine::{
    map::MapContext,
    output::{Source, TableSchema, schemas},
    plan::Plan,
};

use crate::{
    checkpoint::{CheckpointStore, Snapshot},
    log::SharedLog,
    metrics::Metrics,
    ports::{Log, LogError, PROCESS},
};
pub use layout::Layout;
use map::MapRunner;
use merge::MergeRunner;

/// Why a task cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A shuffle message is not what an engine of this version writes.
    #[error("task {task} cannot read its input at offset {offset}")]
    Corrupt {
        /// Name of the task.
        task: String,
        /// Offset of the message.
        offset: u64,
        /// What is wrong with it.
        #[source]
        source: engine::codec::Corrupt,
    },
    /// Input is gone that no readable checkpoint covers.
    #[error(
        "state of task {task} is lost: no readable checkpoint, and its input before offset {log_start} is deleted; \
         start over in another data directory, or restore this one from a backup"
    )]
    StateLost {
        /// Name of the task.
        task: String,
        /// First offset that is still there.
        log_start: u64,
    },
    /// A bug; the panic is in the log.
    #[error("processing failed for a reason that is a mistake of this program; the lines above tell where")]
    Panicked,
}

/// What all driver threads share: facts that do not change, and flags.
pub struct Shared {
    /// The log.
    pub log: SharedLog,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Schemas of all tables.
    pub schemas: Vec<TableSchema>,
    /// Where everything lies in the log.
    pub layout: Layout,
    context: Arc<MapContext>,
    checkpoints: CheckpointStore,
    checkpoint_every_ms: i64,
    /// Every ingester has ended: a MAP task that has read everything closes its windows.
    pub ingest_done: AtomicBool,
    /// Everything should be flushed, checkpointed and ended.
    stop: AtomicBool,
    /// MAP tasks that have closed their windows.
    finished: AtomicU64,
    /// What is counted where it happens.
    pub metrics: Arc<Metrics>,
    /// Raw records processed since the start.
    pub processed: AtomicU64,
    failure: Mutex<Option<DriverError>>,
}

/// Running driver threads.
pub struct Driver {
    /// What they share.
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What a driver needs to start.
pub struct DriverOptions {
    /// The log.
    pub log: SharedLog,
    /// The plan, with its epochs.
    pub plan: Arc<Plan>,
    /// Lookups and keys.
    pub context: Arc<MapContext>,
    /// Where checkpoints lie.
    pub checkpoints: CheckpointStore,
    /// The queue to the thread that writes them.
    pub queue: Sender<Snapshot>,
    /// How often.
    pub checkpoint_every: Duration,
    /// How many threads.
    pub threads: usize,
    /// Where they count.
    pub metrics: Arc<Metrics>,
}

impl Driver {
    /// Starts the threads; each recovers its tasks and goes on from there.
    ///
    /// # Errors
    /// Where the log's topics cannot be made.
    ///
    /// # Panics
    /// If the system gives no thread.
    pub fn start(options: DriverOptions) -> Result<Self, DriverError> {
        let layout = Layout::find(&options.log, &options.plan)?;
        let shared = Arc::new(Shared {
            schemas: schemas(&options.plan),
            layout,
            log: options.log,
            plan: options.plan,
            context: options.context,
            checkpoints: options.checkpoints,
            checkpoint_every_ms: options.checkpoint_every.as_millis() as i64,
            ingest_done: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            finished: AtomicU64::new(0),
            metrics: options.metrics,
            processed: AtomicU64::new(0),
            failure: Mutex::new(None),
        });
        let threads = (0..options.threads.max(1)).map(|number| {
            let worker = Worker { shared: Arc::clone(&shared), queue: options.queue.clone(), number };
            let count = options.threads.max(1);
            let body = move || worker.run(count);
            let thread = std::thread::Builder::new().name(format!("driver-{number}")).spawn(body);
            thread.expect("a process that just started can have a few more threads")
        });
        let threads = threads.collect();
        Ok(Self { shared, threads })
    }

    /// Asks all threads to flush, checkpoint and end, and waits for them.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub fn stop(self) -> Result<(), DriverError> {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.log.nudge();
        for thread in self.threads {
            // It catches its own panics, and has no result.
            drop(thread.join());
        }
        self.shared.take_failure().map_or(Ok(()), Err)
    }
}

impl Shared {
    /// Whether a thread has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failure.lock().is_ok_and(|failure| failure.is_some())
    }

    fn take_failure(&self) -> Option<DriverError> {
        self.failure.lock().ok()?.take()
    }

    /// All source partitions: those of the raw topics, then that of repaired records.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let raw = self.plan.topics.iter().enumerate().flat_map(|(topic, plan)| {
            (0..plan.partitions).map(move |partition| Source { topic: topic as u32, partition })
        });
        raw.chain([Source { topic: Source::REPAIRED, partition: 0 }]).collect()
    }

    /// Names of all tasks, as checkpoints carry them.
    #[must_use]
    pub fn tasks(&self) -> Vec<String> {
        let maps = self.sources().into_iter().map(|source| map::task_name(&self.plan, source));
        maps.chain((0..self.plan.shuffle_partitions).map(merge::task_name)).collect()
    }

    /// Whether everything that was read is in the tables: every MAP task has closed its windows and every shuffle partition
    /// is consumed to its end.
    ///
    /// # Errors
    /// Where the log fails.
    pub fn is_drained(&self) -> Result<bool, LogError> {
        if self.finished.load(Ordering::Acquire) < self.sources().len() as u64 {
            return Ok(false);
        }
        self.shuffle_is_consumed()
    }

    /// Whether every message of the shuffle has been applied and committed.
    ///
    /// # Errors
    /// Where the log fails.
    pub fn shuffle_is_consumed(&self) -> Result<bool, LogError> {
        for partition in 0..self.plan.shuffle_partitions {
            let at = self.layout.shuffle(partition);
            if self.log.position(PROCESS, at)?.unwrap_or(0) < self.log.offsets(at).end {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until everything that is in the log now is processed, or `limit` has passed.
    ///
    /// # Errors
    /// Where the log fails.
    pub fn wait_for_input(&self, limit: Duration) -> Result<(), LogError> {
        let deadline = std::time::Instant::now() + limit;
        loop {
            let seen = self.log.changes();
            let processed = self.lag()? == 0 && self.shuffle_is_consumed()?;
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if processed || left.is_zero() || self.has_failed() {
                return Ok(());
            }
            self.log.wait(seen, left);
        }
    }

    /// Raw records that are committed and not yet read, over all partitions.
    ///
    /// # Errors
    /// Where the log fails.
    pub fn lag(&self) -> Result<u64, LogError> {
        let mut lag = 0;
        for source in self.sources() {
            let at = self.layout.source(source);
            lag += self.log.offsets(at).end.saturating_sub(self.log.position(PROCESS, at)?.unwrap_or(0));
        }
        Ok(lag)
    }
}

struct Worker {
    shared: Arc<Shared>,
    queue: Sender<Snapshot>,
    number: usize,
}

impl Worker {
    fn run(self, threads: usize) {
        let worked = panic::catch_unwind(AssertUnwindSafe(|| self.work(threads)));
        if let Err(error) = worked.unwrap_or(Err(DriverError::Panicked)) {
            tracing::error!(error = %error, thread = self.number, "processing stopped");
            if let Ok(mut failure) = self.shared.failure.lock() {
                failure.get_or_insert(error);
            }
            // Nobody makes room any more for an ingester that waits for it, however the run comes to end.
            self.shared.log.close_inlets();
        }
    }

    fn work(&self, threads: usize) -> Result<(), DriverError> {
        let mine = |at: usize| at % threads == self.number;
        let partitions = (0..self.shared.plan.shuffle_partitions).filter(|at| mine(*at as usize));
        let mut merges: Vec<MergeRunner> =
            partitions.map(|partition| MergeRunner::recover(&self.shared, partition)).collect::<Result<_, _>>()?;
        let sources = self.shared.sources().into_iter().enumerate().filter(|(at, _)| mine(*at));
        let mut maps: Vec<MapRunner> =
            sources.map(|(_, source)| MapRunner::recover(&self.shared, source)).collect::<Result<_, _>>()?;
        loop {
            let seen = self.shared.log.changes();
            let stop = self.shared.stop.load(Ordering::Acquire);
            let mut progressed = false;
            for merge in &mut merges {
                progressed |= merge.step(&self.shared, &self.queue)?;
            }
            for map in &mut maps {
                progressed |= map.step(&self.shared, &self.queue)?;
            }
            if stop {
                break;
            }
            if !progressed {
                self.shared.log.wait(seen, Duration::from_millis(100));
            }
        }
        for map in &mut maps {
            map.finish(&self.shared, &self.queue)?;
        }
        for merge in &mut merges {
            merge.finish(&self.shared, &self.queue)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::{EmbeddedLog, Fsync},
        ports::{Commit, Records},
    };

    #[test]
    fn who_waits_for_room_leaves_when_a_thread_fails() {
        let plan = Arc::new(crds::check(include_str!("../../examples/medallion.yaml"), &[]).unwrap().plan);
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(EmbeddedLog::open(dir.path(), &Layout::specs(&plan), Fsync::Interval).unwrap());
        let layout = Layout::find(&log, &plan).unwrap();
        let mut damage = Records::default();
        damage.push(b"not a message");
        log.commit(&Commit { appends: &[(layout.shuffle(0), &damage)], ..Commit::default() }).unwrap();
        let (queue, _snapshots) = crossbeam_channel::unbounded();
        let waits = {
            let (log, topic) = (Arc::clone(&log), layout.shuffle_topic());
            std::thread::spawn(move || log.wait_for_room(topic, 1))
        };
        let driver = Driver::start(DriverOptions {
            log: Arc::clone(&log),
            checkpoints: CheckpointStore::new(log, 1, 1),
            plan,
            context: Arc::new(MapContext { lookups: Vec::new(), hash_key: Default::default() }),
            queue,
            checkpoint_every: Duration::from_secs(1),
            threads: 2,
            metrics: Arc::default(),
        })
        .unwrap();
        assert!(matches!(waits.join().unwrap(), Err(LogError::Closed)));
        assert!(matches!(driver.stop(), Err(DriverError::Corrupt { offset: 0, .. })));
    }
}
