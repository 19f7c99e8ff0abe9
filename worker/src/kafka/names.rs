//! Names of everything that a pipeline has in Kafka: topics, groups, transactional ids.

/// Names for one pipeline. Raw topics keep the names of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pipeline: String,
}

impl Names {
    /// Names for `pipeline`.
    #[must_use]
    pub fn new(pipeline: &str) -> Self {
        Self { pipeline: pipeline.into() }
    }

    fn of(&self, what: &str) -> String {
        format!("{}.{what}", self.pipeline)
    }

    /// Messages from tasks to MERGE tasks.
    #[must_use]
    pub fn shuffle(&self) -> String {
        self.of("shuffle")
    }

    /// Changed rows: key and document as [`engine::output::Row`] writes them. Compacted, one partition: a row's offset is
    /// its version.
    #[must_use]
    pub fn results(&self) -> String {
        self.of("results")
    }

    /// Records that could not be counted, as [`crate::log::record::write_dead_letter`] writes them.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        self.of("dead-letters")
    }

    /// Repaired dead letters on their way back.
    #[must_use]
    pub fn repaired(&self) -> String {
        self.of("repaired")
    }

    /// Checkpoints of tasks. Compacted.
    #[must_use]
    pub fn checkpoints(&self) -> String {
        self.of("checkpoints")
    }

    /// What ingesters want to find again, and whose the topics are. Compacted.
    #[must_use]
    pub fn progress(&self) -> String {
        self.of("progress")
    }

    /// Accepted events of a stream.
    #[must_use]
    pub fn silver(&self, stream: &str) -> String {
        self.of(&format!("silver.{stream}"))
    }

    /// The consumer group of `process`.
    #[must_use]
    pub fn process_group(&self) -> String {
        self.of("process")
    }

    /// The consumer group of a sink.
    #[must_use]
    pub fn sink_group(&self, sink: &str) -> String {
        self.of(&format!("sink.{sink}"))
    }

    /// The transactional id of a thread of a processor.
    #[must_use]
    pub fn process_transaction(&self, instance: &str, thread: usize) -> String {
        self.of(&format!("process.{instance}.{thread}"))
    }

    /// The transactional id of an ingester: one at a time writes under it.
    #[must_use]
    pub fn ingest_transaction(&self, ingester: &str) -> String {
        self.of(&format!("ingest.{ingester}"))
    }
}
