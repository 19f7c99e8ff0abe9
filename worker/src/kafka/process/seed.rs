//! What an epoch begins with that was not there when its events came: MAP's share of the work is done here, from records that
//! somebody kept, and what it says goes where a processor's would. Processors find messages in the shuffle, committed offsets
//! and checkpoints, and go on from there as after any restart; MERGE is theirs from the first message on.
//!
//! One seeds at a time: its transactions have one id for the pipeline, and whoever comes later fences it. What it wrote into
//! topics of an epoch that never began is nobody's.

use std::{mem, thread};

use engine::{
    map::MapTask,
    output::{Output, Source, TableSchema, schemas},
    plan::Plan,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::{
    ProcessError,
    member::Place,
    sources::Role,
    transaction::{Targets, Transactions},
};
use crate::{
    checkpoint::Snapshot,
    clock,
    history::recompute::Downstream,
    kafka::{
        catalogue::Epoch,
        checkpoints::{CheckpointWriter, Checkpoints, Saved, Taken},
        client::{Cluster, REQUEST_TIME_MAX, failed},
        connection::Connection,
        context::Logged,
        names::Names,
        unread::watermarks_within,
    },
    limits,
    ports::LogError,
};

/// How often a store of checkpoints is asked to take one: the work of hours may depend on it.
const ATTEMPTS: u32 = 5;

/// The right to seed, until somebody else takes it.
pub struct Permit(Transactions);

impl Permit {
    /// Takes the right over: whoever had it can write no more.
    ///
    /// # Errors
    /// Where no coordinator answers.
    pub fn take(cluster: &Cluster, names: &Names) -> Result<Self, LogError> {
        Ok(Self(Transactions::start(cluster, &names.seed_transaction())?))
    }
}

/// Writes what MAP says into the topics of an epoch that nobody runs yet.
pub struct Seed {
    transactions: Transactions,
    /// Is no member of the group; nobody is, yet.
    group: Connection<BaseConsumer<Logged>>,
    targets: Targets,
    plan: Plan,
    schemas: Vec<TableSchema>,
    names: Names,
    /// What was said since the last commit, and where its sources stand.
    said: Vec<(Source, u64, Output)>,
}

impl Seed {
    /// Prepares to write. The epoch's topics are there.
    ///
    /// # Errors
    /// Where brokers do not answer, or somebody has written into the epoch's shuffle before.
    pub fn new(cluster: &Cluster, permit: Permit, epoch: &Epoch) -> Result<Self, LogError> {
        let (plan, names) = (epoch.checked.plan.clone(), epoch.names.clone());
        let group: Connection<BaseConsumer<Logged>> = cluster.create(&cluster.consumer(&names.process_group()))?;
        let shuffle = names.shuffle();
        for partition in 0..plan.shuffle_partitions {
            let ends = watermarks_within(&group, &shuffle, partition as i32, REQUEST_TIME_MAX);
            let (_, end) = ends.map_err(|error| failed("read", &shuffle, error))?;
            if end > 0 {
                let source = "it is not empty: somebody has begun this epoch before; try again".into();
                return Err(LogError::Io { action: "write", place: format!("{shuffle}/{partition}"), source });
            }
        }
        Ok(Self {
            transactions: permit.0,
            group,
            targets: Targets::new(&names, &plan, epoch.tells.clone()),
            schemas: schemas(&plan),
            plan,
            names,
            said: Vec::new(),
        })
    }

    fn place(&self, source: Source) -> Place {
        let topic = match source.topic {
            Source::REPAIRED => self.names.repaired(),
            topic => self.plan.topics[topic as usize].name.clone(),
        };
        Place { topic, partition: source.partition }
    }

    /// Commits what was said as one transaction, behind the one before.
    fn commit(&mut self) -> Result<(), LogError> {
        self.transactions.settle()?;
        let said = mem::take(&mut self.said);
        if said.is_empty() {
            return Ok(());
        }
        let places: Vec<Place> = said.iter().map(|(source, ..)| self.place(*source)).collect();
        let mut open = self.transactions.begin()?;
        for ((_, position, mut output), place) in said.into_iter().zip(places) {
            open.write(&mut output, (&self.targets, &self.plan, &self.schemas))?;
            if position > 0 {
                open.reached(&place, position)?;
            }
        }
        let proof = self.group.group_metadata();
        let silent = || failed("commit for", &self.names.process_group(), rdkafka::error::KafkaError::Canceled);
        open.commit(proof.ok_or_else(silent)?)
    }

    /// Commits the last of it and writes the tasks down. The epoch may begin when this has succeeded.
    ///
    /// # Errors
    /// Where something could not be written: the epoch must not begin.
    pub fn finish(mut self, tasks: &[(Source, MapTask)], checkpoints: &Checkpoints) -> Result<(), ProcessError> {
        self.commit()?;
        self.transactions.settle()?;
        let mut left: Vec<&(Source, MapTask)> = tasks.iter().filter(|(_, task)| task.position() > 0).collect();
        for attempt in 1.. {
            left = self.write_down(left, checkpoints.clone())?;
            let Some((source, _)) = left.first() else { break };
            let task = Role::Source(*source).task_name(&self.plan);
            if attempt == ATTEMPTS {
                let source = "the store did not take it; the tables are as they were, and it may be tried again".into();
                return Err(LogError::Io { action: "write the checkpoint of", place: task, source }.into());
            }
            thread::park_timeout(limits::CHECKPOINT_REST);
        }
        Ok(())
    }

    /// Writes checkpoints; those that the store did not take are returned.
    fn write_down<'t>(
        &self,
        tasks: Vec<&'t (Source, MapTask)>,
        checkpoints: Checkpoints,
    ) -> Result<Vec<&'t (Source, MapTask)>, LogError> {
        let writer = CheckpointWriter::start(checkpoints, self.names.shuffle())?;
        let (queue, now) = (writer.queue(), clock::now());
        let write = |of: &'t (Source, MapTask)| {
            let (saved, mut bytes) = (Saved::new(0, 0), Vec::new());
            of.1.snapshot(&mut bytes);
            let task = Role::Source(of.0).task_name(&self.plan);
            let snapshot = Snapshot { task, position: of.1.position(), bytes };
            queue.write_patiently(Taken { snapshot, at: now, saved: saved.clone() });
            (of, saved)
        };
        let written: Vec<(&(Source, MapTask), Saved)> = tasks.into_iter().map(write).collect();
        drop(queue);
        writer.finish()?;
        Ok(written.into_iter().filter(|(_, saved)| saved.get().0 != now).map(|(of, _)| of).collect())
    }
}

impl Downstream for Seed {
    fn take(&mut self, source: Source, position: u64, output: &mut Output) -> anyhow::Result<()> {
        // Whoever counted these events first told them.
        output.dead_letters.clear();
        self.said.push((source, position, mem::take(output)));
        Ok(())
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        Ok(self.commit()?)
    }
}
