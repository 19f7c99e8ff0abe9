//! How many bytes of each topic wait to be processed: what holds ingesters and MAP tasks back.
//!
//! Counted since the log was opened. What an earlier process left behind does not count, so that an ingester may run
//! ahead of it by one more bound: a small price for keeping no books on disk.

use std::collections::{BTreeMap, VecDeque};

use crate::ports::TopicPartition;

/// Bytes that were appended and not yet passed by the consumer that processes them.
#[derive(Default)]
pub(super) struct Backlog {
    /// Entries by partition: offset behind the last record, bytes.
    entries: BTreeMap<TopicPartition, VecDeque<(u64, u64)>>,
    /// Sums by topic.
    bytes: BTreeMap<u32, u64>,
}

impl Backlog {
    /// Counts an entry.
    pub fn append(&mut self, at: TopicPartition, end: u64, bytes: u64) {
        self.entries.entry(at).or_default().push_back((end, bytes));
        *self.bytes.entry(at.topic).or_default() += bytes;
    }

    /// Forgets the entries before `next`.
    pub fn pass(&mut self, at: TopicPartition, next: u64) {
        let Some(entries) = self.entries.get_mut(&at) else { return };
        let total = self.bytes.entry(at.topic).or_default();
        while let Some((end, bytes)) = entries.front()
            && *end <= next
        {
            *total -= bytes;
            entries.pop_front();
        }
    }

    /// Bytes of a topic that wait.
    pub fn bytes(&self, topic: u32) -> u64 {
        self.bytes.get(&topic).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_passed_waits_no_more() {
        let at = TopicPartition { topic: 1, partition: 0 };
        let mut backlog = Backlog::default();
        backlog.append(at, 10, 100);
        backlog.append(at, 20, 50);
        backlog.append(TopicPartition { topic: 1, partition: 1 }, 5, 7);
        assert_eq!(backlog.bytes(1), 157);
        backlog.pass(at, 15);
        assert_eq!(backlog.bytes(1), 57);
        backlog.pass(at, 20);
        assert_eq!(backlog.bytes(1), 7);
        assert_eq!(backlog.bytes(2), 0);
    }
}
