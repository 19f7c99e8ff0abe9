//! Where everything of a pipeline lies in the log.

use engine::{output::Source, plan::Plan};

use crate::{
    log::{
        EmbeddedLog,
        topics::{DEAD_LETTERS, REPAIRED, RESULTS, SHUFFLE, TopicSpec, silver},
    },
    ports::{Log, LogError, Topic, TopicPartition},
};

/// The topics of a pipeline.
#[derive(Clone, Debug)]
pub struct Layout {
    raw: Vec<Topic>,
    shuffle: Topic,
    results: Topic,
    dead_letters: Topic,
    repaired: Topic,
    silver: Vec<Topic>,
}

impl Layout {
    /// What the log must hold for `plan`; partitions of internal topics follow from it.
    #[must_use]
    pub fn specs(plan: &Plan) -> Vec<TopicSpec> {
        let spec = |name: &str, partitions, compress, processed| TopicSpec {
            name: name.into(),
            partitions,
            compress,
            processed,
        };
        let raw = plan.topics.iter().map(|topic| spec(&topic.name, topic.partitions, true, true));
        let silver = plan.streams.iter().map(|stream| spec(&silver(&stream.name), 1, true, false));
        let own = [
            spec(SHUFFLE, plan.shuffle_partitions, false, true),
            spec(RESULTS, 1, true, false),
            spec(DEAD_LETTERS, 1, true, false),
            spec(REPAIRED, 1, true, true),
        ];
        raw.chain(silver).chain(own).collect()
    }

    /// Topics of the manifest that nothing processes: ingesters or sinks write them, sinks and people read them.
    #[must_use]
    pub fn passing(plan: &Plan, topics: &[crds::spec::Topic]) -> Vec<TopicSpec> {
        let passing = topics.iter().filter(|topic| !plan.topics.iter().any(|read| read.name == topic.name));
        let spec = |topic: &crds::spec::Topic| TopicSpec {
            name: topic.name.clone(),
            partitions: topic.partitions.max(1),
            compress: true,
            processed: false,
        };
        passing.map(spec).collect()
    }

    /// Finds the topics of `plan`.
    ///
    /// # Errors
    /// Where the log was opened without one.
    pub fn find(log: &EmbeddedLog, plan: &Plan) -> Result<Self, LogError> {
        Ok(Self {
            raw: plan.topics.iter().map(|topic| log.topic(&topic.name)).collect::<Result<_, _>>()?,
            shuffle: log.topic(SHUFFLE)?,
            results: log.topic(RESULTS)?,
            dead_letters: log.topic(DEAD_LETTERS)?,
            repaired: log.topic(REPAIRED)?,
            silver: plan.streams.iter().map(|stream| log.topic(&silver(&stream.name))).collect::<Result<_, _>>()?,
        })
    }

    /// The partition of a source.
    #[must_use]
    pub fn source(&self, source: Source) -> TopicPartition {
        self.raw.get(source.topic as usize).unwrap_or(&self.repaired).partition(source.partition)
    }

    /// The shuffle.
    #[must_use]
    pub fn shuffle_topic(&self) -> Topic {
        self.shuffle
    }

    /// A partition of the shuffle.
    #[must_use]
    pub fn shuffle(&self, partition: u32) -> TopicPartition {
        self.shuffle.partition(partition)
    }

    /// The results.
    #[must_use]
    pub fn results(&self) -> TopicPartition {
        self.results.partition(0)
    }

    /// The dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> TopicPartition {
        self.dead_letters.partition(0)
    }

    /// Accepted events of a stream.
    #[must_use]
    pub fn silver(&self, stream: usize) -> TopicPartition {
        self.silver[stream].partition(0)
    }
}
