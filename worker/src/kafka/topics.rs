//! Which topics a pipeline needs, and with which settings.

use std::collections::BTreeMap;

use crds::{Checked, spec};

use super::{catalogue::Epoch, client::MESSAGE_BYTES_MAX, names::Names};
use crate::ingest::limits::SHARES;

/// Partitions of the checkpoints: a task that recovers reads one of them whole.
const CHECKPOINT_PARTITIONS: u32 = 16;

/// How long dead letters wait to be looked at: 30 days.
const DEAD_LETTERS_MS: &str = "2592000000";

/// How long accepted events wait for readers: 7 days.
const SILVER_MS: &str = "604800000";

/// Who looks after a topic that exists, and what may become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Others do, by `managementPolicy: Observe`: it is looked at, and never created, grown or set.
    Observed,
    /// We do, and by `adopt: true` also if it was there before the pipeline. It may grow.
    Adopted,
    /// We do, and we made it. It may grow.
    Managed,
    /// It is the pipeline's own. Its number of partitions is fixed for its life: what is where depends on it.
    Own,
}

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicWish {
    /// Name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Who looks after it.
    pub care: Care,
    /// Copies; the broker's default if none.
    pub replication: Option<u16>,
    /// Settings that differ from the broker's defaults.
    pub settings: BTreeMap<String, String>,
    /// Settings that it is made with, and that nobody looks at again.
    pub at_first: BTreeMap<String, String>,
}

/// Copies of the pipeline's own topics from which on a write waits for a second one.
const SAFE_COPIES: u16 = 3;

/// Every topic of the pipeline in the order in which they are made: those that all epochs share, those of the manifest, then
/// those of each epoch. First of all the progress topic: once it is there, topics of the manifest may be ours, so that a
/// `setup` that was interrupted goes on.
#[must_use]
pub fn wishes(checked: &Checked, epochs: &[Epoch]) -> Vec<TopicWish> {
    let names = Names::new(&checked.manifest.name);
    let (plan, spec) = (&checked.plan, &checked.manifest.spec);
    let raw = spec.topics.iter().map(|topic| raw(topic, plan.topics.iter().any(|read| read.name == topic.name)));
    let shared = [
        compacted(names.progress(), 1, "16777216"),
        own(names.dead_letters(), 1, &[("retention.ms", DEAD_LETTERS_MS)]),
        own(names.repaired(), 1, &[("message.timestamp.type", "LogAppendTime"), ("retention.ms", "-1")]),
    ];
    let is_shared = |ingester: &spec::Ingester| ingester.dataset.as_ref().is_some_and(spec::Dataset::has_shares);
    let shares = spec.ingest.iter().any(is_shared).then(|| own(names.shares(), SHARES, &[]));
    let copies = spec.topics.iter().filter_map(|topic| topic.replication_factor).max();
    let shared = shared.into_iter().chain(shares).map(|wish| copied(wish, copies));
    shared.chain(raw).chain(epochs.iter().flat_map(of_epoch).map(|wish| copied(wish, copies))).collect()
}

fn of_epoch(epoch: &Epoch) -> Vec<TopicWish> {
    let (names, plan) = (&epoch.names, &epoch.checked.plan);
    let silver = plan.streams.iter().filter(|stream| stream.silver);
    let silver = silver.map(|stream| own(names.silver(&stream.name), 1, &[("retention.ms", SILVER_MS)]));
    let own = [
        own(names.shuffle(), plan.shuffle_partitions, &[("retention.ms", "-1"), ("retention.bytes", "-1")]),
        compacted(names.results(), 1, "268435456"),
        compacted(names.checkpoints(), CHECKPOINT_PARTITIONS, "67108864"),
    ];
    own.into_iter().chain(silver).collect()
}

fn raw(topic: &spec::Topic, is_read: bool) -> TopicWish {
    let mut settings = topic.config.clone();
    if let Some(retention) = &topic.retention {
        settings.entry("retention.ms".into()).or_insert_with(|| retention.millis.to_string());
    }
    // An event's arrival is the broker's clock, not that of whoever sent it.
    if is_read && !topic.adopt {
        settings.entry("message.timestamp.type".into()).or_insert_with(|| "LogAppendTime".into());
    }
    TopicWish {
        name: topic.name.clone(),
        partitions: topic.partitions.max(1),
        care: match topic.management_policy {
            spec::ManagementPolicy::Observe => Care::Observed,
            spec::ManagementPolicy::Manage if topic.adopt => Care::Adopted,
            spec::ManagementPolicy::Manage => Care::Managed,
        },
        replication: topic.replication_factor,
        settings,
        at_first: BTreeMap::new(),
    }
}

fn own(name: String, partitions: u32, settings: &[(&str, &str)]) -> TopicWish {
    let mut all: BTreeMap<String, String> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    all.entry("cleanup.policy".into()).or_insert_with(|| "delete".into());
    all.insert("max.message.bytes".into(), MESSAGE_BYTES_MAX.to_string());
    TopicWish { name, partitions, care: Care::Own, replication: None, settings: all, at_first: BTreeMap::new() }
}

/// What a pipeline computes is kept as safe as the safest of what it reads. Topics that exist stay as they are: others may
/// have moved them, or asked for more.
fn copied(wish: TopicWish, copies: Option<u16>) -> TopicWish {
    let is_safe = copies.is_some_and(|copies| copies >= SAFE_COPIES);
    let at_first = is_safe.then(|| ("min.insync.replicas".to_owned(), "2".to_owned())).into_iter().collect();
    TopicWish { replication: copies, at_first, ..wish }
}

/// Segments are small, because the newest is never compacted and readers start at the first.
fn compacted(name: String, partitions: u32, segment_bytes: &str) -> TopicWish {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", segment_bytes),
        ("segment.ms", "600000"),
        ("min.cleanable.dirty.ratio", "0.2"),
    ];
    own(name, partitions, &settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::catalogue::{Catalogue, epochs};

    #[test]
    fn own_topics_have_as_many_copies_as_the_raw_one_that_has_most() {
        let text = include_str!("../../../examples/category-sales.yaml");
        let mut checked = crds::check(text, &[]).unwrap();
        let catalogue = Catalogue::default().or_first(&checked).unwrap();
        let epochs = epochs(&catalogue, &checked).unwrap();
        let mut check = |replication: &[Option<u16>], copies: Option<u16>, in_sync: Option<&str>| {
            let topic = checked.manifest.spec.topics[0].clone();
            let named = |(at, copies): (usize, &Option<u16>)| spec::Topic {
                name: format!("{}-{at}", topic.name),
                replication_factor: *copies,
                ..topic.clone()
            };
            checked.manifest.spec.topics = replication.iter().enumerate().map(named).collect();
            let wishes = wishes(&checked, &epochs);
            assert!(wishes[0].name.ends_with(".progress"), "the mark is made first");
            let (own, raw): (Vec<_>, Vec<_>) = wishes.iter().partition(|wish| wish.care == Care::Own);
            assert!(own.len() >= 6 && raw.iter().map(|wish| wish.replication).eq(replication.iter().copied()));
            assert!(raw.iter().all(|wish| wish.at_first.is_empty()));
            for wish in own {
                let first = wish.at_first.get("min.insync.replicas").map(String::as_str);
                assert_eq!((wish.replication, first), (copies, in_sync), "{}", wish.name);
            }
        };
        check(&[None], None, None);
        check(&[Some(2)], Some(2), None);
        check(&[Some(1), Some(3), None], Some(3), Some("2"));
        check(&[Some(5), Some(3)], Some(5), Some("2"));
    }
}
