//! Topics of a fleet as people look into them: which there are, their newest records, and those that come.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use engine::plan::Plan;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};

use super::{
    client::{Cluster, REQUEST_TIME_MAX, failed},
    connection::Connection,
    context::Logged,
    names::Names,
    unread::{Unread, watermarks_within},
};
use crate::{
    dead_letters::behind_stream,
    limits::TAIL_RECORDS_MAX,
    log::record::read_silver,
    ports::LogError,
    tail::{Follow, Named, Tail, TailError, TopicEvent, TopicInfo, TopicKind, event, find, names_in},
};

/// How long records are gathered once there is one.
const GATHER: Duration = Duration::from_millis(20);

/// Offsets that are no records, beside one for each record: markers of transactions without any.
const MARKERS: u64 = 16;

/// Where a pipeline's topics are.
#[derive(Clone)]
pub struct Fleet {
    /// Where Kafka is.
    pub cluster: Cluster,
    /// What the pipeline's topics are called.
    pub names: Names,
    /// What flows through them.
    pub plan: std::sync::Arc<Plan>,
    /// Which epoch tells the accepted events of each stream; the first, if it is not said.
    pub streams: std::sync::Arc<BTreeMap<String, u32>>,
}

impl Fleet {
    fn topics_named(&self) -> Vec<Named> {
        names_in(&self.plan, |kind, stream| match kind {
            TopicKind::Raw => unreachable!("bug: raw topics keep their names"),
            TopicKind::Accepted => self.names.epoch(self.streams.get(stream).copied().unwrap_or(1)).silver(stream),
            TopicKind::DeadLetters => self.names.dead_letters(),
            TopicKind::Repaired => self.names.repaired(),
            TopicKind::Results => self.names.results(),
        })
    }

    /// The topics of the pipeline, raw ones first. How many records lie in one is told by its offsets, markers of
    /// transactions and what compaction took among them. Those that are not there are left out: nobody reads a stream's events
    /// any more, or they were those of an epoch that is gone.
    ///
    /// # Errors
    /// Where no broker answers.
    pub fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        let consumer = self.consumer()?;
        let info = |(name, topic, kind): Named| {
            let ends = ends(&consumer, &topic)?;
            let records = ends.iter().map(|(start, end)| end - start).sum();
            Ok(TopicInfo { name, kind, partitions: ends.len() as u32, records })
        };
        let found = self.topics_named().into_iter().map(info);
        found.filter(|found| !matches!(found, Err(LogError::UnknownTopic(_)))).collect()
    }

    /// Reads the topic that people call `name` from before its newest `last` records of each partition.
    ///
    /// # Errors
    /// See [`TailError`].
    pub fn tail(&self, name: &str, last: u64) -> Result<Tail, TailError> {
        let (_, topic, kind) = find(self.topics_named(), name)?;
        let consumer = self.consumer()?;
        let mut all = TopicPartitionList::new();
        let ends = ends(&consumer, &topic)?;
        let wrong = |error| failed("read", &topic, error);
        for (partition, (start, end)) in ends.iter().enumerate() {
            // Each transaction leaves a marker, which takes an offset too: twice as far back are as many records at least
            // where every transaction has one.
            let from = end.saturating_sub(if last == 0 { 0 } else { 2 * last + MARKERS }).max(*start);
            all.add_partition_offset(&topic, partition as i32, Offset::Offset(from as i64)).map_err(wrong)?;
        }
        consumer.assign(&all).map_err(wrong)?;
        let mut unread = Unread::default();
        unread.know(all.elements().iter().zip(&ends).map(|(place, (_, end))| {
            let from = place.offset().to_raw().unwrap_or_default();
            (topic.clone(), place.partition(), from..*end as i64)
        }));
        Ok(Tail::of(KafkaTail { consumer, name: name.to_owned(), topic, kind, unread }))
    }

    fn consumer(&self) -> Result<Connection<BaseConsumer<Logged>>, LogError> {
        let mut config = self.cluster.consumer("clickstream-readers");
        config.set("enable.partition.eof", "true");
        // Several follow at once, each at its client's pace.
        config.set("queued.max.messages.kbytes", "4096");
        self.cluster.create(&config)
    }
}

/// First offset and end of each partition.
fn ends(consumer: &BaseConsumer<Logged>, topic: &str) -> Result<Vec<(u64, u64)>, LogError> {
    let wrong = |error| failed("read", topic, error);
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIME_MAX).map_err(wrong)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    if partitions == 0 {
        return Err(LogError::UnknownTopic(topic.to_owned()));
    }
    let end = |partition| {
        let (start, end) = watermarks_within(consumer, topic, partition, REQUEST_TIME_MAX).map_err(wrong)?;
        Ok((start as u64, end as u64))
    };
    (0..partitions as i32).map(end).collect()
}

struct KafkaTail {
    consumer: Connection<BaseConsumer<Logged>>,
    name: String,
    topic: String,
    kind: TopicKind,
    /// Partitions whose end was not reached yet.
    unread: Unread,
}

impl KafkaTail {
    /// What of a record is the event. Damaged records are shown as they are.
    fn payload<'a>(&self, record: &'a [u8]) -> &'a [u8] {
        match self.kind {
            TopicKind::Raw | TopicKind::DeadLetters | TopicKind::Results => record,
            TopicKind::Accepted => read_silver(record).map_or(record, |event| event.json),
            TopicKind::Repaired => behind_stream(record),
        }
    }
}

impl Follow for KafkaTail {
    fn is_at_end(&self) -> bool {
        self.unread.is_empty()
    }

    fn next(&mut self, patience: Duration) -> Result<Vec<TopicEvent>, LogError> {
        // The first fetch takes a moment, whatever the reader's patience.
        let patience = if self.is_at_end() { patience } else { patience.max(GATHER) };
        let mut deadline = Instant::now() + patience;
        let mut events = Vec::new();
        while (events.len() as u64) < TAIL_RECORDS_MAX {
            match self.consumer.poll(deadline.saturating_duration_since(Instant::now())) {
                None => break,
                Some(Ok(message)) => {
                    self.unread.read(&message);
                    if events.is_empty() {
                        deadline = deadline.min(Instant::now() + GATHER);
                    }
                    // A deleted row was told by the row before.
                    let Some(record) = message.payload() else { continue };
                    let (partition, offset) = (message.partition() as u32, message.offset() as u64);
                    let arrival = message.timestamp().to_millis().unwrap_or_default();
                    events.push(event(&self.name, partition, offset, arrival, self.payload(record)));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.unread.ended(partition);
                    if self.unread.is_empty() && !events.is_empty() {
                        break;
                    }
                }
                Some(Err(error)) => tracing::warn!(%error, topic = self.topic, "waiting for Kafka"),
            }
        }
        Ok(events)
    }
}
