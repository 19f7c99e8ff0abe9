//! The raw topics as an ingester writes them: records and progress in one transaction.
//!
//! A transaction whose outcome is certain to be nothing is sent again, for as long as it takes, unless the pipeline stops:
//! that is the back-pressure when no broker answers. Where the outcome is not certain, or the brokers have given the
//! producer up, as after a long outage, the progress in the topic tells: it is what we committed last, or what we were
//! about to commit, or a successor's. Then we leave. [`super::marks`] judges it.
//!
//! All ingesters of a pipeline keep their progress in one partition, which shows what is committed only up to the first
//! transaction that is open in it: what is read there counts only once everybody's of before is over. One that brokers have
//! forgotten is ended by whoever finds it ([`hanging`]).

mod hanging;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Message},
    producer::{BaseProducer, BaseRecord, Producer, PurgeConfig},
};

use self::hanging::{WRITER, header, header_of};
use super::{
    client::{Cluster, REQUEST_TIME_MAX, failed},
    connection::Connection,
    context::{Logged, is_news},
    marks::{ATTEMPT, Attempts, Mark, Marks, Outcome, forgotten, judge, replica_key},
    names::Names,
    produce::{commit, enqueue, is_fenced},
    unread::{Unread, watermarks_within},
};
use crate::{
    clock,
    health::downstream::Downstream,
    ports::{IngestLog, IngestRecord, LogError},
};

/// First and longest pause before a transaction is sent again.
const RETRY: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_secs(3);

/// How long a call that belongs to a transaction may take before it counts as failed and is made again.
const CALL_TIME_MAX: Duration = Duration::from_secs(15);

/// After how long a producer that is told again and again that a call takes its time is given up for another: nothing says that
/// it ever comes to an end, and whoever asks brokers anew does.
const PRODUCER_TIME_MAX: Duration = Duration::from_secs(60);

/// What an inlet and its owner share.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    /// Set by the owner: ends waiting.
    pub stop: Arc<AtomicBool>,
    /// Written by the inlet: how Kafka takes what is written.
    pub downstream: Arc<Downstream>,
}

/// How long a successor has to show itself by a commit, before the id is asked for again: brokers refuse a producer whose
/// transaction they ended in an outage just as one that has a successor.
const SUCCESSOR_TIME: Duration = Duration::from_secs(6);

/// How often that is looked for.
const SUCCESSOR_EVERY: Duration = Duration::from_secs(1);

/// How often is looked whether a transaction of somebody else is over.
const SHOWN_EVERY: Duration = Duration::from_millis(50);

/// How long the end of a replica waits until its progress is taken away: nothing depends on it.
const RETIRE_TIME_MAX: Duration = Duration::from_secs(3);

/// What an ingester writes to in a fleet.
pub struct KafkaInlet {
    producer: Connection<BaseProducer<Logged>>,
    cluster: Cluster,
    names: Names,
    id: String,
    /// A share: who should write it is the group's to say.
    is_share: bool,
    /// One of several that write side by side, each under its own key.
    replica: Option<String>,
    progress_topic: String,
    progress: Marks,
    attempts: Attempts,
    partitions: BTreeMap<String, u32>,
    place: String,
    wire: Wire,
}

/// What is to be done about an error within a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Make the same call again.
    Again,
    /// Abort, and send everything again.
    Abort,
    /// Another writes in our place.
    Leave,
    /// The producer is of no use any more.
    Fail,
    /// A topic is gone.
    Stop,
    /// A topic does not take so large a record: abort, and tell the caller.
    Refuse,
}

impl KafkaInlet {
    /// Connects under the transactional id `id`: whoever wrote under it before is fenced, and what it had committed is seen.
    ///
    /// # Errors
    /// [`LogError::Closed`] when told to stop before a broker answered; else what librdkafka refuses.
    pub fn connect(cluster: &Cluster, names: &Names, id: &str, wire: Wire) -> Result<Self, LogError> {
        let mut inlet = Self {
            producer: producer(cluster, id)?,
            cluster: cluster.clone(),
            names: names.clone(),
            id: id.to_owned(),
            is_share: false,
            replica: None,
            progress_topic: names.progress(),
            progress: Marks::new(),
            attempts: Attempts::new(),
            partitions: BTreeMap::new(),
            place: cluster.bootstrap.clone(),
            wire,
        };
        inlet.open()?;
        Ok(inlet)
    }

    /// As [`KafkaInlet::connect`], for a share: one that loses its id does not ask for it again by itself.
    ///
    /// # Errors
    /// As [`KafkaInlet::connect`].
    pub fn connect_share(cluster: &Cluster, names: &Names, id: &str, wire: Wire) -> Result<Self, LogError> {
        Ok(Self { is_share: true, ..Self::connect(cluster, names, id, wire)? })
    }

    /// As [`KafkaInlet::connect`], for one of several that write for `ingester` side by side: what each commits, and whether
    /// it did, is its own affair.
    ///
    /// # Errors
    /// As [`KafkaInlet::connect`].
    pub fn connect_replica(
        cluster: &Cluster,
        names: &Names,
        (ingester, replica): (&str, &str),
        wire: Wire,
    ) -> Result<Self, LogError> {
        let id = format!("{}.{replica}", names.ingest_transaction(ingester));
        let inlet = Self { replica: Some(replica.to_owned()), ..Self::connect(cluster, names, &id, wire)? };
        let gone = forgotten(&inlet.progress, ingester, &inlet.key(ingester), clock::now());
        inlet.forget(&gone);
        Ok(inlet)
    }

    /// The key of the progress of `ingester`.
    fn key(&self, ingester: &str) -> String {
        self.replica.as_ref().map_or_else(|| ingester.to_owned(), |replica| replica_key(ingester, replica))
    }

    /// Takes keys away. If that fails they stay for the next who looks.
    fn forget(&self, keys: &[String]) {
        if keys.is_empty() {
            return;
        }
        let send = || {
            self.producer.begin_transaction()?;
            for key in keys {
                let gone = BaseRecord::<String, ()>::to(&self.progress_topic).partition(0).key(key);
                enqueue(&self.producer, gone.headers(header(WRITER, self.id.as_bytes())))?;
            }
            commit(&self.producer, RETIRE_TIME_MAX)
        };
        if let Err(error) = send() {
            tracing::debug!(%error, ?keys, "progress of replicas that ended stays");
            drop(self.producer.abort_transaction(RETIRE_TIME_MAX));
        }
    }

    /// Takes the id over, and reads what was committed under it.
    fn open(&mut self) -> Result<(), LogError> {
        self.take_over()?;
        let (mut pause, mut ended) = (RETRY.start, None);
        while let Some(hidden) = self.patiently(Self::wait_until_shown)? {
            let tried =
                if ended == Some(hidden.offset) { Err(self.is_hanging(&hidden)) } else { self.end_hanging(&hidden) };
            ended = Some(hidden.offset);
            if let Err(error) = tried {
                self.rest(&error, &mut pause)?;
                self.producer = producer(&self.cluster, &self.id)?;
                self.take_over()?;
            }
        }
        self.progress = self.patiently(Self::read_progress)?;
        self.partitions = self.patiently(|inlet| count_partitions(&inlet.producer, &inlet.place))?;
        // Whoever has nothing to write for long would else look as if Kafka were still away.
        self.wire.downstream.succeeded();
        Ok(())
    }

    fn take_over(&mut self) -> Result<(), LogError> {
        while !self.insist("open", |inlet| inlet.producer.init_transactions(CALL_TIME_MAX))? {
            self.producer = producer(&self.cluster, &self.id)?;
        }
        Ok(())
    }

    /// Asks until brokers answer, unless the pipeline stops.
    fn patiently<T>(&self, ask: impl Fn(&Self) -> Result<T, LogError>) -> Result<T, LogError> {
        let mut pause = RETRY.start;
        loop {
            match ask(self) {
                Err(error @ LogError::Io { .. }) => self.rest(&error, &mut pause)?,
                answered => return answered,
            }
        }
    }

    /// The newest progress of every ingester that is to be seen: the topic is compacted and small.
    fn read_progress(&self) -> Result<Marks, LogError> {
        let read = |error| failed("read progress from", &self.place, error);
        let mut config = self.cluster.consumer("clickstream-progress");
        config.set("enable.partition.eof", "true");
        let consumer: Connection<BaseConsumer<Logged>> = self.cluster.create(&config)?;
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(&self.progress_topic, 0, Offset::Beginning).map_err(read)?;
        consumer.assign(&all).map_err(read)?;
        let mut found = Marks::new();
        let mut unread = Unread::default();
        let deadline = Instant::now() + 3 * REQUEST_TIME_MAX;
        loop {
            if !unread.is_known() {
                drop(unread.ask(&consumer, [(self.progress_topic.clone(), 0)]));
            }
            if unread.is_empty() {
                return Ok(found);
            }
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    unread.read(&message);
                    take(&mut found, &message);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => unread.ended(partition),
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                    return Err(LogError::UnknownTopic(self.progress_topic.clone()));
                }
                // Brokers come and go; the deadline decides.
                Some(Err(error)) => tracing::debug!(%error, "reading progress"),
                None => {}
            }
            if self.wire.stop.load(Ordering::Acquire) {
                return Err(LogError::Closed);
            }
            if Instant::now() >= deadline {
                return Err(read(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)));
            }
        }
    }

    /// Where the progress topic ends for a reader.
    fn progress_end(&self, reader: &BaseConsumer<Logged>) -> Result<i64, LogError> {
        let told = watermarks_within(reader, &self.progress_topic, 0, REQUEST_TIME_MAX);
        told.map(|(_, end)| end).map_err(|error| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                LogError::UnknownTopic(self.progress_topic.clone())
            }
            _ => failed("read progress from", &self.place, error),
        })
    }

    /// Makes a call until it succeeds, unless the pipeline stops or nothing will help; whether it did, for this producer may be
    /// of no more use.
    fn insist(
        &self,
        action: &'static str,
        mut call: impl FnMut(&Self) -> Result<(), KafkaError>,
    ) -> Result<bool, LogError> {
        let (mut pause, begun) = (RETRY.start, Instant::now());
        loop {
            let Err(error) = call(self) else { return Ok(true) };
            match remedy(&error) {
                Remedy::Leave => return Err(LogError::Fenced),
                Remedy::Fail | Remedy::Abort | Remedy::Stop | Remedy::Refuse => {
                    return Err(failed(action, &self.place, error));
                }
                Remedy::Again => self.rest(&error, &mut pause)?,
            }
            if begun.elapsed() >= PRODUCER_TIME_MAX {
                return Ok(false);
            }
        }
    }

    /// Pauses after an error, longer each time.
    fn rest(&self, error: &impl std::fmt::Display, pause: &mut Duration) -> Result<(), LogError> {
        if self.wire.stop.load(Ordering::Acquire) {
            return Err(LogError::Closed);
        }
        self.wire.downstream.failed(format!("Kafka at {} does not take what is written: {error}", self.place));
        if is_news(&format!("write: {error}")) {
            tracing::warn!(%error, place = self.place, "Kafka does not take what is written; trying again");
        }
        thread::park_timeout(*pause);
        *pause = (*pause * 2).min(RETRY.end);
        Ok(())
    }

    /// Sends everything and commits. An error means that nothing counts.
    fn send(&self, key: &str, records: &[IngestRecord<'_>], mark: &Mark) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        for record in records {
            let key = record.low.map(crate::low::write);
            let message = BaseRecord::<[u8], [u8]>::to(record.topic).partition(record.partition as i32);
            let message = key.iter().fold(message, |message, key| message.key(key));
            enqueue(&self.producer, message.payload(record.payload))?;
        }
        let record = BaseRecord::to(&self.progress_topic).partition(0).key(key).payload(&mark.progress);
        enqueue(&self.producer, record.headers(header(ATTEMPT, mark.attempt.as_deref().unwrap_or_default())))?;
        let (begun, mut pause) = (Instant::now(), RETRY.start);
        loop {
            match commit(&self.producer, CALL_TIME_MAX) {
                // Whether it happened is not known yet; the same call finds out.
                Err(error) if remedy(&error) == Remedy::Again && begun.elapsed() < PRODUCER_TIME_MAX => {
                    if self.rest(&error, &mut pause).is_err() {
                        return Err(error);
                    }
                }
                ended => return ended,
            }
        }
    }
}

/// Notes the newest record of a key; one without a value takes the key away.
fn take(found: &mut Marks, message: &BorrowedMessage<'_>) {
    let Some(key) = message.key() else { return };
    let key = String::from_utf8_lossy(key).into_owned();
    if message.payload().is_none() {
        found.remove(&key);
        return;
    }
    found.insert(key, mark_of(message));
}

/// What a record of the progress topic says.
fn mark_of(message: &BorrowedMessage<'_>) -> Mark {
    let (progress, attempt) = (message.payload().unwrap_or_default().to_vec(), header_of(message, ATTEMPT));
    Mark { progress, attempt, time: message.timestamp().to_millis().unwrap_or_default() }
}

fn producer(cluster: &Cluster, id: &str) -> Result<Connection<BaseProducer<Logged>>, LogError> {
    let mut config = cluster.transactional(id);
    // Larger batches than those of tasks: a commit carries some megabytes.
    config.set("batch.size", "1000000").set("queue.buffering.max.kbytes", "65536");
    config.set("queue.buffering.max.messages", "500000");
    cluster.create(&config)
}

/// Topics that there are, with their partitions.
///
/// # Errors
/// Where no broker answers.
pub fn count_partitions(producer: &BaseProducer<Logged>, place: &str) -> Result<BTreeMap<String, u32>, LogError> {
    let metadata = producer.client().fetch_metadata(None, REQUEST_TIME_MAX);
    let metadata = metadata.map_err(|error| failed("describe topics of", place, error))?;
    let count = |topic: &rdkafka::metadata::MetadataTopic| (topic.name().to_owned(), topic.partitions().len() as u32);
    Ok(metadata.topics().iter().map(count).collect())
}

fn topics_of(records: &[IngestRecord<'_>]) -> String {
    let topics: BTreeSet<&str> = records.iter().map(|record| record.topic).collect();
    topics.into_iter().collect::<Vec<_>>().join(", ")
}

fn remedy(error: &KafkaError) -> Remedy {
    match error {
        _ if is_fenced(error) => Remedy::Leave,
        _ if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) => Remedy::Refuse,
        KafkaError::Transaction(error) if error.txn_requires_abort() => Remedy::Abort,
        KafkaError::Transaction(error) if error.is_retriable() => Remedy::Again,
        KafkaError::Transaction(error) if error.is_fatal() => Remedy::Fail,
        KafkaError::Transaction(_) => Remedy::Fail,
        KafkaError::MessageProduction(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownPartition) => {
            Remedy::Stop
        }
        _ => Remedy::Abort,
    }
}

impl KafkaInlet {
    /// Ends what is open; whether that is certain.
    fn abort(&self) -> Result<bool, LogError> {
        // An abort waits for what is in flight, and serves no events of it itself.
        self.producer.purge(PurgeConfig::default().queue().inflight());
        let aborted = self.insist("write to", |inlet| {
            // What it could not account for, the abort tells.
            drop(inlet.producer.flush(CALL_TIME_MAX));
            inlet.producer.abort_transaction(CALL_TIME_MAX)
        });
        match aborted {
            Ok(is_over) => Ok(is_over),
            Err(LogError::Closed) => Err(LogError::Closed),
            Err(_) => Ok(false),
        }
    }

    /// Finds out what became of the transaction `mark`, and takes the id again if nobody else has.
    fn ask_the_log(&mut self, key: &str, mark: &Mark, was_fenced: bool) -> Result<Outcome, LogError> {
        let judge = |inlet: &Self, there: &Marks| {
            let attempt = mark.attempt.as_deref().unwrap_or_default();
            judge(inlet.progress.get(key), there.get(key), attempt)
        };
        let begun = Instant::now();
        while was_fenced && begun.elapsed() < SUCCESSOR_TIME {
            let there = self.patiently(Self::read_progress)?;
            if judge(self, &there) == Outcome::Succeeded {
                return Ok(Outcome::Succeeded);
            }
            if self.wire.stop.load(Ordering::Acquire) {
                return Err(LogError::Closed);
            }
            thread::park_timeout(SUCCESSOR_EVERY);
        }
        let before = std::mem::take(&mut self.progress);
        self.producer = producer(&self.cluster, &self.id)?;
        let opened = self.open();
        let there = std::mem::replace(&mut self.progress, before);
        opened?;
        let outcome = judge(self, &there);
        tracing::warn!(key, ?outcome, "wrote under a producer that the brokers gave up; going on with another");
        Ok(outcome)
    }
}

impl IngestLog for KafkaInlet {
    fn commit(&mut self, ingester: &str, records: &[IngestRecord<'_>], progress: &[u8]) -> Result<(), LogError> {
        let (key, mut pause) = (self.key(ingester), RETRY.start);
        let mark = Mark { progress: progress.to_vec(), attempt: Some(self.attempts.begin()), time: clock::now() };
        while let Err(error) = self.send(&key, records, &mark) {
            let remedy = remedy(&error);
            if remedy == Remedy::Stop {
                return Err(LogError::UnknownTopic(topics_of(records)));
            }
            // Of a commit that takes too long nobody knows yet whether it happens.
            if matches!(remedy, Remedy::Abort | Remedy::Refuse) && self.abort()? {
                if remedy == Remedy::Refuse {
                    return Err(LogError::TooLarge { topics: topics_of(records) });
                }
                self.rest(&error, &mut pause)?;
                continue;
            }
            if self.is_share {
                return Err(LogError::Fenced);
            }
            self.rest(&error, &mut pause)?;
            match self.ask_the_log(&key, &mark, remedy == Remedy::Leave)? {
                Outcome::Committed => break,
                Outcome::Nothing => {}
                Outcome::Succeeded => return Err(LogError::Fenced),
            }
        }
        self.wire.downstream.succeeded();
        self.progress.insert(key, mark);
        Ok(())
    }

    fn progress(&self, ingester: &str) -> Result<Option<Vec<u8>>, LogError> {
        Ok(self.progress.get(&self.key(ingester)).map(|mark| mark.progress.clone()))
    }

    fn end(&mut self, ingester: &str) {
        let key = self.key(ingester);
        if self.replica.is_some() && self.progress.remove(&key).is_some() {
            self.forget(&[key]);
        }
    }

    fn partitions(&self, topic: &str) -> u32 {
        self.partitions.get(topic).copied().unwrap_or(0)
    }
}
