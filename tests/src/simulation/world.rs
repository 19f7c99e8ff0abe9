//! One run of the world: draws a pipeline, events and faults from the seed, and judges the end.

use std::{collections::BTreeMap, sync::Arc};

use engine::{map::MapContext, plan::Plan};

use super::{
    checkpoints::Checkpoints,
    log::{Log, Task},
    sink::Sink,
    worker::{Outside, Worker},
};
use crate::{
    events::{self, Shape},
    manifests::{Layout, Manifest, OUT_OF_ORDERNESS_MS, Tables},
    memory,
    outcome::{self, Strictness},
    pipeline,
    random::Random,
    reference::{self, Input},
};

/// A member that says nothing for this long is expelled from the group.
const SESSION_MS: i64 = 6_000;

/// Rounds after which draining must have ended.
const DRAIN_ROUNDS_MAX: usize = 100_000;

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps until the faults stopped.
    pub steps: u64,
    /// Workers that crashed or were paused.
    pub crashes: u64,
    /// Generations of the group.
    pub generations: u64,
    /// Commits of zombies that were refused.
    pub fenced: u64,
    /// Tasks that were made from a checkpoint.
    pub recovered: u64,
    /// Rows that left.
    pub rows: u64,
}

impl Report {
    /// Adds another run's numbers.
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.generations += other.generations;
        self.fenced += other.fenced;
        self.recovered += other.recovered;
        self.rows += other.rows;
    }
}

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Up,
    /// Gone, until the time.
    Down(i64),
    /// Cut off from the coordinator, until the time; it goes on writing.
    Zombie(i64),
}

/// Runs the world of a seed.
///
/// # Errors
/// With what is wrong at the end, or on the way.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut random = Random::new(seed);
    let manifest = Manifest::any(&mut random, Tables::All).text(Layout::any(&mut random));
    let plan = pipeline::plan(&manifest)?;
    let mut shape = Shape::on_time(&mut random, OUT_OF_ORDERNESS_MS);
    shape.count = shape.count.max(20);
    let input = events::lay_out(&plan, &events::arrivals(&shape, &mut random), false, &mut random);
    let answer = reference::reference(&plan, &Vec::new(), &input);
    let mut world = World::new(plan.clone(), &input, random);
    world.run_with_faults()?;
    world.run_to_the_end()?;
    let judged = outcome::compare(&plan, &answer, &world.log.outcome, Strictness::Everything).and_then(|()| {
        let same = world.sink.rows() == world.log.outcome.rows;
        if same { Ok(()) } else { Err("the sink holds other rows than the results".to_owned()) }
    });
    judged.map_err(|different| format!("{different}\n{manifest}"))?;
    Ok(world.report())
}

struct World<'i> {
    plan: Arc<Plan>,
    context: Arc<MapContext>,
    log: Log<'i>,
    checkpoints: Checkpoints,
    sink: Sink,
    workers: Vec<Worker>,
    health: Vec<Health>,
    /// When each worker was last heard of.
    heard: Vec<i64>,
    members: Vec<usize>,
    now: i64,
    last_arrival: i64,
    ended: bool,
    random: Random,
    report: Report,
}

impl<'i> World<'i> {
    fn new(plan: Arc<Plan>, input: &'i Input, mut random: Random) -> Self {
        let count = 1 + random.below(3) as usize;
        let last_arrival = input.values().flatten().map(|record| record.arrival).max().unwrap_or_default();
        Self {
            context: pipeline::context(),
            log: Log::new(&plan, input),
            checkpoints: Checkpoints::default(),
            sink: Sink::default(),
            workers: (0..count).map(Worker::new).collect(),
            health: vec![Health::Up; count],
            heard: vec![events::START_MS; count],
            members: Vec::new(),
            now: events::START_MS,
            last_arrival,
            ended: false,
            random,
            report: Report::default(),
            plan,
        }
    }

    fn report(&self) -> Report {
        Report {
            generations: self.log.generation,
            fenced: self.workers.iter().map(|worker| worker.fenced).sum(),
            recovered: self.workers.iter().map(|worker| worker.recovered).sum(),
            rows: self.log.results.len() as u64,
            ..self.report
        }
    }

    fn run_with_faults(&mut self) -> Result<(), String> {
        // About as many steps as are needed to read everything, so that faults hit the middle and the end alike.
        let steps = 200 + self.random.below(1_500);
        let pace = (self.last_arrival - events::START_MS) / steps as i64 + 1;
        for _ in 0..steps {
            self.report.steps += 1;
            self.now += self.random.between(0, 2 * pace);
            self.ended = self.now > self.last_arrival + SESSION_MS;
            self.break_something();
            self.coordinate();
            self.log.breathe(&mut self.random);
            self.delete_shuffle();
            self.sink.step(&self.log.results, true, &mut self.random);
            self.step_workers()?;
        }
        Ok(())
    }

    fn break_something(&mut self) {
        let at = self.random.below(self.workers.len() as u64) as usize;
        let until = self.now + self.random.between(0, 4 * SESSION_MS);
        match self.random.below(60) {
            0 => {
                self.report.crashes += 1;
                self.health[at] = Health::Down(until);
                let mut worker = std::mem::take(&mut self.workers[at]);
                worker.crash(&mut self.outside());
                self.workers[at] = worker;
            }
            1 => {
                self.report.crashes += 1;
                self.health[at] = Health::Zombie(until);
            }
            // A rebalance without a reason: someone scaled.
            2 => self.members.clear(),
            _ => {}
        }
        for health in &mut self.health {
            match health {
                Health::Down(until) | Health::Zombie(until) if self.now >= *until => *health = Health::Up,
                _ => {}
            }
        }
    }

    /// Expels the silent, takes in the others, and assigns when the members changed.
    fn coordinate(&mut self) {
        for (at, health) in self.health.iter().enumerate() {
            if *health == Health::Up {
                self.heard[at] = self.now;
            }
        }
        let alive = |at: &usize| self.now - self.heard[*at] <= SESSION_MS;
        let members: Vec<usize> = (0..self.workers.len()).filter(alive).collect();
        if members != self.members && !members.is_empty() {
            self.assign(&members);
            self.members = members;
        }
    }

    fn assign(&mut self, members: &[usize]) {
        let maps = memory::sources(&self.plan).map(Task::Map);
        let merges = (0..self.plan.shuffle_partitions).map(Task::Merge);
        let owners: BTreeMap<Task, usize> = maps.chain(merges).map(|task| (task, *self.random.pick(members))).collect();
        self.log.assign(owners);
    }

    /// Shuffle records are deleted only below the oldest checkpoint that is kept.
    fn delete_shuffle(&mut self) {
        let partition = self.random.below(u64::from(self.plan.shuffle_partitions)) as u32;
        if let Some(position) = self.checkpoints.oldest_readable(Task::Merge(partition)) {
            self.log.shuffle[partition as usize].delete_before(position);
        }
    }

    fn step_workers(&mut self) -> Result<(), String> {
        for at in 0..self.workers.len() {
            let health = self.health[at];
            if matches!(health, Health::Down(_)) {
                continue;
            }
            let mut worker = std::mem::take(&mut self.workers[at]);
            let mut outside = self.outside();
            // A zombie does not hear of generations; it finds out when it is fenced.
            if health == Health::Up && outside.random.chance(70) {
                worker.join(&mut outside)?;
            }
            worker.step(&mut outside)?;
            self.workers[at] = worker;
        }
        Ok(())
    }

    /// No more faults: one worker reads everything to the end.
    fn run_to_the_end(&mut self) -> Result<(), String> {
        self.log.faulty = false;
        self.ended = true;
        self.now = self.now.max(self.last_arrival) + 2 * SESSION_MS;
        self.assign(&[0]);
        let mut worker = std::mem::take(&mut self.workers[0]);
        worker.join(&mut self.outside())?;
        for _ in 0..DRAIN_ROUNDS_MAX {
            self.log.breathe(&mut self.random);
            let busy = worker.drain(&mut self.outside())?;
            self.sink.step(&self.log.results, false, &mut self.random);
            if !busy && self.log.echoes() == 0 && self.sink.is_done(&self.log.results) {
                self.workers[0] = worker;
                return Ok(());
            }
        }
        Err("the pipeline does not come to rest".to_owned())
    }

    fn outside(&mut self) -> Outside<'_, 'i> {
        Outside {
            plan: &self.plan,
            context: &self.context,
            log: &mut self.log,
            checkpoints: &mut self.checkpoints,
            now: self.now,
            ended: self.ended,
            random: &mut self.random,
        }
    }
}
