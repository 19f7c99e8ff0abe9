//! Names of everything that a pipeline has in Kafka: topics, groups, transactional ids.

/// Names for one epoch of a pipeline. Raw topics keep the names of the manifest; what all epochs share says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pipeline: String,
    /// `<pipeline>.` in the first epoch, `<pipeline>.e<N>.` in later ones.
    prefix: String,
}

impl Names {
    /// Names for the first epoch of `pipeline`.
    #[must_use]
    pub fn new(pipeline: &str) -> Self {
        Self { pipeline: pipeline.into(), prefix: format!("{pipeline}.") }
    }

    /// Names for another epoch.
    #[must_use]
    pub fn epoch(&self, epoch: u32) -> Self {
        let pipeline = &self.pipeline;
        let prefix = if epoch <= 1 { format!("{pipeline}.") } else { format!("{pipeline}.e{epoch}.") };
        Self { pipeline: pipeline.clone(), prefix }
    }

    fn of(&self, what: &str) -> String {
        format!("{}{what}", self.prefix)
    }

    fn shared(&self, what: &str) -> String {
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

    /// Shared: records that could not be counted, as [`crate::log::record::write_dead_letter`] writes them.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        self.shared("dead-letters")
    }

    /// Shared: repaired dead letters on their way back.
    #[must_use]
    pub fn repaired(&self) -> String {
        self.shared("repaired")
    }

    /// Checkpoints of tasks. Compacted.
    #[must_use]
    pub fn checkpoints(&self) -> String {
        self.of("checkpoints")
    }

    /// Shared: what ingesters want to find again, and the catalogue of epochs. Compacted.
    #[must_use]
    pub fn progress(&self) -> String {
        self.shared("progress")
    }

    /// No records: its partitions are shares, which a group gives out to replicas of a dataset ingester.
    #[must_use]
    pub fn shares(&self) -> String {
        self.of("shares")
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

    /// Shared: the consumer group of a sink.
    #[must_use]
    pub fn sink_group(&self, sink: &str) -> String {
        self.shared(&format!("sink.{sink}"))
    }

    /// Shared: the consumer group of whoever tells people of alerts.
    #[must_use]
    pub fn notify_group(&self) -> String {
        self.shared("notify")
    }

    /// The consumer group of an ingester's replicas.
    #[must_use]
    pub fn ingest_group(&self, ingester: &str) -> String {
        self.of(&format!("ingest.{ingester}"))
    }

    /// The transactional id of a thread of a processor.
    #[must_use]
    pub fn process_transaction(&self, instance: &str, thread: usize) -> String {
        self.of(&format!("process.{instance}.{thread}"))
    }

    /// Shared: the transactional id of whoever computes an epoch's beginning from an archive: one at a time.
    #[must_use]
    pub fn seed_transaction(&self) -> String {
        self.shared("seed")
    }

    /// The transactional id of replays of dead letters: one at a time.
    #[must_use]
    pub fn replay_transaction(&self) -> String {
        self.of("dead-letters")
    }

    /// The transactional id of an ingester: one at a time writes under it.
    #[must_use]
    pub fn ingest_transaction(&self, ingester: &str) -> String {
        self.shared(&format!("ingest.{ingester}"))
    }
}
