//! What Prometheus' own operator needs to know of a pipeline: which pods to read, and when to tell somebody. Only where the cluster
//! has these kinds, and the chart asks for them.
//!
//! The chart's own rules watch what all pipelines have in common; these are about what one manifest promises.

use std::collections::BTreeMap;

use crds::spec::{Duration, Objectives, PipelineSpec, Quality};
use serde_json::{Value, json};

use super::{Object, Owner, PIPELINE_LABEL, object};
use crate::observed::Kind;

/// How often pods are read.
const INTERVAL: &str = "30s";

/// The pipeline's label, as Prometheus writes it.
const SERIES_LABEL: &str = "clickstream_dev_pipeline";

/// 1 while results are older than promised, 0 while they are not.
const LATE_SERIES: &str = "clickstream:results_late:bool";

/// Samples below which a share of time says nothing: ten minutes, where rules are evaluated twice a minute.
const SAMPLES_MIN: u32 = 20;

/// The shortest time over which a share of valid records is taken: pods are read twice in it.
const QUALITY_OVER_MS_MIN: i64 = 60_000;

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

/// Nothing of a pipeline that is suspended is promised. Silence means something only where there are pods that would speak, and
/// somebody who is known to listen under these labels.
fn rules(owner: &Owner, spec: &PipelineSpec) -> Option<Object> {
    if spec.suspend {
        return None;
    }
    let of = format!("namespace=\"{}\", {SERIES_LABEL}=\"{}\"", owner.namespace, owner.name);
    let place = place(owner);
    let is_heard = owner.monitoring.monitors && spec.serve.replicas > 0;
    let silent = is_heard.then(|| {
        alert(
            "ClickstreamPipelineSilent",
            ("critical", "10m"),
            &format!("absent(clickstream_process_lag_events{{{of}}})"),
            &format!("Nobody says how pipeline {place} is doing: no pod of serve answers."),
        )
    });
    let promised = spec.objectives.as_ref().map(|objectives| promises(owner, &of, objectives)).unwrap_or_default();
    let good =
        spec.streams.iter().filter_map(|stream| Some(quality(owner, &of, &stream.name, stream.quality.as_ref()?)));
    let rules: Vec<Value> = silent.into_iter().chain(promised).chain(good).collect();
    if rules.is_empty() {
        return None;
    }
    let rest = json!({ "spec": { "groups": [{ "name": format!("clickstream-{}", owner.name), "rules": rules }] } });
    Some(object(owner, Kind::PrometheusRule, owner.name.clone(), "monitoring", rest))
}

/// Too small a share of the records of a stream was valid. All pods of serve say the same; one that has just begun still reads it, and
/// of a stream that is rebuilt under other rules all begin anew, often as other pods: then less is accepted than before, which no record
/// was the cause of.
fn quality(owner: &Owner, of: &str, stream: &str, promised: &Quality) -> Value {
    let over = promised.over.millis.max(QUALITY_OVER_MS_MIN) / 1_000;
    let series =
        |outcome: &str| format!("clickstream_stream_events{{{of}, stream=\"{stream}\", outcome=\"{outcome}\"}}");
    let came = |outcome: &str| {
        let series = series(outcome);
        format!("(max({series}) - max({series} offset {over}s))")
    };
    let (accepted, invalid) = (came("accepted"), came("invalid"));
    let share = format!("({accepted} >= 0) / ({accepted} + {invalid} > 0)");
    // Beyond the time that is judged, because a sample at its edge is not in a range.
    let anew = format!("resets(max({})[{}s:30s])", series("accepted"), over + 2 * QUALITY_OVER_MS_MIN / 1_000);
    let expr = format!("{share} < {} and {invalid} >= 0 and {anew} == 0", promised.target);
    let told = format!("Less of stream {stream} of {} was valid than quality.target promises.", place(owner));
    alert("ClickstreamQuality", ("warning", "1m"), &expr, &told)
}

fn place(owner: &Owner) -> String {
    format!("{}/{}", owner.namespace, owner.name)
}

fn promises(owner: &Owner, of: &str, objectives: &Objectives) -> Vec<Value> {
    let place = place(owner);
    let age = format!(
        "max(clickstream_process_lag_events{{{of}}}) \
         / clamp_min(sum(rate(clickstream_process_records_total{{{of}}}[5m])), 1)"
    );
    let latency = objectives.latency_p95.map(|promised| {
        let seconds = promised.millis as f64 / 1_000.0;
        let expr = format!("{age} > {seconds}");
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
    let availability = objectives.latency_p95.zip(objectives.availability);
    let availability = availability.map(|(latency, promised)| available(owner, of, &age, latency, promised));
    latency.into_iter().chain(accuracy).chain(availability.into_iter().flatten()).collect()
}

/// Whether results are older than they should be, as a series of its own; and that they were for too much of the last day. Time in which
/// nobody says how old they are is not counted: of that another rule tells.
fn available(owner: &Owner, of: &str, age: &str, latency: Duration, promised: f64) -> [Value; 2] {
    let place = place(owner);
    let recorded = json!({
        "record": LATE_SERIES,
        "expr": format!("{age} > bool {}", latency.millis as f64 / 1_000.0),
        "labels": { "namespace": owner.namespace, SERIES_LABEL: owner.name },
    });
    let expr = format!(
        "avg_over_time({LATE_SERIES}{{{of}}}[1d]) > {:.6} and count_over_time({LATE_SERIES}{{{of}}}[1d]) >= {SAMPLES_MIN}",
        1.0 - promised
    );
    let told = format!(
        "Results of {place} were older than {latency} for a larger share of the last day than objectives.availability allows."
    );
    [recorded, alert("ClickstreamAvailabilityObjective", ("warning", "5m"), &expr, &told)]
}

fn alert(name: &str, (severity, lasting): (&str, &str), expr: &str, told: &str) -> Value {
    json!({
        "alert": name, "expr": expr, "for": lasting,
        "labels": { "severity": severity }, "annotations": { "summary": told },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accepted::tests::accepted;

    #[test]
    fn silence_is_told_only_of_who_would_be_heard() {
        let told = |monitors: bool, replicas: u32, objectives: Option<Objectives>| {
            let monitoring = Monitoring { monitors, rules: true, labels: BTreeMap::new() };
            let owner = Owner { monitoring, ..crate::accepted::tests::owner("p") };
            let mut spec = accepted("medallion").spec;
            spec.serve.replicas = replicas;
            spec.streams.iter_mut().for_each(|stream| stream.quality = None);
            spec.objectives = objectives;
            let rules = objects(&owner, &spec).into_iter().find(|object| object.kind == Kind::PrometheusRule);
            rules.map(|rules| {
                let text = rules.body.to_string();
                (text.contains("ClickstreamPipelineSilent"), text.contains("ClickstreamAccuracyObjective"))
            })
        };
        let accuracy = || serde_json::from_value(json!({"accuracy": 0.999})).ok();
        assert_eq!(told(true, 1, accuracy()), Some((true, true)));
        assert_eq!(told(true, 1, None), Some((true, false)));
        assert_eq!(
            told(false, 1, accuracy()),
            Some((false, true)),
            "others read the pods, under labels that nobody knows"
        );
        assert_eq!(told(true, 0, accuracy()), Some((false, true)), "no pod of serve is wanted");
        assert_eq!(told(false, 1, None), None, "no rules, no object");
    }
}
