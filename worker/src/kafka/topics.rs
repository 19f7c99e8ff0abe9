//! Which topics a pipeline needs, and with which settings.

use std::collections::{BTreeMap, BTreeSet};

use crds::{Checked, spec};

use super::{catalogue::Epoch, client::MESSAGE_BYTES_MAX, names::Names};
use crate::ingest::limits::SHARES;

/// Partitions of the checkpoints: a task that recovers reads one of them whole.
const CHECKPOINT_PARTITIONS: u32 = 16;

/// How long dead letters wait to be looked at: 30 days.
const DEAD_LETTERS_MS: &str = "2592000000";

/// How long alerts wait for readers of the topics that they are written to: 30 days.
const ALERTS_MS: &str = "2592000000";

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
    /// Nobody in particular, as of one that several pipelines write alerts to: it is made where it is missing, and left as it is.
    Shared,
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

/// Copies of a topic from which on a write waits for a second one. With fewer, one that did could not be written to while a
/// broker is away, which brokers' own setting for all topics (`min.insync.replicas=2`) may well ask for.
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
    // What a pipeline computes is kept as safe as the safest of what it reads.
    let copies = spec.topics.iter().filter_map(|topic| topic.replication_factor).max();
    let shared = shared.into_iter().chain(shares).map(|wish| copied(wish, copies));
    shared
        .chain(raw)
        .chain(told(spec).map(|wish| copied(wish, copies)))
        .chain(epochs.iter().flat_map(of_epoch).map(|wish| copied(wish, copies)))
        .collect()
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
    let wish = TopicWish {
        name: topic.name.clone(),
        partitions: topic.partitions.max(1),
        care: match topic.management_policy {
            spec::ManagementPolicy::Observe => Care::Observed,
            spec::ManagementPolicy::Manage if topic.adopt => Care::Adopted,
            spec::ManagementPolicy::Manage => Care::Managed,
        },
        replication: None,
        settings,
        at_first: BTreeMap::new(),
    };
    let mut wish = copied(wish, topic.replication_factor);
    // An ingester whose event the topic does not take could only stop.
    wish.at_first.insert("max.message.bytes".into(), MESSAGE_BYTES_MAX.to_string());
    wish.at_first.retain(|name, _| !wish.settings.contains_key(name));
    wish
}

/// Topics that alerts are written to and the manifest says nothing else of.
fn told(spec: &spec::PipelineSpec) -> impl Iterator<Item = TopicWish> {
    let named = spec.alerts.iter().flat_map(|alert| &alert.notify).filter_map(|notify| notify.topic.as_ref());
    let named: BTreeSet<&String> = named.filter(|name| !spec.topics.iter().any(|topic| topic.name == **name)).collect();
    named.into_iter().map(|name| {
        let settings = BTreeMap::from([("retention.ms".to_owned(), ALERTS_MS.to_owned())]);
        TopicWish { care: Care::Shared, settings, ..own(name.clone(), 1, &[]) }
    })
}

fn own(name: String, partitions: u32, settings: &[(&str, &str)]) -> TopicWish {
    let mut all: BTreeMap<String, String> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    all.entry("cleanup.policy".into()).or_insert_with(|| "delete".into());
    all.insert("max.message.bytes".into(), MESSAGE_BYTES_MAX.to_string());
    TopicWish { name, partitions, care: Care::Own, replication: None, settings: all, at_first: BTreeMap::new() }
}

/// A topic with so many copies, or as many as brokers give it. Topics that exist stay as they are: others may have moved them, or
/// asked for more.
fn copied(wish: TopicWish, copies: Option<u16>) -> TopicWish {
    let in_sync = copies.map(|copies| if copies >= SAFE_COPIES { "2" } else { "1" });
    let at_first = in_sync.map(|count| ("min.insync.replicas".to_owned(), count.to_owned())).into_iter().collect();
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
    fn own_topics_have_as_many_copies_as_the_raw_one_that_has_most_and_all_can_lose_a_broker() {
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
            fn needed(wish: &TopicWish) -> Option<&str> {
                wish.at_first.get("min.insync.replicas").map(String::as_str)
            }
            for wish in raw {
                let expected = wish.replication.map(|copies| if copies > 2 { "2" } else { "1" });
                assert_eq!(needed(wish), expected, "{}", wish.name);
            }
            for wish in own {
                assert_eq!((wish.replication, needed(wish)), (copies, in_sync), "{}", wish.name);
            }
        };
        check(&[None], None, None);
        check(&[Some(1)], Some(1), Some("1"));
        check(&[Some(2)], Some(2), Some("1"));
        check(&[Some(1), Some(3), None], Some(3), Some("2"));
        check(&[Some(5), Some(3)], Some(5), Some("2"));
    }

    #[test]
    fn what_the_manifest_says_of_a_topic_stands() {
        let mut checked = crds::check(include_str!("../../../examples/category-sales.yaml"), &[]).unwrap();
        let topic = &mut checked.manifest.spec.topics[0];
        topic.replication_factor = Some(2);
        topic.config.insert("min.insync.replicas".into(), "2".into());
        let wish = raw(topic, true);
        assert_eq!(wish.at_first.keys().collect::<Vec<_>>(), ["max.message.bytes"]);
        topic.config.insert("max.message.bytes".into(), "1000".into());
        assert!(raw(topic, true).at_first.is_empty());
    }
}
