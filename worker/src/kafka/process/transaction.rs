//! Outputs of tasks and the offsets of their inputs, as one transaction. It is committed on a thread of its own, while the
//! tasks read on: what they make meanwhile stays with them until it has succeeded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use engine::{
    output::{Output, TableSchema},
    plan::Plan,
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig},
};

use super::member::Place;
use crate::{
    kafka::{
        aside::Aside,
        client::{Cluster, REQUEST_TIME_MAX, failed},
        connection::Connection,
        context::Logged,
        names::Names,
        produce::{commit, enqueue},
    },
    log::record::{write_dead_letter, write_silver},
    ports::LogError,
};

/// How long a commit may take before the tasks of a thread are recovered instead.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(12);

/// How long an abort may take.
const ABORT_TIME_MAX: Duration = Duration::from_secs(3);

/// Where the outputs of a pipeline go.
#[derive(Clone, Debug)]
pub struct Targets {
    shuffle: String,
    results: String,
    dead_letters: String,
    silver: Vec<String>,
    /// For each stream, whether its dead letters are told by this epoch.
    tells: Vec<bool>,
}

impl Targets {
    /// Names all of them.
    #[must_use]
    pub fn new(names: &Names, plan: &Plan, tells: Vec<bool>) -> Self {
        Self {
            shuffle: names.shuffle(),
            results: names.results(),
            dead_letters: names.dead_letters(),
            silver: plan.streams.iter().map(|stream| names.silver(&stream.name)).collect(),
            tells,
        }
    }
}

/// A thread's way to write.
pub struct Transactions {
    /// Dropped first: a commit that is under way comes to its end.
    commits: Aside<(TopicPartitionList, ConsumerGroupMetadata), Duration>,
    producer: Arc<Connection<BaseProducer<Logged>>>,
    id: String,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A transaction that is open. Whoever holds it may write; dropping it without a commit leaves it to
/// [`Transactions::begin`]'s successor to abort.
pub struct Open<'a> {
    transactions: &'a mut Transactions,
    offsets: TopicPartitionList,
}

impl Transactions {
    /// Makes a producer under `id`, and ends what an earlier one of that id left open.
    ///
    /// # Errors
    /// Where no coordinator answers.
    pub fn start(cluster: &Cluster, id: &str) -> Result<Self, LogError> {
        let mut config = cluster.transactional(id);
        config.set("queue.buffering.max.messages", "500000");
        config.set("queue.buffering.max.kbytes", "262144");
        // A commit flushes: nothing is gained by waiting for more.
        config.set("linger.ms", "1");
        let wrong = |error| failed("start transactions at", &cluster.bootstrap, error);
        let producer: Connection<BaseProducer<Logged>> = cluster.open(&config, Logged).map_err(wrong)?;
        producer.init_transactions(REQUEST_TIME_MAX * 3).map_err(wrong)?;
        let producer = Arc::new(producer);
        let (ours, name) = (Arc::clone(&producer), id.to_owned());
        let work = move |(offsets, proof): (TopicPartitionList, ConsumerGroupMetadata)| {
            let began = Instant::now();
            let sent = ours.send_offsets_to_transaction(&offsets, &proof, COMMIT_TIME_MAX);
            sent.and_then(|()| commit(&ours, COMMIT_TIME_MAX)).map_err(|error| refused(&name, error))?;
            Ok(began.elapsed())
        };
        let commits = Aside::start("commits", work)?;
        Ok(Self { commits, producer, id: id.into(), key: Vec::new(), value: Vec::new() })
    }

    /// Waits for the commit that is under way, if there is one, and says how long it took. After an error nobody knows
    /// whether it counts: drop the tasks and recover them.
    ///
    /// # Errors
    /// Where it was refused, or brokers did not answer in time; [`LogError::Fenced`] where somebody newer writes under our id.
    pub fn settle(&mut self) -> Result<Option<Duration>, LogError> {
        self.commits.settle()
    }

    /// As [`Transactions::settle`], without waiting.
    ///
    /// # Errors
    /// As there.
    pub fn look(&mut self) -> Result<Option<Duration>, LogError> {
        self.commits.look()
    }

    /// Whether a commit is under way.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.commits.is_busy()
    }

    /// Begins one. The one before is settled.
    ///
    /// # Errors
    /// [`LogError::Fenced`] where somebody newer writes under our id.
    pub fn begin(&mut self) -> Result<Open<'_>, LogError> {
        self.producer.begin_transaction().map_err(|error| refused(&self.id, error))?;
        Ok(Open { transactions: self, offsets: TopicPartitionList::new() })
    }

    /// Aborts what is open, if the producer still may. Before a new producer of the same id this is not needed: its start
    /// does it too.
    pub fn abort(&self) {
        // An abort waits until every record is accounted for, which nobody would tell it: it serves no events itself.
        self.producer.purge(PurgeConfig::default().queue().inflight());
        let flushed = self.producer.flush(ABORT_TIME_MAX);
        if let Err(error) = flushed.and_then(|()| self.producer.abort_transaction(ABORT_TIME_MAX)) {
            tracing::debug!(%error, "an abort failed: who comes next under this id does it");
        }
    }

    fn send(&self, topic: &str, partition: u32, key: Option<&[u8]>, value: &[u8]) -> Result<(), LogError> {
        let mut record = BaseRecord::to(topic).payload(value).partition(partition as i32);
        if let Some(key) = key {
            record = record.key(key);
        }
        enqueue(&self.producer, record).map_err(|error| failed("write", topic, error))
    }
}

impl Open<'_> {
    /// Writes what a task said.
    ///
    /// # Errors
    /// Where the producer refuses: abort.
    pub fn write(
        &mut self,
        output: &mut Output,
        (targets, plan, schemas): (&Targets, &Plan, &[TableSchema]),
    ) -> Result<(), LogError> {
        let Transactions { key, value, .. } = &mut *self.transactions;
        let (mut key, mut value) = (std::mem::take(key), std::mem::take(value));
        let all = &*self.transactions;
        for (partition, message) in output.shuffle.iter().enumerate().filter(|(_, message)| !message.is_empty()) {
            all.send(&targets.shuffle, partition as u32, None, message)?;
        }
        for row in &output.rows {
            key.clear();
            value.clear();
            row.write_key(&schemas[row.table], &mut key);
            row.write_document(&schemas[row.table], &mut value);
            all.send(&targets.results, 0, Some(&key), &value)?;
        }
        for letter in output.dead_letters.iter().filter(|letter| letter.table.is_some() || targets.tells[letter.stream])
        {
            value.clear();
            write_dead_letter(letter, plan, &mut value);
            all.send(&targets.dead_letters, 0, None, &value)?;
        }
        for event in &output.silver {
            value.clear();
            write_silver(event, plan, &mut value);
            all.send(&targets.silver[event.stream], 0, Some(&event.key), &value)?;
        }
        output.clear();
        (self.transactions.key, self.transactions.value) = (key, value);
        Ok(())
    }

    /// Says how far `place` was read; the last word counts.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn reached(&mut self, place: &Place, next: u64) -> Result<(), LogError> {
        let wrong = |error| failed("commit the position in", &place.topic, error);
        let (topic, partition) = (&place.topic, place.partition as i32);
        let mut element = match self.offsets.find_partition(topic, partition) {
            Some(element) => element,
            None => self.offsets.add_partition(topic, partition),
        };
        element.set_offset(Offset::Offset(next as i64)).map_err(wrong)?;
        element.set_metadata(&self.transactions.id);
        Ok(())
    }

    /// Begins to commit everything, or nothing: [`Transactions::settle`] says what came of it. `proof` is of the group's
    /// member whose positions these are.
    ///
    /// # Errors
    /// Where the thread for it has ended, after an error before.
    pub fn commit(self, proof: ConsumerGroupMetadata) -> Result<(), LogError> {
        self.transactions.commits.give((self.offsets, proof))
    }
}

fn refused(id: &str, error: KafkaError) -> LogError {
    let fenced = [
        RDKafkaErrorCode::ProducerFenced,
        RDKafkaErrorCode::InvalidProducerEpoch,
        RDKafkaErrorCode::Fenced,
        RDKafkaErrorCode::FencedInstanceId,
    ];
    match error.rdkafka_error_code() {
        Some(code) if fenced.contains(&code) => LogError::Fenced,
        _ => failed("commit a transaction of", id, error),
    }
}
