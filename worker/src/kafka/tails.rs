//! Ends of partitions behind which nothing waits: the last offsets of a topic that is written to by transactions are their
//! markers, which nobody reads and no position moves beyond.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{client::Cluster, feed::Feed, unread::MARKERS_MAX};
use crate::{ports::LogError, serve::PartitionStatus};

/// How long a partition stands still before it is looked what its last offsets are.
const STILL: Duration = Duration::from_secs(6);

/// How long that look may take.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// A part of that.
const WAIT: Duration = Duration::from_millis(100);

/// What is known of the last offsets of partitions.
pub struct Tails {
    cluster: Cluster,
    seen: BTreeMap<(String, u32), Tail>,
}

struct Tail {
    position: u64,
    end: u64,
    since: Instant,
    /// Whether there is no record in it; nothing until somebody has looked.
    is_empty: Option<bool>,
}

impl Tails {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone(), seen: BTreeMap::new() }
    }

    /// Lets partitions end where their last record does. A partition is read only where it stands still a few offsets before its
    /// end, once for the same offsets, and one of them at a time.
    pub fn settle(&mut self, partitions: &mut [PartitionStatus]) {
        let mut may_look = true;
        for partition in partitions {
            let key = (partition.topic.clone(), partition.partition);
            let left = partition.end.saturating_sub(partition.position);
            if left == 0 || left > MARKERS_MAX as u64 {
                self.seen.remove(&key);
                continue;
            }
            let begin =
                || Tail { position: partition.position, end: partition.end, since: Instant::now(), is_empty: None };
            let tail = self.seen.entry(key).or_insert_with(begin);
            if (tail.position, tail.end) != (partition.position, partition.end) {
                *tail = begin();
            }
            if may_look && tail.is_empty.is_none() && tail.since.elapsed() >= STILL {
                may_look = false;
                // Where nobody answers, somebody may the next time.
                tail.is_empty = is_empty(&self.cluster, partition).unwrap_or_default();
            }
            if tail.is_empty == Some(true) {
                partition.end = partition.position;
            }
        }
    }
}

/// Whether no record lies behind the position; nothing where that does not come out in time.
fn is_empty(cluster: &Cluster, at: &PartitionStatus) -> Result<Option<bool>, LogError> {
    let mut feed = Feed::open(cluster, &at.topic, at.partition, at.position)?;
    let (mut found, deadline) = (Vec::new(), Instant::now() + LOOK_MAX);
    while Instant::now() < deadline {
        feed.read(WAIT, &mut found)?;
        if !found.is_empty() {
            return Ok(Some(false));
        }
        if feed.is_caught_up() {
            return Ok(Some(true));
        }
    }
    Ok(None)
}
