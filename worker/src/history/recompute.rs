//! MAP and MERGE over archived records: partitions take turns by the arrival of what comes next, as they did when it came.

use std::sync::Arc;

use engine::{
    batch::RawBatch,
    map::{MapContext, MapTask},
    output::{Output, Row, Source},
    plan::Plan,
    time::Millis,
};

use super::{records::Records, stage::Stage};
use crate::limits;

/// Batches between two looks at what MERGE has to say.
const FLUSH_EVERY: usize = 16;

/// A source partition and its archive.
pub struct Input<'a> {
    /// Which.
    pub source: Source,
    /// What is archived of it.
    pub records: Records<'a>,
    /// Whether the log has nothing behind that: once it is read the partition is quiet.
    pub is_complete: bool,
}

/// Computes all tables of `plan` from `inputs`, and hands over changed rows as they come. `now` is when the log was asked
/// what it has: what is complete was quiet until then. `tell` hears how many records were read.
///
/// # Errors
/// Where a file cannot be read, or what `write` says.
pub fn recompute<'a>(
    plan: &Arc<Plan>,
    context: &Arc<MapContext>,
    inputs: Vec<Input<'a>>,
    now: Millis,
    mut write: impl FnMut(&[Row]) -> anyhow::Result<()>,
    mut tell: impl FnMut(u64),
) -> anyhow::Result<Vec<Input<'a>>> {
    let mut partitions =
        inputs.into_iter().map(|input| Partition::new(plan, context, input)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut stage = Stage::new(plan);
    let (mut output, mut read) = (Output::default(), 0);
    for turn in 1.. {
        let next = (0..partitions.len()).filter_map(|at| Some((partitions[at].arrival()?, at))).min();
        let Some((clock, at)) = next else { break };
        mark_idle(&mut partitions, clock, &mut stage, &mut write)?;
        let partition = &mut partitions[at];
        read += partition.batch.records.len() as u64;
        partition.process()?;
        partition.task.flush(&mut output);
        stage.take(&mut output, &mut write)?;
        if turn % FLUSH_EVERY == 0 {
            stage.flush(&mut write)?;
            tell(read);
        }
    }
    mark_idle(&mut partitions, now, &mut stage, &mut write)?;
    while stage.flush(&mut write)? {}
    tell(read);
    Ok(partitions.into_iter().map(|partition| partition.input).collect())
}

/// Marks partitions that are quiet at the arrival clock, as processors did or would.
fn mark_idle(
    partitions: &mut [Partition<'_>],
    clock: Millis,
    stage: &mut Stage,
    write: &mut impl FnMut(&[Row]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut output = Output::default();
    for partition in partitions {
        if partition.mark_if_idle(clock) {
            partition.task.flush(&mut output);
            stage.take(&mut output, write)?;
        }
    }
    Ok(())
}

struct Partition<'a> {
    input: Input<'a>,
    task: MapTask,
    batch: RawBatch,
    idle_after_ms: Option<Millis>,
    /// Arrival of the last record that was processed; of whatever came first in the archive, before.
    last: Option<Millis>,
    marked: Option<Millis>,
}

impl<'a> Partition<'a> {
    fn new(plan: &Arc<Plan>, context: &Arc<MapContext>, input: Input<'a>) -> anyhow::Result<Self> {
        let reads = plan.streams.iter().filter(|stream| stream.topics.contains(&(input.source.topic as usize)));
        let idle_after_ms = reads.filter_map(|stream| Some(stream.event_time.as_ref()?.idle_after_ms)).max();
        let task = MapTask::new(Arc::clone(plan), Arc::clone(context), input.source);
        let mut partition = Self { input, task, batch: RawBatch::default(), idle_after_ms, last: None, marked: None };
        partition.read()?;
        Ok(partition)
    }

    fn read(&mut self) -> anyhow::Result<()> {
        self.batch.clear();
        self.input.records.fill(&mut self.batch, self.idle_after_ms)
    }

    fn arrival(&self) -> Option<Millis> {
        self.batch.records.first().map(|record| record.arrival)
    }

    fn process(&mut self) -> anyhow::Result<()> {
        self.last = self.batch.records.last().map(|record| record.arrival);
        self.marked = None;
        self.task.process(&mut self.batch);
        self.read()
    }

    /// Whether it was quiet for long enough, and is marked now. One that may go on behind its archive is not known to be.
    fn mark_if_idle(&mut self, clock: Millis) -> bool {
        let Some(idle_after_ms) = self.idle_after_ms else { return false };
        let since = *self.last.get_or_insert(clock);
        let is_known = self.input.is_complete || self.arrival().is_some();
        let is_quiet = self.arrival().is_none_or(|next| next > clock) && clock - since >= idle_after_ms;
        let is_due = self.marked.is_none_or(|marked| clock - marked >= limits::MARK_IDLE_EVERY_MS);
        if !(is_known && is_quiet && is_due) {
            return false;
        }
        self.marked = Some(clock);
        self.task.mark_idle(clock);
        true
    }
}
