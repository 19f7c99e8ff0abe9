//! A real Kafka of one broker for a test, from the script beside the tests; it ends with the value that stands for it.

use std::{
    collections::BTreeMap,
    net::{TcpListener, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use crds::Checked;
use engine::output::Source;
use worker::{
    kafka::{
        client::Cluster,
        feed::{Feed, FeedRecord},
    },
    secrets::Secrets,
};

use crate::{
    binary::{Running, root},
    reference::{Input, Record},
};

/// How long a broker may take to start; the first time its jars are fetched.
const START_TIME_MAX: Duration = Duration::from_secs(600);

/// How long reading a partition to its end may take.
const READ_TIME_MAX: Duration = Duration::from_secs(60);

/// A broker that runs.
pub struct Broker {
    /// Where clients find it.
    pub address: String,
    _data: tempfile::TempDir,
    /// The broker itself, to stop it for a while.
    pub process: Running,
}

impl Broker {
    /// Starts one with nothing in it.
    ///
    /// # Errors
    /// If Java or Maven is missing, or it does not come up.
    pub fn start() -> Result<Self> {
        let data = tempfile::tempdir()?;
        // Both at once, so that they differ.
        let (first, second) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        let (address, controller) = (first.local_addr()?, second.local_addr()?);
        drop((first, second));
        let mut command = Command::new(root().join("tests/kafka/start"));
        command.arg(data.path()).arg(address.port().to_string()).arg(controller.port().to_string());
        let mut process = Running::start(command)?;
        process.wait_for(START_TIME_MAX, || TcpStream::connect(address).ok())?;
        Ok(Self { address: address.to_string(), _data: data, process })
    }
}

/// Everything that lies in the raw topics of a pipeline, for the reference.
///
/// # Errors
/// If it cannot be read.
pub fn raw_records(checked: &Checked) -> Result<Input> {
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    let mut input = Input::new();
    for (topic, plan) in checked.plan.topics.iter().enumerate() {
        for partition in 0..plan.partitions {
            let records = read_partition(&cluster, &plan.name, partition)?;
            let records = records.into_iter().map(|record| Record {
                payload: record.value.unwrap_or_default(),
                offset: record.offset,
                arrival: record.time,
            });
            input.insert(Source { topic: topic as u32, partition }, records.collect());
        }
    }
    Ok(input)
}

/// Everything that is committed in a topic of a pipeline, partition by partition.
///
/// # Errors
/// If it cannot be read.
pub fn read_topic(checked: &Checked, topic: &str, partitions: u32) -> Result<Vec<FeedRecord>> {
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    let mut records = Vec::new();
    for partition in 0..partitions {
        records.append(&mut read_partition(&cluster, topic, partition)?);
    }
    Ok(records)
}

fn read_partition(cluster: &Cluster, topic: &str, partition: u32) -> Result<Vec<FeedRecord>> {
    let mut feed = Feed::open(cluster, topic, partition, 0)?;
    let deadline = Instant::now() + READ_TIME_MAX;
    let mut records = Vec::new();
    while !feed.is_caught_up() {
        let mut batch = Vec::new();
        feed.read(Duration::from_millis(200), &mut batch)?;
        records.append(&mut batch);
        ensure!(Instant::now() < deadline, "{topic}/{partition} could not be read in {READ_TIME_MAX:?}");
    }
    let offsets: BTreeMap<u64, ()> = records.iter().map(|record| (record.offset, ())).collect();
    ensure!(offsets.len() == records.len(), "{topic}/{partition} was not read once");
    Ok(records)
}
