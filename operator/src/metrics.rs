//! What Prometheus sees of the operator. Names and labels stand here only.

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
}

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
        let build = register(
            &registry,
            IntGaugeVec::new(Opts::new("clickstream_operator_build_info", "The program's version."), &["version"]),
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self { registry, reconciles, duration, writes, leader, in_progress_since }
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

    /// A reconcile begins.
    pub fn begins(&self, unix_seconds: i64) {
        self.in_progress_since.set(unix_seconds);
    }

    /// A reconcile has ended.
    pub fn ended(&self, seconds: f64, is_ok: bool) {
        self.in_progress_since.set(0);
        self.duration.observe(seconds);
        self.reconciles.with_label_values(&[if is_ok { "ok" } else { "error" }]).inc();
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
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
