//! What a processor counts. Names, units and help stand here alone.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use engine::time::Millis;
use prometheus::{
    GaugeVec, Histogram, IntCounter, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::{
    clock,
    health::downstream::Downstream,
    metrics::{Figure, Stage},
};

/// Counters of one epoch in a processor. Few epochs run at a time, so that their number may be a label.
pub struct Metrics {
    /// Records given to tasks for the first time.
    pub records: IntCounter,
    /// Records replayed after a recovery.
    pub replayed: IntCounter,
    /// Transactions that failed.
    pub commits_failed: IntCounter,
    recoveries: IntCounter,
    commit_seconds: Histogram,
    recovery_seconds: Histogram,
    tasks: IntGauge,
}

impl Metrics {
    /// Registers all of them; `threads` tell how old checkpoints are.
    ///
    /// # Errors
    /// Where a name is taken, which only a bug can bring about.
    pub fn new(registry: &Registry, epoch: u32, threads: &Arc<[ThreadState]>) -> Result<Self, prometheus::Error> {
        let named = |name: &str, help: &str| Opts::new(name, help).const_label("epoch", epoch.to_string());
        let ages = CheckpointAges { threads: Arc::clone(threads), gauge: Figure::CheckpointAge.numbers_of(epoch) };
        registry.register(Box::new(ages))?;
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::with_opts(named(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let seconds = |name: &str, help: &str| {
            let histogram = Histogram::with_opts(named(name, help).into())?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let tasks = IntGauge::with_opts(named("clickstream_process_tasks", "tasks that this process owns"))?;
        registry.register(Box::new(tasks.clone()))?;
        Ok(Self {
            records: counter("clickstream_process_records_total", "records read, replayed ones not among them")?,
            replayed: counter("clickstream_process_replayed_records_total", "records replayed after recoveries")?,
            commits_failed: counter("clickstream_process_commits_failed_total", "transactions that failed")?,
            recoveries: counter("clickstream_process_recoveries_total", "tasks that were recovered")?,
            commit_seconds: seconds("clickstream_process_commit_seconds", "time that commits took")?,
            recovery_seconds: seconds("clickstream_process_recovery_seconds", "time from given to reading on")?,
            tasks,
        })
    }

    /// Counts records.
    pub fn read(&self, count: usize, replaying: bool) {
        (if replaying { &self.replayed } else { &self.records }).inc_by(count as u64);
    }

    /// Counts a commit.
    pub fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts a recovery of so many tasks.
    pub fn recovered(&self, tasks: usize, took: Duration) {
        self.recoveries.inc_by(tasks as u64);
        self.recovery_seconds.observe(took.as_secs_f64());
    }

    /// Shows how many tasks there are.
    pub fn owns(&self, tasks: usize) {
        self.tasks.set(tasks as i64);
    }
}

/// How a thread is doing. Written by the thread, read by whoever asks whether the process is ready.
#[derive(Debug)]
pub struct ThreadState {
    joined: AtomicBool,
    tasks: AtomicUsize,
    replaying: AtomicUsize,
    /// Why it began again last.
    problem: Mutex<String>,
    /// Why it does not read something that the group gave it; empty where it reads all of it.
    aside: Mutex<String>,
    commits: Downstream,
    /// By stage: since when the task that waits longest for a checkpoint waits; never if none does.
    waiting_since: [AtomicI64; 2],
}

/// No task waits.
const NEVER: Millis = Millis::MAX;

impl Default for ThreadState {
    fn default() -> Self {
        Self {
            joined: AtomicBool::default(),
            tasks: AtomicUsize::default(),
            replaying: AtomicUsize::default(),
            problem: Mutex::default(),
            aside: Mutex::default(),
            commits: Downstream::default(),
            waiting_since: [AtomicI64::new(NEVER), AtomicI64::new(NEVER)],
        }
    }
}

/// Tells when it is asked how long tasks wait for checkpoints.
struct CheckpointAges {
    threads: Arc<[ThreadState]>,
    gauge: GaugeVec,
}

impl Collector for CheckpointAges {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = clock::now();
        for stage in Stage::ALL {
            let since = self.threads.iter().map(|thread| thread.waiting_since[stage as usize].load(Ordering::Acquire));
            let since = since.min().unwrap_or(NEVER);
            let age_ms = if since == NEVER { 0 } else { (now - since).max(0) };
            self.gauge.with_label_values(&[stage.label()]).set(age_ms as f64 / 1_000.0);
        }
        self.gauge.collect()
    }
}

impl ThreadState {
    /// Says since when tasks of a stage wait for a checkpoint.
    pub fn tell_waiting(&self, stage: Stage, since: Option<Millis>) {
        self.waiting_since[stage as usize].store(since.unwrap_or(NEVER), Ordering::Release);
    }

    /// Says how it is doing.
    pub fn tell(&self, joined: bool, tasks: usize, replaying: usize) {
        self.joined.store(joined, Ordering::Release);
        self.tasks.store(tasks, Ordering::Release);
        self.replaying.store(replaying, Ordering::Release);
    }

    /// Says why it begins again.
    pub fn failed(&self, why: &str) {
        why.clone_into(&mut self.problem.lock().unwrap_or_else(PoisonError::into_inner));
        self.tell(false, 0, 0);
    }

    /// How its commits go.
    pub const fn commits(&self) -> &Downstream {
        &self.commits
    }

    /// Says why it does not read something that the group gave it; nothing where it reads all of it.
    pub fn tell_aside(&self, why: String) {
        *self.aside.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// How many tasks it has.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Acquire)
    }

    /// Whether it does its work, or what it waits for.
    ///
    /// # Errors
    /// What it waits for.
    pub fn ready(&self) -> Result<(), String> {
        if !self.joined.load(Ordering::Acquire) {
            let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
            let because = if problem.is_empty() { String::new() } else { format!(": {problem}") };
            return Err(format!("a thread has not joined its group{because}"));
        }
        self.commits.ready().map_err(|why| format!("commits fail again and again: {why}"))?;
        let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        match self.replaying.load(Ordering::Acquire) {
            0 if aside.is_empty() => Ok(()),
            0 => Err(aside.clone()),
            tasks => Err(format!("{tasks} tasks are being replayed")),
        }
    }
}
