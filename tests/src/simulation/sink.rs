//! A sink that fails: it reads results, writes them with their versions, and forgets now and then how far it came.

use std::collections::BTreeMap;

use engine::{output::Row, value::Value};

use crate::random::Random;

/// The key of a document.
pub type Key = (usize, Option<i64>, Vec<Value>);

/// A document store behind a consumer of the results.
#[derive(Clone, Debug, Default)]
pub struct Sink {
    /// Documents with their versions; a deletion is a document too.
    documents: BTreeMap<Key, (u64, Row)>,
    /// Where the consumer goes on after a failure.
    committed: u64,
}

impl Sink {
    /// Writes some results; may fail before it can say how far it came.
    pub fn step(&mut self, results: &[Row], faulty: bool, random: &mut Random) {
        let until = (self.committed + 1 + random.below(50)).min(results.len() as u64);
        for offset in self.committed..until {
            self.write(offset, &results[offset as usize]);
            if faulty && random.chance(2) {
                return;
            }
        }
        self.committed = until;
        if faulty && random.chance(2) {
            // Someone reset the consumer, or its last commits were lost.
            self.committed = random.below(self.committed + 1);
        }
    }

    /// Whether everything was written.
    #[must_use]
    pub fn is_done(&self, results: &[Row]) -> bool {
        self.committed == results.len() as u64
    }

    /// The documents that are not deleted.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<Key, Row> {
        let alive = self.documents.iter().filter(|(_, (_, row))| !row.deleted);
        alive.map(|(key, (_, row))| (key.clone(), row.clone())).collect()
    }

    /// Applies a row only if it is newer.
    fn write(&mut self, version: u64, row: &Row) {
        let key = (row.table, row.window.map(|(start, _)| start), row.group.clone());
        if self.documents.get(&key).is_none_or(|(known, _)| version > *known) {
            self.documents.insert(key, (version, row.clone()));
        }
    }
}
