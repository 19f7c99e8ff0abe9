//! The engine alone, in one thread: bytes in memory to tables, through MAP, shuffle and MERGE, without a log.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use engine::{
    batch::RawBatch,
    codec::Corrupt,
    map::{MapContext, MapTask},
    merge::MergeTask,
    output::{Output, Row, Source},
    plan::Plan,
    value::Value,
};

use super::{generator::Records, meter};

/// Records processed at once: what a poll of Kafka brings.
const BATCH_RECORDS: usize = 4_096;

/// Batches of the largest source between commits.
const BATCHES_PER_COMMIT: usize = 12;

/// A source partition with its records.
pub type Feed<'a> = (Source, &'a Records);

/// The latest version of every row of the user's tables.
pub type Rows = BTreeMap<(usize, Option<i64>, Vec<Value>), Row>;

/// What a run cost and made.
pub struct Measured {
    /// CPU time from the first byte to the last row.
    pub cpu: Duration,
    /// The tables.
    pub rows: Rows,
    /// The MERGE tasks as they are at the end.
    pub merges: Vec<MergeTask>,
    /// Of it, that of each MAP task, a feed each.
    pub map_cpu: Vec<Duration>,
    /// And of each MERGE task.
    pub merge_cpu: Vec<Duration>,
    /// Largest number of bytes in flight through the shuffle, all messages together.
    pub shuffled_bytes: u64,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every source ends and every window is closed.
    Closed,
    /// The sources go on: what is open stays open.
    Open,
}

/// Runs all records of all feeds. Sources of unequal size advance in proportion, as their times do.
///
/// # Errors
/// If the engine cannot read its own messages.
pub fn run(plan: &Arc<Plan>, context: &Arc<MapContext>, feeds: &[Feed<'_>], end: End) -> Result<Measured, Corrupt> {
    let before = meter::cpu();
    let clock = Instant::now();
    let mut maps: Vec<MapTask> =
        feeds.iter().map(|(source, _)| MapTask::new(plan.clone(), context.clone(), *source)).collect();
    let merges = (0..plan.shuffle_partitions).map(|partition| MergeTask::new(plan.clone(), partition)).collect();
    let partitions = plan.shuffle_partitions as usize;
    let mut world = World {
        plan,
        merges,
        next: vec![0; partitions],
        rows: Rows::new(),
        bytes: 0,
        map_cpu: vec![Duration::ZERO; feeds.len()],
        merge_cpu: vec![Duration::ZERO; partitions],
    };
    let largest = feeds.iter().map(|(_, records)| records.len()).max().unwrap_or_default();
    let rounds = largest.div_ceil(BATCH_RECORDS).max(1);
    let (mut batch, mut output) = (RawBatch::default(), Output::default());
    for round in 0..rounds {
        for ((map, (_, records)), cpu) in maps.iter_mut().zip(feeds).zip(&mut world.map_cpu) {
            let part = |round: usize| records.len() * round / rounds;
            batch.clear();
            (part(round)..part(round + 1)).for_each(|at| batch.push(records.payload(at), at as u64, i64::MAX / 2));
            spend(cpu, || map.process(&mut batch));
        }
        if round % BATCHES_PER_COMMIT == BATCHES_PER_COMMIT - 1 || round == rounds - 1 {
            world.commit(&mut maps, clock.elapsed(), &mut output)?;
        }
    }
    if end == End::Closed {
        maps.iter_mut().for_each(MapTask::finish);
        world.commit(&mut maps, clock.elapsed(), &mut output)?;
        world.settle(&mut output)?;
    }
    Ok(Measured {
        cpu: meter::cpu() - before,
        map_cpu: world.map_cpu,
        merge_cpu: world.merge_cpu,
        rows: world.rows,
        merges: world.merges,
        shuffled_bytes: world.bytes,
    })
}

/// Adds what a piece of work costs.
fn spend<T>(cpu: &mut Duration, work: impl FnOnce() -> T) -> T {
    let before = meter::cpu();
    let done = work();
    *cpu += meter::cpu() - before;
    done
}

struct World<'a> {
    plan: &'a Plan,
    merges: Vec<MergeTask>,
    /// The next offset of each shuffle partition.
    next: Vec<u64>,
    rows: Rows,
    bytes: u64,
    map_cpu: Vec<Duration>,
    merge_cpu: Vec<Duration>,
}

impl World<'_> {
    fn commit(&mut self, maps: &mut [MapTask], now: Duration, output: &mut Output) -> Result<(), Corrupt> {
        for (at, map) in maps.iter_mut().enumerate() {
            output.clear();
            spend(&mut self.map_cpu[at], || map.flush(output));
            self.deliver(output)?;
        }
        for at in 0..self.merges.len() {
            output.clear();
            let merge = &mut self.merges[at];
            spend(&mut self.merge_cpu[at], || merge.flush(now.as_millis() as i64, output));
            self.deliver(output)?;
        }
        Ok(())
    }

    /// Flushes until nothing new is said.
    fn settle(&mut self, output: &mut Output) -> Result<(), Corrupt> {
        loop {
            let before = self.next.clone();
            for at in 0..self.merges.len() {
                output.clear();
                self.merges[at].flush_all(output);
                self.deliver(output)?;
            }
            if self.next == before {
                return Ok(());
            }
        }
    }

    fn deliver(&mut self, output: &Output) -> Result<(), Corrupt> {
        for (partition, message) in output.shuffle.iter().enumerate().filter(|(_, message)| !message.is_empty()) {
            self.bytes += message.len() as u64;
            let merge = &mut self.merges[partition];
            spend(&mut self.merge_cpu[partition], || merge.apply(self.next[partition], message))?;
            self.next[partition] += 1;
        }
        for row in output.rows.iter().filter(|row| row.table < self.plan.tables.len()) {
            let key = (row.table, row.window.map(|(start, _)| start), row.group.clone());
            if row.deleted { drop(self.rows.remove(&key)) } else { drop(self.rows.insert(key, row.clone())) }
        }
        Ok(())
    }
}
