//! What only the running pipeline knows, as the server asks for it.

use std::error::Error;

use serde::{Deserialize, Serialize};

use crate::{
    dead_letters::{DeadLetterDetail, DeadLetterError, DeadLetterPage, DeadLetterQuery, ReplayReport, ReplayRequest},
    ports::LogError,
    tail::{Tail, TailError, TopicInfo},
};

/// The running pipeline. Calls are short: they read counters and a few records of the log.
///
/// Three stand behind it: a run, a fleet, and the fixture of the tests.
pub trait Live: Send + Sync {
    /// How it is doing.
    fn status(&self) -> Status;

    /// Records that could not be counted, the newest first. Called from a blocking thread.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn dead_letters(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, Box<dyn Error + Send + Sync>>;

    /// One of them, with all its bytes. Called from a blocking thread.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn dead_letter(&self, id: u64) -> Result<Option<DeadLetterDetail>, DeadLetterError>;

    /// Sends repaired dead letters through the pipeline again. Called from a blocking thread.
    ///
    /// # Errors
    /// When the request is wrong, or the log failed and nothing was written.
    fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport, DeadLetterError>;

    /// Its topics. Called from a blocking thread.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn topics(&self) -> Result<Vec<TopicInfo>, LogError>;

    /// Whether its topics are as the manifest says. Those that nobody else can reach always are.
    fn topics_look(&self) -> TopicsLook {
        TopicsLook::Known(Vec::new())
    }

    /// A reader of a topic, from its newest `last` records on. Called from a blocking thread.
    ///
    /// # Errors
    /// When there is no such topic, or the log cannot be read.
    fn tail(&self, topic: &str, last: u64) -> Result<Tail, TailError>;

    /// Whether questions get sensible answers yet.
    ///
    /// # Errors
    /// What is still being waited for.
    fn ready(&self) -> Result<(), String>;
}

/// What the pipeline is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Recovering.
    #[default]
    Starting,
    /// Reading.
    Running,
    /// Told to stop; writing the rest.
    Draining,
    /// Everything is read and written.
    Done,
}

/// How the pipeline is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// When it started, in RFC 3339.
    pub started_at: String,
    /// Raw records processed since the pipeline was first started.
    pub events: u64,
    /// Raw records processed in the last second or so.
    pub events_per_second: f64,
    /// Its ingesters.
    pub ingest: Vec<IngestStatus>,
    /// Its raw topics' partitions.
    pub partitions: Vec<PartitionStatus>,
    /// Its sinks.
    pub sinks: Vec<SinkStatus>,
}

/// An ingester.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IngestStatus {
    /// Name.
    pub name: String,
    /// Events read so far.
    pub read: u64,
    /// Events there are, if the source has an end that is known.
    pub total: Option<u64>,
    /// Events read in the last second or so.
    pub events_per_second: f64,
    /// Whether the source has ended.
    pub done: bool,
}

/// A partition of a raw topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Next offset to process.
    pub position: u64,
    /// Offset behind the last record.
    pub end: u64,
}

/// What a look at the topics came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TopicsLook {
    /// What is otherwise than the manifest says; nothing, mostly.
    #[serde(rename = "differences")]
    Known(Vec<TopicDifference>),
    /// Nobody knows, and why.
    Unknown(String),
}

/// A topic that is otherwise than the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDifference {
    /// The topic.
    pub topic: String,
    /// What `clickstream setup` would do about it, or what a person is to do.
    pub what: String,
    /// Whether only a person can do it.
    pub by_hand: bool,
}

/// A sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Name.
    pub name: String,
    /// What it writes to: `parquet`, `console`, `couchbase`, …
    pub kind: String,
    /// Rows or events written.
    pub written: u64,
    /// Rows or events that wait.
    pub lag: u64,
    /// Why it does not get on, if it does not.
    pub problem: Option<String>,
}
