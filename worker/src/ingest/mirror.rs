//! Events of another Kafka's topic, copied event by event: each once, however often this ends and begins again.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use engine::{
    batch::RawBatch,
    codec::{Corrupt, Reader, put_bytes, put_u64},
};

use super::{
    IngestError,
    control::Control,
    error::chain,
    limits::{BATCH_BYTES, BATCH_EVENTS, PACE_GATHER, UPSTREAM_RETRY},
    outbox::{Outbox, Topics},
};
use crate::ports::LogError;

/// A topic somewhere else.
pub trait Upstream: Debug + Send + Sync {
    /// What its positions belong to.
    fn topic(&self) -> &str;

    /// Begins to read: behind `stand`, or where the manifest says if there is none.
    ///
    /// # Errors
    /// [`LogError::Io`] where nobody answers, which may pass; else what will not.
    fn open(&self, stand: Option<&Stand>) -> Result<Box<dyn Tap>, LogError>;
}

/// An upstream that is being read.
pub trait Tap {
    /// Appends what is there, up to about so many bytes and events.
    ///
    /// # Errors
    /// As [`Upstream::open`].
    fn read(&mut self, batch: &mut RawBatch, bytes_max: usize, events_max: usize) -> Result<(), LogError>;

    /// Behind what was read.
    fn stand(&self) -> &Stand;

    /// How many events wait behind that, as far as is known without asking; nothing before anybody said so.
    fn waiting(&self) -> Option<u64>;

    /// Events that retention took before they were read, since this was opened.
    fn expired(&self) -> u64;
}

/// The next offset of each partition.
pub type Stand = BTreeMap<u32, u64>;

/// First byte of the progress: kind and version.
const TAG: u8 = 0x51;

/// How far the copy is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Progress {
    topic: String,
    events: u64,
    stand: Stand,
}

/// Copies an upstream.
#[derive(Debug)]
pub struct Feed {
    /// Whence.
    pub upstream: Arc<dyn Upstream>,
    /// When to end, if not before.
    pub until: Option<Instant>,
}

impl Feed {
    /// Copies from the committed progress on, until asked to end. Whoever does not answer is waited for.
    ///
    /// # Errors
    /// As the log says, or where waiting for the upstream does not help.
    pub fn run(self, topics: &mut Topics, outbox: &mut Outbox, control: &Control) -> Result<(), IngestError> {
        let topic = self.upstream.topic();
        let known = outbox.progress()?.map(|progress| read(&progress)).transpose();
        let known = known.map_err(|source| outbox.foreign(source))?;
        // What another topic was read to says nothing of this one.
        let known = known.filter(|progress| progress.topic == topic);
        let mut progress = known.unwrap_or_else(|| Progress { topic: topic.to_owned(), ..Progress::default() });
        control.begin(progress.events);
        let mut batch = RawBatch::default();
        let mut pause = UPSTREAM_RETRY.start;
        while !self.is_over(control) {
            let began = Instant::now();
            match self.copy(&mut progress, &mut batch, topics, outbox, control) {
                Err(IngestError::Upstream(error @ LogError::Io { .. })) => {
                    tracing::warn!(error = chain(&error), topic, "waiting for the other Kafka");
                    if began.elapsed() > UPSTREAM_RETRY.end * 2 {
                        pause = UPSTREAM_RETRY.start;
                    }
                    // Jitter is of no use: it is one process that asks.
                    if control.stopped_before(Instant::now() + pause) {
                        break;
                    }
                    pause = (pause * 2).min(UPSTREAM_RETRY.end);
                }
                ended => return ended,
            }
        }
        Ok(())
    }

    fn is_over(&self, control: &Control) -> bool {
        control.stopped() || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Copies until asked to end, or the upstream fails.
    fn copy(
        &self,
        progress: &mut Progress,
        batch: &mut RawBatch,
        topics: &mut Topics,
        outbox: &mut Outbox,
        control: &Control,
    ) -> Result<(), IngestError> {
        let stand = Some(&progress.stand).filter(|stand| !stand.is_empty());
        let mut tap = self.upstream.open(stand).map_err(IngestError::Upstream)?;
        let expired_before = control.expired.load(Ordering::Relaxed);
        if progress.stand != *tap.stand() {
            // A start that ends before the first event is not to begin later the next time, nor to tell again what retention took.
            progress.stand.clone_from(tap.stand());
            outbox.commit(&[], &write(progress))?;
        }
        while !self.is_over(control) {
            let began = Instant::now();
            batch.clear();
            tap.read(batch, BATCH_BYTES, BATCH_EVENTS).map_err(IngestError::Upstream)?;
            if !batch.records.is_empty() {
                let payloads = batch.records.iter().map(|record| batch.payload(record));
                let targets = topics.route(payloads.clone());
                let records: Vec<_> =
                    payloads.zip(0..).map(|(payload, at)| topics.record(targets.of(at), payload)).collect();
                progress.events += records.len() as u64;
                progress.stand.clone_from(tap.stand());
                outbox.commit(&records, &write(progress))?;
                control.count(records.len() as u64);
                drop(records);
                topics.turn();
            }
            control.expired.store(expired_before + tap.expired(), Ordering::Relaxed);
            control.waiting.store(tap.waiting().unwrap_or(u64::MAX), Ordering::Relaxed);
            let is_full = batch.records.len() >= BATCH_EVENTS || batch.bytes.len() >= BATCH_BYTES;
            if !is_full && control.stopped_before(began + PACE_GATHER) {
                break;
            }
        }
        Ok(())
    }
}

fn write(progress: &Progress) -> Vec<u8> {
    let mut out = vec![TAG];
    put_bytes(progress.topic.as_bytes(), &mut out);
    put_u64(progress.events, &mut out);
    put_u64(progress.stand.len() as u64, &mut out);
    for (partition, next) in &progress.stand {
        put_u64(u64::from(*partition), &mut out);
        put_u64(*next, &mut out);
    }
    out
}

fn read(bytes: &[u8]) -> Result<Progress, Corrupt> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != TAG {
        return Err(Corrupt("not the progress of a copy"));
    }
    let topic = std::str::from_utf8(reader.bytes()?).map_err(|_| Corrupt("the topic is no text"))?.to_owned();
    let (events, count) = (reader.u64()?, reader.u64()?);
    let mut stand = Stand::new();
    for _ in 0..count {
        let partition = u32::try_from(reader.u64()?).map_err(|_| Corrupt("no partition"))?;
        stand.insert(partition, reader.u64()?);
    }
    Ok(Progress { topic, events, stand })
}

/// How long nobody may have anything of a partition before others go on without it: see [`Merge`].
const HOLD: Duration = Duration::from_secs(1);

/// The same for one that is known to have more: its broker is slow, or away.
const HOLD_MAX: Duration = Duration::from_secs(30);

/// Older than this is history.
const HISTORY_MS: i64 = 5_000;

/// Whose record of several partitions comes next: the one that arrived first, so that a copy of history is in the order in which it
/// came about, and nobody is late who was not.
///
/// A partition that has nothing at hand holds the others up for [`HOLD`]: then it has ended. One that is known to have more does so for
/// [`HOLD_MAX`]. What arrived just now is not held up.
#[derive(Debug, Default)]
pub struct Merge {
    /// Until when partitions hold others up that have nothing, by number.
    empty: BTreeMap<u32, Instant>,
    /// Whether one of them holds the others up.
    holds: bool,
}

impl Merge {
    /// Time has passed.
    pub fn tick(&mut self) {
        let now = Instant::now();
        self.holds = self.empty.values().any(|until| *until > now);
    }

    /// A partition has something at hand, or nothing, although it is known to have more or not.
    pub fn look(&mut self, partition: u32, has_some: bool, has_more: impl FnOnce() -> bool) {
        if !has_some {
            let until = || Instant::now() + if has_more() { HOLD_MAX } else { HOLD };
            self.empty.entry(partition).or_insert_with(until);
            self.tick();
        } else if self.empty.remove(&partition).is_some() {
            self.tick();
        }
    }

    /// Whether a record that arrived then is to wait for partitions that have nothing yet.
    #[must_use]
    pub fn waits(&self, arrival: i64, now: i64) -> bool {
        self.holds && arrival < now - HISTORY_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_as_it_was_written() {
        for stand in [Stand::new(), Stand::from([(0, 7), (3, u64::MAX)])] {
            let progress = Progress { topic: "clicks".into(), events: 12, stand };
            let written = write(&progress);
            assert_eq!(read(&written).unwrap(), progress);
            assert!((0..written.len()).all(|end| read(&written[..end]).is_err()));
        }
        assert!(read(&[0x31]).is_err());
    }

    #[test]
    fn history_waits_for_a_partition_that_may_have_some_and_news_for_nobody() {
        let mut merge = Merge::default();
        let now = 1_000_000;
        assert!(!merge.waits(0, now));
        merge.look(1, false, || false);
        assert!(merge.waits(0, now) && !merge.waits(now - 10, now));
        merge.look(1, true, || false);
        assert!(!merge.waits(0, now));
        merge.empty.insert(2, Instant::now());
        merge.look(2, false, || true);
        assert!(!merge.waits(0, now), "it was waited for");
        for (partition, has_more) in [(3, false), (4, true)] {
            merge.look(partition, false, || has_more);
            let left = merge.empty[&partition].duration_since(Instant::now());
            assert!(merge.waits(0, now) && (left > HOLD) == has_more, "{left:?}");
        }
    }
}
