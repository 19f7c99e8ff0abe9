//! How far processing is, as the brokers know it: committed positions of the group, and where partitions end.

use std::collections::BTreeMap;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

use super::{
    client::{Cluster, REQUEST_TIME_MAX, failed},
    connection::Connection,
    context::Logged,
    names::Names,
    unread::watermarks_within,
};
use crate::{ports::LogError, serve::PartitionStatus};

/// Asks about one pipeline.
pub struct Facts {
    consumer: Connection<BaseConsumer<Logged>>,
    topics: Vec<String>,
    place: String,
}

impl Facts {
    /// Asks about these raw topics.
    ///
    /// # Errors
    /// Where librdkafka refuses the configuration.
    pub fn new(cluster: &Cluster, names: &Names, topics: Vec<String>) -> Result<Self, LogError> {
        // It never joins the group: it only asks for what the group committed.
        let consumer = cluster.create(&cluster.consumer(&names.process_group()))?;
        Ok(Self { consumer, topics, place: cluster.bootstrap.clone() })
    }

    /// Every partition of all of `facts`, each with the position of whoever is furthest behind.
    ///
    /// # Errors
    /// Where no broker answers.
    pub fn furthest_behind<'f>(facts: impl Iterator<Item = &'f Self>) -> Result<Vec<PartitionStatus>, LogError> {
        let mut all: BTreeMap<(String, u32), PartitionStatus> = BTreeMap::new();
        for facts in facts {
            for told in facts.partitions()? {
                let known = all.entry((told.topic.clone(), told.partition)).or_insert_with(|| told.clone());
                known.position = known.position.min(told.position);
            }
        }
        Ok(all.into_values().collect())
    }

    /// Every partition, with its position and end.
    ///
    /// # Errors
    /// Where no broker answers.
    pub fn partitions(&self) -> Result<Vec<PartitionStatus>, LogError> {
        let unknown = |error| failed("ask", &self.place, error);
        let metadata = self.consumer.fetch_metadata(None, REQUEST_TIME_MAX).map_err(unknown)?;
        let mut asked = TopicPartitionList::new();
        for topic in metadata.topics().iter().filter(|topic| self.topics.iter().any(|name| name == topic.name())) {
            for partition in topic.partitions() {
                asked.add_partition(topic.name(), partition.id());
            }
        }
        let committed = self.consumer.committed_offsets(asked, REQUEST_TIME_MAX).map_err(unknown)?;
        let positions: BTreeMap<(String, i32), u64> = committed
            .elements()
            .iter()
            .map(|each| ((each.topic().to_owned(), each.partition()), offset(each.offset())))
            .collect();
        positions
            .into_iter()
            .map(|((topic, partition), position)| {
                let marks = watermarks_within(&self.consumer, &topic, partition, REQUEST_TIME_MAX);
                let (start, end) = marks.map_err(unknown)?;
                let position = position.max(start as u64);
                Ok(PartitionStatus { topic, partition: partition as u32, position, end: end as u64 })
            })
            .collect()
    }
}

fn offset(offset: Offset) -> u64 {
    match offset {
        Offset::Offset(offset) => offset as u64,
        _ => 0,
    }
}
