//! What brokers know beside an archive: how far it was written, whether a topic has more, and the live rows.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{
    client::{Cluster, REQUEST_TIME_MAX, failed},
    compacted::{Flow, read_from},
    connection::Connection,
    context::Logged,
    feed::{Feed, FeedRecord},
    names::Names,
    unread::watermarks_within,
};
use crate::{history::archive::Place, ports::LogError};

/// How often processors are looked at while they are behind.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long processors may stand still before nobody waits for them any longer.
const STANDING_STILL_MAX: Duration = Duration::from_secs(60);

/// How long a commit of a processor may take to be seen, after the longest `emit.every` of its tables.
const COMMIT_SEEN: Duration = Duration::from_secs(2);

/// Committed positions of a group; partitions without one are left out.
///
/// # Errors
/// Where no broker answers.
pub fn committed<'p>(
    cluster: &Cluster,
    group: &str,
    places: impl IntoIterator<Item = &'p Place>,
) -> Result<BTreeMap<Place, u64>, LogError> {
    // It never joins the group: it only asks for what the group committed.
    let consumer: Connection<BaseConsumer<Logged>> = cluster.create(&cluster.consumer(group))?;
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in places {
        asked.add_partition(topic, *partition as i32);
    }
    let told = consumer.committed_offsets(asked, REQUEST_TIME_MAX);
    let told = told.map_err(|error| failed("ask", &cluster.bootstrap, error))?;
    let known = told.elements().into_iter().filter_map(|each| {
        let place = (each.topic().to_owned(), each.partition() as u32);
        Some((place, each.offset().to_raw()?.try_into().ok()?))
    });
    Ok(known.collect())
}

/// The first committed record at or behind `from`.
fn first_record(cluster: &Cluster, (topic, partition): &Place, from: Offset) -> Result<Option<u64>, LogError> {
    let mut found = None;
    read_from(cluster, topic, &[*partition], from, |message| {
        found = Some(message.offset() as u64);
        Flow::Stop
    })?;
    Ok(found)
}

/// Whether a partition has no record at or behind `next`.
///
/// # Errors
/// Where it cannot be read.
pub fn ends_before(cluster: &Cluster, place: &Place, next: u64) -> Result<bool, LogError> {
    let from = if next == 0 { Offset::Beginning } else { Offset::Offset(next as i64) };
    Ok(first_record(cluster, place, from)?.is_none_or(|offset| offset < next))
}

/// Whether a partition never had a record before `first`; without one, whether it never had any.
///
/// # Errors
/// Where it cannot be read.
pub fn begins_at(cluster: &Cluster, place: &Place, first: Option<u64>) -> Result<bool, LogError> {
    if first == Some(0) {
        return Ok(true);
    }
    let start = oldest(cluster, place)?;
    let found = first_record(cluster, place, Offset::Beginning)?;
    Ok(start == 0 && found.is_none_or(|found| first.is_some_and(|first| found >= first)))
}

/// The first offset that a partition still has.
///
/// # Errors
/// Where no broker answers.
pub fn oldest(cluster: &Cluster, place: &Place) -> Result<u64, LogError> {
    let consumer: Connection<BaseConsumer<Logged>> = cluster.create(&cluster.consumer("clickstream-readers"))?;
    let reach = watermarks_within(&consumer, &place.0, place.1 as i32, REQUEST_TIME_MAX);
    Ok(reach.map_err(|error| failed("read", &place.0, error))?.0.max(0) as u64)
}

/// Waits until processors have read everything before these positions, and what came of it.
///
/// # Errors
/// Where no broker answers, or processors stand still.
pub fn wait_for(
    cluster: &Cluster,
    names: &Names,
    positions: &BTreeMap<Place, u64>,
    partitions: u32,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<()> {
    follow(cluster, names, positions, &mut tell)?;
    let consumer: Connection<BaseConsumer<Logged>> = cluster.create(&cluster.consumer("clickstream-readers"))?;
    let mut ends = BTreeMap::new();
    for partition in 0..partitions {
        let reach = watermarks_within(&consumer, &names.shuffle(), partition as i32, REQUEST_TIME_MAX);
        let (_, end) = reach.map_err(|error| failed("read", &names.shuffle(), error))?;
        ends.insert((names.shuffle(), partition), end as u64);
    }
    follow(cluster, names, &ends, &mut tell)
}

fn follow(
    cluster: &Cluster,
    names: &Names,
    positions: &BTreeMap<Place, u64>,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<()> {
    let mut heard = (Instant::now(), BTreeMap::new());
    loop {
        let reached = committed(cluster, &names.process_group(), positions.keys())?;
        let mut behind = Vec::new();
        for (place, wanted) in positions {
            let at = reached.get(place).copied().unwrap_or_default();
            // Markers of transactions take offsets at the end: nobody reads up to them.
            if at < *wanted && !ends_before(cluster, place, at)? {
                behind.push(format!("{}-{}: {at} of {wanted}", place.0, place.1));
            }
        }
        if behind.is_empty() {
            return Ok(());
        }
        if heard.1 != reached {
            heard = (Instant::now(), reached);
        }
        if heard.0.elapsed() > STANDING_STILL_MAX {
            bail!(
                "processors do not get as far as the archive ({}); is `clickstream process` running?",
                behind.join(", ")
            );
        }
        tell(&format!("waiting for processors: {}", behind.join(", ")));
        thread::park_timeout(LOOK_EVERY);
    }
}

/// Calls `each` with every live row, once everything that processors have read is told: `emit_every` is the longest that a row
/// may be held back.
///
/// # Errors
/// Where the results cannot be read, or what `each` says.
pub fn live_rows(
    cluster: &Cluster,
    names: &Names,
    emit_every: Duration,
    mut each: impl FnMut(&FeedRecord) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let whole_at = Instant::now() + emit_every + COMMIT_SEEN;
    let mut feed = Feed::open(cluster, &names.results(), 0, 0)?;
    let mut batch = Vec::new();
    let mut end = None;
    loop {
        batch.clear();
        feed.read(Duration::from_millis(200), &mut batch)?;
        batch.iter().try_for_each(&mut each)?;
        // While rows flow there is always one more: what was there when everything was told is enough.
        if end.is_none() && Instant::now() >= whole_at {
            end = Some(feed.end()?);
        }
        if end.is_some_and(|end| feed.position() >= end || (feed.is_caught_up() && batch.is_empty())) {
            return Ok(());
        }
    }
}
