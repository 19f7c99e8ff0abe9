//! Checkpoints as a bad disk leaves them: the newest of every task is made unreadable where it lies.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use worker::{
    checkpoint::key_parts,
    kafka::{client::Cluster, context::Logged, names::Names},
    secrets::Secrets,
};

use crate::kafka::read_partition;

/// Partitions of the topic of checkpoints.
const PARTITIONS: u32 = 16;

/// A record's key, the partition it lies in, its value.
type Chunk = (Vec<u8>, u32, Vec<u8>);

/// Damages every checkpoint at the newest position of each task that has others, and returns the position before it: behind
/// that, recovery must not begin.
///
/// # Errors
/// If there is none, or Kafka refuses.
pub fn damage_newest_checkpoints(checked: &crds::Checked) -> Result<BTreeMap<String, u64>> {
    let topic = Names::new(&checked.manifest.name).checkpoints();
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    let producer = cluster.create::<BaseProducer<Logged>>(&cluster.producer())?;
    let mut older = BTreeMap::new();
    for ((task, mut chunks), at) in chunks(&cluster, &topic)?.into_iter().zip(0..) {
        // A task that never had anything to read is as it was at the beginning, with or without its only checkpoint.
        let Some((_, mut damaged)) = chunks.pop_last() else { continue };
        let Some((before, _)) = chunks.last_key_value() else { continue };
        // Processes that followed each other may have left one each.
        for (key, partition, value) in &mut damaged {
            let middle = value.len() / 2;
            if at % 2 == 0 {
                value[middle] ^= 1;
            } else {
                value.truncate(middle);
            }
            let record = BaseRecord::to(&topic).partition(*partition as i32).key(&*key).payload(&*value);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        older.insert(task, *before);
    }
    producer.flush(Duration::from_secs(10))?;
    ensure!(!older.is_empty(), "no checkpoints");
    Ok(older)
}

/// Chunks that were not deleted, by task and position.
fn chunks(cluster: &Cluster, topic: &str) -> Result<BTreeMap<String, BTreeMap<u64, Vec<Chunk>>>> {
    let mut last: BTreeMap<Vec<u8>, (u32, Option<Vec<u8>>)> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        for record in read_partition(cluster, topic, partition)? {
            last.insert(record.key, (partition, record.value));
        }
    }
    let mut found: BTreeMap<String, BTreeMap<u64, Vec<Chunk>>> = BTreeMap::new();
    for (key, (partition, value)) in last {
        let (task, position, ..) = key_parts(&key).context("not the key of a checkpoint")?;
        let Some(value) = value else { continue };
        let of_task = found.entry(task.to_owned()).or_default();
        of_task.entry(position).or_default().push((key.clone(), partition, value));
    }
    Ok(found)
}
