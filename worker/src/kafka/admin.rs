//! Topics: what is there, what is to be done about it, and doing it.

use std::{collections::BTreeMap, fmt};

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
    topics::{Growth, TopicWish},
};
use crate::ports::LogError;

/// A topic as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFact {
    /// Number of partitions.
    pub partitions: u32,
    /// Settings that are in force.
    pub settings: BTreeMap<String, String>,
}

/// What is to be done about one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is not there: create it.
    Create(TopicWish),
    /// It has too few partitions: add some.
    Grow {
        /// The topic.
        name: String,
        /// What it has.
        from: u32,
        /// What it should have.
        to: u32,
    },
    /// Only a person can put it right; nothing may run before.
    Refuse {
        /// The topic.
        name: String,
        /// What differs, and what to do about it.
        why: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(wish) => {
                write!(f, "create {} with {} partitions", wish.name, wish.partitions)?;
                wish.settings.iter().try_for_each(|(name, value)| write!(f, ", {name}={value}"))
            }
            Self::Grow { name, from, to } => write!(f, "grow {name} from {from} to {to} partitions"),
            Self::Refuse { name, why } => write!(f, "{name}: {why}"),
        }
    }
}

/// Decides, for all topics at once. A topic that is as it should be needs no step.
#[must_use]
pub fn decide(wishes: &[TopicWish], facts: &BTreeMap<String, TopicFact>) -> Vec<Step> {
    let one = |wish: &TopicWish| match facts.get(&wish.name) {
        None => vec![Step::Create(wish.clone())],
        Some(fact) => partitions(wish, fact).into_iter().chain(settings(wish, fact)).collect(),
    };
    wishes.iter().flat_map(one).collect()
}

fn partitions(wish: &TopicWish, fact: &TopicFact) -> Option<Step> {
    let (name, from, to) = (wish.name.clone(), fact.partitions, wish.partitions);
    match wish.growth {
        _ if from == to => None,
        Growth::Grows if from < to => Some(Step::Grow { name, from, to }),
        Growth::Grows => Some(Step::Refuse {
            name,
            why: format!("has {from} partitions, the manifest says {to}; partitions cannot be taken away: say {from}"),
        }),
        Growth::Fixed => Some(Step::Refuse {
            name,
            why: format!("has {from} partitions and needs {to}, which cannot change while it holds data"),
        }),
    }
}

fn settings(wish: &TopicWish, fact: &TopicFact) -> Option<Step> {
    let differs = |(name, value): &(&String, &String)| fact.settings.get(*name).is_some_and(|found| found != *value);
    let wrong: Vec<_> = wish.settings.iter().filter(|_| wish.judged).filter(differs).collect();
    let told = wrong.iter().map(|(name, value)| format!("{name} is {}, not {value}", fact.settings[*name]));
    let told = told.collect::<Vec<_>>().join("; ");
    let set = wrong.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
    let why = format!("{told}; put it right with kafka-configs --alter --topic {} --add-config {set}", wish.name);
    (!wrong.is_empty()).then(|| Step::Refuse { name: wish.name.clone(), why })
}

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
            let fact = TopicFact { partitions: topic.partitions().len() as u32, settings: BTreeMap::new() };
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

    /// Creates or grows. A topic that somebody else created meanwhile is fine.
    ///
    /// # Errors
    /// Where a broker refuses.
    ///
    /// # Panics
    /// On [`Step::Refuse`]: there is nothing to carry out.
    pub fn apply(&self, step: &Step) -> Result<(), LogError> {
        let result = match step {
            Step::Create(wish) => {
                let replication = TopicReplication::Fixed(wish.replication.map_or(-1, i32::from));
                let topic = NewTopic::new(&wish.name, wish.partitions as i32, replication);
                let topic = wish.settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
                self.runtime.block_on(self.client.create_topics([&topic], &Self::options()))
            }
            Step::Grow { name, to, .. } => {
                let grown = NewPartitions::new(name, *to as usize);
                self.runtime.block_on(self.client.create_partitions([&grown], &Self::options()))
            }
            Step::Refuse { .. } => unreachable!("bug: a refusal is carried out"),
        };
        single(result).map_err(|error| failed("set up topics of", &self.bootstrap, error))
    }

    /// Deletes topics with everything in them. One that is gone already is fine.
    ///
    /// # Errors
    /// Where a broker refuses one of them; it is asked for all of them first.
    pub fn delete_topics(&self, names: &[&str]) -> Result<(), LogError> {
        let deleted = self.runtime.block_on(self.client.delete_topics(names, &Self::options()));
        let deleted = deleted.map_err(|error| failed("delete topics of", &self.bootstrap, error))?;
        for result in deleted {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((name, code)) => return Err(failed("delete the topic", &name, KafkaError::AdminOp(code))),
            }
        }
        Ok(())
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

fn single(results: KafkaResult<Vec<TopicResult>>) -> KafkaResult<()> {
    for result in results? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(growth: Growth, partitions: u32) -> TopicWish {
        let settings = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        TopicWish { name: "t".into(), partitions, growth, replication: None, settings, judged: true }
    }

    fn fact(partitions: u32, policy: &str) -> BTreeMap<String, TopicFact> {
        let settings = BTreeMap::from([("cleanup.policy".to_owned(), policy.to_owned())]);
        BTreeMap::from([("t".to_owned(), TopicFact { partitions, settings })])
    }

    #[test]
    fn every_difference_is_told_at_once() {
        let check = |wish: TopicWish, facts: &BTreeMap<String, TopicFact>, want: &[&str]| {
            let told: Vec<String> = decide(&[wish], facts).iter().map(ToString::to_string).collect();
            assert_eq!(told, want);
        };
        let policy = "t: cleanup.policy is delete, not compact; \
                      put it right with kafka-configs --alter --topic t --add-config cleanup.policy=compact";
        check(wish(Growth::Grows, 4), &BTreeMap::new(), &["create t with 4 partitions, cleanup.policy=compact"]);
        check(wish(Growth::Grows, 4), &fact(4, "compact"), &[]);
        check(wish(Growth::Grows, 4), &fact(2, "delete"), &["grow t from 2 to 4 partitions", policy]);
        let fewer = "t: has 6 partitions, the manifest says 4; partitions cannot be taken away: say 6";
        check(wish(Growth::Grows, 4), &fact(6, "compact"), &[fewer]);
        let fixed = "t: has 2 partitions and needs 4, which cannot change while it holds data";
        check(wish(Growth::Fixed, 4), &fact(2, "compact"), &[fixed]);
        check(TopicWish { judged: false, ..wish(Growth::Fixed, 4) }, &fact(4, "delete"), &[]);
    }
}
