//! Transactions in the progress topic that nobody ends any more.
//!
//! A coordinator leaves out the marker of every partition that has no leader when it is to be written: it takes the topic for
//! deleted (`TransactionMarkerChannelManager` of Kafka 4.3). That is so for all of them, for an instant, when the only broker
//! comes back: a transaction that was decided and not marked yet counts as complete, and readers of what is committed wait at
//! it for good. Only a later transaction under the same id that ends in the same partition ends it too.
//!
//! What was decided is gone with it. It was almost certainly the commit: what was left open at a broker's end is aborted with
//! markers, so that only one that had been decided within its last milliseconds can be meant, and an ingester decides to abort
//! hardly ever. So it is committed, by the same progress once more: what was acknowledged stays.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{
    super::{
        client::{REQUEST_TIME_MAX, failed},
        connection::Connection,
        context::Logged,
        marks::ATTEMPT,
        produce::{commit, enqueue},
    },
    CALL_TIME_MAX, KafkaInlet, SHOWN_EVERY, producer,
};
use crate::{dead_letters::MARKS, ports::LogError};

/// How long a transaction of our own may hide something after our id was asked for: all of them have ended by then.
const OWN_TIME_MAX: Duration = Duration::from_secs(2);

/// How long that of another may: as long as it may last (15 s), until brokers look for such the next time (10 s), and a little.
const OTHERS_TIME_MAX: Duration = Duration::from_secs(30);

/// How long the clients may find out nothing of who hides something, before others are asked.
const SHOWN_TIME_MAX: Duration = Duration::from_secs(60);

/// The header that names the transactional id of whoever wrote of the progress of others.
pub(super) const WRITER: &str = "writer";

/// The first record that readers of what is committed do not see.
pub(super) struct Hidden {
    /// Where it is.
    pub(super) offset: i64,
    /// Whose progress it is.
    key: String,
    /// Who wrote it, where the key does not tell.
    writer: Option<String>,
    progress: Option<Vec<u8>>,
    attempt: Option<Vec<u8>>,
}

impl KafkaInlet {
    /// Waits until everything is to be seen that is in the progress topic now. Readers of what is committed see it only up to the
    /// first transaction that is open, whosever that is: that of an ingester that died hides what others committed after it, until
    /// somebody asks for its id or brokers give it up. Returns what is hidden by one for which neither helps.
    pub(super) fn wait_until_shown(&self) -> Result<Option<Hidden>, LogError> {
        let mut config = self.cluster.consumer("clickstream-progress");
        let reader: Connection<BaseConsumer<Logged>> = self.cluster.create(&config)?;
        config.set("isolation.level", "read_uncommitted");
        let anything: Connection<BaseConsumer<Logged>> = self.cluster.create(&config)?;
        let wrong = |error| failed("read progress from", &self.place, error);
        let written = self.progress_end(&anything)?;
        let (mut first, mut since): (Option<Hidden>, _) = (None, Instant::now());
        let begun = Instant::now();
        loop {
            let end = self.progress_end(&reader)?;
            if end >= written {
                return Ok(None);
            }
            if first.as_ref().is_none_or(|first| first.offset != end) {
                (first, since) = (first_hidden(&anything, &self.progress_topic, end).map_err(wrong)?, Instant::now());
            }
            let is_ours = |first: &Hidden| self.writer(first) == self.id;
            let limit = if first.as_ref().is_some_and(is_ours) { OWN_TIME_MAX } else { OTHERS_TIME_MAX };
            if since.elapsed() >= limit && first.is_some() {
                return Ok(first);
            }
            if begun.elapsed() >= SHOWN_TIME_MAX {
                return Err(wrong(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)));
            }
            if self.wire.stop.load(Ordering::Acquire) {
                return Err(LogError::Closed);
            }
            thread::park_timeout(SHOWN_EVERY);
        }
    }

    /// The transactional id under which a record was written.
    fn writer(&self, hidden: &Hidden) -> String {
        match &hidden.writer {
            Some(id) => id.clone(),
            None if hidden.key == MARKS => self.names.replay_transaction(),
            // That of a replica, of a share, or of all.
            None => self.names.ingest_transaction(&hidden.key.replacen('@', ".", 1)),
        }
    }

    /// Ends a transaction that brokers have forgotten, under the id of whoever wrote it.
    pub(super) fn end_hanging(&self, hidden: &Hidden) -> Result<(), LogError> {
        let wrong = |error| failed("end a transaction that brokers have forgotten in", &self.place, error);
        let id = self.writer(hidden);
        let end_by = |producer: &BaseProducer<Logged>| {
            let ended = end(producer, &self.progress_topic, hidden, CALL_TIME_MAX);
            ended.inspect_err(|_| drop(producer.abort_transaction(CALL_TIME_MAX))).map_err(wrong)
        };
        let offset = hidden.offset;
        tracing::warn!(id, offset, "brokers have forgotten a transaction that hides all progress after it; ending it");
        if id == self.id {
            return end_by(&self.producer);
        }
        let other = producer(&self.cluster, &id)?;
        other.init_transactions(CALL_TIME_MAX).map_err(wrong)?;
        // It may have been open after all, and is over by this.
        let reader: Connection<BaseConsumer<Logged>> =
            self.cluster.create(&self.cluster.consumer("clickstream-progress"))?;
        let asked = Instant::now();
        while asked.elapsed() < OWN_TIME_MAX {
            if self.progress_end(&reader)? != hidden.offset {
                return Ok(());
            }
            thread::park_timeout(SHOWN_EVERY);
        }
        end_by(&other)
    }

    /// What cannot be ended by us.
    pub(super) fn is_hanging(&self, hidden: &Hidden) -> LogError {
        let (topic, offset) = (&self.progress_topic, hidden.offset);
        LogError::Damaged {
            place: self.place.clone(),
            what: format!(
                "a transaction that nobody ends hides what {topic} has from offset {offset} on; end it with \
                 kafka-transactions.sh abort --topic {topic} --partition 0 --start-offset {offset}"
            ),
        }
    }
}

/// Reads the first record of a topic's partition 0 from `offset` on, by a consumer that reads everything. None where it does
/// not come in time.
///
/// # Errors
/// Where librdkafka refuses.
fn first_hidden(consumer: &BaseConsumer<Logged>, topic: &str, offset: i64) -> Result<Option<Hidden>, KafkaError> {
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, 0, Offset::Offset(offset))?;
    consumer.assign(&place)?;
    let Some(Ok(message)) = consumer.poll(REQUEST_TIME_MAX) else { return Ok(None) };
    Ok(Some(Hidden {
        offset,
        key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
        writer: header_of(&message, WRITER).map(|id| String::from_utf8_lossy(&id).into_owned()),
        progress: message.payload().map(<[u8]>::to_vec),
        attempt: header_of(&message, ATTEMPT),
    }))
}

/// Ends the transaction that hides `hidden`, by another one of the producer that wrote it.
///
/// # Errors
/// Where brokers do not take it.
fn end(producer: &BaseProducer<Logged>, topic: &str, hidden: &Hidden, limit: Duration) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    let mut record = BaseRecord::to(topic).partition(0).key(&hidden.key);
    record.payload = hidden.progress.as_ref();
    let headers = [(ATTEMPT, hidden.attempt.as_deref()), (WRITER, hidden.writer.as_deref().map(str::as_bytes))];
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let headers = headers.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
    enqueue(producer, record.headers(headers))?;
    commit(producer, limit)
}

/// A record's headers with only one.
pub(super) fn header(key: &str, value: &[u8]) -> OwnedHeaders {
    OwnedHeaders::new().insert(Header { key, value: Some(value) })
}

/// A header of a record.
pub(super) fn header_of(message: &BorrowedMessage<'_>, name: &str) -> Option<Vec<u8>> {
    message.headers().and_then(|all| all.iter().find(|header| header.key == name)?.value).map(<[u8]>::to_vec)
}
