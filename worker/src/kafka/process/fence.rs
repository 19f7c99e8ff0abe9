//! Ends transactions that the dead left open.
//!
//! Whoever reads what is committed waits at an open transaction, and its broker would wait for 15 s and more before it ends
//! it. A committed offset says in its metadata whose transaction wrote it; a writer that is no member of the group any
//! more is fenced by asking for its transactional id. That ends its transaction at once, and should it still live (stopped,
//! cut off), its next commit fails and it starts over.

use std::collections::BTreeSet;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, Producer as _},
};

use super::member::{Member, Place};
use crate::{
    kafka::{
        client::{Cluster, REQUEST_TIME_MAX, failed},
        connection::Connection,
        context::Logged,
        names::Names,
    },
    ports::LogError,
};

/// Fences whoever wrote last to one of `places` and is gone. `own` is this thread's transactional id.
///
/// # Errors
/// Where a broker does not answer.
pub fn fence_the_dead(
    cluster: &Cluster,
    names: &Names,
    member: &Member,
    places: &[Place],
    own: &str,
) -> Result<(), LogError> {
    let writers = last_writers(cluster, names, places)?;
    let strangers: Vec<&String> = writers.iter().filter(|writer| writer.as_str() != own).collect();
    if strangers.is_empty() {
        return Ok(());
    }
    let alive = member.members()?;
    for writer in strangers.into_iter().filter(|writer| !alive.contains(writer)) {
        let wrong = |error| failed("fence", writer, error);
        let producer: Connection<BaseProducer<Logged>> =
            cluster.open(&cluster.transactional(writer), Logged).map_err(wrong)?;
        producer.init_transactions(REQUEST_TIME_MAX).map_err(wrong)?;
        tracing::info!(writer, "fenced a writer that is gone");
    }
    Ok(())
}

/// Who committed the offsets of `places`, finished or not: this question must not wait for an open transaction.
fn last_writers(cluster: &Cluster, names: &Names, places: &[Place]) -> Result<BTreeSet<String>, LogError> {
    let group = names.process_group();
    let wrong = |error| failed("fetch offsets of", &group, error);
    let mut config = cluster.consumer(&group);
    config.set("isolation.level", "read_uncommitted");
    let consumer: Connection<BaseConsumer<Logged>> = cluster.open(&config, Logged).map_err(wrong)?;
    let mut asked = TopicPartitionList::new();
    for place in places {
        asked.add_partition_offset(&place.topic, place.partition as i32, Offset::Invalid).map_err(wrong)?;
    }
    let told = consumer.committed_offsets(asked, REQUEST_TIME_MAX).map_err(wrong)?;
    let writers = told.elements().iter().map(|element| element.metadata().to_owned()).collect::<Vec<_>>();
    // The group is this pipeline's own, but offsets can be set by hand: only names of our own making count.
    let ours = names.process_transaction("", 0);
    let prefix = ours.trim_end_matches(".0").to_owned();
    Ok(writers.into_iter().filter(|writer| writer.starts_with(&prefix)).collect())
}
