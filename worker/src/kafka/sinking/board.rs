//! A sink as its group and its watchers see it: member, ready or not, figures.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use prometheus::{IntCounter, IntGauge, Registry};
use rdkafka::{
    TopicPartitionList,
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
    error::KafkaError,
};

use super::topic::{Input, Producers};
use crate::{health::downstream::Downstream, kafka::context};

/// What requests for health read.
#[derive(Default)]
pub(super) struct Board {
    /// The group has given us what it has for us.
    pub joined: AtomicBool,
    pub caught_up: AtomicBool,
    /// Written by the sink after each attempt.
    pub downstream: Downstream,
}

impl Board {
    /// A session begins: it has joined nothing yet.
    pub(super) fn begin(&self) {
        self.joined.store(false, Ordering::Release);
        self.caught_up.store(false, Ordering::Release);
    }

    pub(super) fn ready(&self) -> Result<(), String> {
        self.downstream.ready()?;
        match (self.joined.load(Ordering::Acquire), self.caught_up.load(Ordering::Acquire)) {
            (true, true) => Ok(()),
            (true, false) => Err("reading what was written before".into()),
            (false, _) => Err("waiting for the group".into()),
        }
    }
}

/// Counts rebalances; everything read before one is read again.
pub(super) struct Membership {
    pub board: Arc<Board>,
    pub generation: AtomicU64,
    /// Of a sink that writes to a topic.
    pub producers: Option<Arc<Producers>>,
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        context::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        context::error(&error, reason);
    }
}

impl ConsumerContext for Membership {
    /// Before positions are fetched: nobody else writes for these partitions from here on.
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Some(producers) = &self.producers else { return };
        let Rebalance::Assign(given) = rebalance else { return producers.give_up() };
        if let Err(error) = producers.take_over(&inputs(given)) {
            tracing::warn!(%error, "what a predecessor wrote is not ended yet");
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.board.joined.store(matches!(rebalance, Rebalance::Assign(_)), Ordering::Release);
    }
}

pub(super) struct Metrics {
    pub registry: Registry,
    pub written: IntCounter,
    pub failures: IntCounter,
    pub lag: IntGauge,
}

impl Metrics {
    pub(super) fn new() -> anyhow::Result<Self> {
        let registry = Registry::new();
        let written = IntCounter::new("clickstream_sink_records_total", "Records read and written, or passed over.")?;
        let failures = IntCounter::new("clickstream_sink_failures_total", "Attempts to write that failed.")?;
        let lag = IntGauge::new("clickstream_sink_lag_records", "Records that are not written yet.")?;
        registry.register(Box::new(written.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(lag.clone()))?;
        Ok(Self { registry, written, failures, lag })
    }
}

/// The partitions of a list.
pub(super) fn inputs(given: &TopicPartitionList) -> Vec<Input> {
    given.elements().iter().map(|place| (place.topic().to_owned(), place.partition())).collect()
}
