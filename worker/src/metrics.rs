//! What the worker measures: names, help and labels of every figure stand here, once.
//!
//! Labels hold words of enums, or names that a manifest declares (streams, tables, topics, ingesters, sinks) and partitions:
//! all bounded. Never text of events, never ids. Counters are filled where things happen; what can be read off the log and the
//! tables is read when somebody asks ([`crate::run`]).

pub mod ledger;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector};

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Which program this is.
    BuildInfo,
    /// Records that tasks read.
    Records,
    /// Their bytes.
    ReadBytes,
    /// Changed rows.
    Rows,
    /// Records that could not be counted.
    DeadLetters,
    /// How long commits take.
    Commit,
    /// How long checkpoints take to write.
    Checkpoint,
    /// Bytes of the last checkpoints.
    CheckpointBytes,
    /// Age of the task's checkpoint that is the oldest of all newest.
    CheckpointAge,
    /// Records that wait.
    LagRecords,
    /// How long the oldest of them has waited.
    LagSeconds,
    /// Where the events of streams went.
    StreamEvents,
    /// Where the events of tables went, late ones among them.
    TableEvents,
    /// Events that are nowhere.
    Unaccounted,
    /// Events that ingesters read.
    IngestEvents,
    /// The same a second, lately.
    IngestRate,
    /// Changed rows that a sink has not written yet.
    SinkLag,
    /// Posts to webhooks of alerts.
    Notifications,
}

/// A label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// `map` or `merge`.
    Stage,
    /// See [`Reason`].
    Reason,
    /// A raw topic.
    Topic,
    /// A partition of it.
    Partition,
    /// A stream.
    Stream,
    /// A table.
    Table,
    /// A counter of the ledger: `accepted`, `late`, …
    Outcome,
    /// An ingester.
    Ingester,
    /// A sink; `tables` is what the API reads.
    Sink,
    /// The program's version.
    Version,
}

impl Label {
    /// The label's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Reason => "reason",
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::Stream => "stream",
            Self::Table => "table",
            Self::Outcome => "outcome",
            Self::Ingester => "ingester",
            Self::Sink => "sink",
            Self::Version => "version",
        }
    }
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::BuildInfo,
        Self::Records,
        Self::ReadBytes,
        Self::Rows,
        Self::DeadLetters,
        Self::Commit,
        Self::Checkpoint,
        Self::CheckpointBytes,
        Self::CheckpointAge,
        Self::LagRecords,
        Self::LagSeconds,
        Self::StreamEvents,
        Self::TableEvents,
        Self::Unaccounted,
        Self::IngestEvents,
        Self::IngestRate,
        Self::SinkLag,
        Self::Notifications,
    ];

    /// Name with its unit, what it says, and its labels.
    #[must_use]
    pub fn about(self) -> (&'static str, &'static str, &'static [Label]) {
        use Label as L;
        match self {
            Self::BuildInfo => ("clickstream_build_info", "Always 1.", &[L::Version]),
            Self::Records => ("clickstream_records_total", "Records read by tasks.", &[L::Stage]),
            Self::ReadBytes => ("clickstream_read_bytes_total", "Bytes of the records read by tasks.", &[L::Stage]),
            Self::Rows => ("clickstream_rows_total", "Changed rows written to the results.", &[L::Stage]),
            Self::DeadLetters => {
                ("clickstream_dead_letters_total", "Records that could not be counted, by reason.", &[L::Reason])
            }
            Self::Commit => ("clickstream_commit_seconds", "Time that a commit takes.", &[L::Stage]),
            Self::Checkpoint => {
                ("clickstream_checkpoint_seconds", "Time that writing a checkpoint takes.", &[L::Stage])
            }
            Self::CheckpointBytes => {
                ("clickstream_checkpoint_bytes", "Size of the last checkpoint written.", &[L::Stage])
            }
            Self::CheckpointAge => (
                "clickstream_checkpoint_age_seconds",
                "Time since the last checkpoint of the task that waits longest for one.",
                &[L::Stage],
            ),
            Self::LagRecords => {
                ("clickstream_lag_records", "Records of a partition that wait.", &[L::Topic, L::Partition])
            }
            Self::LagSeconds => (
                "clickstream_lag_seconds",
                "Time that the oldest waiting record of a partition has waited; 0 if none waits.",
                &[L::Topic, L::Partition],
            ),
            Self::StreamEvents => (
                "clickstream_stream_events",
                "The ledger of a stream: read = accepted + duplicate + invalid + expired.",
                &[L::Stream, L::Outcome],
            ),
            Self::TableEvents => (
                "clickstream_table_events",
                "The ledger of a table: accepted = counted + late + filtered.",
                &[L::Table, L::Outcome],
            ),
            Self::Unaccounted => {
                ("clickstream_ledger_unaccounted_events", "Events that are nowhere, or still on their way.", &[])
            }
            Self::IngestEvents => {
                ("clickstream_ingest_events", "Events in the log, by the ingester that read them.", &[L::Ingester])
            }
            Self::IngestRate => {
                ("clickstream_ingest_events_per_second", "Events read a second, lately.", &[L::Ingester])
            }
            Self::SinkLag => {
                ("clickstream_sink_lag_records", "Changed rows that a sink has not taken yet.", &[L::Sink])
            }
            Self::Notifications => (NOTIFICATIONS.0, NOTIFICATIONS.1, &[L::Outcome]),
        }
    }

    fn options(self) -> Opts {
        let (name, help, _) = self.about();
        Opts::new(name, help)
    }

    fn labels(self) -> Vec<&'static str> {
        self.about().2.iter().map(|label| label.name()).collect()
    }

    /// A gauge of whole numbers for this figure.
    ///
    /// # Panics
    /// Never: names and labels are constants that a test looks at.
    #[must_use]
    pub fn integers(self) -> IntGaugeVec {
        IntGaugeVec::new(self.options(), &self.labels()).expect("names and labels are constants")
    }

    /// A gauge for this figure.
    ///
    /// # Panics
    /// Never: names and labels are constants that a test looks at.
    #[must_use]
    pub fn numbers(self) -> GaugeVec {
        GaugeVec::new(self.options(), &self.labels()).expect("names and labels are constants")
    }

    /// As [`Figure::numbers`], of one epoch among several.
    ///
    /// # Panics
    /// Never: names and labels are constants that a test looks at.
    #[must_use]
    pub fn numbers_of(self, epoch: u32) -> GaugeVec {
        let options = self.options().const_label("epoch", epoch.to_string());
        GaugeVec::new(options, &self.labels()).expect("names and labels are constants")
    }

    fn counters(self) -> IntCounterVec {
        IntCounterVec::new(self.options(), &self.labels()).expect("names and labels are constants")
    }

    /// From a millisecond to half a minute.
    fn seconds(self) -> HistogramVec {
        let (name, help, _) = self.about();
        let buckets = vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
        let options = HistogramOpts::new(name, help).buckets(buckets);
        HistogramVec::new(options, &self.labels()).expect("names and labels are constants")
    }
}

/// The two kinds of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From raw records to the shuffle.
    Map,
    /// From the shuffle to results.
    Merge,
}

impl Stage {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Map, Self::Merge];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Merge => "merge",
        }
    }

    /// The stage of a task by its name.
    #[must_use]
    pub fn of_task(name: &str) -> Self {
        if name.starts_with("merge:") { Self::Merge } else { Self::Map }
    }
}

/// Why records could not be counted, as a label. Rules of the user's are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not JSON, not an object, not UTF-8, too deep or too large.
    Unreadable,
    /// A field has another type.
    WrongType,
    /// A field is missing.
    MissingField,
    /// A number or a time that cannot be.
    OutOfRange,
    /// No open window could take it.
    Late,
    /// A rule of the manifest is false, or an interval of a join is none.
    Rule,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Unreadable, Self::WrongType, Self::MissingField, Self::OutOfRange, Self::Late, Self::Rule];

    /// The reason that the engine's word means.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "not-json" | "not-an-object" | "not-utf8" | "too-large" | "too-deep" => Self::Unreadable,
            "wrong-type" => Self::WrongType,
            "missing-field" => Self::MissingField,
            "number-out-of-range" | "time-out-of-range" => Self::OutOfRange,
            "late" => Self::Late,
            _ => Self::Rule,
        }
    }

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::WrongType => "wrong-type",
            Self::MissingField => "missing-field",
            Self::OutOfRange => "out-of-range",
            Self::Late => "late",
            Self::Rule => "rule",
        }
    }
}

/// Name, help and label of the counter of what became of messages about alerts: the fleet has it as well.
pub const NOTIFICATIONS: (&str, &str, &str) = (
    "clickstream_notifications_total",
    "Messages about alerts, one for each receiver, by what became of them.",
    "outcome",
);

/// What became of a message about an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It was taken.
    Delivered,
    /// It was refused, or given up.
    Failed,
}

impl Delivery {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Delivered, Self::Failed];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// Counters that are filled where things happen, and the registry that `/metrics` prints.
pub struct Metrics {
    /// Everything there is; other parts register theirs.
    pub registry: Registry,
    records: IntCounterVec,
    bytes: IntCounterVec,
    rows: IntCounterVec,
    dead_letters: IntCounterVec,
    notifications: IntCounterVec,
    commits: HistogramVec,
    checkpoints: HistogramVec,
    checkpoint_bytes: IntGaugeVec,
    /// Written by the checkpoint thread, read when somebody asks.
    checkpointed: Mutex<BTreeMap<String, Instant>>,
    started: Instant,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::new(),
            records: Figure::Records.counters(),
            bytes: Figure::ReadBytes.counters(),
            rows: Figure::Rows.counters(),
            dead_letters: Figure::DeadLetters.counters(),
            notifications: Figure::Notifications.counters(),
            commits: Figure::Commit.seconds(),
            checkpoints: Figure::Checkpoint.seconds(),
            checkpoint_bytes: Figure::CheckpointBytes.integers(),
            checkpointed: Mutex::default(),
            started: Instant::now(),
        };
        let build = Figure::BuildInfo.integers();
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.register(build);
        metrics.register(metrics.records.clone());
        metrics.register(metrics.bytes.clone());
        metrics.register(metrics.rows.clone());
        metrics.register(metrics.dead_letters.clone());
        metrics.register(metrics.notifications.clone());
        metrics.register(metrics.commits.clone());
        metrics.register(metrics.checkpoints.clone());
        metrics.register(metrics.checkpoint_bytes.clone());
        metrics.show_all();
        metrics
    }
}

impl Metrics {
    /// Adds somebody's figures.
    ///
    /// # Panics
    /// If one is registered already.
    pub fn register(&self, collector: impl Collector + 'static) {
        self.registry.register(Box::new(collector)).expect("every figure is registered once");
    }

    /// Series that have counted nothing are shown as 0, so that a rate over them begins at the first.
    fn show_all(&self) {
        for stage in Stage::ALL.map(Stage::label) {
            self.records.with_label_values(&[stage]);
            self.bytes.with_label_values(&[stage]);
            self.rows.with_label_values(&[stage]);
            self.commits.with_label_values(&[stage]);
            self.checkpoints.with_label_values(&[stage]);
            self.checkpoint_bytes.with_label_values(&[stage]);
        }
        for reason in Reason::ALL.map(Reason::label) {
            self.dead_letters.with_label_values(&[reason]);
        }
        for outcome in Delivery::ALL.map(Delivery::label) {
            self.notifications.with_label_values(&[outcome]);
        }
    }

    /// Counts records that a task read.
    pub fn read(&self, stage: Stage, records: usize, bytes: usize) {
        self.records.with_label_values(&[stage.label()]).inc_by(records as u64);
        self.bytes.with_label_values(&[stage.label()]).inc_by(bytes as u64);
    }

    /// Counts a commit.
    pub fn commit(&self, stage: Stage, rows: usize, took: Duration) {
        self.commits.with_label_values(&[stage.label()]).observe(took.as_secs_f64());
        self.rows.with_label_values(&[stage.label()]).inc_by(rows as u64);
    }

    /// Counts a record that could not be counted.
    pub fn dead_letter(&self, reason: &str) {
        self.dead_letters.with_label_values(&[Reason::of(reason).label()]).inc();
    }

    /// Counts a message about an alert.
    pub fn notified(&self, delivery: Delivery) {
        self.notifications.with_label_values(&[delivery.label()]).inc();
    }

    /// Counts a checkpoint.
    pub fn checkpoint(&self, task: &str, bytes: usize, took: Duration) {
        let stage = Stage::of_task(task).label();
        self.checkpoints.with_label_values(&[stage]).observe(took.as_secs_f64());
        self.checkpoint_bytes.with_label_values(&[stage]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let mut checkpointed = self.checkpointed.lock().unwrap_or_else(PoisonError::into_inner);
        checkpointed.insert(task.to_owned(), Instant::now());
    }

    /// How long ago the newest checkpoint was written of that one of `tasks` which waits longest; since the start, if it has
    /// none of this process.
    #[must_use]
    pub fn checkpoint_age(&self, tasks: &[String]) -> Duration {
        let checkpointed = self.checkpointed.lock().unwrap_or_else(PoisonError::into_inner);
        let ages = tasks.iter().map(|task| checkpointed.get(task).unwrap_or(&self.started).elapsed());
        ages.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_once_and_carry_their_unit() {
        let mut names: Vec<&str> = Figure::ALL.map(|figure| figure.about().0).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Figure::ALL.len());
        let units = ["_total", "_seconds", "_bytes", "_records", "_events", "_info", "_per_second"];
        for (name, help, _) in Figure::ALL.map(Figure::about) {
            assert!(name.starts_with("clickstream_") && units.iter().any(|unit| name.ends_with(unit)), "{name}");
            assert!(help.ends_with('.'), "{help}");
        }
    }

    #[test]
    fn the_page_about_metrics_lists_them() {
        let page = include_str!("../../docs/metrics.md");
        for (name, help, labels) in Figure::ALL.map(Figure::about) {
            let labels: Vec<&str> = labels.iter().map(|label| label.name()).collect();
            let line = format!("| `{name}` | {} | {help} |", labels.join(", "));
            assert!(page.contains(&line), "docs/metrics.md lacks:\n{line}");
        }
        for reason in Reason::ALL.map(Reason::label) {
            assert!(page.contains(&format!("`{reason}`")), "{reason}");
        }
    }

    #[test]
    fn the_task_that_waits_longest_tells_the_age() {
        let metrics = Metrics::default();
        metrics.checkpoint("map:a/0", 10, Duration::from_millis(1));
        let both = ["map:a/0".to_owned(), "map:a/1".to_owned()];
        assert!(metrics.checkpoint_age(&both) >= metrics.checkpoint_age(&both[..1]));
        assert_eq!(metrics.checkpoint_age(&[]), Duration::ZERO);
    }
}
