//! The topics of a pipeline's log. Raw topics carry the manifest's names, which never begin with an underscore.

use std::sync::atomic::{AtomicU64, Ordering};

use fjall::Keyspace;

use super::Fsync;

/// Messages from tasks to MERGE tasks.
pub const SHUFFLE: &str = "_shuffle";

/// Changed rows, see [`crate::log::record`].
pub const RESULTS: &str = "_results";

/// Dead letters.
pub const DEAD_LETTERS: &str = "_dead_letters";

/// Repaired dead letters on their way back.
pub const REPAIRED: &str = "_repaired";

/// Accepted events of a stream.
#[must_use]
pub fn silver(stream: &str) -> String {
    format!("_silver.{stream}")
}

/// A topic as the log is told to keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name.
    pub name: String,
    /// Number of partitions; it may only grow.
    pub partitions: u32,
    /// Whether payloads are worth compressing: text is, messages of the shuffle are read and deleted at once.
    pub compress: bool,
    /// Whether somebody processes it, so that writers can wait for that ([`EmbeddedLog::wait_for_room`]).
    ///
    /// [`EmbeddedLog::wait_for_room`]: super::EmbeddedLog::wait_for_room
    pub processed: bool,
}

/// A topic that is open.
pub(super) struct OpenTopic {
    pub name: String,
    pub keyspace: Keyspace,
    pub compress: bool,
    pub processed: bool,
    pub partitions: Vec<OpenPartition>,
}

/// Where a partition begins and ends. Written under the append lock (`durable_end` by the syncer), read by everybody.
#[derive(Default)]
pub(super) struct OpenPartition {
    pub start: AtomicU64,
    pub end: AtomicU64,
    pub durable_end: AtomicU64,
}

impl OpenPartition {
    pub fn new(start: u64, end: u64) -> Self {
        Self { start: start.into(), end: end.into(), durable_end: end.into() }
    }

    /// Moves the end behind what was just committed.
    pub fn advance(&self, end: u64, fsync: Fsync) {
        self.end.store(end, Ordering::Release);
        if fsync == Fsync::Always {
            self.durable_end.store(end, Ordering::Release);
        }
    }

    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Acquire)
    }

    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }
}
