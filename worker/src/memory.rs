//! The in-memory driver: the engine's tasks over a log of vectors, in one thread, cut and crashed as it is told.
//!
//! It does what every driver does: reads, processes, flushes, commits output and position at once, takes snapshots
//! after commits, and recovers by restoring one at or below the committed position and replaying up to it. There is
//! nothing here that fails on its own account; faults of the world are the simulator's. `clickstream test` runs cases on
//! it, and our own tests hold it against the naive reference.

mod tasks;

use std::{collections::BTreeMap, sync::Arc};

use engine::{
    map::MapContext,
    output::{Output, Source},
    plan::Plan,
    time::Millis,
};

use tasks::{Map, Merge};

/// A record of a raw partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The bytes.
    pub payload: Vec<u8>,
    /// Its offset; they grow within a partition.
    pub offset: u64,
    /// When it arrived.
    pub arrival: Millis,
}

/// Records of every source partition that has any.
pub type Input = BTreeMap<Source, Vec<Record>>;

/// How the work is cut. Percentages are of steps.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Most records or messages processed in one step.
    pub batch_max: u64,
    /// How often a step ends with a commit.
    pub commit_percent: u64,
    /// How often a commit is followed by a snapshot.
    pub snapshot_percent: u64,
    /// How often a task is dropped and recovered.
    pub crash_percent: u64,
    /// Virtual milliseconds that pass at most in a step.
    pub step_ms_max: u64,
}

impl Cut {
    /// One record at a time, committed at once, no crashes: the order in the log is all there is.
    #[must_use]
    pub fn each_record() -> Self {
        Self { batch_max: 1, commit_percent: 100, snapshot_percent: 0, crash_percent: 0, step_ms_max: 1 }
    }

    /// Draws a way to cut.
    pub fn any(below: Below<'_>) -> Self {
        let mut pick = |from: &[u64]| from[below(from.len() as u64) as usize];
        Self {
            batch_max: pick(&[1, 3, 20, 1_000]),
            commit_percent: pick(&[10, 50, 100]),
            snapshot_percent: pick(&[0, 20, 100]),
            crash_percent: pick(&[0, 5, 20]),
            step_ms_max: pick(&[1, 500, 10_000]),
        }
    }
}

/// What is computed, from what.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The plan; its layout may be another than the manifest's.
    pub plan: &'a Arc<Plan>,
    /// Lookups and keys.
    pub context: &'a Arc<MapContext>,
    /// The records.
    pub input: &'a Input,
    /// Whether the sources end, so that every window closes.
    pub sources_end: bool,
}

/// A choice: a number below the given one, which is positive.
pub type Below<'a> = &'a mut dyn FnMut(u64) -> u64;

/// Runs tasks in any order until nothing is left; `take` gets what each commit brings.
pub fn run(job: Job<'_>, cut: Cut, below: Below<'_>, take: &mut dyn FnMut(&Output)) {
    let mut world = World::new(job, cut, take);
    let mut maps = world.maps();
    let mut merges = world.merges();
    loop {
        let mut busy: Vec<usize> = (0..maps.len()).filter(|at| !maps[*at].is_done()).collect();
        let waiting = |at: &usize| merges[*at].position() < world.shuffle[*at].len() as u64;
        busy.extend((0..merges.len()).filter(waiting).map(|at| maps.len() + at));
        if busy.is_empty() && !drain(&mut world, &mut merges) {
            return;
        }
        world.now += below(cut.step_ms_max + 1) as Millis;
        match busy.get(below(busy.len().max(1) as u64) as usize) {
            Some(at) if *at < maps.len() => maps[*at].step(&mut world, below),
            Some(at) => merges[*at - maps.len()].step(&mut world, below),
            None => {}
        }
    }
}

/// Runs tasks so that records are processed exactly in the order of `order`, each merged before the next comes.
///
/// # Panics
/// If `order` names a partition more often than it has records.
pub fn run_in_order(job: Job<'_>, order: &[Source], take: &mut dyn FnMut(&Output)) {
    let mut world = World::new(job, Cut::each_record(), take);
    let mut maps = world.maps();
    let mut merges = world.merges();
    let mut settle = |world: &mut World<'_>| while drain(world, &mut merges) {};
    for source in order {
        let map = maps.iter_mut().find(|map| map.source() == *source).expect("the order names partitions of the plan");
        map.advance(&mut world);
        settle(&mut world);
    }
    maps.iter_mut().filter(|map| !map.is_done()).for_each(|map| map.end(&mut world));
    settle(&mut world);
}

/// Every source partition of a plan.
pub fn sources(plan: &Plan) -> impl Iterator<Item = Source> + '_ {
    let of_topic = |(topic, of): (usize, &engine::plan::TopicPlan)| {
        (0..of.partitions).map(move |partition| Source { topic: topic as u32, partition })
    };
    plan.topics.iter().enumerate().flat_map(of_topic)
}

/// What is outside of all tasks and survives them.
struct World<'a> {
    job: Job<'a>,
    cut: Cut,
    now: Millis,
    /// Messages of each shuffle partition.
    shuffle: Vec<Vec<Vec<u8>>>,
    take: &'a mut dyn FnMut(&Output),
}

impl<'a> World<'a> {
    fn new(job: Job<'a>, cut: Cut, take: &'a mut dyn FnMut(&Output)) -> Self {
        let shuffle = vec![Vec::new(); job.plan.shuffle_partitions as usize];
        Self { job, cut, now: 1_000_000, shuffle, take }
    }

    fn maps(&self) -> Vec<Map<'a>> {
        sources(self.job.plan).map(|source| Map::new(self.job, source)).collect()
    }

    fn merges(&self) -> Vec<Merge> {
        (0..self.job.plan.shuffle_partitions).map(|partition| Merge::new(self.job.plan, partition)).collect()
    }

    fn commit(&mut self, output: &Output) {
        for (partition, message) in output.shuffle.iter().enumerate().filter(|(_, message)| !message.is_empty()) {
            self.shuffle[partition].push(message.clone());
        }
        (self.take)(output);
    }
}

/// Applies what waits and flushes without the throttle; returns whether that made new messages.
fn drain(world: &mut World<'_>, merges: &mut [Merge]) -> bool {
    let before: usize = world.shuffle.iter().map(Vec::len).sum();
    merges.iter_mut().for_each(|merge| merge.drain(world));
    world.shuffle.iter().map(Vec::len).sum::<usize>() > before
}
