//! A log in memory, for tests: what was committed, and a commit that fails when it is told to.

use std::sync::{Arc, Mutex};

use crate::ports::{IngestLog, IngestRecord, LogError};

/// What is in the log.
#[derive(Debug, Default)]
pub struct Committed {
    /// Topic, partition and payload of each record.
    pub records: Vec<(String, u32, String)>,
    /// The progress that came with the last.
    pub progress: Option<Vec<u8>>,
    /// Commits so far.
    pub commits: usize,
    /// The commit that fails, from zero.
    pub fail_at: Option<usize>,
    /// The longest payload that it takes.
    pub payload_max: Option<usize>,
}

/// A log with so many partitions a topic; clones share what is in it.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    /// What is in it.
    pub committed: Arc<Mutex<Committed>>,
    partitions: u32,
}

impl MemoryLog {
    /// Makes an empty one.
    pub fn new(partitions: u32) -> Self {
        Self { committed: Arc::default(), partitions }
    }

    /// The payloads, in order.
    pub fn payloads(&self) -> Vec<String> {
        self.committed.lock().unwrap().records.iter().map(|record| record.2.clone()).collect()
    }
}

impl IngestLog for MemoryLog {
    fn commit(&mut self, _: &str, records: &[IngestRecord<'_>], progress: &[u8]) -> Result<(), LogError> {
        let mut committed = self.committed.lock().unwrap();
        committed.commits += 1;
        if committed.fail_at.is_some_and(|at| committed.commits > at) {
            return Err(failure());
        }
        let longest = records.iter().map(|record| record.payload.len()).max();
        if committed.payload_max.is_some_and(|most| longest > Some(most)) {
            return Err(LogError::TooLarge { topics: "t".into() });
        }
        let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
        let records = records.iter().map(|record| (record.topic.into(), record.partition, text(record.payload)));
        committed.records.extend(records);
        committed.progress = Some(progress.to_vec());
        Ok(())
    }

    fn progress(&self, _: &str) -> Result<Option<Vec<u8>>, LogError> {
        Ok(self.committed.lock().unwrap().progress.clone())
    }

    fn partitions(&self, _: &str) -> u32 {
        self.partitions
    }
}

fn failure() -> LogError {
    LogError::Damaged { place: "memory".into(), what: "told to fail".into() }
}
