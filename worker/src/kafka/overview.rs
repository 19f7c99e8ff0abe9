//! Topics of a pipeline with their partitions: what lies in them, how far each group has read, and who owns what.

use std::collections::BTreeMap;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde::Serialize;

use super::{
    client::{Cluster, REQUEST_TIME_MAX, failed},
    connection::Connection,
    context::Logged,
    unread::watermarks_within,
};
use crate::ports::LogError;

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionOverview {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: u32,
    /// First offset that is still there.
    pub start: u64,
    /// Offset behind the last record.
    pub end: u64,
    /// Groups that read it.
    pub groups: Vec<GroupOverview>,
}

/// How far a group has read a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupOverview {
    /// The group.
    pub group: String,
    /// The committed offset; none if nothing was committed.
    pub offset: Option<u64>,
    /// Offsets from there to the end, markers of transactions among them.
    pub lag: u64,
    /// Client id and host of the member that has it, if one has.
    pub owner: Option<String>,
}

type Place = (String, i32);

/// Looks at `topics`, those that exist, and at what `groups` have to do with them.
///
/// # Errors
/// Where no broker answers.
pub fn overview(cluster: &Cluster, topics: &[String], groups: &[String]) -> Result<Vec<PartitionOverview>, LogError> {
    let wrong = |error| failed("ask", &cluster.bootstrap, error);
    let asking = asker(cluster, "clickstream-readers")?;
    let metadata = asking.fetch_metadata(None, REQUEST_TIME_MAX).map_err(wrong)?;
    let mut places: Vec<Place> = Vec::new();
    for topic in topics {
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let count = found.map_or(0, |found| found.partitions().len() as i32);
        places.extend((0..count).map(|partition| (topic.clone(), partition)));
    }
    let mut all = Vec::new();
    for (topic, partition) in &places {
        let (start, end) = watermarks_within(&asking, topic, *partition, REQUEST_TIME_MAX).map_err(wrong)?;
        let (start, end) = (start as u64, end as u64);
        all.push(PartitionOverview {
            topic: topic.clone(),
            partition: *partition as u32,
            start,
            end,
            groups: Vec::new(),
        });
    }
    for group in groups {
        let committed = committed(cluster, group, &places)?;
        let owners = owners(&asking, group).map_err(wrong)?;
        for at in &mut all {
            let place = (at.topic.clone(), at.partition as i32);
            let (offset, owner) = (committed.get(&place).copied(), owners.get(&place).cloned());
            if offset.is_some() || owner.is_some() {
                let lag = at.end.saturating_sub(offset.unwrap_or(0).max(at.start));
                at.groups.push(GroupOverview { group: group.clone(), offset, lag, owner });
            }
        }
    }
    Ok(all)
}

/// A consumer that never joins: it only asks.
fn asker(cluster: &Cluster, group: &str) -> Result<Connection<BaseConsumer<Logged>>, LogError> {
    let mut config = cluster.consumer(group);
    // The question must not wait for an open transaction.
    config.set("isolation.level", "read_uncommitted");
    cluster.create(&config)
}

fn committed(cluster: &Cluster, group: &str, places: &[Place]) -> Result<BTreeMap<Place, u64>, LogError> {
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in places {
        asked.add_partition(topic, *partition);
    }
    let told = asker(cluster, group)?.committed_offsets(asked, REQUEST_TIME_MAX);
    let told = told.map_err(|error| failed("fetch offsets of", group, error))?;
    let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
        Offset::Offset(offset) => Some(((element.topic().to_owned(), element.partition()), offset as u64)),
        _ => None,
    };
    Ok(told.elements().iter().filter_map(offset).collect())
}

/// Client id and host by partition.
fn owners(asking: &BaseConsumer<Logged>, group: &str) -> Result<BTreeMap<Place, String>, rdkafka::error::KafkaError> {
    let told = asking.fetch_group_list(Some(group), REQUEST_TIME_MAX)?;
    let mut owners = BTreeMap::new();
    for member in told.groups().iter().flat_map(|group| group.members()) {
        let owner = format!("{} {}", member.client_id(), member.client_host());
        let places = member.assignment().and_then(assignment).unwrap_or_default();
        owners.extend(places.into_iter().map(|place| (place, owner.clone())));
    }
    Ok(owners)
}

/// An assignment of Kafka's consumer protocol: version, topics with their partitions, and what the strategy adds, which is
/// left. None where it is something else.
fn assignment(bytes: &[u8]) -> Option<Vec<Place>> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (taken, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*taken)
    }
    let mut rest = bytes;
    take::<2>(&mut rest)?;
    let mut places = Vec::new();
    for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let (topic, behind) = rest.split_at_checked(length)?;
        let topic = std::str::from_utf8(topic).ok()?.to_owned();
        rest = behind;
        for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
            places.push((topic.clone(), i32::from_be_bytes(take(&mut rest)?)));
        }
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_anything_else_is_none() {
        let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 0];
        assert_eq!(assignment(&bytes), Some(vec![("t".into(), 3), ("t".into(), 7)]));
        bytes.truncate(18);
        assert_eq!(assignment(&bytes), None);
        assert_eq!(assignment(&[]), None);
    }
}
