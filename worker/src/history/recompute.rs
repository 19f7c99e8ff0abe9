//! MAP over archived records: partitions take turns by the arrival of what comes next, as they did when it came. What MAP
//! says goes to MERGE in the same thread, or to whoever keeps it.

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

/// Batches between two looks at what has come together.
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

/// Where what MAP tasks say goes.
pub trait Downstream {
    /// Takes, and clears, what the task of one source said; it has read its input up to `position`.
    ///
    /// # Errors
    /// Where it cannot be kept.
    fn take(&mut self, source: Source, position: u64, output: &mut Output) -> anyhow::Result<()>;

    /// Comes every now and then, and at the end.
    ///
    /// # Errors
    /// As [`Downstream::take`].
    fn turn(&mut self) -> anyhow::Result<()>;
}

/// MERGE in the same thread; changed rows go to `write`.
pub struct Merged<W> {
    stage: Stage,
    write: W,
}

impl<W: FnMut(&[Row]) -> anyhow::Result<()>> Merged<W> {
    /// MERGE tasks that have heard nothing.
    #[must_use]
    pub fn new(plan: &Arc<Plan>, write: W) -> Self {
        Self { stage: Stage::new(plan), write }
    }

    /// Lets out what is left, once MAP has said everything.
    ///
    /// # Errors
    /// As [`Stage::flush`].
    pub fn finish(mut self) -> anyhow::Result<()> {
        while self.stage.flush(&mut self.write)? {}
        Ok(())
    }
}

impl<W: FnMut(&[Row]) -> anyhow::Result<()>> Downstream for Merged<W> {
    fn take(&mut self, _: Source, _: u64, output: &mut Output) -> anyhow::Result<()> {
        self.stage.take(output, &mut self.write).map(drop)
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        self.stage.flush(&mut self.write).map(drop)
    }
}

/// Gives everything in `inputs` to MAP tasks of `plan`, and what they say to `downstream`. `now` is when the log was asked
/// what it has: what is complete was quiet until then. `tell` hears how many records were read. Returns the tasks, each
/// at the end of its input.
///
/// # Errors
/// Where a file cannot be read, or what `downstream` says.
pub fn recompute<'a>(
    plan: &Arc<Plan>,
    context: &Arc<MapContext>,
    inputs: Vec<Input<'a>>,
    now: Millis,
    downstream: &mut impl Downstream,
    mut tell: impl FnMut(u64),
) -> anyhow::Result<Vec<(Input<'a>, MapTask)>> {
    let mut partitions =
        inputs.into_iter().map(|input| Partition::new(plan, context, input)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut read = 0;
    for turn in 1.. {
        let next = (0..partitions.len()).filter_map(|at| Some((partitions[at].arrival()?, at))).min();
        let Some((clock, at)) = next else { break };
        mark_idle(&mut partitions, clock, downstream)?;
        let partition = &mut partitions[at];
        read += partition.batch.records.len() as u64;
        partition.process()?;
        partition.flush(downstream)?;
        if turn % FLUSH_EVERY == 0 {
            downstream.turn()?;
            tell(read);
        }
    }
    mark_idle(&mut partitions, now, downstream)?;
    downstream.turn()?;
    tell(read);
    Ok(partitions.into_iter().map(|partition| (partition.input, partition.task)).collect())
}

/// Marks partitions that are quiet at the arrival clock, as processors did or would.
fn mark_idle(partitions: &mut [Partition<'_>], clock: Millis, downstream: &mut impl Downstream) -> anyhow::Result<()> {
    for partition in partitions {
        if partition.mark_if_idle(clock) {
            partition.flush(downstream)?;
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

    fn flush(&mut self, downstream: &mut impl Downstream) -> anyhow::Result<()> {
        let mut output = Output::default();
        self.task.flush(&mut output);
        downstream.take(self.input.source, self.task.position(), &mut output)
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
