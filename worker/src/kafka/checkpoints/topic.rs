//! Checkpoints in a compacted topic: a record for each chunk, the partition follows from the task.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rdkafka::producer::{BaseProducer, BaseRecord};

use super::{Id, Stored};
use crate::{
    checkpoint::{key, key_parts, unframe},
    kafka::{
        client::{Cluster, failed},
        compacted::read_all,
        connection::Connection,
        context::Deliveries,
        produce::flush,
    },
    ports::{LogError, partition_of},
};

/// How long a checkpoint may take to be written.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// The topic.
#[derive(Clone)]
pub(super) struct Topic {
    pub cluster: Cluster,
    pub name: String,
    pub partitions: u32,
}

impl Topic {
    fn partition(&self, task: &str) -> u32 {
        partition_of(task.as_bytes(), self.partitions)
    }

    /// Reads those of `tasks`.
    pub(super) fn read(&self, tasks: &[String], fingerprint: u64) -> Result<BTreeMap<String, Stored>, LogError> {
        let mut found: BTreeMap<String, Stored> = tasks.iter().map(|task| (task.clone(), Stored::default())).collect();
        let partitions: BTreeSet<u32> = tasks.iter().map(|task| self.partition(task)).collect();
        let partitions: Vec<u32> = partitions.into_iter().collect();
        read_all(&self.cluster, &self.name, &partitions, |_, key, value| {
            let Some((task, position, generation, chunk)) = key_parts(key) else { return };
            let Some(stored) = found.get_mut(task) else { return };
            let Some(value) = value else {
                stored.kept.remove(&(position, generation));
                return;
            };
            let kept = stored.kept.entry((position, generation)).or_default();
            kept.chunks = kept.chunks.max(chunk + 1);
            match unframe(fingerprint, value).filter(|(at, ..)| *at == chunk) {
                Some((at, of, bytes)) => {
                    kept.of = Some(of);
                    kept.there.insert(at, Some(bytes.to_vec()));
                }
                // The last word on a key counts: what was readable before it will be compacted away.
                None => drop(kept.there.remove(&chunk)),
            }
        })?;
        Ok(found)
    }

    pub(super) fn writer(&self) -> Result<TopicWriter, LogError> {
        let producer = self.cluster.open(&self.cluster.producer(), Deliveries::default());
        let producer = producer.map_err(|error| failed("connect to", &self.cluster.bootstrap, error))?;
        Ok(TopicWriter { topic: self.clone(), producer })
    }
}

/// Writes to it.
pub(super) struct TopicWriter {
    topic: Topic,
    producer: Connection<BaseProducer<Deliveries>>,
}

impl TopicWriter {
    pub(super) fn put(&self, task: &str, (position, generation): Id, at: u32, chunk: &[u8]) -> Result<(), LogError> {
        self.send(task, &key(task, position, generation, at), Some(chunk))
    }

    pub(super) fn delete(&self, task: &str, (position, generation): Id, chunks: u32) -> Result<(), LogError> {
        (0..chunks).try_for_each(|chunk| self.send(task, &key(task, position, generation, chunk), None))
    }

    /// Waits until everything is there: what is not must not be taken for a checkpoint, or older ones would go.
    pub(super) fn settle(&self) -> Result<(), LogError> {
        flush(&self.producer, WRITE_TIME_MAX).map_err(|error| failed("write", &self.topic.name, error))
    }

    fn send(&self, task: &str, key: &[u8], value: Option<&[u8]>) -> Result<(), LogError> {
        let record = BaseRecord::to(&self.topic.name).key(key);
        let record = record.partition(self.topic.partition(task) as i32);
        let record = match value {
            Some(value) => record.payload(value),
            None => record,
        };
        self.producer.send(record).map_err(|(error, _)| failed("write", &self.topic.name, error))
    }
}
