//! Tasks of the in-memory driver: each with its place in the log, its snapshots, and its recovery.

use std::sync::Arc;

use engine::{
    batch::RawBatch,
    map::MapTask,
    merge::MergeTask,
    output::{Output, Source},
    plan::Plan,
};

use super::{Below, Job, Record, World};

/// A MAP task and its place in the log.
pub(super) struct Map<'a> {
    job: Job<'a>,
    source: Source,
    records: &'a [Record],
    task: MapTask,
    /// Records processed, records committed.
    next: usize,
    committed: usize,
    /// The end was committed.
    finished: bool,
    snapshots: Vec<(usize, Vec<u8>)>,
}

impl<'a> Map<'a> {
    pub fn new(job: Job<'a>, source: Source) -> Self {
        let task = MapTask::new(job.plan.clone(), job.context.clone(), source);
        let records = job.input.get(&source).map_or(&[][..], Vec::as_slice);
        Self { job, source, records, task, next: 0, committed: 0, finished: false, snapshots: Vec::new() }
    }

    pub fn source(&self) -> Source {
        self.source
    }

    pub fn is_done(&self) -> bool {
        self.finished && self.committed == self.records.len()
    }

    pub fn step(&mut self, world: &mut World<'_>, below: Below<'_>) {
        if below(100) < world.cut.crash_percent {
            return self.recover(world, below);
        }
        let until = (self.next + 1 + below(world.cut.batch_max) as usize).min(self.records.len());
        let at_end = self.next == self.records.len();
        self.process(until);
        if at_end {
            self.end(world);
        } else if below(100) < world.cut.commit_percent {
            self.commit(world);
        }
        let is_committed = self.committed == self.next;
        if is_committed && below(100) < world.cut.snapshot_percent {
            let mut bytes = Vec::new();
            self.task.snapshot(&mut bytes);
            self.snapshots.push((self.committed, bytes));
        }
    }

    /// Processes the next record and commits.
    pub fn advance(&mut self, world: &mut World<'_>) {
        self.process(self.next + 1);
        self.commit(world);
    }

    /// Ends the partition, if sources end, and commits.
    pub fn end(&mut self, world: &mut World<'_>) {
        if self.job.sources_end {
            self.task.finish();
        }
        self.commit(world);
        self.finished = true;
    }

    fn commit(&mut self, world: &mut World<'_>) {
        let mut output = Output::default();
        self.task.flush(&mut output);
        world.commit(&output);
        self.committed = self.next;
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
    fn recover(&mut self, world: &World<'_>, below: Below<'_>) {
        let chosen = below(self.snapshots.len() as u64 + 1) as usize;
        let (plan, context) = (self.job.plan.clone(), self.job.context.clone());
        (self.next, self.task) = match self.snapshots.get(chosen) {
            None => (0, MapTask::new(plan, context, self.source)),
            Some((position, bytes)) => {
                (*position, MapTask::restore(plan, context, self.source, bytes).expect("bug: a snapshot is unreadable"))
            }
        };
        while self.next < self.committed {
            let until = (self.next + 1 + below(world.cut.batch_max) as usize).min(self.committed);
            self.process(until);
        }
        if self.finished && self.job.sources_end {
            self.task.finish();
        }
        self.task.discard();
    }
}

/// A MERGE task and its place in the shuffle.
pub(super) struct Merge {
    partition: u32,
    plan: Arc<Plan>,
    task: MergeTask,
    committed: u64,
    snapshots: Vec<(u64, Vec<u8>)>,
}

impl Merge {
    pub fn new(plan: &Arc<Plan>, partition: u32) -> Self {
        let task = MergeTask::new(Arc::clone(plan), partition);
        Self { partition, plan: Arc::clone(plan), task, committed: 0, snapshots: Vec::new() }
    }

    pub fn position(&self) -> u64 {
        self.task.position()
    }

    pub fn step(&mut self, world: &mut World<'_>, below: Below<'_>) {
        if below(100) < world.cut.crash_percent {
            return self.recover(world, below);
        }
        let until = self.task.position() + 1 + below(world.cut.batch_max);
        self.apply(world, until.min(world.shuffle[self.partition as usize].len() as u64));
        if below(100) < world.cut.commit_percent {
            let with_snapshot = below(100) < world.cut.snapshot_percent;
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

    /// Applies everything and lets everything out.
    pub fn drain(&mut self, world: &mut World<'_>) {
        self.apply(world, world.shuffle[self.partition as usize].len() as u64);
        let mut output = Output::default();
        self.task.flush_all(&mut output);
        world.commit(&output);
        self.committed = self.task.position();
    }

    fn apply(&mut self, world: &World<'_>, until: u64) {
        for offset in self.task.position()..until {
            let message = &world.shuffle[self.partition as usize][offset as usize];
            self.task.apply(offset, message).expect("bug: a message is unreadable");
        }
    }

    fn recover(&mut self, world: &World<'_>, below: Below<'_>) {
        let chosen = below(self.snapshots.len() as u64 + 1) as usize;
        self.task = match self.snapshots.get(chosen) {
            None => MergeTask::new(Arc::clone(&self.plan), self.partition),
            Some((_, bytes)) => MergeTask::restore(Arc::clone(&self.plan), self.partition, bytes)
                .expect("bug: a snapshot is unreadable"),
        };
        self.apply(world, self.committed);
        self.task.discard();
    }
}
