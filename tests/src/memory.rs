//! The in-memory driver: the engine's tasks over a log of vectors, in one thread, cut and crashed at random.
//!
//! It does what every driver does: reads, processes, flushes, commits output and position at once, takes snapshots
//! after commits, and recovers by restoring one at or below the committed position and replaying up to it. There is
//! nothing here that fails on its own account; faults of the world are the simulator's.

use std::sync::Arc;

use engine::{
    batch::RawBatch,
    map::{MapContext, MapTask},
    merge::MergeTask,
    output::{Output, Source},
    plan::Plan,
};

use crate::{
    outcome::Outcome,
    random::Random,
    reference::{Input, Record},
};

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
    /// Draws a way to cut.
    pub fn any(random: &mut Random) -> Self {
        Self {
            batch_max: *random.pick(&[1, 3, 20, 1_000]),
            commit_percent: *random.pick(&[10, 50, 100]),
            snapshot_percent: *random.pick(&[0, 20, 100]),
            crash_percent: *random.pick(&[0, 5, 20]),
            step_ms_max: *random.pick(&[1, 500, 10_000]),
        }
    }

    /// One record at a time, committed at once, no crashes: the order in the log is all there is.
    #[must_use]
    pub fn each_record() -> Self {
        Self { batch_max: 1, commit_percent: 100, snapshot_percent: 0, crash_percent: 0, step_ms_max: 1 }
    }
}

/// Runs everything to the end of all sources and returns what came out.
#[must_use]
pub fn run(plan: &Arc<Plan>, context: &Arc<MapContext>, input: &Input, cut: Cut, random: &mut Random) -> Outcome {
    let mut world = World {
        plan: plan.clone(),
        context: context.clone(),
        cut,
        now: 1_000_000,
        shuffle: vec![Vec::new(); plan.shuffle_partitions as usize],
        outcome: Outcome::default(),
    };
    let mut maps: Vec<Map<'_>> = sources(plan).map(|source| Map::new(&world, source, input)).collect();
    let mut merges: Vec<Merge> = (0..plan.shuffle_partitions).map(|partition| Merge::new(&world, partition)).collect();
    loop {
        let mut busy: Vec<usize> = (0..maps.len()).filter(|at| !maps[*at].is_done()).collect();
        let waiting = |at: &usize| merges[*at].task.position() < world.shuffle[*at].len() as u64;
        busy.extend((0..merges.len()).filter(waiting).map(|at| maps.len() + at));
        if busy.is_empty() && !drain(&mut world, &mut merges) {
            return world.outcome;
        }
        world.now += random.below(cut.step_ms_max + 1) as i64;
        match busy.get(random.below(busy.len().max(1) as u64) as usize) {
            Some(at) if *at < maps.len() => maps[*at].step(&mut world, random),
            Some(at) => merges[*at - maps.len()].step(&mut world, random),
            None => {}
        }
    }
}

/// Every source partition of a plan.
pub fn sources(plan: &Plan) -> impl Iterator<Item = Source> + '_ {
    let of_topic = |(topic, of): (usize, &engine::plan::TopicPlan)| {
        (0..of.partitions).map(move |partition| Source { topic: topic as u32, partition })
    };
    plan.topics.iter().enumerate().flat_map(of_topic)
}

/// What is outside of all tasks and survives them.
struct World {
    plan: Arc<Plan>,
    context: Arc<MapContext>,
    cut: Cut,
    now: i64,
    /// Messages of each shuffle partition.
    shuffle: Vec<Vec<Vec<u8>>>,
    outcome: Outcome,
}

impl World {
    fn commit(&mut self, output: &Output) {
        for (partition, message) in output.shuffle.iter().enumerate().filter(|(_, message)| !message.is_empty()) {
            self.shuffle[partition].push(message.clone());
        }
        self.outcome.take(&self.plan, output);
    }
}

/// Flushes without the throttle; returns whether that made new messages.
fn drain(world: &mut World, merges: &mut [Merge]) -> bool {
    let before: usize = world.shuffle.iter().map(Vec::len).sum();
    for merge in merges {
        let mut output = Output::default();
        merge.task.flush_all(&mut output);
        world.commit(&output);
        merge.committed = merge.task.position();
    }
    world.shuffle.iter().map(Vec::len).sum::<usize>() > before
}

/// A MAP task and its place in the log.
struct Map<'a> {
    source: Source,
    records: &'a [Record],
    task: MapTask,
    /// Records processed, records committed.
    next: usize,
    committed: usize,
    finished: bool,
    snapshots: Vec<(usize, Vec<u8>)>,
}

impl<'a> Map<'a> {
    fn new(world: &World, source: Source, input: &'a Input) -> Self {
        let task = MapTask::new(world.plan.clone(), world.context.clone(), source);
        let records = input.get(&source).map_or(&[][..], Vec::as_slice);
        Self { source, records, task, next: 0, committed: 0, finished: false, snapshots: Vec::new() }
    }

    fn is_done(&self) -> bool {
        self.finished && self.committed == self.records.len()
    }

    fn step(&mut self, world: &mut World, random: &mut Random) {
        if random.chance(world.cut.crash_percent) {
            return self.recover(world, random);
        }
        let until = (self.next + 1 + random.below(world.cut.batch_max) as usize).min(self.records.len());
        let at_end = self.next == self.records.len();
        self.process(until);
        if at_end {
            self.task.finish();
        }
        if at_end || random.chance(world.cut.commit_percent) {
            let mut output = Output::default();
            self.task.flush(&mut output);
            world.commit(&output);
            self.committed = self.next;
            self.finished = at_end;
            if random.chance(world.cut.snapshot_percent) {
                let mut bytes = Vec::new();
                self.task.snapshot(&mut bytes);
                self.snapshots.push((self.committed, bytes));
            }
        }
    }

    fn process(&mut self, until: usize) {
        let mut batch = RawBatch::default();
        for record in &self.records[self.next..until] {
            batch.push(&record.payload, record.offset, record.arrival);
        }
        self.task.process(&mut batch);
        self.next = until;
    }

    /// Drops the task and makes it again from a snapshot that is there, or from nothing.
    fn recover(&mut self, world: &World, random: &mut Random) {
        let chosen = random.below(self.snapshots.len() as u64 + 1) as usize;
        let (plan, context) = (world.plan.clone(), world.context.clone());
        (self.next, self.task) = match self.snapshots.get(chosen) {
            None => (0, MapTask::new(plan, context, self.source)),
            Some((position, bytes)) => {
                (*position, MapTask::restore(plan, context, self.source, bytes).expect("a snapshot is readable"))
            }
        };
        while self.next < self.committed {
            let until = (self.next + 1 + random.below(world.cut.batch_max) as usize).min(self.committed);
            self.process(until);
        }
        if self.finished {
            self.task.finish();
        }
        self.task.discard();
    }
}

/// A MERGE task and its place in the shuffle.
struct Merge {
    partition: u32,
    task: MergeTask,
    committed: u64,
    snapshots: Vec<(u64, Vec<u8>)>,
}

impl Merge {
    fn new(world: &World, partition: u32) -> Self {
        let task = MergeTask::new(world.plan.clone(), partition);
        Self { partition, task, committed: 0, snapshots: Vec::new() }
    }

    fn step(&mut self, world: &mut World, random: &mut Random) {
        if random.chance(world.cut.crash_percent) {
            return self.recover(world, random);
        }
        let until = self.task.position() + 1 + random.below(world.cut.batch_max);
        self.apply(world, until.min(world.shuffle[self.partition as usize].len() as u64));
        if random.chance(world.cut.commit_percent) {
            let with_snapshot = random.chance(world.cut.snapshot_percent);
            let mut output = Output::default();
            if with_snapshot {
                self.task.flush_all(&mut output);
            } else {
                self.task.flush(world.now, &mut output);
            }
            world.commit(&output);
            self.committed = self.task.position();
            if with_snapshot {
                let mut bytes = Vec::new();
                self.task.snapshot(&mut bytes);
                self.snapshots.push((self.committed, bytes));
            }
        }
    }

    fn apply(&mut self, world: &World, until: u64) {
        for offset in self.task.position()..until {
            let message = &world.shuffle[self.partition as usize][offset as usize];
            self.task.apply(offset, message).expect("a message is readable");
        }
    }

    fn recover(&mut self, world: &World, random: &mut Random) {
        let chosen = random.below(self.snapshots.len() as u64 + 1) as usize;
        self.task = match self.snapshots.get(chosen) {
            None => MergeTask::new(world.plan.clone(), self.partition),
            Some((_, bytes)) => {
                MergeTask::restore(world.plan.clone(), self.partition, bytes).expect("a snapshot is readable")
            }
        };
        self.apply(world, self.committed);
        self.task.discard();
    }
}
