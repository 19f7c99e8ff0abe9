//! The catalogue in Kafka: read whole, followed, and written.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::producer::{BaseProducer, BaseRecord};

use super::{Catalogue, Entry};
use crate::{
    kafka::{
        admin::Admin,
        client::{Cluster, REQUEST_TIME_MAX, failed},
        compacted::read_all,
        connection::Connection,
        context::Deliveries,
        feed::Feed,
        names::Names,
        produce::flush,
    },
    ports::LogError,
};

/// Reads the catalogue as it is now; an empty one where nothing was ever set up.
///
/// # Errors
/// Where Kafka does not answer.
pub fn read(cluster: &Cluster, names: &Names) -> Result<Catalogue, LogError> {
    let mut catalogue = Catalogue::default();
    if Admin::new(cluster)?.facts(&[&names.progress()])?.is_empty() {
        return Ok(catalogue);
    }
    read_all(cluster, &names.progress(), &[0], |_, key, value| {
        let entry = value.and_then(|value| Entry::read(key, value));
        entry.into_iter().for_each(|entry| catalogue.take(entry));
    })?;
    Ok(catalogue)
}

/// Writes entries, in order; they are on all replicas in sync when this returns.
///
/// # Errors
/// Where Kafka does not take them.
pub fn write(cluster: &Cluster, names: &Names, entries: &[Entry]) -> Result<(), LogError> {
    let topic = names.progress();
    let wrong = |error| failed("write", &topic, error);
    let producer: Connection<BaseProducer<Deliveries>> =
        cluster.open(&cluster.producer(), Deliveries::default()).map_err(wrong)?;
    for entry in entries {
        let (key, value) = entry.record();
        let record = BaseRecord::to(&topic).partition(0).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| wrong(error))?;
        // One by one: what comes last relies on what came before.
        flush(&producer, REQUEST_TIME_MAX).map_err(wrong)?;
    }
    Ok(())
}

/// The catalogue, followed.
pub struct CatalogueFeed {
    feed: Feed,
    /// As far as it was read.
    pub catalogue: Catalogue,
    /// When epochs were said to have caught up, or were released, in milliseconds.
    ready_at: BTreeMap<u32, i64>,
}

impl CatalogueFeed {
    /// Begins at the beginning.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn open(cluster: &Cluster, names: &Names) -> Result<Self, LogError> {
        Ok(Self {
            feed: Feed::open(cluster, &names.progress(), 0, 0)?,
            catalogue: Catalogue::default(),
            ready_at: BTreeMap::new(),
        })
    }

    /// When an epoch came to be shown in place of others; nothing of one that is not ready. The first was there before any.
    #[must_use]
    pub fn ready_at(&self, epoch: u32) -> Option<i64> {
        match epoch {
            0 | 1 => Some(0),
            _ if self.catalogue.is_ready(epoch) => self.ready_at.get(&epoch).copied(),
            _ => None,
        }
    }

    /// Whether everything was read that was there when it began.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.feed.is_caught_up()
    }

    /// Reads everything that is there.
    ///
    /// # Errors
    /// Where waiting does not help.
    pub fn whole(&mut self) -> Result<(), LogError> {
        while !self.is_whole() {
            self.look(REQUEST_TIME_MAX)?;
        }
        Ok(())
    }

    /// Reads what is new, waiting for it at most for `wait`; whether anything of the catalogue has changed.
    ///
    /// # Errors
    /// Where waiting does not help.
    pub fn look(&mut self, wait: Duration) -> Result<bool, LogError> {
        let mut batch = Vec::new();
        self.feed.read(wait, &mut batch)?;
        let before = self.catalogue.clone();
        for record in batch {
            let entry = record.value.as_deref().and_then(|value| Entry::read(&record.key, value));
            // Every processor says that it has caught up: the first counts.
            match entry {
                Some(Entry::CaughtUp(epoch)) => drop(self.ready_at.entry(epoch).or_insert(record.time)),
                Some(Entry::Released(epoch)) => drop(self.ready_at.insert(epoch, record.time)),
                _ => {}
            }
            entry.into_iter().for_each(|entry| self.catalogue.take(entry));
        }
        Ok(self.catalogue != before)
    }
}
