//! Topics as people look into them: their names, their newest records, and those that come.
//!
//! Only what an fsync covers is shown, as to every reader outside the log. What is absent: the shuffle, whose messages
//! are no events.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use engine::{
    batch::RawBatch,
    plan::Plan,
    time::{Millis, rfc3339},
};
use serde::{Deserialize, Serialize};

use crate::{
    dead_letters::behind_stream,
    limits,
    log::{
        SharedLog,
        record::{read_result, read_silver},
        topics::{DEAD_LETTERS, REPAIRED, RESULTS, silver},
    },
    ports::{Log, LogError, Topic},
};

/// Why a topic cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// There is no topic of that name.
    #[error("there is no topic {name}; there are {}", there.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        there: Vec<String>,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What a topic holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicKind {
    /// What came in.
    Raw,
    /// Accepted events of a stream.
    Accepted,
    /// Records that could not be counted.
    DeadLetters,
    /// Dead letters on their way back.
    Repaired,
    /// Changed rows.
    Results,
}

/// A topic as people call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its name; a stream's for accepted events.
    pub name: String,
    /// What it holds.
    pub kind: TopicKind,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many records lie in it.
    pub records: u64,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicEvent {
    /// Name of the topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
    /// When it arrived, in RFC 3339.
    pub arrival: String,
    /// The bytes as text; what is not UTF-8 is replaced.
    pub text: String,
    /// The bytes, where they are no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// There are more bytes than these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

impl TopicEvent {
    /// The record's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let decoded = self.base64.as_ref().and_then(|text| BASE64_STANDARD.decode(text).ok());
        decoded.unwrap_or_else(|| self.text.clone().into_bytes())
    }
}

/// A topic: what people call it, what the log calls it, what it holds.
pub(crate) type Named = (String, String, TopicKind);

/// Every topic of a plan. `topic_of` tells what the log calls those that are not raw; accepted events by their stream.
pub(crate) fn names_in(plan: &Plan, topic_of: impl Fn(TopicKind, &str) -> String) -> Vec<Named> {
    let raw = plan.topics.iter().map(|topic| (topic.name.clone(), topic.name.clone(), TopicKind::Raw));
    let kept = plan.streams.iter().filter(|stream| stream.silver);
    let accepted =
        kept.map(|stream| (stream.name.clone(), topic_of(TopicKind::Accepted, &stream.name), TopicKind::Accepted));
    let own =
        [("dead-letters", TopicKind::DeadLetters), ("repaired", TopicKind::Repaired), ("results", TopicKind::Results)];
    let own = own.map(|(name, kind)| (name.to_owned(), topic_of(kind, ""), kind));
    let mut all: Vec<Named> = Vec::new();
    for (name, topic, kind) in raw.chain(accepted).chain(own) {
        // A raw topic may have the name of a stream: the log's own name tells them apart.
        let is_taken = all.iter().any(|(other, ..)| *other == name);
        all.push((if is_taken { topic.clone() } else { name }, topic, kind));
    }
    all
}

/// The topic that people, or the log, call `name`.
///
/// # Errors
/// [`TailError::Unknown`].
pub(crate) fn find(names: Vec<Named>, name: &str) -> Result<Named, TailError> {
    match names.iter().find(|(known, topic, _)| known == name || topic == name) {
        Some(found) => Ok(found.clone()),
        None => {
            let there = names.into_iter().map(|(name, ..)| name).collect();
            Err(TailError::Unknown { name: name.into(), there })
        }
    }
}

fn names(plan: &Plan) -> Vec<Named> {
    names_in(plan, |kind, stream| match kind {
        TopicKind::Raw => unreachable!("bug: raw topics keep their names"),
        TopicKind::Accepted => silver(stream),
        TopicKind::DeadLetters => DEAD_LETTERS.into(),
        TopicKind::Repaired => REPAIRED.into(),
        TopicKind::Results => RESULTS.into(),
    })
}

/// The topics of a pipeline, raw ones first.
///
/// # Errors
/// Where the log was opened without one.
pub fn topics(log: &SharedLog, plan: &Plan) -> Result<Vec<TopicInfo>, LogError> {
    let info = |(name, topic, kind): (String, String, TopicKind)| {
        let topic = log.topic(&topic)?;
        let sizes = (0..topic.partitions).map(|partition| {
            let offsets = log.offsets(topic.partition(partition));
            offsets.end - offsets.start
        });
        Ok(TopicInfo { name, kind, partitions: topic.partitions, records: sizes.sum() })
    };
    names(plan).into_iter().map(info).collect()
}

/// Reads a topic from near its end on. Behind it: the embedded log, or Kafka.
pub struct Tail(Box<dyn Follow>);

/// Records of a topic as they come.
pub trait Follow: Send {
    /// Whether everything was read that is there.
    fn is_at_end(&self) -> bool;

    /// The next records, by arrival; waits for them for at most `patience`.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn next(&mut self, patience: Duration) -> Result<Vec<TopicEvent>, LogError>;
}

impl Tail {
    /// Follows the embedded log.
    ///
    /// # Errors
    /// See [`TailError`].
    pub fn new(log: SharedLog, plan: &Arc<Plan>, name: &str, last: u64) -> Result<Self, TailError> {
        Ok(Self::of(EmbeddedTail::new(log, plan, name, last)?))
    }

    /// Follows something else.
    #[must_use]
    pub fn of(follow: impl Follow + 'static) -> Self {
        Self(Box::new(follow))
    }

    /// Whether everything was read that is there.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.0.is_at_end()
    }

    /// The next records, by arrival; waits for them for at most `patience`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn next(&mut self, patience: Duration) -> Result<Vec<TopicEvent>, LogError> {
        let mut events = self.0.next(patience)?;
        events.sort_by(|left, right| {
            (&left.arrival, left.partition, left.offset).cmp(&(&right.arrival, right.partition, right.offset))
        });
        Ok(events)
    }
}

/// A record as people see it.
pub(crate) fn event(name: &str, partition: u32, offset: u64, arrival: Millis, payload: &[u8]) -> TopicEvent {
    let shown = &payload[..payload.len().min(limits::TAIL_EVENT_BYTES)];
    TopicEvent {
        topic: name.to_owned(),
        partition,
        offset,
        arrival: rfc3339(arrival),
        text: String::from_utf8_lossy(shown).into_owned(),
        base64: std::str::from_utf8(shown).is_err().then(|| BASE64_STANDARD.encode(shown)),
        truncated: shown.len() < payload.len(),
    }
}

struct EmbeddedTail {
    log: SharedLog,
    name: String,
    kind: TopicKind,
    topic: Topic,
    /// Next offset of each partition.
    next: Vec<u64>,
}

impl EmbeddedTail {
    /// Begins before the newest `last` records of each partition of the topic that people call `name`.
    fn new(log: SharedLog, plan: &Arc<Plan>, name: &str, last: u64) -> Result<Self, TailError> {
        let (_, topic, kind) = find(names(plan), name)?;
        let topic = log.topic(&topic)?;
        let begin = |partition| {
            let at = topic.partition(partition);
            log.durable_end(at).saturating_sub(last).max(log.offsets(at).start)
        };
        let next = (0..topic.partitions).map(begin).collect();
        Ok(Self { name: name.into(), kind, topic, next, log })
    }

    fn at(&self, partition: usize) -> crate::ports::TopicPartition {
        self.topic.partition(partition as u32)
    }

    fn read(&mut self, partition: usize, events: &mut Vec<TopicEvent>) -> Result<(), LogError> {
        let at = self.at(partition);
        let mut batch = RawBatch::default();
        let end = self.log.durable_end(at).min(self.next[partition] + limits::TAIL_RECORDS_MAX);
        self.log.read(at, self.next[partition]..end, limits::TAIL_READ_BYTES, &mut batch)?;
        for record in &batch.records {
            let payload = self.payload(batch.payload(record));
            events.push(event(&self.name, at.partition, record.offset, record.arrival, payload));
            self.next[partition] = record.offset + 1;
        }
        Ok(())
    }

    /// What of a record is the event. Damaged records are shown as they are.
    fn payload<'a>(&self, record: &'a [u8]) -> &'a [u8] {
        match self.kind {
            TopicKind::Raw | TopicKind::DeadLetters => record,
            TopicKind::Accepted => read_silver(record).map_or(record, |event| event.json),
            TopicKind::Repaired => behind_stream(record),
            TopicKind::Results => read_result(record).map_or(record, |(_, document)| document),
        }
    }
}

impl Follow for EmbeddedTail {
    fn is_at_end(&self) -> bool {
        let behind = |(partition, next): (usize, &u64)| *next < self.log.durable_end(self.at(partition));
        !self.next.iter().enumerate().any(behind)
    }

    fn next(&mut self, patience: Duration) -> Result<Vec<TopicEvent>, LogError> {
        let seen = self.log.changes();
        if self.is_at_end() && !patience.is_zero() {
            self.log.wait(seen, patience);
        }
        let mut events = Vec::new();
        for partition in 0..self.next.len() {
            self.read(partition, &mut events)?;
        }
        Ok(events)
    }
}
