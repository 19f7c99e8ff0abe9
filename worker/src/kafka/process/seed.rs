//! What an epoch begins with that was not there when its events came: MAP's share of the work is done here, from records that
//! somebody kept, and what it says goes where a processor's would. Processors find messages in the shuffle, committed offsets
//! and checkpoints, and go on from there as after any restart; MERGE is theirs from the first message on.
//!
//! One seeds at a time: its transactions have one id for the pipeline, and whoever comes later fences it. What it wrote into
//! topics of an epoch that never began is nobody's.

use std::mem;

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
        client::{Cluster, failed},
        connection::Connection,
        context::Logged,
        names::Names,
    },
    ports::LogError,
};

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
    /// Prepares to write. The epoch's topics are there and empty.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn new(cluster: &Cluster, permit: Permit, epoch: &Epoch) -> Result<Self, LogError> {
        let (plan, names) = (epoch.checked.plan.clone(), epoch.names.clone());
        Ok(Self {
            transactions: permit.0,
            group: cluster.create(&cluster.consumer(&names.process_group()))?,
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
    pub fn finish(mut self, tasks: &[(Source, MapTask)], checkpoints: Checkpoints) -> Result<(), ProcessError> {
        self.commit()?;
        self.transactions.settle()?;
        let writer = CheckpointWriter::start(checkpoints, self.names.shuffle())?;
        let (queue, now) = (writer.queue(), clock::now());
        let mut written = Vec::new();
        for (source, task) in tasks.iter().filter(|(_, task)| task.position() > 0) {
            let (name, saved, mut bytes) = (Role::Source(*source).task_name(&self.plan), Saved::new(0, 0), Vec::new());
            task.snapshot(&mut bytes);
            written.push((name.clone(), saved.clone()));
            let snapshot = Snapshot { task: name, position: task.position(), bytes };
            queue.write_patiently(Taken { snapshot, at: now, saved });
        }
        drop(queue);
        writer.finish()?;
        let Some((task, _)) = written.into_iter().find(|(_, saved)| saved.get().0 != now) else { return Ok(()) };
        let source = "the store did not take it; the tables are as they were, and it may be tried again".into();
        Err(LogError::Io { action: "write the checkpoint of", place: task, source }.into())
    }
}

impl Downstream for Seed {
    fn take(&mut self, source: Source, position: u64, output: &mut Output) -> anyhow::Result<()> {
        self.said.push((source, position, mem::take(output)));
        Ok(())
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        Ok(self.commit()?)
    }
}
