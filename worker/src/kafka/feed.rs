//! One partition of a topic from an offset on, as committed batches: what serving and sinks read.

use std::time::{Duration, Instant};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedHeaders, Headers as _, Message},
};

use super::{
    client::{Cluster, REQUEST_TIME_MAX, failed},
    connection::Connection,
    context::{Logged, is_news},
    unread::{Unread, watermarks, watermarks_within},
};
use crate::ports::LogError;

/// Records of a batch. Rows are some hundred bytes: a batch stays near a megabyte.
const RECORDS_MAX: usize = 5_000;

/// Bytes of a batch, but for its last record.
const BYTES_MAX: usize = 4 << 20;

/// How long a partition that has something may give nothing, before it is read by another consumer.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long a batch is gathered once it has its first record.
const GATHER: Duration = Duration::from_millis(20);

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedRecord {
    /// Its offset.
    pub offset: u64,
    /// When the broker took it, in milliseconds.
    pub time: i64,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, as far as they are text.
    pub headers: Vec<(String, String)>,
}

/// Reads one partition, by itself: there is no group to share it with.
pub struct Feed {
    cluster: Cluster,
    consumer: Connection<BaseConsumer<Logged>>,
    topic: String,
    partition: i32,
    place: String,
    /// Behind the last record that was read.
    position: u64,
    /// What was there at the first read.
    unread: Unread,
    /// When it gave something last, or was looked after.
    given_at: Instant,
    /// Where the partition ended when it was begun anew.
    anew_at: u64,
}

impl Feed {
    /// Begins at `offset`, or at the first record that is still there.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn open(cluster: &Cluster, topic: &str, partition: u32, offset: u64) -> Result<Self, LogError> {
        let partition = partition as i32;
        Ok(Self {
            cluster: cluster.clone(),
            consumer: consumer(cluster, topic, partition, offset)?,
            topic: topic.into(),
            partition,
            place: cluster.bootstrap.clone(),
            position: offset,
            unread: Unread::default(),
            given_at: Instant::now(),
            anew_at: 0,
        })
    }

    /// Whether everything was read that was there at the first read.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.unread.is_empty()
    }

    /// The offset behind the last record that was read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The first offset that is still there, and the one behind the last record.
    ///
    /// # Errors
    /// Where no broker answers.
    pub fn offsets(&self) -> Result<std::ops::Range<u64>, LogError> {
        let marks = watermarks_within(&self.consumer, &self.topic, self.partition, REQUEST_TIME_MAX);
        let (start, end) = marks.map_err(|error| failed("read", &self.place, error))?;
        Ok(start as u64..end as u64)
    }

    /// How many offsets are not read yet; none where no broker says so at once.
    #[must_use]
    pub fn behind(&self) -> Option<u64> {
        let (_, end) = watermarks(&self.consumer, &self.topic, self.partition).ok()?;
        Some((end as u64).saturating_sub(self.position))
    }

    /// The offset behind the last record that there is.
    ///
    /// # Errors
    /// Where no broker answers.
    pub fn end(&self) -> Result<u64, LogError> {
        Ok(self.offsets()?.end)
    }

    /// Waits for records, at most for `wait`; appends them to `batch`. Brokers that come and go are waited for.
    ///
    /// # Errors
    /// Where waiting does not help.
    pub fn read(&mut self, wait: Duration, batch: &mut Vec<FeedRecord>) -> Result<(), LogError> {
        if !self.unread.is_known() {
            // Whoever does not answer is asked again the next time.
            drop(self.unread.ask(&self.consumer, [(self.topic.clone(), self.partition)]));
        }
        if self.given_at.elapsed() >= SILENCE_MAX {
            self.look_after()?;
        }
        let mut deadline = Instant::now() + wait;
        let mut bytes = 0;
        while batch.len() < RECORDS_MAX && bytes < BYTES_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                None => return Ok(()),
                Some(Ok(message)) => {
                    if batch.is_empty() {
                        deadline = deadline.min(Instant::now() + GATHER);
                    }
                    self.unread.read(&message);
                    self.position = message.offset() as u64 + 1;
                    self.given_at = Instant::now();
                    bytes += message.key_len() + message.payload_len();
                    batch.push(FeedRecord {
                        offset: message.offset() as u64,
                        time: message.timestamp().to_millis().unwrap_or_default(),
                        key: message.key().unwrap_or_default().to_vec(),
                        value: message.payload().map(<[u8]>::to_vec),
                        headers: message.headers().map(headers).unwrap_or_default(),
                    });
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.unread.ended(partition);
                    if !batch.is_empty() {
                        return Ok(());
                    }
                }
                Some(Err(error)) => self.endure(error)?,
            }
        }
        Ok(())
    }

    /// Begins anew where a partition that has something gives nothing: librdkafka may be told of no offset by a broker that is just
    /// going away, and never asks again. Once for the same end, because nobody can tell records from the remains of transactions.
    fn look_after(&mut self) -> Result<(), LogError> {
        self.given_at = Instant::now();
        // Where nobody answers there is nothing to be read either.
        let Ok((start, end)) = watermarks(&self.consumer, &self.topic, self.partition) else { return Ok(()) };
        let (start, end) = (start.max(0) as u64, end.max(0) as u64);
        if end <= self.position.max(start) || end == self.anew_at {
            return Ok(());
        }
        tracing::debug!(
            topic = self.topic,
            position = self.position,
            end,
            "nothing comes of what there is: reading it anew"
        );
        self.anew_at = end;
        self.consumer = consumer(&self.cluster, &self.topic, self.partition, self.position)?;
        Ok(())
    }

    fn endure(&self, error: KafkaError) -> Result<(), LogError> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Err(LogError::UnknownTopic(self.topic.clone()))
            }
            // A password or a token that is refused after others were taken: somebody changes them, or tokens are late.
            Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => {
                Err(failed("read", &self.place, error))
            }
            _ => {
                if is_news(&format!("{}: {error}", self.topic)) {
                    tracing::warn!(%error, topic = self.topic, "waiting for Kafka");
                }
                Ok(())
            }
        }
    }
}

fn consumer(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    offset: u64,
) -> Result<Connection<BaseConsumer<Logged>>, LogError> {
    let mut config = cluster.consumer(&format!("{topic}.feed"));
    config.set("enable.partition.eof", "true");
    let consumer: Connection<BaseConsumer<Logged>> = cluster.create(&config)?;
    let mut all = TopicPartitionList::new();
    let start = if offset == 0 { Offset::Beginning } else { Offset::Offset(offset as i64) };
    let assigned = all.add_partition_offset(topic, partition, start).and_then(|()| consumer.assign(&all));
    assigned.map_err(|error| failed("read", topic, error))?;
    Ok(consumer)
}

fn headers(headers: &BorrowedHeaders) -> Vec<(String, String)> {
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
}
