//! From a partition of a topic to the task that reads it.

use std::sync::Arc;

use engine::{
    codec::Corrupt,
    map::{MapContext, MapTask},
    merge::MergeTask,
    output::Source,
    plan::Plan,
    time::Millis,
};

use super::{member::Place, task::Work};
use crate::kafka::names::Names;

/// What a partition is to the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Read by a MAP task.
    Source(Source),
    /// Read by a MERGE task.
    Shuffle(u32),
}

/// Every topic that processors read: raw ones, repaired records, the shuffle.
#[must_use]
pub fn topics(names: &Names, plan: &Plan) -> Vec<String> {
    let raw = plan.topics.iter().map(|topic| topic.name.clone());
    raw.chain([names.repaired(), names.shuffle()]).collect()
}

impl Role {
    /// What `place` is; none where the plan does not know it: its topic has grown, and `setup` has not said so yet.
    #[must_use]
    pub fn of(place: &Place, names: &Names, plan: &Plan) -> Option<Self> {
        let partition = place.partition;
        let (role, partitions) = if place.topic == names.shuffle() {
            (Self::Shuffle(partition), plan.shuffle_partitions)
        } else if place.topic == names.repaired() {
            (Self::Source(Source { topic: Source::REPAIRED, partition }), 1)
        } else {
            let topic = plan.topics.iter().position(|topic| topic.name == place.topic)?;
            (Self::Source(Source { topic: topic as u32, partition }), plan.topics[topic].partitions)
        };
        (partition < partitions).then_some(role)
    }

    /// The task's name, as the laptop names it too.
    #[must_use]
    pub fn task_name(&self, plan: &Plan) -> String {
        match self {
            Self::Source(source) => format!("map:{}", source.name(plan)),
            Self::Shuffle(partition) => format!("merge:{partition}"),
        }
    }

    /// After how long without records the partition is idle, if that matters.
    #[must_use]
    pub fn idle_after_ms(&self, plan: &Plan) -> Option<Millis> {
        let Self::Source(source) = self else { return None };
        let streams = plan.streams.iter().filter(|stream| stream.topics.contains(&(source.topic as usize)));
        streams.filter_map(|stream| Some(stream.event_time.as_ref()?.idle_after_ms)).max()
    }

    /// A task that has read nothing.
    #[must_use]
    pub fn fresh(&self, plan: &Arc<Plan>, context: &Arc<MapContext>) -> Work {
        match self {
            Self::Source(source) => Work::Map(Box::new(MapTask::new(Arc::clone(plan), Arc::clone(context), *source))),
            Self::Shuffle(partition) => Work::Merge(Box::new(MergeTask::new(Arc::clone(plan), *partition))),
        }
    }

    /// A task as it was at a checkpoint.
    ///
    /// # Errors
    /// Where the bytes are no state after all.
    pub fn restore(&self, plan: &Arc<Plan>, context: &Arc<MapContext>, bytes: &[u8]) -> Result<Work, Corrupt> {
        Ok(match self {
            Self::Source(source) => {
                Work::Map(Box::new(MapTask::restore(Arc::clone(plan), Arc::clone(context), *source, bytes)?))
            }
            Self::Shuffle(partition) => Work::Merge(Box::new(MergeTask::restore(Arc::clone(plan), *partition, bytes)?)),
        })
    }
}
