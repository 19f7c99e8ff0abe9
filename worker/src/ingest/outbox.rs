//! From an ingester to the log: topics, partitions, commits.

use std::collections::BTreeMap;

use engine::codec::Corrupt;

use crate::{
    ingest::{
        IngestError, json,
        routes::{Routes, Targets},
    },
    ports::{IngestLog, IngestRecord, partition_of, share_name},
};

/// A topic and how its records are keyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The topic.
    pub topic: String,
    /// Where the key lies in an event; without one the partitions take turns, a commit each.
    pub key: Option<Vec<String>>,
}

/// The topics that an ingester writes.
#[derive(Debug)]
pub struct Topics {
    targets: Vec<Target>,
    partitions: Vec<u32>,
    routes: Routes,
    turn: u32,
}

impl Topics {
    /// Asks the log for the partitions of each topic.
    #[must_use]
    pub fn new(targets: Vec<Target>, routes: Routes, log: &dyn IngestLog) -> Self {
        let partitions = targets.iter().map(|target| log.partitions(&target.topic).max(1)).collect();
        Self { targets, partitions, routes, turn: 0 }
    }

    /// The number of partitions of the topic `target`.
    #[must_use]
    pub fn partitions(&self, target: usize) -> u32 {
        self.partitions[target]
    }

    /// The number of partitions of all topics.
    #[must_use]
    pub fn all_partitions(&self) -> usize {
        self.partitions.iter().map(|count| *count as usize).sum()
    }

    /// Decides which topic each of `payloads` goes to.
    pub fn route<'a>(&mut self, payloads: impl Iterator<Item = &'a [u8]> + Clone) -> Targets {
        self.routes.targets(payloads)
    }

    /// Lets the next partition have its turn.
    pub fn turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }

    /// Makes the record of `payload` for the topic `target`.
    #[must_use]
    pub fn record<'a>(&'a self, target: usize, payload: &'a [u8]) -> IngestRecord<'a> {
        let Target { topic, key } = &self.targets[target];
        let partitions = self.partitions[target];
        let key = key.as_ref().and_then(|path| json::find(payload, path)).and_then(json::key);
        let partition = key.map_or(self.turn % partitions, |key| partition_of(&key, partitions));
        IngestRecord { topic, partition, payload, low: None }
    }

    /// Makes a record whose key is known to lie in `partition`; of a topic without a key that does not count.
    #[must_use]
    pub fn record_in<'a>(&'a self, target: usize, partition: u32, payload: &'a [u8]) -> IngestRecord<'a> {
        let Target { topic, key } = &self.targets[target];
        let partition = if key.is_some() { partition } else { self.turn % self.partitions[target] };
        IngestRecord { topic, partition, payload, low: None }
    }
}

/// The log under the name of one ingester.
pub struct Outbox {
    log: Box<dyn IngestLog>,
    ingester: String,
}

impl Outbox {
    /// Makes one for `ingester`.
    #[must_use]
    pub fn new(log: Box<dyn IngestLog>, ingester: &str) -> Self {
        Self { log, ingester: ingester.into() }
    }

    /// The log itself.
    #[must_use]
    pub fn log(&self) -> &dyn IngestLog {
        &*self.log
    }

    /// The progress that was committed last.
    ///
    /// # Errors
    /// As the log says.
    pub fn progress(&self) -> Result<Option<Vec<u8>>, IngestError> {
        Ok(self.log.progress(&self.ingester)?)
    }

    /// The error for committed progress that is not of this kind of ingester.
    #[must_use]
    pub fn foreign(&self, source: Corrupt) -> IngestError {
        IngestError::Progress { ingester: self.ingester.clone(), source }
    }

    /// Commits `records` together with `progress`; blocks while the log is full.
    ///
    /// # Errors
    /// As the log says.
    pub fn commit(&mut self, records: &[IngestRecord<'_>], progress: &[u8]) -> Result<(), IngestError> {
        Ok(self.log.commit(&self.ingester, records, progress)?)
    }

    /// Tells the log that nothing more comes.
    pub fn end(&mut self) {
        self.log.end(&self.ingester);
    }

    /// Whether replicas divide the work among them.
    pub fn is_shared(&mut self) -> bool {
        self.log.shares().is_some()
    }

    /// The shares that are ours, where that has changed; none ever, where nothing is divided.
    ///
    /// # Errors
    /// As the log says.
    pub fn ours(&mut self) -> Result<Option<Vec<u32>>, IngestError> {
        Ok(self.log.shares().map_or(Ok(None), |shares| shares.ours())?)
    }

    /// The newest progress of every share, as far as it was heard of.
    ///
    /// # Errors
    /// As the log says.
    pub fn heard(&mut self) -> Result<BTreeMap<u32, Vec<u8>>, IngestError> {
        Ok(self.log.shares().map_or(Ok(BTreeMap::new()), |shares| shares.heard().cloned())?)
    }

    /// The progress of a share that is ours.
    ///
    /// # Errors
    /// As the log says.
    pub fn share_progress(&self, share: u32) -> Result<Option<Vec<u8>>, IngestError> {
        Ok(self.log.progress(&share_name(&self.ingester, share))?)
    }

    /// Commits `records` together with the progress of their share.
    ///
    /// # Errors
    /// As the log says; [`crate::ports::LogError::Fenced`] where the share is no longer ours.
    pub fn commit_share(
        &mut self,
        share: u32,
        records: &[IngestRecord<'_>],
        progress: &[u8],
    ) -> Result<(), IngestError> {
        Ok(self.log.commit(&share_name(&self.ingester, share), records, progress)?)
    }
}
