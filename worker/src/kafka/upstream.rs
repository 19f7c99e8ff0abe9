//! A topic of another Kafka cluster, as an ingester copies it: all its partitions, by whoever writes under the ingester's id. Positions
//! are the ingester's to keep, so that there is no group.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::{Duration, Instant},
};

use crds::spec::{Ingester, KafkaSource, StartFrom};
use engine::batch::RawBatch;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    batches::{PartitionQueue, Taken},
    client::{Cluster, REQUEST_TIME_MAX, failed},
    connection::Connection,
    context::{Logged, is_news},
    unread::{MARKERS_MAX, watermarks_within},
};
use crate::{
    cli::Mistake,
    clock,
    ingest::mirror::{Merge, Stand, Tap, Upstream},
    ports::LogError,
    secrets::Secrets,
};

/// How often is looked whether the topic has grown: what lies in a new partition before is copied behind what is newer.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Bytes of all partitions that are read ahead, twice: by librdkafka and at hand. A partition has some of it in any case.
const AHEAD_BYTES: usize = 32 << 20;
const AHEAD_BYTES_OF_ONE: std::ops::Range<usize> = 128 << 10..2 << 20;

/// How long is asked where partitions begin and end of which it is known where to go on, all together.
const ASK_TIME_MAX: Duration = Duration::from_secs(3);

/// The topics of other clusters that ingesters copy, by ingester.
///
/// # Errors
/// A [`Mistake`] where a secret is missing.
pub fn upstreams<'a>(
    ingesters: impl IntoIterator<Item = &'a Ingester>,
    secrets: &Secrets,
) -> Result<BTreeMap<String, Arc<dyn Upstream>>, Mistake> {
    let mut all: BTreeMap<String, Arc<dyn Upstream>> = BTreeMap::new();
    for ingester in ingesters {
        if let Some(source) = &ingester.kafka {
            all.insert(ingester.name.clone(), Arc::new(KafkaUpstream::new(source, secrets)?));
        }
    }
    Ok(all)
}

/// The topic, and the way to it.
pub struct KafkaUpstream {
    cluster: Cluster,
    topic: String,
    start_from: StartFrom,
}

impl std::fmt::Debug for KafkaUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.topic, self.cluster.bootstrap)
    }
}

impl KafkaUpstream {
    /// Reads the manifest's words and their secrets; nothing is sent yet.
    ///
    /// # Errors
    /// A [`Mistake`] where a secret is missing.
    pub fn new(source: &KafkaSource, secrets: &Secrets) -> Result<Self, Mistake> {
        let cluster = Cluster::at(&source.cluster(), secrets)?;
        Ok(Self { cluster, topic: source.topic.clone(), start_from: source.start_from })
    }

    fn wrong(&self, error: KafkaError) -> LogError {
        failed("read", &self.cluster.bootstrap, error)
    }

    /// A consumer of so many partitions.
    fn consumer(&self, partitions: u32) -> Result<Connection<BaseConsumer<Logged>>, LogError> {
        let mut config = self.cluster.batch_consumer(&format!("{}.copy", self.topic));
        // Enough for a commit's time; a processor's half second costs a copier memory, and no less time.
        config.set("queued.max.messages.kbytes", (ahead(partitions) >> 10).to_string());
        config.set("queued.min.messages", "20000");
        config.set("max.partition.fetch.bytes", (ahead(partitions) / 2).to_string());
        // Where to go on is ours to say, and to tell.
        config.set("auto.offset.reset", "error");
        self.cluster.create(&config)
    }

    /// How many partitions the topic has now.
    fn partitions(&self, consumer: &BaseConsumer<Logged>) -> Result<u32, LogError> {
        let told = consumer.fetch_metadata(Some(&self.topic), REQUEST_TIME_MAX).map_err(|error| self.wrong(error))?;
        let found = told.topics().iter().find(|topic| topic.name() == self.topic);
        match found.map(|topic| (topic.error(), topic.partitions().len())) {
            Some((None, count @ 1..)) => Ok(count as u32),
            Some((Some(error), _)) if RDKafkaErrorCode::from(error) == RDKafkaErrorCode::TopicAuthorizationFailed => {
                Err(self.wrong(KafkaError::MetadataFetch(error.into())))
            }
            _ => Err(LogError::UnknownTopic(format!("{}` at `{}", self.topic, self.cluster.bootstrap))),
        }
    }

    /// Where a partition is read from, and where it ends. What retention has taken is told, and added to `expired`.
    fn begin(
        &self,
        consumer: &BaseConsumer<Logged>,
        partition: u32,
        stand: Option<&Stand>,
        deadline: Instant,
        expired: &mut u64,
    ) -> Result<(u64, u64), LogError> {
        let known = stand.and_then(|stand| stand.get(&partition)).copied();
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(known) = known.filter(|_| left.is_zero()) {
            return Ok((known, u64::MAX));
        }
        let limit = if known.is_some() { left } else { REQUEST_TIME_MAX };
        let (start, end) = match (watermarks_within(consumer, &self.topic, partition as i32, limit), known) {
            (Ok((start, end)), _) => (start.max(0) as u64, end.max(0) as u64),
            // The others need not wait for it. If its records are gone, reading it tells.
            (Err(_), Some(known)) => return Ok((known, u64::MAX)),
            (Err(error), None) => return Err(self.wrong(error)),
        };
        let Some(stand) = stand else {
            return Ok((if self.start_from == StartFrom::Latest { end } else { start }, end));
        };
        // A partition that is new since is read whole.
        let next = known.unwrap_or_default();
        let topic = &self.topic;
        if next > end {
            tracing::warn!(topic, partition, next, end, "the topic was made anew: reading it from its beginning");
            return Ok((start, end));
        }
        if next < start && stand.contains_key(&partition) {
            let lost = start - next;
            tracing::warn!(topic, partition, lost, "retention took records before they were copied");
            *expired += lost;
        }
        Ok((next.max(start), end))
    }

    fn tap(&self, stand: Option<&Stand>) -> Result<KafkaTap, LogError> {
        let asking = self.consumer(1)?;
        let count = self.partitions(&asking)?;
        let consumer = Arc::new(self.consumer(count)?);
        let deadline = Instant::now() + ASK_TIME_MAX;
        let (mut lanes, mut expired) = (Vec::new(), 0);
        let (mut all, mut begins) = (TopicPartitionList::new(), Stand::new());
        for partition in 0..count {
            let (next, end) = self.begin(&consumer, partition, stand, deadline, &mut expired)?;
            lanes.push(Lane {
                queue: PartitionQueue::split(&consumer, &self.topic, partition),
                held: RawBatch::default(),
                end,
                at: 0,
            });
            let place = all.add_partition_offset(&self.topic, partition as i32, Offset::Offset(next as i64));
            place.map_err(|error| self.wrong(error))?;
            begins.insert(partition, next);
        }
        consumer.assign(&all).map_err(|error| self.wrong(error))?;
        Ok(KafkaTap {
            upstream: Self { cluster: self.cluster.clone(), topic: self.topic.clone(), start_from: self.start_from },
            consumer,
            lanes,
            stand: begins,
            expired,
            merge: Merge::default(),
            heads: BinaryHeap::new(),
            looked_at: Instant::now(),
        })
    }
}

impl Upstream for KafkaUpstream {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn open(&self, stand: Option<&Stand>) -> Result<Box<dyn Tap>, LogError> {
        Ok(Box::new(self.tap(stand)?))
    }
}

/// Bytes that are read ahead of one of so many partitions.
fn ahead(partitions: u32) -> usize {
    (AHEAD_BYTES / partitions.max(1) as usize).clamp(AHEAD_BYTES_OF_ONE.start, AHEAD_BYTES_OF_ONE.end)
}

/// A partition.
struct Lane {
    queue: PartitionQueue<Logged>,
    /// What was taken from the queue.
    held: RawBatch,
    /// Behind what was there at the beginning.
    end: u64,
    /// The next of it.
    at: usize,
}

impl Lane {
    /// The arrival of the next record, after a look into the queue where none is at hand.
    fn head(&mut self, bytes_max: usize) -> (Option<i64>, Taken) {
        let mut taken = Taken::default();
        if self.at == self.held.records.len() {
            self.held.clear();
            self.at = 0;
            taken = self.queue.take(&mut self.held, bytes_max);
        }
        (self.held.records.get(self.at).map(|record| record.arrival), taken)
    }
}

struct KafkaTap {
    upstream: KafkaUpstream,
    consumer: Arc<Connection<BaseConsumer<Logged>>>,
    lanes: Vec<Lane>,
    stand: Stand,
    expired: u64,
    merge: Merge,
    /// Arrival and lane of the next record of each that has one.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
    looked_at: Instant,
}

impl Tap for KafkaTap {
    fn read(&mut self, batch: &mut RawBatch, bytes_max: usize, events_max: usize) -> Result<(), LogError> {
        while let Some(said) = self.consumer.poll(Duration::ZERO) {
            said.err().map_or(Ok(()), |error| self.endure(error))?;
        }
        let has_grown = self.looked_at.elapsed() >= LOOK_EVERY && {
            self.looked_at = Instant::now();
            // Nobody answers: then it is looked at later.
            self.upstream.partitions(&self.consumer).is_ok_and(|count| count as usize > self.lanes.len())
        };
        if has_grown {
            tracing::info!(topic = self.upstream.topic, "the topic has grown");
            return self.begin_anew();
        }
        self.heads.clear();
        self.merge.tick();
        for number in 0..self.lanes.len() {
            if self.look(number)? {
                return self.begin_anew();
            }
        }
        let now = clock::now();
        while batch.bytes.len() < bytes_max && batch.records.len() < events_max {
            let Some(Reverse((arrival, number))) = self.heads.pop() else { break };
            if self.merge.waits(arrival, now) {
                break;
            }
            let lane = &mut self.lanes[number];
            let record = lane.held.records[lane.at];
            batch.push(lane.held.payload(&record), record.offset, record.arrival);
            self.stand.insert(number as u32, record.offset + 1);
            lane.at += 1;
            if self.look(number)? {
                return self.begin_anew();
            }
        }
        Ok(())
    }

    fn stand(&self) -> &Stand {
        &self.stand
    }

    fn expired(&self) -> u64 {
        self.expired
    }

    fn waiting(&self) -> Option<u64> {
        let left = |(number, lane): (usize, &Lane)| {
            let next = self.stand.get(&(number as u32)).copied().unwrap_or_default();
            let left = lane.queue.known_end()?.saturating_sub(next);
            // Where nothing is at hand, the last offsets may be markers of transactions: nobody copies them.
            let is_read = lane.at == lane.held.records.len() && left <= MARKERS_MAX as u64;
            Some(if is_read { 0 } else { left })
        };
        self.lanes.iter().enumerate().map(left).sum()
    }
}

impl KafkaTap {
    /// Finds the next record of a lane; whether it must be found again where it goes on.
    fn look(&mut self, number: usize) -> Result<bool, LogError> {
        let bytes_max = ahead(self.lanes.len() as u32) / 2;
        let lane = &mut self.lanes[number];
        let (head, taken) = lane.head(bytes_max);
        let next = || self.stand.get(&(number as u32)).copied().unwrap_or_default();
        self.merge.look(number as u32, head.is_some(), || next() + (MARKERS_MAX as u64) < lane.end);
        self.heads.extend(head.map(|arrival| Reverse((arrival, number))));
        if let Some(code) = taken.trouble {
            self.endure(KafkaError::MessageConsumption(code))?;
        }
        Ok(taken.out_of_range)
    }

    /// Reads on behind what was read, with everything that is known of the topic now.
    fn begin_anew(&mut self) -> Result<(), LogError> {
        let expired = self.expired;
        *self = self.upstream.tap(Some(&self.stand))?;
        self.expired += expired;
        Ok(())
    }

    fn endure(&self, error: KafkaError) -> Result<(), LogError> {
        let upstream = &self.upstream;
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                // One that is deleted is told of here; opening it anew tells whether it is.
                Err(upstream.wrong(error))
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Err(upstream.wrong(error)),
            _ => {
                if is_news(&format!("{}: {error}", upstream.topic)) {
                    tracing::warn!(%error, topic = upstream.topic, "waiting for the other Kafka");
                }
                Ok(())
            }
        }
    }
}
