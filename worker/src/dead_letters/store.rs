//! Where letters lie: the embedded log of a laptop, or Kafka.

use std::ops::Range;

use engine::{batch::RawBatch, output::Source, plan::Plan};

use super::marks::Marks;
use crate::{
    driver::Layout,
    limits,
    log::SharedLog,
    ports::{Commit, Log, LogError, Records},
};

/// The letters of a pipeline, the records that they came from, and the way back in.
pub trait LetterStore: Send + Sync {
    /// Numbers of the letters that are there: not each of them is one.
    ///
    /// # Errors
    /// Where the log cannot be read.
    fn numbers(&self) -> Result<Range<u64>, LogError>;

    /// Calls `each` with number and bytes of the letters from `first` on, until it returns false.
    ///
    /// # Errors
    /// Where the log cannot be read.
    fn scan(&self, first: u64, each: &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<(), LogError>;

    /// The record at an offset, if it is still there. A topic that the plan does not know is that of repaired records.
    ///
    /// # Errors
    /// Where the log cannot be read.
    fn record(&self, topic: &str, partition: u32, offset: u64) -> Result<Option<Vec<u8>>, LogError>;

    /// Which letters were replayed, as the last replay wrote it.
    ///
    /// # Errors
    /// Where the log cannot be read.
    fn marks(&self) -> Result<Option<Vec<u8>>, LogError>;

    /// Begins a replay: one at a time can be committed.
    ///
    /// # Errors
    /// Where the log does not let us.
    fn begin(&self) -> Result<Box<dyn Replaying + '_>, LogError>;
}

/// A replay that is under way.
pub trait Replaying {
    /// Which letters were replayed before.
    ///
    /// # Errors
    /// Where the log cannot be read.
    fn marks(&self) -> Result<Option<Vec<u8>>, LogError>;

    /// Writes repaired records and marks, together.
    ///
    /// # Errors
    /// [`LogError::Fenced`] where another replay began meanwhile; else when the log failed. Nothing was written then.
    fn commit(&mut self, records: &Records, marks: &[u8]) -> Result<(), LogError>;
}

/// Letters in the embedded log.
pub(super) struct EmbeddedLetters {
    log: SharedLog,
    layout: Layout,
    topics: Vec<String>,
}

impl EmbeddedLetters {
    pub(super) fn new(log: SharedLog, plan: &Plan) -> Result<Self, LogError> {
        let layout = Layout::find(&log, plan)?;
        Ok(Self { log, layout, topics: plan.topics.iter().map(|topic| topic.name.clone()).collect() })
    }
}

impl LetterStore for EmbeddedLetters {
    fn numbers(&self) -> Result<Range<u64>, LogError> {
        Ok(self.log.offsets(self.layout.dead_letters()))
    }

    fn scan(&self, first: u64, each: &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<(), LogError> {
        let at = self.layout.dead_letters();
        let offsets = self.log.offsets(at);
        let mut next = first.max(offsets.start);
        let mut batch = RawBatch::default();
        while next < offsets.end {
            batch.clear();
            self.log.read(at, next..offsets.end, limits::RESULTS_READ_BYTES, &mut batch)?;
            let Some(last) = batch.records.last() else { break };
            next = last.offset + 1;
            for record in &batch.records {
                if !each(record.offset, batch.payload(record)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn record(&self, topic: &str, partition: u32, offset: u64) -> Result<Option<Vec<u8>>, LogError> {
        let raw = self.topics.iter().position(|name| name == topic);
        let topic = raw.map_or(Source::REPAIRED, |topic| topic as u32);
        let at = self.layout.source(Source { topic, partition });
        let mut batch = RawBatch::default();
        self.log.read(at, offset..offset + 1, 1, &mut batch)?;
        let record = batch.records.first().filter(|record| record.offset == offset);
        Ok(record.map(|record| batch.payload(record).to_vec()))
    }

    fn marks(&self) -> Result<Option<Vec<u8>>, LogError> {
        self.log.progress(Marks::NAME)
    }

    fn begin(&self) -> Result<Box<dyn Replaying + '_>, LogError> {
        Ok(Box::new(self))
    }
}

/// One process has the log, and [`super::DeadLetters`] lets one replay after the other.
impl Replaying for &EmbeddedLetters {
    fn marks(&self) -> Result<Option<Vec<u8>>, LogError> {
        LetterStore::marks(*self)
    }

    fn commit(&mut self, records: &Records, marks: &[u8]) -> Result<(), LogError> {
        let at = self.layout.source(Source { topic: Source::REPAIRED, partition: 0 });
        let appends = [(at, records)];
        self.log.commit(&Commit { appends: &appends, position: None, progress: Some((Marks::NAME, marks)) })
    }
}
