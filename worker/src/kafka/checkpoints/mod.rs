//! Checkpoints of a fleet's tasks, in a compacted topic or in a bucket. Chunks are those of [`crate::checkpoint`].
//!
//! Written beside the transactions: a checkpoint of a commit that never happened lies beyond the committed offset, where
//! recovery does not look, whoever wrote it. Three are kept for each task; older ones are deleted. Only whole ones count.

mod bucket;
mod topic;
mod writer;

use std::collections::BTreeMap;

use engine::recovery::Found;

pub use self::writer::{CheckpointQueue, CheckpointWriter, Saved, Taken};
use self::{bucket::Bucket, topic::Topic};
use super::{client::Cluster, names::Names};
use crate::{checkpoint::unframe, limits, objects::Objects, ports::LogError};

/// Position and generation of a checkpoint.
type Id = (u64, u64);

/// Checkpoints of one task.
#[derive(Debug, Default)]
pub struct Stored {
    /// Every one that is there, readable or not: what there is to delete one day.
    kept: BTreeMap<Id, Kept>,
    /// Where chunks are fetched from that were only seen to be there, and whose they must be.
    bucket: Option<(Bucket, String, u64)>,
}

/// What is there of one checkpoint.
#[derive(Debug, Default)]
struct Kept {
    /// One more than the highest number of a chunk.
    chunks: u32,
    /// How many chunks a readable one says there are.
    of: Option<u32>,
    /// Chunks; none where they were not fetched yet.
    there: BTreeMap<u32, Option<Vec<u8>>>,
}

impl Kept {
    fn is_complete(&self) -> bool {
        self.of.is_some_and(|of| self.there.len() as u32 == of)
    }
}

impl Stored {
    /// All of them, whole or not.
    #[must_use]
    pub fn found(&self) -> Vec<Found> {
        let found = |(id, kept): (&Id, &Kept)| Found { position: id.0, generation: id.1, complete: kept.is_complete() };
        self.kept.iter().map(found).collect()
    }

    /// The position of the newest whole one.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.whole().map(|(position, _)| *position).max()
    }

    fn whole(&self) -> impl Iterator<Item = &Id> {
        self.kept.iter().filter(|(_, kept)| kept.is_complete()).map(|(id, _)| id)
    }

    /// The state of a complete one; none where a chunk is not what was written.
    ///
    /// # Errors
    /// Where a bucket does not answer: it may later.
    pub fn bytes(&self, found: &Found) -> Result<Option<Vec<u8>>, LogError> {
        let id = (found.position, found.generation);
        let Some(kept) = self.kept.get(&id) else { return Ok(None) };
        let mut bytes = Vec::new();
        for (at, chunk) in &kept.there {
            match (chunk, &self.bucket) {
                (Some(chunk), _) => bytes.extend_from_slice(chunk),
                (None, Some((bucket, task, fingerprint))) => {
                    let framed = bucket.get(task, id, *at, kept.there.len() as u32)?;
                    let read = framed.as_deref().and_then(|framed| unframe(*fingerprint, framed));
                    match read.filter(|(number, of, _)| number == at && Some(*of) == kept.of) {
                        Some((.., chunk)) => bytes.extend_from_slice(chunk),
                        None => return Ok(None),
                    }
                }
                (None, None) => return Ok(None),
            }
        }
        Ok(Some(bytes))
    }
}

/// Where checkpoints lie.
#[derive(Clone)]
pub struct Checkpoints {
    cluster: Cluster,
    topic: Topic,
    /// Instead of the topic. What lies there from before is still read.
    bucket: Option<Bucket>,
    /// Of the epoch: a checkpoint of another is none.
    fingerprint: u64,
    /// Larger for later processes: two never write the same key.
    generation: u64,
}

impl Checkpoints {
    /// Those of an epoch, in its topic.
    #[must_use]
    pub fn new(cluster: &Cluster, names: &Names, partitions: u32, fingerprint: u64, generation: u64) -> Self {
        let topic = Topic { cluster: cluster.clone(), name: names.checkpoints(), partitions };
        Self { cluster: cluster.clone(), topic, bucket: None, fingerprint, generation }
    }

    /// The same in a bucket, below a name of the epoch's.
    #[must_use]
    pub fn in_bucket(self, objects: &Objects) -> Self {
        Self { bucket: Some(Bucket::new(objects, &self.topic.name)), ..self }
    }

    /// Finds those of `tasks`. What lies in a bucket is fetched once it is wanted.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn read(&self, tasks: &[String]) -> Result<BTreeMap<String, Stored>, LogError> {
        let Some(bucket) = &self.bucket else { return self.topic.read(tasks, self.fingerprint) };
        let mut found = BTreeMap::new();
        for task in tasks {
            found.insert(task.clone(), bucket.read(task, self.fingerprint)?);
        }
        let few = |task: &&String| found[*task].whole().count() < limits::CHECKPOINTS_KEPT;
        let few: Vec<String> = tasks.iter().filter(few).cloned().collect();
        if !few.is_empty() {
            for (task, before) in self.topic.read(&few, self.fingerprint)? {
                let stored = found.entry(task).or_default();
                for (id, kept) in before.kept {
                    stored.kept.entry(id).or_insert(kept);
                }
            }
        }
        Ok(found)
    }
}
