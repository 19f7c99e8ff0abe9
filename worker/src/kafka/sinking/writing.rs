//! Writing until it is written, however long that takes: the sink stays a member of its group meanwhile, and
//! its lag is told.
//!
//! A database that is away for an hour would else cost the membership after five minutes (`max.poll.interval.ms`), and the
//! figure that grows would be the one that nobody sees.

use std::{
    ops::ControlFlow,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crossbeam_channel::{RecvTimeoutError, TryRecvError};
use rdkafka::{TopicPartitionList, consumer::Consumer as _};

use super::{
    Member, Polled, Record, Store,
    files::{Files, Offsets, is_away},
};
use crate::{
    kafka::unread::watermarks,
    sink::{
        limits::{LOOK_EVERY, RETRY},
        row::Change,
    },
};

/// What takes batches, or does not for a while.
pub(super) trait Writer {
    /// What it takes.
    type Item;

    /// Whether a write may take so long that it is given up where somebody asks for the end.
    const IS_SLOW: bool;

    /// Whether there is nothing to be tried where there is nothing to be written.
    fn is_idle(&self) -> bool;

    /// Takes all of it, or may be given all of it again.
    async fn write(&mut self, items: &[Self::Item]) -> anyhow::Result<()>;
}

impl Writer for Store {
    type Item = Change;

    const IS_SLOW: bool = false;

    fn is_idle(&self) -> bool {
        self.connected.is_some()
    }

    async fn write(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        let mut database = match self.connected.take() {
            Some(database) => database,
            None => self.connector.connect().await?,
        };
        database.write(changes).await?;
        self.connected = Some(database);
        Ok(())
    }
}

/// How often the brokers are asked how far the topics reach. A write that takes longer is none that goes well.
const LAG_EVERY: Duration = Duration::from_secs(2);

/// How a write ended.
pub(super) enum Written {
    /// Everything is written.
    All,
    /// The group has given other partitions meanwhile: what is not written is somebody's who reads it again.
    Lost,
    /// Somebody asked for the end before.
    Told,
}

/// The partitions from which nothing is read while a batch waits.
type Paused = Option<TopicPartitionList>;

impl Member<'_> {
    /// Writes items, which come of so many records, until they are written.
    pub(super) fn write<W: Writer>(&mut self, writer: &mut W, items: &[W::Item], records: usize) -> Written {
        if items.is_empty() && writer.is_idle() {
            return Written::All;
        }
        let (begun, mut pause, mut paused) = (Instant::now(), RETRY.start, None);
        let written = loop {
            let mut attempt = Box::pin(writer.write(items));
            let mut is_told = false;
            let ended = loop {
                let step = async { tokio::time::timeout(LOOK_EVERY, &mut attempt).await };
                if let Ok(ended) = self.runtime.block_on(step) {
                    break Some(ended);
                }
                is_told = W::IS_SLOW && self.signals.try_recv() != Err(TryRecvError::Empty);
                if is_told || (begun.elapsed() >= LAG_EVERY && !self.attend(&mut paused, records)) {
                    break None;
                }
            };
            drop(attempt);
            match ended {
                None if is_told => break Written::Told,
                None => break Written::Lost,
                Some(Ok(())) => {
                    self.board.downstream.succeeded();
                    break Written::All;
                }
                Some(Err(error)) => self.fail(&error, "what is written is not taken; trying again"),
            }
            if let Some(ended) = self.rest(pause, &mut paused, records) {
                break ended;
            }
            pause = (pause * 2).min(RETRY.end);
        };
        self.resume(paused);
        written
    }

    /// Takes records into files, until those that are due lie where they belong; returns the offsets behind those. A request to a
    /// bucket is not left before it is answered: for as long the group takes our partitions for ours.
    pub(super) fn shelve(
        &mut self,
        files: &mut Files,
        batch: &[Record],
    ) -> anyhow::Result<ControlFlow<Written, Offsets>> {
        let (mut pause, mut paused) = (RETRY.start, None);
        let ended = loop {
            match files.take(batch, &*self) {
                Ok(offsets) => {
                    self.board.downstream.succeeded();
                    break ControlFlow::Continue(offsets);
                }
                Err(error) if is_away(&error) => {
                    self.fail(&error, "the bucket does not take what is written; trying again")
                }
                Err(error) => return Err(error),
            }
            if let Some(ended) = self.rest(pause, &mut paused, batch.len()) {
                break ControlFlow::Break(ended);
            }
            pause = (pause * 2).min(RETRY.end);
        };
        self.resume(paused);
        Ok(ended)
    }

    /// Reads on.
    fn resume(&mut self, paused: Paused) {
        let Some(paused) = paused else { return };
        self.given_at = Instant::now();
        // Those that are not ours any more too: they would still be paused when the group gives them to us again.
        if let Err(error) = self.consumer.resume(&paused) {
            tracing::warn!(%error, "partitions stay paused");
        }
    }

    /// Waits before the next attempt; how the write ended, if it did.
    fn rest(&mut self, pause: Duration, paused: &mut Paused, records: usize) -> Option<Written> {
        // Sinks that failed together do not come back together.
        let jitter = pause.mul_f64(f64::from(crate::clock::now().rem_euclid(97) as u8) / 97.0);
        let until = Instant::now() + pause / 2 + jitter / 2;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            if !matches!(self.signals.recv_timeout(left.min(LOOK_EVERY)), Err(RecvTimeoutError::Timeout)) {
                return Some(Written::Told);
            }
            if !self.attend(paused, records) {
                return Some(Written::Lost);
            }
        }
    }

    /// Takes part in the group's affairs while a batch waits to be written; whether its partitions are still ours.
    fn attend(&mut self, paused: &mut Paused, records: usize) -> bool {
        if paused.is_none() {
            // What comes all the same is kept.
            let given = self.consumer.assignment();
            *paused = given.and_then(|given| self.consumer.pause(&given).map(|()| given)).ok();
        }
        self.look_if_due(records);
        match self.poll(Duration::ZERO) {
            Ok(Polled::Record(record)) => self.early.push(record),
            Ok(Polled::Nothing | Polled::Event) => {}
            // It is told again once there is something to read.
            Err(error) => tracing::debug!(error = format!("{error:#}"), "the group says"),
        }
        !self.is_new
    }

    /// Looks at the lag every now and then, `records` of a batch not being written yet; whether it was time to.
    pub(super) fn look_if_due(&mut self, records: usize) -> bool {
        let is_due = self.looked_at.elapsed() >= LAG_EVERY;
        if is_due {
            self.looked_at = Instant::now();
            self.look(records as i64);
        }
        is_due
    }

    /// Asks how much is left. A broker that does not answer leaves the last figure.
    fn look(&self, in_hand: i64) {
        let Ok(positions) = self.consumer.position() else { return };
        let mut lag = 0;
        for element in positions.elements() {
            let Ok((start, end)) = watermarks(&self.consumer, element.topic(), element.partition()) else { return };
            lag += end - element.offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(start);
        }
        // Ends of transactions have offsets too, and nobody reads them.
        let is_all = self.board.caught_up.load(Ordering::Acquire) && lag <= 2;
        self.metrics.lag.set(in_hand + if is_all { 0 } else { lag });
    }
}
