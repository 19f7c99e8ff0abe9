//! Topics: what is there, and doing what was decided about it. No opinions here.

use std::collections::BTreeMap;

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, NewPartitions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
        TopicReplication, TopicResult,
    },
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use tokio::runtime::Runtime;

use super::{
    client::{Cluster, REQUEST_TIME_MAX, failed},
    connection::Connection,
    context::Logged,
    settings,
    steps::{Step, TopicFact},
    topics::TopicWish,
};
use crate::ports::LogError;

/// A connection for looking after topics.
pub struct Admin {
    client: Connection<AdminClient<Logged>>,
    runtime: Runtime,
    bootstrap: String,
}

impl Admin {
    /// Makes one; nothing is sent yet.
    ///
    /// # Errors
    /// Where the configuration is refused.
    ///
    /// # Panics
    /// If the system gives no runtime, which needs nothing but memory.
    pub fn new(cluster: &Cluster) -> Result<Self, LogError> {
        let client = cluster.create(&cluster.base())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime of one thread needs nothing but memory");
        Ok(Self { client, runtime, bootstrap: cluster.bootstrap.clone() })
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(REQUEST_TIME_MAX)).operation_timeout(Some(REQUEST_TIME_MAX))
    }

    /// What is known of those of `names` that exist.
    ///
    /// # Errors
    /// Where no broker answers, or one refuses to tell.
    pub fn facts(&self, names: &[&str]) -> Result<BTreeMap<String, TopicFact>, LogError> {
        let describe = |error| failed("describe topics of", &self.bootstrap, error);
        // All of them: asking for one that is not there may create it, and is an error to librdkafka.
        let metadata = self.client.inner().fetch_metadata(None, REQUEST_TIME_MAX).map_err(describe)?;
        let mut facts = BTreeMap::new();
        for topic in metadata.topics().iter().filter(|topic| names.contains(&topic.name())) {
            if topic.error().is_some_and(|error| error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR) {
                continue;
            }
            let copies = topic.partitions().iter().map(|partition| partition.replicas().len() as u32).min();
            let fact = TopicFact {
                partitions: topic.partitions().len() as u32,
                copies: copies.unwrap_or_default(),
                settings: BTreeMap::new(),
            };
            facts.insert(topic.name().to_owned(), fact);
        }
        let found: Vec<String> = facts.keys().cloned().collect();
        let resources: Vec<_> = found.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        if resources.is_empty() {
            return Ok(facts);
        }
        let told = self.runtime.block_on(self.client.describe_configs(&resources, &Self::options()));
        for resource in told.map_err(describe)? {
            let resource = resource.map_err(|code| describe(KafkaError::AdminOp(code)))?;
            let OwnedResourceSpecifier::Topic(name) = &resource.specifier else { continue };
            let Some(fact) = facts.get_mut(name) else { continue };
            fact.settings = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
        }
        Ok(facts)
    }

    /// Creates topics by one request. Those that somebody else created meanwhile are fine.
    ///
    /// # Errors
    /// Where a broker refuses one of them; it is asked for all of them first.
    pub fn create(&self, wishes: &[&TopicWish]) -> Result<(), LogError> {
        let topics: Vec<NewTopic<'_>> = wishes.iter().map(|wish| new_topic(wish)).collect();
        if topics.is_empty() {
            return Ok(());
        }
        let created = self.runtime.block_on(self.client.create_topics(&topics, &Self::options()));
        self.all("create topics of", created, RDKafkaErrorCode::TopicAlreadyExists)
    }

    /// Creates, grows or sets. A topic that somebody else created or grew meanwhile is fine, and doing it again changes nothing:
    /// look afterwards whether everything is as it should be.
    ///
    /// # Errors
    /// Where a broker refuses.
    ///
    /// # Panics
    /// On a step that is [by hand](Step::is_by_hand): there is nothing to carry out.
    pub fn apply(&self, step: &Step) -> Result<(), LogError> {
        match step {
            Step::Create(wish) => self.create(&[wish]),
            Step::Grow { name, to, .. } => {
                let grown = NewPartitions::new(name, *to as usize);
                let grown = self.runtime.block_on(self.client.create_partitions([&grown], &Self::options()));
                // Whoever was faster leaves nothing to do, which is an error to brokers.
                self.all("grow topics of", grown, RDKafkaErrorCode::InvalidPartitions)
            }
            Step::Alter { name, changes } => {
                let named = changes.iter().map(|change| (change.setting.clone(), change.to.clone())).collect();
                let place = || format!("{}, topic {name}", self.bootstrap);
                settings::change(&*self.client, name, &named).map_err(|refused| LogError::Io {
                    action: "change settings of",
                    place: place(),
                    source: refused.into(),
                })
            }
            Step::Copy { .. } | Step::Refuse { .. } => unreachable!("bug: a refusal is carried out"),
        }
    }

    /// Deletes topics with everything in them. One that is gone already is fine.
    ///
    /// # Errors
    /// Where a broker refuses one of them; it is asked for all of them first.
    pub fn delete_topics(&self, names: &[&str]) -> Result<(), LogError> {
        let deleted = self.runtime.block_on(self.client.delete_topics(names, &Self::options()));
        self.all("delete topics of", deleted, RDKafkaErrorCode::UnknownTopicOrPartition)
    }

    /// What became of all topics of a request, where one answer is as good as yes.
    fn all(
        &self,
        action: &'static str,
        results: KafkaResult<Vec<TopicResult>>,
        fine: RDKafkaErrorCode,
    ) -> Result<(), LogError> {
        for result in results.map_err(|error| failed(action, &self.bootstrap, error))? {
            match result {
                Err((name, code)) if code != fine => {
                    let place = format!("{}, topic {name}", self.bootstrap);
                    return Err(failed(action, &place, KafkaError::AdminOp(code)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the cluster forget a group and what it has read; whether there was one.
    ///
    /// # Errors
    /// Where it has members, or a broker refuses.
    pub fn delete_group(&self, name: &str) -> Result<bool, LogError> {
        let wrong = |error| failed("delete a group of", &format!("{}, group {name}", self.bootstrap), error);
        let deleted = self.runtime.block_on(self.client.delete_groups(&[name], &Self::options())).map_err(wrong)?;
        match deleted.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::GroupIdNotFound))) | None => Ok(false),
            Some(Err((_, code))) => Err(wrong(KafkaError::AdminOp(code))),
            Some(Ok(_)) => Ok(true),
        }
    }

    /// Deletes the records of a partition below `offset`.
    ///
    /// # Errors
    /// Where a broker refuses.
    pub fn delete_below(&self, topic: &str, partition: u32, offset: u64) -> Result<(), LogError> {
        let mut offsets = rdkafka::TopicPartitionList::new();
        let place = || format!("{topic}/{partition} of {}", self.bootstrap);
        offsets
            .add_partition_offset(topic, partition as i32, rdkafka::Offset::Offset(offset as i64))
            .map_err(|error| failed("delete old messages in", &place(), error))?;
        let deleted = self.runtime.block_on(self.client.delete_records(&offsets, &Self::options()));
        deleted.map(drop).map_err(|error| failed("delete old messages in", &place(), error))
    }
}

fn new_topic(wish: &TopicWish) -> NewTopic<'_> {
    let replication = TopicReplication::Fixed(wish.replication.map_or(-1, i32::from));
    let topic = NewTopic::new(&wish.name, wish.partitions as i32, replication);
    wish.settings.iter().chain(&wish.at_first).fold(topic, |topic, (name, value)| topic.set(name, value))
}
