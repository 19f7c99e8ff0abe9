//! A simulated worker: owns tasks while it is in the group, and does not always know that it no longer is.

use std::{collections::BTreeMap, sync::Arc};

use engine::{
    batch::RawBatch,
    map::{MapContext, MapTask},
    merge::MergeTask,
    output::{Output, Source},
    plan::Plan,
};

use super::{
    checkpoints::Checkpoints,
    log::{CommitError, Log, Permit, Task},
};
use crate::random::Random;

/// Everything outside of the worker that it may touch in a step.
pub struct Outside<'w, 'i> {
    /// What to compute.
    pub plan: &'w Arc<Plan>,
    /// What MAP needs besides.
    pub context: &'w Arc<MapContext>,
    /// The log.
    pub log: &'w mut Log<'i>,
    /// The checkpoint store.
    pub checkpoints: &'w mut Checkpoints,
    /// The virtual clock.
    pub now: i64,
    /// Whether the sources have ended.
    pub ended: bool,
    /// The seed's choices.
    pub random: &'w mut Random,
}

/// A worker.
#[derive(Default)]
pub struct Worker {
    /// Its number.
    pub number: usize,
    /// The generation it believes in.
    generation: u64,
    tasks: BTreeMap<Task, Running>,
    /// Checkpoints that were taken and not written yet.
    writes: Vec<(Task, u64, u64, Vec<u8>)>,
    /// Commits that were refused because another owns the task now.
    pub fenced: u64,
    /// Tasks that were made from a checkpoint and replayed.
    pub recovered: u64,
}

struct Running {
    machine: Machine,
    /// Since when a raw partition has been read to its end.
    caught_up: Option<i64>,
    finished: bool,
}

enum Machine {
    Map(Box<MapTask>),
    Merge(Box<MergeTask>),
}

impl Worker {
    /// Makes a worker that is in no group.
    #[must_use]
    pub fn new(number: usize) -> Self {
        Self { number, ..Self::default() }
    }

    /// The machine stops: what was not written is gone, what was being written is torn.
    pub fn crash(&mut self, outside: &mut Outside<'_, '_>) {
        self.tasks.clear();
        self.generation = 0;
        for (task, position, generation, mut bytes) in std::mem::take(&mut self.writes) {
            if outside.random.chance(30) {
                // Part of it reached the store, with the checksum of the whole.
                let len = bytes.len();
                bytes.truncate(outside.random.below(len as u64 + 1) as usize);
                if bytes.len() == len {
                    outside.checkpoints.write(task, position, generation, bytes, outside.random, true);
                }
            }
        }
    }

    /// Learns of the current generation: gives up what is another's, recovers what is new.
    ///
    /// # Errors
    /// If a task cannot be recovered.
    pub fn join(&mut self, outside: &mut Outside<'_, '_>) -> Result<(), String> {
        if self.generation == outside.log.generation {
            return Ok(());
        }
        if self.generation + 1 != outside.log.generation {
            // Who missed a generation cannot know whether another had its tasks in the meantime.
            self.tasks.clear();
        }
        self.generation = outside.log.generation;
        let owned = outside.log.owned(self.number);
        self.tasks.retain(|task, _| owned.contains(task));
        for task in owned {
            if !self.tasks.contains_key(&task) {
                self.recover(task, outside)?;
            }
        }
        Ok(())
    }

    /// Does one thing: reads, commits, marks idle, writes a checkpoint. It does not ask whether it still may.
    ///
    /// # Errors
    /// If a task cannot be recovered, or cannot read what another wrote.
    pub fn step(&mut self, outside: &mut Outside<'_, '_>) -> Result<(), String> {
        if !self.writes.is_empty() && outside.random.chance(30) {
            let (task, position, generation, bytes) = self.writes.remove(0);
            let faulty = outside.log.faulty;
            outside.checkpoints.write(task, position, generation, bytes, outside.random, faulty);
            return Ok(());
        }
        if self.tasks.is_empty() {
            return Ok(());
        }
        let at = outside.random.below(self.tasks.len() as u64) as usize;
        let task = *self.tasks.keys().nth(at).expect("the number is below their count");
        self.read(task, outside)?;
        if outside.random.chance(40) {
            self.commit(task, outside)?;
        }
        Ok(())
    }

    /// Reads and commits everything there is, without faults. Returns whether anything happened.
    ///
    /// # Errors
    /// As [`Worker::step`].
    pub fn drain(&mut self, outside: &mut Outside<'_, '_>) -> Result<bool, String> {
        let before = (outside.log.results.len(), outside.log.shuffle.iter().map(|each| each.end()).sum::<u64>());
        let positions = |worker: &Self| worker.tasks.values().map(Running::position).collect::<Vec<_>>();
        let read_before = positions(self);
        for task in self.tasks.keys().copied().collect::<Vec<_>>() {
            self.read(task, outside)?;
            self.commit(task, outside)?;
        }
        let after = (outside.log.results.len(), outside.log.shuffle.iter().map(|each| each.end()).sum::<u64>());
        Ok(before != after || read_before != positions(self))
    }

    fn read(&mut self, task: Task, outside: &mut Outside<'_, '_>) -> Result<(), String> {
        let running = self.tasks.get_mut(&task).expect("only own tasks are read");
        let most = 1 + outside.random.below(30) as usize;
        match (&mut running.machine, task) {
            (Machine::Map(map), Task::Map(source)) => {
                let records = outside.log.arrived(source, map.position(), outside.now);
                let mut batch = RawBatch::default();
                for record in &records[..records.len().min(most)] {
                    batch.push(&record.payload, record.offset, record.arrival);
                }
                if !batch.records.is_empty() {
                    running.caught_up = None;
                    map.process(&mut batch);
                    return Ok(());
                }
                let since = *running.caught_up.get_or_insert(outside.now);
                if outside.ended && !running.finished {
                    map.finish();
                    running.finished = true;
                } else if outside.now - since >= idle_after(outside.plan, source) {
                    map.mark_idle(outside.now);
                }
                Ok(())
            }
            (Machine::Merge(merge), Task::Merge(partition)) => {
                for offset in (merge.position()..).take(most) {
                    let Some(message) = outside.log.shuffle[partition as usize].message(offset) else { break };
                    merge.apply(offset, message).map_err(|error| format!("{task:?} at {offset}: {error}"))?;
                }
                Ok(())
            }
            _ => unreachable!("a task runs on a machine of its kind"),
        }
    }

    fn commit(&mut self, task: Task, outside: &mut Outside<'_, '_>) -> Result<(), String> {
        let running = self.tasks.get_mut(&task).expect("only own tasks are committed");
        let mut output = Output::default();
        let with_snapshot = outside.random.chance(25);
        match &mut running.machine {
            Machine::Map(map) => map.flush(&mut output),
            Machine::Merge(merge) if with_snapshot || outside.ended => merge.flush_all(&mut output),
            // What it holds back for now leaves with a later commit: at the end nothing is held back.
            Machine::Merge(merge) => drop(merge.flush(outside.now, &mut output)),
        }
        let position = running.position();
        let snapshot = with_snapshot.then(|| running.snapshot());
        let permit = Permit { worker: self.number, generation: self.generation };
        match outside.log.commit(outside.plan, permit, task, position, &output, outside.random) {
            Ok(()) => {
                self.writes.extend(snapshot.map(|bytes| (task, position, permit.generation, bytes)));
                Ok(())
            }
            // A task is dropped after a failed commit, never patched.
            Err(CommitError::Unknown) => {
                self.tasks.remove(&task);
                self.recover(task, outside)
            }
            Err(CommitError::Fenced) => {
                self.fenced += 1;
                self.tasks.clear();
                self.generation = 0;
                Ok(())
            }
        }
    }

    /// Restores the newest readable checkpoint and replays up to the committed position.
    fn recover(&mut self, task: Task, outside: &mut Outside<'_, '_>) -> Result<(), String> {
        let committed = outside.log.committed(task);
        let found = outside.checkpoints.newest(task, committed);
        self.recovered += u64::from(found.is_some());
        let unreadable = |error| format!("a verified checkpoint of {task:?} cannot be read: {error}");
        let plan = outside.plan.clone();
        let machine = match (task, found) {
            (Task::Map(source), Some((_, bytes))) => {
                let context = outside.context.clone();
                Machine::Map(Box::new(MapTask::restore(plan, context, source, bytes).map_err(unreadable)?))
            }
            (Task::Map(source), None) => Machine::Map(Box::new(MapTask::new(plan, outside.context.clone(), source))),
            (Task::Merge(partition), Some((_, bytes))) => {
                Machine::Merge(Box::new(MergeTask::restore(plan, partition, bytes).map_err(unreadable)?))
            }
            (Task::Merge(partition), None) => {
                if outside.log.shuffle[partition as usize].start > 0 {
                    return Err(format!("{task:?} lost its state although a checkpoint was kept"));
                }
                Machine::Merge(Box::new(MergeTask::new(plan, partition)))
            }
        };
        let mut running = Running { machine, caught_up: None, finished: false };
        running.replay(task, committed, outside)?;
        self.tasks.insert(task, running);
        Ok(())
    }
}

impl Running {
    fn position(&self) -> u64 {
        match &self.machine {
            Machine::Map(map) => map.position(),
            Machine::Merge(merge) => merge.position(),
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.machine {
            Machine::Map(map) => map.snapshot(&mut bytes),
            Machine::Merge(merge) => merge.snapshot(&mut bytes),
        }
        bytes
    }

    fn replay(&mut self, task: Task, committed: u64, outside: &mut Outside<'_, '_>) -> Result<(), String> {
        match (&mut self.machine, task) {
            (Machine::Map(map), Task::Map(source)) => {
                let mut batch = RawBatch::default();
                for record in outside.log.arrived(source, map.position(), outside.now) {
                    if record.offset < committed {
                        batch.push(&record.payload, record.offset, record.arrival);
                    }
                }
                map.process(&mut batch);
                map.discard();
            }
            (Machine::Merge(merge), Task::Merge(partition)) => {
                for offset in merge.position()..committed {
                    let shuffle = &outside.log.shuffle[partition as usize];
                    let message = shuffle.message(offset).expect("what was committed was read before");
                    merge.apply(offset, message).map_err(|error| format!("{task:?} at {offset}: {error}"))?;
                }
                merge.discard();
            }
            _ => unreachable!("a task runs on a machine of its kind"),
        }
        Ok(())
    }
}

/// The shortest `idleAfter` of the streams that read a topic.
fn idle_after(plan: &Plan, source: Source) -> i64 {
    let reads = |stream: &&engine::plan::StreamPlan| stream.topics.contains(&(source.topic as usize));
    let times = plan.streams.iter().filter(reads).filter_map(|stream| stream.event_time.as_ref());
    times.map(|of| of.idle_after_ms).min().unwrap_or(i64::MAX)
}
