//! Writers that commit as fast as they can, in a process of their own that dies when a test says so, and what they left.

use std::io::Write as _;

use anyhow::Result;
use crds::Checked;
use worker::{
    kafka::{
        client::Cluster,
        inlet::{KafkaInlet, Wire},
        names::Names,
    },
    ports::{IngestLog as _, IngestRecord},
    secrets::Secrets,
};

/// The ingester that they are replicas of.
const INGESTER: &str = "checkout";

/// The cluster of a manifest.
///
/// # Errors
/// Where its settings are wrong.
pub fn cluster(checked: &Checked) -> Result<Cluster> {
    Ok(Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?)
}

/// A replica of the ingester: its progress counts its commits, and every partition of the first topic has an event of each.
pub struct Writer {
    inlet: KafkaInlet,
    number: u64,
    topic: String,
    partitions: u32,
}

impl Writer {
    /// Opens the log.
    ///
    /// # Errors
    /// As the log says.
    pub fn open(checked: &Checked, number: u64) -> Result<Self> {
        let names = Names::new(&checked.manifest.name);
        let replica = format!("writer{number}");
        let inlet = KafkaInlet::connect_replica(&cluster(checked)?, &names, (INGESTER, &replica), Wire::default())?;
        let topic = &checked.plan.topics[0];
        Ok(Self { inlet, number, topic: topic.name.clone(), partitions: topic.partitions })
    }

    /// Commits so far.
    ///
    /// # Errors
    /// If progress is not a number.
    pub fn count(&self) -> Result<u64> {
        let progress = self.inlet.progress(INGESTER)?;
        Ok(progress.map_or(Ok(0), |progress| String::from_utf8_lossy(&progress).parse())?)
    }

    /// Commits once more, and returns how often it has.
    ///
    /// # Errors
    /// As the log says.
    pub fn commit(&mut self) -> Result<u64> {
        let count = self.count()? + 1;
        let payload = event(self.number, count);
        let payload = payload.as_bytes();
        let record = |partition| IngestRecord { topic: &self.topic, partition, payload, low: None };
        let records: Vec<_> = (0..self.partitions).map(record).collect();
        self.inlet.commit(INGESTER, &records, count.to_string().as_bytes())?;
        Ok(count)
    }
}

/// The event of a writer's commit.
#[must_use]
pub fn event(number: u64, count: u64) -> String {
    format!("{number} {count}")
}

/// The transactional id of a replica of the ingester.
#[must_use]
pub fn transaction(checked: &Checked, number: u64) -> String {
    format!("{}.writer{number}", Names::new(&checked.manifest.name).ingest_transaction(INGESTER))
}

/// Commits for ever, and says each commit that was acknowledged.
///
/// # Errors
/// As the log says.
pub fn commit_for_ever(checked: &Checked, number: u64) -> Result<()> {
    let mut writer = Writer::open(checked, number)?;
    loop {
        let count = writer.commit()?;
        writeln!(std::io::stderr(), "{number} {count}")?;
    }
}
