//! What Prometheus sees of the operator. Names and labels stand here only.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};

/// Counters and gauges.
#[derive(Clone)]
pub struct Metrics {
    /// Everything, to print.
    pub registry: Registry,
    reconciles: IntCounterVec,
    duration: Histogram,
    writes: IntCounterVec,
    leader: IntGauge,
    in_progress_since: IntGauge,
    queue: IntGauge,
    failed_schedules: IntGauge,
    calls: IntCounterVec,
    blocked: IntGaugeVec,
    /// Why their specs do not run, by pipeline: written by their reconciles.
    blocked_by_pipeline: Arc<Mutex<BTreeMap<String, &'static str>>>,
    /// How many failed, by pipeline: written by their reconciles.
    failed_by_pipeline: Arc<Mutex<BTreeMap<String, usize>>>,
    /// How many reconciles began at each second and have not ended: written as they begin and end.
    in_progress: Arc<Mutex<BTreeMap<i64, u32>>>,
}

/// A reconcile under way. Dropped without [`InProgress::ended`], it was cut off and counts as an error.
pub struct InProgress {
    metrics: Metrics,
    unix_seconds: i64,
    started: Instant,
    is_ok: bool,
}

/// A pipeline that waits.
pub struct Queued(IntGauge);

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Panics
    /// If two have one name: a bug that any test finds.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let reconciles = register(
            &registry,
            IntCounterVec::new(
                Opts::new("clickstream_operator_reconciles_total", "Reconciles by result."),
                &["result"],
            ),
        );
        let seconds = HistogramOpts::new("clickstream_operator_reconcile_seconds", "How long a reconcile takes.");
        let duration =
            register(&registry, Histogram::with_opts(seconds.buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0])));
        let writes = register(
            &registry,
            IntCounterVec::new(
                Opts::new("clickstream_operator_writes_total", "Writes to the API server."),
                &["kind", "verb"],
            ),
        );
        let leader =
            register(&registry, IntGauge::new("clickstream_operator_leader", "1 where this process holds the lease."));
        let since = "Unix seconds at which the oldest reconcile under way began; 0 if there is none.";
        let in_progress_since =
            register(&registry, IntGauge::new("clickstream_operator_reconcile_in_progress_start_seconds", since));
        let queue = "Pipelines that wait to be reconciled because as many as may be are under way.";
        let queue = register(&registry, IntGauge::new("clickstream_operator_queue_depth", queue));
        let failed = "Schedules of all pipelines whose last run failed.";
        let failed_schedules = register(&registry, IntGauge::new("clickstream_operator_schedules_failed", failed));
        let calls = "Readings of objects of pipelines (api) and of what their pods say (pods), by result.";
        let calls = IntCounterVec::new(Opts::new("clickstream_operator_calls_total", calls), &["to", "result"]);
        let calls = register(&registry, calls);
        let blocked = "Pipelines whose present spec does not run, by reason.";
        let blocked = IntGaugeVec::new(Opts::new("clickstream_operator_blocked", blocked), &["reason"]);
        let blocked = register(&registry, blocked);
        let build = register(
            &registry,
            IntGaugeVec::new(Opts::new("clickstream_operator_build_info", "The program's version."), &["version"]),
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            registry,
            reconciles,
            duration,
            writes,
            leader,
            in_progress_since,
            queue,
            failed_schedules,
            calls,
            blocked,
            blocked_by_pipeline: Arc::default(),
            failed_by_pipeline: Arc::default(),
            in_progress: Arc::default(),
        }
    }

    /// A write to the API server.
    pub fn wrote(&self, kind: &str, verb: &str) {
        self.writes.with_label_values(&[kind, verb]).inc();
    }

    /// Writes so far, all kinds and verbs.
    #[must_use]
    pub fn writes(&self) -> u64 {
        let families = self.writes.collect();
        let counters = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        counters.map(|metric| metric.get_counter().get_value() as u64).sum()
    }

    /// A pipeline waits for its reconcile, until what is returned is dropped.
    #[must_use]
    pub fn queues(&self) -> Queued {
        self.queue.inc();
        Queued(self.queue.clone())
    }

    /// A reconcile begins.
    #[must_use]
    pub fn begins(&self, unix_seconds: i64) -> InProgress {
        self.under_way(|began| *began.entry(unix_seconds).or_default() += 1);
        InProgress { metrics: self.clone(), unix_seconds, started: Instant::now(), is_ok: false }
    }

    /// Changes which reconciles are under way, and shows the oldest: others may have begun before it and after it.
    fn under_way(&self, change: impl FnOnce(&mut BTreeMap<i64, u32>)) {
        let mut began = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut began);
        began.retain(|_, count| *count > 0);
        self.in_progress_since.set(began.keys().next().copied().unwrap_or(0));
    }

    /// A reading of the cluster, or of pods, and whether it told anything.
    pub fn called(&self, to: &str, is_known: bool) {
        self.calls.with_label_values(&[to, if is_known { "ok" } else { "error" }]).inc();
    }

    /// Why the present spec of a pipeline does not run, if it does not.
    pub fn blocked(&self, pipeline: &str, reason: Option<&'static str>) {
        let mut all = self.blocked_by_pipeline.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => drop(all.insert(pipeline.to_owned(), reason)),
            None => drop(all.remove(pipeline)),
        }
        self.blocked.reset();
        all.values().for_each(|reason| self.blocked.with_label_values(&[reason]).inc());
    }

    /// How many schedules of a pipeline failed the last time.
    pub fn schedules_failed(&self, pipeline: &str, count: usize) {
        let mut all = self.failed_by_pipeline.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(pipeline.to_owned(), count);
        all.retain(|_, count| *count > 0);
        self.failed_schedules.set(all.values().sum::<usize>() as i64);
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

impl InProgress {
    /// It has ended.
    pub fn ended(mut self, is_ok: bool) {
        self.is_ok = is_ok;
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.metrics.under_way(|began| {
            if let Some(count) = began.get_mut(&self.unix_seconds) {
                *count -= 1;
            }
        });
        self.metrics.duration.observe(self.started.elapsed().as_secs_f64());
        self.metrics.reconciles.with_label_values(&[if self.is_ok { "ok" } else { "error" }]).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("names and labels are constants that follow the rules");
    registry.register(Box::new(collector.clone())).expect("no two metrics have one name");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_reconcile_under_way_is_shown_whatever_ends_first() {
        let metrics = Metrics::new();
        let (old, young) = (metrics.begins(10), metrics.begins(20));
        let twin = metrics.begins(10);
        young.ended(true);
        assert_eq!(metrics.in_progress_since.get(), 10);
        old.ended(true);
        assert_eq!(metrics.in_progress_since.get(), 10);
        drop(twin);
        assert_eq!(metrics.in_progress_since.get(), 0);
        assert_eq!(metrics.reconciles.with_label_values(&["error"]).get(), 1);
    }

    #[test]
    fn whoever_waits_is_in_the_queue_until_it_no_longer_does() {
        let metrics = Metrics::new();
        let (first, second) = (metrics.queues(), metrics.queues());
        assert_eq!(metrics.queue.get(), 2);
        drop(first);
        assert_eq!(metrics.queue.get(), 1);
        drop(second);
        assert_eq!(metrics.queue.get(), 0);
    }
}
