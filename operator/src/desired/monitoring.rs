//! What Prometheus' own operator needs to know of a pipeline: which pods to read, and when to tell somebody. Only where the cluster
//! has these kinds, and the chart asks for them.
//!
//! The chart's own rules watch what all pipelines have in common; these are about what one manifest promises.

use std::collections::BTreeMap;

use crds::spec::{Objectives, PipelineSpec};
use serde_json::{Value, json};

use super::{Object, Owner, PIPELINE_LABEL, object};
use crate::observed::Kind;

/// How often pods are read.
const INTERVAL: &str = "30s";

/// The pipeline's label, as Prometheus writes it.
const SERIES_LABEL: &str = "clickstream_dev_pipeline";

/// Which of these objects are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Monitoring {
    /// A PodMonitor for each pipeline.
    pub monitors: bool,
    /// A PrometheusRule for each pipeline.
    pub rules: bool,
    /// What a Prometheus selects them by.
    pub labels: BTreeMap<String, String>,
}

impl Monitoring {
    /// The kinds that are made, and therefore looked at.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        [(self.monitors, Kind::PodMonitor), (self.rules, Kind::PrometheusRule)]
            .into_iter()
            .filter_map(|(is_made, kind)| is_made.then_some(kind))
    }
}

pub(super) fn objects(owner: &Owner, spec: &PipelineSpec) -> Vec<Object> {
    let monitor = owner.monitoring.monitors.then(|| monitor(owner));
    let rules = owner.monitoring.rules.then(|| rules(owner, spec)).flatten();
    let mut all: Vec<Object> = monitor.into_iter().chain(rules).collect();
    for object in &mut all {
        for (name, value) in &owner.monitoring.labels {
            object.body["metadata"]["labels"][name] = Value::from(value.clone());
        }
    }
    all
}

fn monitor(owner: &Owner) -> Object {
    let rest = json!({ "spec": {
        "selector": { "matchLabels": { PIPELINE_LABEL: owner.name } },
        "podTargetLabels": [PIPELINE_LABEL],
        "podMetricsEndpoints": [{ "port": "health", "path": "/metrics", "interval": INTERVAL }],
    }});
    object(owner, Kind::PodMonitor, owner.name.clone(), "monitoring", rest)
}

/// Nothing of a pipeline that is suspended is promised.
fn rules(owner: &Owner, spec: &PipelineSpec) -> Option<Object> {
    if spec.suspend {
        return None;
    }
    let of = format!("namespace=\"{}\", {SERIES_LABEL}=\"{}\"", owner.namespace, owner.name);
    let place = format!("{}/{}", owner.namespace, owner.name);
    let silent = alert(
        "ClickstreamPipelineSilent",
        ("critical", "10m"),
        &format!("absent(clickstream_process_lag_events{{{of}}})"),
        &format!("Nobody says how pipeline {place} is doing: no pod of serve answers."),
    );
    let promised = spec.objectives.as_ref().map(|objectives| promises(&of, &place, objectives)).unwrap_or_default();
    let rules: Vec<Value> = std::iter::once(silent).chain(promised).collect();
    let rest = json!({ "spec": { "groups": [{ "name": format!("clickstream-{}", owner.name), "rules": rules }] } });
    Some(object(owner, Kind::PrometheusRule, owner.name.clone(), "monitoring", rest))
}

fn promises(of: &str, place: &str, objectives: &Objectives) -> Vec<Value> {
    let latency = objectives.latency_p95.map(|promised| {
        let seconds = promised.millis as f64 / 1_000.0;
        let expr = format!(
            "max(clickstream_process_lag_events{{{of}}}) \
             / clamp_min(sum(rate(clickstream_process_records_total{{{of}}}[5m])), 1) > {seconds}"
        );
        let told = format!("Events of {place} wait longer than the {promised} that objectives.latencyP95 promises.");
        alert("ClickstreamLatencyObjective", ("warning", "5m"), &expr, &told)
    });
    let accuracy = objectives.accuracy.map(|promised| {
        let expr = format!(
            "max(min_over_time(clickstream_ledger_unaccounted_events{{{of}}}[15m])) \
             > {:.6} * max(sum by (pod) (clickstream_stream_events{{{of}, outcome=\"accepted\"}}))",
            1.0 - promised
        );
        let told = format!("More events of {place} are unaccounted for than objectives.accuracy allows.");
        alert("ClickstreamAccuracyObjective", ("critical", "1m"), &expr, &told)
    });
    latency.into_iter().chain(accuracy).collect()
}

fn alert(name: &str, (severity, lasting): (&str, &str), expr: &str, told: &str) -> Value {
    json!({
        "alert": name, "expr": expr, "for": lasting,
        "labels": { "severity": severity }, "annotations": { "summary": told },
    })
}
