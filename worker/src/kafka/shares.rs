//! Shares of a dataset ingester among its replicas: a consumer group over a topic without records gives them out, and a
//! transactional id for each fences whoever had it before.
//!
//! The group decides who should write; the transactional ids decide who can. A replica that is given a share asks for its id
//! first and reads its progress then: its predecessor, dead or asleep, commits nothing after that.
//!
//! Commits of different shares are under way at once, one of each: that a commit failed is heard with the share's next one,
//! or when it is asked whose the shares are, and the share is then begun again from what is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    producer::BaseProducer,
};

use super::{
    client::{Cluster, SESSION_MS, failed},
    connection::Connection,
    context::Logged,
    courier::Courier,
    feed::{Feed, FeedRecord},
    inlet::{KafkaInlet, Wire},
    names::Names,
};
use crate::ports::{IngestLog, IngestRecord, LogError, Shares, share_name};

/// How long after it was fenced a share is asked for again, should the group still give it to us: by then the group knows
/// who lives.
const AFTER_FENCED: Duration = Duration::from_millis(SESSION_MS as u64);

/// How often whoever waits for brokers takes part in the group's affairs meanwhile: while one of its members does not, nobody is
/// given anything.
const TAKE_PART_EVERY: Duration = Duration::from_millis(50);

/// How long the first question for what all replicas have committed may take, and each step of it.
const HEAR_TIME_MAX: Duration = Duration::from_secs(3);
const HEAR_STEP: Duration = Duration::from_millis(100);

/// What the replicas of an ingester write to.
pub struct KafkaShares {
    cluster: Cluster,
    names: Names,
    ingester: String,
    wire: Wire,
    group: Connection<BaseConsumer<Logged>>,
    /// Shares that are ours, each with its producer.
    open: BTreeMap<u32, Courier>,
    /// Shares that another took from us, and when to ask for them again.
    fenced: BTreeMap<u32, Instant>,
    /// What all replicas commit.
    feed: Feed,
    heard: BTreeMap<u32, Vec<u8>>,
    batch: Vec<FeedRecord>,
    partitions: BTreeMap<String, u32>,
}

impl KafkaShares {
    /// Joins the group of the ingester's replicas.
    ///
    /// # Errors
    /// Where the configuration is refused or no broker answers.
    pub fn join(cluster: &Cluster, names: &Names, ingester: &str, wire: Wire) -> Result<Self, LogError> {
        let mut config = cluster.consumer(&names.ingest_group(ingester));
        config.set("partition.assignment.strategy", "cooperative-sticky");
        let wrong = |error| failed("join the group at", &cluster.bootstrap, error);
        let group: Connection<BaseConsumer<Logged>> = cluster.open(&config, Logged).map_err(wrong)?;
        group.subscribe(&[&names.shares()]).map_err(wrong)?;
        let client: Connection<BaseProducer<Logged>> = cluster.open(&cluster.producer(), Logged).map_err(wrong)?;
        Ok(Self {
            cluster: cluster.clone(),
            names: names.clone(),
            ingester: ingester.to_owned(),
            wire,
            partitions: super::inlet::count_partitions(&client, &cluster.bootstrap)?,
            feed: Feed::open(cluster, &names.progress(), 0, 0)?,
            group,
            open: BTreeMap::new(),
            fenced: BTreeMap::new(),
            heard: BTreeMap::new(),
            batch: Vec::new(),
        })
    }

    /// Takes part in the group's affairs. There are no records.
    fn take_part(&self) {
        if let Some(Err(error)) = self.group.poll(Duration::ZERO) {
            tracing::debug!(%error, "the group of replicas says");
        }
    }

    /// The shares that the group gives us.
    fn given(&self) -> Result<BTreeSet<u32>, LogError> {
        self.take_part();
        let place = &self.cluster.bootstrap;
        let assigned = self.group.assignment().map_err(|error| failed("ask the group at", place, error))?;
        Ok(assigned.elements().iter().map(|share| share.partition() as u32).collect())
    }

    /// Opens shares at once: each waits for brokers most of the time.
    fn open_all(&mut self, shares: Vec<u32>) -> Result<(), LogError> {
        let connect = |share: u32| {
            let id = self.names.ingest_transaction(&share_name(&self.ingester, share));
            let inlet = KafkaInlet::connect_share(&self.cluster, &self.names, &id, self.wire.clone())?;
            Courier::start(share_name(&self.ingester, share), inlet)
        };
        let opened: Vec<(u32, Result<Courier, LogError>)> = thread::scope(|scope| {
            let threads: Vec<_> =
                shares.into_iter().map(|share| (share, scope.spawn(move || connect(share)))).collect();
            while !threads.iter().all(|(_, thread)| thread.is_finished()) {
                self.take_part();
                thread::park_timeout(TAKE_PART_EVERY);
            }
            let joined = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or(Err(LogError::Closed));
            threads.into_iter().map(|(share, thread)| (share, joined(thread))).collect()
        });
        for (share, inlet) in opened {
            match inlet {
                Ok(courier) => drop(self.open.insert(share, courier)),
                // Somebody newer asked for it at the same moment, or the brokers are away.
                Err(LogError::Fenced | LogError::Io { .. }) => {
                    self.fenced.insert(share, Instant::now() + AFTER_FENCED);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hears how commits ended, and waits for all of them if it is asked to; whether a share was lost by that.
    fn hear(&mut self, to_the_end: bool) -> Result<bool, LogError> {
        let shares: Vec<u32> = self.open.keys().copied().collect();
        let mut is_lost = false;
        for share in shares {
            match if to_the_end { self.settle(share) } else { self.look(share, Duration::ZERO).map(drop) } {
                Ok(()) => {}
                Err(LogError::Fenced) => is_lost = true,
                Err(error) => return Err(error),
            }
        }
        Ok(is_lost)
    }

    /// Waits for a share's commit, and takes part in the group's affairs meanwhile.
    fn settle(&mut self, share: u32) -> Result<(), LogError> {
        while !self.look(share, TAKE_PART_EVERY)? {
            self.take_part();
        }
        Ok(())
    }

    /// Waits for a share's commit, at most for so long; whether it has ended. A share that is another's now is ours no more.
    fn look(&mut self, share: u32, limit: Duration) -> Result<bool, LogError> {
        let ended = self.open.get_mut(&share).ok_or(LogError::Fenced)?.settle(limit);
        if matches!(ended, Err(LogError::Fenced)) {
            self.lose(share);
        }
        ended
    }

    /// Another replica has this share now.
    fn lose(&mut self, share: u32) {
        tracing::warn!(
            ingester = self.ingester,
            share,
            "this share is another's now, or the brokers gave its producer up"
        );
        self.open.remove(&share);
        self.fenced.insert(share, Instant::now() + AFTER_FENCED);
    }

    fn share_of(&self, name: &str) -> Option<u32> {
        name.strip_prefix(&self.ingester)?.strip_prefix('/')?.parse().ok()
    }
}

impl Shares for KafkaShares {
    fn ours(&mut self) -> Result<Option<Vec<u32>>, LogError> {
        if self.wire.stop.load(Ordering::Acquire) {
            return Err(LogError::Closed);
        }
        let is_lost = self.hear(false)?;
        let (given, now) = (self.given()?, Instant::now());
        self.fenced.retain(|share, until| given.contains(share) && now < *until);
        let taken: Vec<u32> = self.open.keys().filter(|share| !given.contains(share)).copied().collect();
        let wanted = given.iter().filter(|share| !self.open.contains_key(share) && !self.fenced.contains_key(share));
        let wanted: Vec<u32> = wanted.copied().collect();
        if taken.is_empty() && wanted.is_empty() && !is_lost {
            return Ok(None);
        }
        // From here on what is committed counts, and only that.
        self.hear(true)?;
        taken.iter().for_each(|share| drop(self.open.remove(share)));
        self.open_all(wanted)?;
        let ours: Vec<u32> = self.open.keys().copied().collect();
        if self.fenced.is_empty() {
            self.wire.downstream.succeeded();
        }
        tracing::info!(ingester = self.ingester, ?ours, "shares");
        Ok(Some(ours))
    }

    fn heard(&mut self) -> Result<&BTreeMap<u32, Vec<u8>>, LogError> {
        let deadline = Instant::now() + HEAR_TIME_MAX;
        loop {
            // The first time there is much to hear; after that it comes by itself.
            let wait = if self.feed.is_caught_up() { Duration::ZERO } else { HEAR_STEP };
            self.batch.clear();
            self.feed.read(wait, &mut self.batch)?;
            for record in std::mem::take(&mut self.batch) {
                let share = self.share_of(&String::from_utf8_lossy(&record.key));
                if let (Some(share), Some(progress)) = (share, record.value) {
                    self.heard.insert(share, progress);
                }
            }
            if self.feed.is_caught_up() || Instant::now() >= deadline {
                return Ok(&self.heard);
            }
        }
    }
}

impl IngestLog for KafkaShares {
    fn commit(&mut self, ingester: &str, records: &[IngestRecord<'_>], progress: &[u8]) -> Result<(), LogError> {
        let share = self.share_of(ingester).ok_or(LogError::Fenced)?;
        self.settle(share)?;
        self.open.get_mut(&share).ok_or(LogError::Fenced)?.send(records, progress)
    }

    fn progress(&self, ingester: &str) -> Result<Option<Vec<u8>>, LogError> {
        let courier = self.share_of(ingester).and_then(|share| self.open.get(&share));
        Ok(courier.and_then(Courier::progress).cloned())
    }

    fn partitions(&self, topic: &str) -> u32 {
        self.partitions.get(topic).copied().unwrap_or(0)
    }

    fn shares(&mut self) -> Option<&mut dyn Shares> {
        Some(self)
    }
}
