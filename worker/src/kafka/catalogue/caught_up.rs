//! Whether an epoch has caught up: by looking at what its group has committed and what comes behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult},
};

use super::{Entry, Epoch, write};
use crate::{
    clock,
    kafka::{
        client::{Cluster, REQUEST_TIME_MAX, failed},
        connection::Connection,
        context::{Logged, is_news},
        names::Names,
        process::topics,
        unread::watermarks_within,
    },
    ports::LogError,
};

/// An epoch whose next record is younger than this is up to date.
const AGE_MS_MAX: i64 = 3_000;

/// Pause between two looks, and how long one may take.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);

/// Looks that must come out well in a row: what the second finds written to the shuffle, the third finds read.
const LOOKS: usize = 3;

/// Where partitions ended, by topic and partition.
type Ends = BTreeMap<(String, i32), i64>;

/// Looks at one epoch, again and again.
pub struct Look {
    consumer: Connection<BaseConsumer<Logged>>,
    topics: Vec<String>,
    ends: Ends,
    place: String,
    good: usize,
}

impl Look {
    /// Prepares to look.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn new(cluster: &Cluster, epoch: &Epoch) -> Result<Self, LogError> {
        let mut config = cluster.consumer(&epoch.names.process_group());
        config.set("enable.partition.eof", "true");
        config.set("fetch.message.max.bytes", "65536");
        config.set("queued.max.messages.kbytes", "1024");
        let consumer = cluster.create(&config)?;
        let topics = topics(&epoch.names, &epoch.checked.plan);
        Ok(Self { consumer, topics, ends: Ends::new(), place: cluster.bootstrap.clone(), good: 0 })
    }

    /// Looks once; true when the epoch has caught up.
    ///
    /// # Errors
    /// Where no broker answers.
    pub fn look(&mut self) -> Result<bool, LogError> {
        let is_good = self.is_up_to_date().map_err(|error| failed("ask", &self.place, error))?;
        self.good = if is_good { self.good + 1 } else { 0 };
        Ok(self.good >= LOOKS)
    }

    /// Nothing lies behind what is committed, or something that is a moment old, or it passed where the log ended when
    /// this was asked before.
    fn is_up_to_date(&mut self) -> KafkaResult<bool> {
        let (committed, ends) = self.positions()?;
        let before = std::mem::replace(&mut self.ends, ends);
        let mut left = TopicPartitionList::new();
        for (place, position) in &committed {
            let passed = before.get(place).is_some_and(|end| position >= end);
            if !passed && position < &self.ends[place] {
                left.add_partition_offset(&place.0, place.1, Offset::Offset(*position))?;
            }
        }
        self.consumer.assign(&left)?;
        let mut seen = BTreeSet::new();
        let mut empty = 0;
        let deadline = Instant::now() + LOOK_TIME_MAX;
        let mut is_good = true;
        while is_good && seen.len() + empty < left.count() {
            if Instant::now() >= deadline {
                is_good = false;
            }
            match self.consumer.poll(Duration::from_millis(100)) {
                // An end behind records counts twice at worst: then all that is left is younger than a moment too.
                Some(Err(KafkaError::PartitionEOF(_))) => empty += 1,
                Some(Ok(message)) => {
                    let age = message.timestamp().to_millis().map_or(0, |time| clock::now() - time);
                    is_good = age <= AGE_MS_MAX;
                    seen.insert((message.topic().to_owned(), message.partition()));
                }
                Some(Err(_)) | None => {}
            }
        }
        self.consumer.unassign()?;
        Ok(is_good)
    }

    fn positions(&self) -> KafkaResult<(Ends, Ends)> {
        let metadata = self.consumer.fetch_metadata(None, REQUEST_TIME_MAX)?;
        let (mut asked, mut ends, mut starts) = (TopicPartitionList::new(), Ends::new(), Ends::new());
        for topic in metadata.topics().iter().filter(|topic| self.topics.iter().any(|name| name == topic.name())) {
            for partition in topic.partitions() {
                let (start, end) = watermarks_within(&self.consumer, topic.name(), partition.id(), REQUEST_TIME_MAX)?;
                asked.add_partition(topic.name(), partition.id());
                ends.insert((topic.name().to_owned(), partition.id()), end);
                starts.insert((topic.name().to_owned(), partition.id()), start);
            }
        }
        let told = self.consumer.committed_offsets(asked, REQUEST_TIME_MAX)?;
        let mut committed = starts;
        for element in told.elements() {
            if let (Offset::Offset(offset), Some(position)) =
                (element.offset(), committed.get_mut(&(element.topic().to_owned(), element.partition())))
            {
                *position = (*position).max(offset);
            }
        }
        Ok((committed, ends))
    }
}

/// Writes down which of `epochs` have caught up, until all have or `stop` is set.
///
/// # Errors
/// Where librdkafka refuses. Brokers that do not answer are asked again.
pub fn watch(cluster: &Cluster, names: &Names, epochs: &[Epoch], stop: &AtomicBool) -> Result<(), LogError> {
    let mut looks: Vec<(u32, Look)> =
        epochs.iter().map(|epoch| Ok((epoch.number, Look::new(cluster, epoch)?))).collect::<Result<_, LogError>>()?;
    while !looks.is_empty() && !stop.load(Ordering::Acquire) {
        let mut done = Vec::new();
        for (number, look) in &mut looks {
            match look.look() {
                Ok(true) => done.push(*number),
                Ok(false) => {}
                Err(error) if is_news(&format!("caught up: {error}")) => {
                    tracing::warn!(%error, epoch = number, "nobody says whether it has caught up");
                }
                Err(_) => {}
            }
        }
        for number in &done {
            match write(cluster, names, &[Entry::CaughtUp(*number)]) {
                Ok(()) => tracing::info!(epoch = number, "has caught up: its tables are shown"),
                Err(error) => {
                    tracing::warn!(%error, epoch = number, "failed to write down that it has caught up");
                    continue;
                }
            }
            looks.retain(|(other, _)| other != number);
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    Ok(())
}
