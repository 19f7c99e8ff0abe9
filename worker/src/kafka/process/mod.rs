//! `clickstream process`: MAP and MERGE tasks over Kafka.
//!
//! ```text
//!  thread: poll group ─► given: fence the dead, read checkpoints, recover ─► taken: commit, give up
//!             │
//!             ├─► each partition's queue ─ batch ─► task (replays below the committed offset without output)
//!             └─► every 250 ms: one transaction = outputs of all its tasks + offsets + proof of membership ─► checkpoints
//! ```
//! Invariants: a failed transaction drops the tasks in it; they are recovered from what is committed. A partition is read
//! from a checkpoint at or below its committed offset, or from its start. Nothing is shared but counters and the stop flag.

mod fence;
mod member;
mod metrics;
mod recover;
pub mod seed;
mod sources;
mod task;
mod thread;
mod transaction;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use engine::{
    map::MapContext,
    output::{TableSchema, schemas},
    plan::Plan,
    time::Millis,
};
use prometheus::Registry;

use super::{
    catalogue::Epoch,
    checkpoints::{CheckpointQueue, CheckpointWriter, Checkpoints},
    client::{Cluster, REQUEST_TIME_MAX},
    context::is_news,
    names::Names,
};
use crate::ports::LogError;
pub use metrics::Metrics;
use metrics::ThreadState;
pub use sources::topics;
use thread::Thread;

/// First and longest pause of a thread before it tries to begin again.
const RETRY: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_secs(3);

/// A thread that ran for longer than any call waits had begun its work: what failed it is another outage.
const WORKED: Duration = Duration::from_secs(60);

/// How often a thread that waits looks whether it should end.
const STOP_EVERY: Duration = Duration::from_millis(50);

/// Why processing cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Kafka failed. Where it may come back, threads wait for it and begin again.
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
         start over under another pipeline name"
    )]
    StateLost {
        /// Name of the task.
        task: String,
        /// First offset that is still there.
        log_start: u64,
    },
    /// A thread of ours has a bug.
    #[error("a processing thread panicked")]
    Panicked,
}

/// What all threads share: facts that do not change, counters, and the flag to stop.
pub struct Shared {
    cluster: Cluster,
    names: Names,
    /// Another one with more partitions where topics have grown. Written by [`Processor::grow`], read by each thread when it
    /// sees that it has an older one.
    plan: Mutex<Arc<Plan>>,
    /// Counts plans.
    plan_number: AtomicU64,
    tells: Vec<bool>,
    schemas: Vec<TableSchema>,
    context: Arc<MapContext>,
    checkpoints: Checkpoints,
    checkpoint_every_ms: Millis,
    instance: String,
    /// Counters.
    pub metrics: Metrics,
    /// A thread each.
    state: Arc<[ThreadState]>,
    /// Commit, checkpoint and end.
    stop: AtomicBool,
    failure: Mutex<Option<ProcessError>>,
}

/// What a processor needs to start.
pub struct ProcessOptions {
    /// Where Kafka is.
    pub cluster: Cluster,
    /// What to compute, and the names of its topics.
    pub epoch: Epoch,
    /// Lookups and keys.
    pub context: Arc<MapContext>,
    /// Where checkpoints lie.
    pub checkpoints: Checkpoints,
    /// How often.
    pub checkpoint_every: Duration,
    /// What tells this process from others of the pipeline.
    pub instance: String,
    /// How many threads.
    pub threads: usize,
    /// Where counters are gathered.
    pub registry: Registry,
}

/// Running threads.
pub struct Processor {
    /// What they share.
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    writer: CheckpointWriter,
}

impl Processor {
    /// Starts the threads; each joins the group and works on what it is given.
    ///
    /// # Errors
    /// Where Kafka's client refuses its configuration.
    ///
    /// # Panics
    /// If the system gives no thread, or the names of metrics collide.
    pub fn start(options: ProcessOptions) -> Result<Self, ProcessError> {
        let Epoch { number, checked, tells, names, .. } = options.epoch;
        let plan = Arc::new(checked.plan);
        let writer = CheckpointWriter::start(options.checkpoints.clone(), names.shuffle())?;
        let count = options.threads.max(1);
        let state: Arc<[ThreadState]> = (0..count).map(|_| ThreadState::default()).collect();
        let shared = Arc::new(Shared {
            schemas: schemas(&plan),
            names,
            cluster: options.cluster,
            plan: Mutex::new(plan),
            plan_number: AtomicU64::new(0),
            tells,
            context: options.context,
            checkpoints: options.checkpoints,
            checkpoint_every_ms: options.checkpoint_every.as_millis() as Millis,
            instance: options.instance,
            metrics: Metrics::new(&options.registry, number, &state).expect("the names of metrics differ"),
            state,
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let threads = (0..count).map(|number| {
            let (shared, queue) = (Arc::clone(&shared), writer.queue());
            let body = move || run(&shared, &queue, number);
            let thread = std::thread::Builder::new().name(format!("process-{number}")).spawn(body);
            thread.expect("a process that just started can have a few more threads")
        });
        let threads = threads.collect();
        Ok(Self { shared, threads, writer })
    }

    /// Whether a thread has ended before it was told to.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.writer.has_failed() || self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Tells the threads that topics have grown: the plan is the same but for more partitions. Each puts its tasks down in
    /// order and goes on with them under the new plan, and with the partitions that it could not read until now.
    pub fn grow(&self, plan: Plan) {
        let mut current = self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(plan);
        self.shared.plan_number.fetch_add(1, Ordering::Release);
    }

    /// Tells the threads to end, and does not wait for them.
    pub fn ask_to_stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }

    /// Commits, checkpoints, leaves the group and ends.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub fn stop(self) -> Result<(), ProcessError> {
        self.ask_to_stop();
        let panicked = self.threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count() > 0;
        let written = self.writer.finish();
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(failure) => Err(failure),
            None if panicked => Err(ProcessError::Panicked),
            None => Ok(written?),
        }
    }
}

impl Shared {
    /// The plan that counts now, and its number.
    fn plan(&self) -> (u64, Arc<Plan>) {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        (self.plan_number.load(Ordering::Acquire), Arc::clone(&plan))
    }

    /// Whether all threads do their work, or what one waits for.
    ///
    /// # Errors
    /// What is waited for.
    pub fn ready(&self) -> Result<(), String> {
        self.metrics.owns(self.state.iter().map(ThreadState::tasks).sum());
        self.state.iter().try_for_each(ThreadState::ready)
    }
}

/// Runs a thread until it is told to stop. When Kafka fails it for longer than a call waits, it forgets everything and
/// begins again with what is committed, for as long as it takes.
fn run(shared: &Arc<Shared>, queue: &CheckpointQueue, number: usize) {
    let mut pause = RETRY.start;
    loop {
        let began = Instant::now();
        let error = match Thread::start(shared, queue.clone(), number).and_then(Thread::run) {
            Ok(()) => return,
            Err(ProcessError::Log(error @ LogError::Io { .. })) => error,
            Err(error) => {
                tracing::error!(%error, thread = number, "processing stopped");
                shared.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
        };
        let told = told(&error);
        shared.state[number].failed(&told);
        if is_news(&told) {
            tracing::warn!(
                thread = number,
                error = told,
                "Kafka failed: waiting for it, then going on from what is committed"
            );
        }
        if began.elapsed() > WORKED {
            pause = RETRY.start;
        }
        let until = Instant::now() + pause;
        pause = (pause * 2).min(RETRY.end);
        while Instant::now() < until {
            if shared.stop.load(Ordering::Acquire) {
                return;
            }
            std::thread::park_timeout(STOP_EVERY);
        }
    }
}

/// An error with its cause.
fn told(error: &LogError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// How long a thread waits for an answer that it cannot go on without: brokers take 9 s to notice that one of them is gone.
const fn client_time() -> Duration {
    REQUEST_TIME_MAX.saturating_mul(3)
}
