//! The log as an ingester sees it.

use super::SharedLog;
use crate::{
    limits,
    ports::{Commit, IngestLog, IngestRecord, Log, LogError, Records, Topic, TopicPartition},
};

/// One ingester's way into the log. Keeps buffers between commits, so that nothing is allocated for a record.
pub struct Inlet {
    log: SharedLog,
    /// Topics seen so far, by name.
    topics: Vec<(String, Topic)>,
    /// Records of the commit under way, by partition; emptied and kept.
    buffers: Vec<(TopicPartition, Records)>,
}

impl Inlet {
    /// Makes an inlet.
    #[must_use]
    pub fn new(log: SharedLog) -> Self {
        Self { log, topics: Vec::new(), buffers: Vec::new() }
    }

    fn topic(&mut self, name: &str) -> Result<Topic, LogError> {
        if let Some((_, topic)) = self.topics.iter().find(|(known, _)| known == name) {
            return Ok(*topic);
        }
        let topic = self.log.topic(name)?;
        self.topics.push((name.into(), topic));
        Ok(topic)
    }

    fn buffer(&mut self, at: TopicPartition) -> &mut Records {
        let known = self.buffers.iter().position(|(known, _)| *known == at);
        let index = known.unwrap_or_else(|| {
            self.buffers.push((at, Records::default()));
            self.buffers.len() - 1
        });
        &mut self.buffers[index].1
    }

    fn sort_by_partition(&mut self, records: &[IngestRecord<'_>]) -> Result<(), LogError> {
        self.buffers.iter_mut().for_each(|(_, records)| records.clear());
        for record in records {
            let topic = self.topic(record.topic)?;
            assert!(record.partition < topic.partitions, "bug: partition {} of `{}`", record.partition, record.topic);
            self.buffer(topic.partition(record.partition)).push(record.payload);
        }
        Ok(())
    }

    fn wait_for_room(&self) -> Result<(), LogError> {
        for (_, topic) in &self.topics {
            self.log.wait_for_room(*topic, limits::RAW_BACKLOG_BYTES_MAX)?;
        }
        Ok(())
    }
}

impl IngestLog for Inlet {
    fn commit(&mut self, ingester: &str, records: &[IngestRecord<'_>], progress: &[u8]) -> Result<(), LogError> {
        self.sort_by_partition(records)?;
        self.wait_for_room()?;
        let filled = self.buffers.iter().filter(|(_, records)| !records.is_empty());
        let appends: Vec<(TopicPartition, &Records)> = filled.map(|(at, records)| (*at, records)).collect();
        self.log.commit(&Commit { appends: &appends, position: None, progress: Some((ingester, progress)) })
    }

    fn progress(&self, ingester: &str) -> Result<Option<Vec<u8>>, LogError> {
        self.log.progress(ingester)
    }

    fn partitions(&self, topic: &str) -> u32 {
        self.log.topic(topic).map_or(0, |topic| topic.partitions)
    }
}
