//! A sink into another topic: records and the position of what they were made from are one transaction.
//!
//! Each partition that is read has a transactional id of its own. Whoever is given the partition asks for that id before the
//! position is fetched: that ends what its predecessor left open, and makes the predecessor's next commit fail should it
//! still live.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use crds::spec::{KafkaSink, Sink};
use engine::output;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::ConsumerGroupMetadata,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig},
};

use super::Record;
use crate::{
    kafka::{
        catalogue::View,
        client::{Cluster, REQUEST_TIME_MAX, failed},
        connection::Connection,
        context::Logged,
        names::Names,
        produce::{commit, enqueue, is_fenced},
    },
    ports::{LogError, partition_of},
    sink::{
        cells::{Wanted, WantedTables},
        select,
    },
};

/// Headers of a record: the version of a row, and where an event comes from.
const EPOCH: &str = "clickstream-epoch";
const VERSION: &str = "clickstream-version";
const SOURCE: &str = "clickstream-source";

/// How long a transaction may take to be committed.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(15);

/// A partition that is read.
pub(super) type Input = (String, i32);

/// Producers of the partitions that the group gave us.
pub(super) struct Producers {
    cluster: Cluster,
    group: String,
    /// Filled when the group gives partitions, emptied when it takes them.
    open: Mutex<BTreeMap<Input, Arc<Connection<BaseProducer<Logged>>>>>,
}

impl Producers {
    pub(super) fn new(cluster: &Cluster, group: String) -> Self {
        Self { cluster: cluster.clone(), group, open: Mutex::default() }
    }

    /// Takes over from whoever wrote for these partitions before.
    ///
    /// # Errors
    /// Where the brokers do not let us: nothing may be written for those that are missing.
    pub(super) fn take_over(&self, inputs: &[Input]) -> Result<(), LogError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clear();
        for (topic, partition) in inputs {
            let id = format!("{}.{topic}.{partition}", self.group);
            let wrong = |error| failed("open", &id, error);
            let config = self.cluster.transactional(&id);
            let producer: Connection<BaseProducer<Logged>> = self.cluster.open(&config, Logged).map_err(wrong)?;
            producer.init_transactions(REQUEST_TIME_MAX).map_err(wrong)?;
            open.insert((topic.clone(), *partition), Arc::new(producer));
        }
        Ok(())
    }

    /// Gives all of them up.
    pub(super) fn give_up(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn of(&self, input: &Input) -> Result<Arc<Connection<BaseProducer<Logged>>>, LogError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(input).cloned().ok_or(LogError::Fenced)
    }
}

/// Where the records go, and which of them.
pub(super) struct TopicSink {
    pub(super) producers: Arc<Producers>,
    topic: String,
    partitions: u32,
    tables: WantedTables,
    /// By the topic of their accepted events.
    streams: BTreeMap<String, Wanted>,
}

/// A record on its way out.
struct Outgoing<'a> {
    key: &'a [u8],
    json: &'a [u8],
    headers: OwnedHeaders,
}

impl TopicSink {
    /// Finds the topic.
    ///
    /// # Errors
    /// Where the sink's condition is wrong, or the topic has no partitions.
    pub(super) fn new(
        view: &View,
        sink: &Sink,
        to: &KafkaSink,
        names: &Names,
        partitions: u32,
        producers: Arc<Producers>,
    ) -> anyhow::Result<Self> {
        let (plan, filter) = (&view.plan, sink.filter.as_deref());
        let tables = Wanted::tables(&output::schemas(plan), &sink.tables, filter).map_err(anyhow::Error::msg)?;
        let wanted = plan.streams.iter().filter(|stream| sink.streams.contains(&stream.name));
        let streams = wanted.map(|stream| {
            Ok((view.silver(names, &stream.name), Wanted::events(stream, filter).map_err(anyhow::Error::msg)?))
        });
        let streams = streams.collect::<anyhow::Result<_>>()?;
        anyhow::ensure!(partitions > 0, "topic {} is not there; `clickstream setup` makes it", to.topic);
        Ok(Self { producers, topic: to.topic.clone(), partitions, tables, streams })
    }

    /// Writes a batch: a transaction for each partition that it was read from. `proof` shows that we are still given them.
    ///
    /// # Errors
    /// [`LogError::Fenced`] where another writes in our place; else what Kafka says: everything that is not committed must
    /// be read again.
    pub(super) fn write(&mut self, batch: &[Record], proof: &ConsumerGroupMetadata) -> anyhow::Result<()> {
        let mut inputs: BTreeMap<Input, Vec<&Record>> = BTreeMap::new();
        for record in batch {
            inputs.entry((record.topic.clone(), record.partition)).or_default().push(record);
        }
        for (input, records) in inputs {
            let producer = self.producers.of(&input)?;
            producer.begin_transaction().map_err(|error| refused(&self.topic, error))?;
            let written = self.transact(&producer, &input, &records, proof);
            if let Err(error) = written {
                abort(&producer);
                return Err(error);
            }
        }
        Ok(())
    }

    fn transact(
        &mut self,
        producer: &BaseProducer<Logged>,
        input: &Input,
        records: &[&Record],
        proof: &ConsumerGroupMetadata,
    ) -> anyhow::Result<()> {
        let topic = self.topic.clone();
        let wrong = |error| refused(&topic, error);
        for record in records {
            let partition = self.partitions;
            let Some(Outgoing { key, json, headers }) = self.outgoing(record)? else { continue };
            let partition = partition_of(key, partition) as i32;
            let outgoing = BaseRecord::to(&topic).partition(partition).key(key).payload(json).headers(headers);
            enqueue(producer, outgoing).map_err(wrong)?;
        }
        let next = records.last().context("bug: a partition without records")?.offset + 1;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&input.0, input.1, Offset::Offset(next as i64)).map_err(wrong)?;
        producer.send_offsets_to_transaction(&offsets, proof, COMMIT_TIME_MAX).map_err(wrong)?;
        Ok(commit(producer, COMMIT_TIME_MAX).map_err(wrong)?)
    }

    fn outgoing<'a>(&mut self, record: &'a Record) -> anyhow::Result<Option<Outgoing<'a>>> {
        if let Some(wanted) = self.streams.get_mut(&record.topic) {
            let Some(event) = select::event(wanted, &record.value)? else { return Ok(None) };
            let source = format!("{}/{}/{}", event.topic, event.partition, event.offset);
            let headers = OwnedHeaders::new_with_capacity(1).insert(Header { key: SOURCE, value: Some(&source) });
            return Ok(Some(Outgoing { key: event.key, json: event.json, headers }));
        }
        // A tombstone says nothing that the row before it did not say.
        if record.value.is_empty() {
            return Ok(None);
        }
        let Some(epoch) = select::row(&mut self.tables, &record.value)? else { return Ok(None) };
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: EPOCH, value: Some(&epoch.to_string()) })
            .insert(Header { key: VERSION, value: Some(&record.offset.to_string()) });
        Ok(Some(Outgoing { key: &record.key, json: &record.value, headers }))
    }
}

fn refused(topic: &str, error: KafkaError) -> LogError {
    if is_fenced(&error) { LogError::Fenced } else { failed("write to", topic, error) }
}

/// Ends what is open, if the producer still may: else whoever takes over does.
fn abort(producer: &BaseProducer<Logged>) {
    // An abort waits for what is in flight, and serves no events of it itself.
    producer.purge(PurgeConfig::default().queue().inflight());
    drop(producer.flush(COMMIT_TIME_MAX));
    if let Err(error) = producer.abort_transaction(COMMIT_TIME_MAX) {
        tracing::debug!(%error, "an abort failed: who comes next under this id does it");
    }
}
