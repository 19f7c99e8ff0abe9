//! Figures that are read off the log and the ingesters when somebody asks for metrics.

use std::sync::{Arc, Mutex, PoisonError};

use engine::batch::RawBatch;
use prometheus::{
    GaugeVec, IntGaugeVec,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::{
    clock,
    driver::Shared,
    ingest::IngestProgress,
    metrics::{Figure, Stage},
    ports::{Log, PROCESS},
    serve::SinkStatus,
};

/// What the run's loop tells, and metrics and status show.
#[derive(Default)]
pub(super) struct Latest {
    /// Written by the run's loop.
    pub ingest: Mutex<Vec<IngestProgress>>,
    /// Written by the run's loop.
    pub sinks: Mutex<Vec<SinkStatus>>,
}

/// Reads figures when it is asked.
pub(super) struct Observed {
    shared: Arc<Shared>,
    latest: Arc<Latest>,
    /// One request at a time fills the gauges and reads them out.
    gauges: Mutex<Gauges>,
}

struct Gauges {
    lag_records: IntGaugeVec,
    lag_seconds: GaugeVec,
    checkpoint_age: GaugeVec,
    ingest: IntGaugeVec,
    ingest_rate: GaugeVec,
    sink_lag: IntGaugeVec,
}

impl Gauges {
    fn all(&self) -> [&dyn Collector; 6] {
        [&self.lag_records, &self.lag_seconds, &self.checkpoint_age, &self.ingest, &self.ingest_rate, &self.sink_lag]
    }
}

impl Observed {
    pub(super) fn new(shared: Arc<Shared>, latest: Arc<Latest>) -> Self {
        let gauges = Gauges {
            lag_records: Figure::LagRecords.integers(),
            lag_seconds: Figure::LagSeconds.numbers(),
            checkpoint_age: Figure::CheckpointAge.numbers(),
            ingest: Figure::IngestEvents.integers(),
            ingest_rate: Figure::IngestRate.numbers(),
            sink_lag: Figure::SinkLag.integers(),
        };
        Self { shared, latest, gauges: Mutex::new(gauges) }
    }

    fn fill(&self, gauges: &Gauges) {
        self.lag(gauges);
        for stage in Stage::ALL {
            let mine = |task: &String| Stage::of_task(task) == stage;
            let tasks: Vec<String> = self.shared.tasks().into_iter().filter(mine).collect();
            let age = self.shared.metrics.checkpoint_age(&tasks);
            gauges.checkpoint_age.with_label_values(&[stage.label()]).set(age.as_secs_f64());
        }
        for ingester in self.latest.ingest.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            gauges.ingest.with_label_values(&[&ingester.name]).set(whole(ingester.read));
            gauges.ingest_rate.with_label_values(&[&ingester.name]).set(ingester.rate);
        }
        for sink in self.latest.sinks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            gauges.sink_lag.with_label_values(&[&sink.name]).set(whole(sink.lag));
        }
    }

    fn lag(&self, gauges: &Gauges) {
        let log = &self.shared.log;
        let mut batch = RawBatch::default();
        for source in self.shared.sources() {
            let at = self.shared.layout.source(source);
            let name = source.name(&self.shared.plan);
            let Some((topic, partition)) = name.rsplit_once('/') else { continue };
            let position = log.position(PROCESS, at).ok().flatten().unwrap_or(0);
            let waiting = log.offsets(at).end.saturating_sub(position);
            gauges.lag_records.with_label_values(&[topic, partition]).set(whole(waiting));
            batch.clear();
            let read = log.read(at, position..position + 1, 1, &mut batch);
            let arrival = batch.records.first().filter(|_| read.is_ok()).map(|record| record.arrival);
            let waited = arrival.map_or(0, |arrival| (clock::now() - arrival).max(0));
            gauges.lag_seconds.with_label_values(&[topic, partition]).set(waited as f64 / 1_000.0);
        }
    }
}

impl Collector for Observed {
    fn desc(&self) -> Vec<&Desc> {
        // Unchecked: figures with these names are made here only.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill(&gauges);
        gauges.all().into_iter().flat_map(Collector::collect).collect()
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
