//! What `kubectl clickstream` says and writes. Pure: texts and patches; the program has the client.

use std::fmt::Write as _;

use crds::{
    spec::ClickstreamPipeline,
    status::{PartStatus, PipelineStatus},
};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::choice::PAUSED_ANNOTATION;

/// A change that a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// Touch nothing.
    Pause,
    /// Go on, after a pause or a drain.
    Resume,
    /// Restart all pods, one part after the other.
    Restart {
        /// A text that was not there before: the time.
        now: &'a str,
    },
    /// Stop all pods; topics, buckets and checkpoints stay.
    Drain,
    /// Carry out the plan of this hash.
    Approve {
        /// The plan's hash.
        hash: &'a str,
    },
}

/// The merge patch that tells the operator.
#[must_use]
pub fn patch(wish: Wish<'_>) -> Value {
    match wish {
        Wish::Pause => json!({"metadata": {"annotations": {PAUSED_ANNOTATION: "true"}}}),
        Wish::Resume => json!({"metadata": {"annotations": {PAUSED_ANNOTATION: null}}, "spec": {"suspend": false}}),
        Wish::Restart { now } => json!({"spec": {"restart": now}}),
        Wish::Drain => json!({"spec": {"suspend": true}}),
        Wish::Approve { hash } => json!({"spec": {"approve": hash}}),
    }
}

/// Whether a drain is done: the operator has seen it, and no pod is left.
#[must_use]
pub fn is_drained(pipeline: &ClickstreamPipeline) -> bool {
    let Some(status) = &pipeline.status else { return false };
    let is_settled = status.conditions.iter().any(|one| one.type_ == "Progressing" && one.status == "False");
    let parts = status.ingest.iter().chain(&status.sinks);
    status.observed_generation == pipeline.metadata.generation
        && is_settled
        && status.process.as_ref().is_none_or(|process| process.replicas == 0)
        && parts.clone().all(|part| part.state == "Ready")
        && status.conditions.iter().any(|one| one.type_ == "WorkersReady" && one.status == "True")
}

/// A pipeline on a page.
#[must_use]
pub fn page(pipeline: &ClickstreamPipeline) -> String {
    let mut page = format!("pipeline {}/{}\n", pipeline.namespace().unwrap_or_default(), pipeline.name_any());
    let Some(status) = &pipeline.status else { return page + "  the operator has not seen it yet\n" };
    for one in &status.conditions {
        let _ = writeln!(page, "  {:<13}{:<9}{:<16}{}", one.type_, one.status, one.reason, one.message);
    }
    if let Some(process) = &status.process {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let _ = writeln!(
            page,
            "\nprocess: {} of {} pods ready, {}, {} wait",
            process.ready_replicas,
            process.replicas,
            or_unknown(&process.rate),
            or_unknown(&process.lag)
        );
        if let Some(scaling) = &process.scaling {
            let _ = writeln!(page, "scaling: {scaling}");
        }
    }
    for (title, parts) in [("topics", &status.topics), ("ingest", &status.ingest), ("sinks", &status.sinks)] {
        list(&mut page, title, parts);
    }
    ledger(&mut page, status);
    if let Some(plan) = &status.plan {
        let _ = writeln!(page, "\na plan waits for approval; see `kubectl clickstream plan {}`", pipeline.name_any());
        let _ = writeln!(page, "  {} steps, hash {}", plan.steps.len(), plan.hash);
    }
    page
}

fn list(page: &mut String, title: &str, parts: &[PartStatus]) {
    if parts.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n{title}");
    for part in parts {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let (rate, lag, message) =
            (or_none(&part.rate), or_none(&part.lag), part.message.as_deref().unwrap_or_default());
        let _ = writeln!(page, "  {:<24}{:<13}{rate:<17}{lag:<20}{message}", part.name, part.state);
    }
}

fn ledger(page: &mut String, status: &PipelineStatus) {
    let Some(ledger) = &status.ledger else { return };
    let _ = writeln!(
        page,
        "\nledger: {} read = {} accepted + {} duplicate + {} invalid + {} expired; {} unaccounted",
        ledger.read, ledger.accepted, ledger.duplicate, ledger.invalid, ledger.expired, ledger.unaccounted
    );
}

/// A plan that waits, and how it is approved.
#[must_use]
pub fn plan(pipeline: &ClickstreamPipeline) -> String {
    let Some(plan) = pipeline.status.as_ref().and_then(|status| status.plan.as_ref()) else {
        return "nothing waits for approval\n".into();
    };
    let steps: String = plan.steps.iter().map(|step| format!("  {step}\n")).collect();
    format!("{steps}to have it done: kubectl clickstream approve {} {}\n", pipeline.name_any(), plan.hash)
}

/// What a field is, and who set it: `spec.process.replicas`.
#[must_use]
pub fn explain(pipeline: &ClickstreamPipeline, field: &str) -> String {
    let value = serde_json::to_value(pipeline).unwrap_or_default();
    let found = field.split('.').try_fold(&value, |value, part| value.get(part));
    let shown = found.map_or_else(|| "not set".into(), ToString::to_string);
    let mut told = format!("{field} is {shown}\n");
    for entry in pipeline.managed_fields() {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        let owned =
            fields.and_then(|fields| field.split('.').try_fold(fields, |fields, part| fields.get(format!("f:{part}"))));
        if owned.is_some() {
            let (manager, operation) = (entry.manager.as_deref(), entry.operation.as_deref());
            let at = entry.time.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
            let (manager, operation) = (manager.unwrap_or("somebody"), operation.unwrap_or_default());
            let _ = writeln!(told, "  set by {manager} ({operation}) {at}");
        }
    }
    // Of custom resources the server does not remember who scaled them.
    if found.is_some() && !told.contains("\n  set by ") {
        told.push_str("  set by nobody by name: a default, or `kubectl scale`\n");
    }
    let scaling = pipeline.status.as_ref().and_then(|status| status.process.as_ref()?.scaling.as_ref());
    if let (true, Some(scaling)) = (field.starts_with("spec.process"), scaling) {
        let _ = writeln!(told, "  scaling by load: {scaling}");
    }
    told
}

#[cfg(test)]
mod tests {
    use crds::status::{Condition, LedgerStatus, PlanStatus, ProcessStatus};

    use super::*;
    use crate::accepted::tests::example;

    fn pipeline() -> ClickstreamPipeline {
        let mut pipeline = example("medallion");
        pipeline.metadata.namespace = Some("shop".into());
        pipeline.metadata.generation = Some(3);
        let managed = json!([{"manager": "kubectl", "operation": "Apply", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:process": {"f:replicas": {}}}}}]);
        pipeline.metadata.managed_fields = Some(serde_json::from_value(managed).unwrap());
        let condition = |type_: &str, status: &str| Condition {
            type_: type_.into(),
            status: status.into(),
            reason: "Because".into(),
            message: "so it is".into(),
            ..Condition::default()
        };
        pipeline.status = Some(PipelineStatus {
            observed_generation: Some(3),
            conditions: vec![condition("Progressing", "False"), condition("WorkersReady", "True")],
            process: Some(ProcessStatus {
                replicas: 2,
                ready_replicas: 1,
                rate: Some("70 events/s".into()),
                lag: Some("12 events, 1 s".into()),
                scaling: Some("stays at 2".into()),
                ..ProcessStatus::default()
            }),
            sinks: vec![PartStatus {
                name: "results".into(),
                state: "Ready".into(),
                rate: Some("5 rows/s".into()),
                lag: Some("40 rows, 8 s".into()),
                ..PartStatus::default()
            }],
            ledger: Some(LedgerStatus { read: 9, accepted: 8, invalid: 1, ..LedgerStatus::default() }),
            plan: Some(PlanStatus { hash: "abc".into(), steps: vec!["create Job x".into()] }),
            ..PipelineStatus::default()
        });
        pipeline
    }

    #[test]
    fn a_page_says_what_a_person_wants_to_know() {
        let shown = page(&pipeline());
        for part in [
            "shop/medallion",
            "1 of 2 pods ready, 70 events/s, 12 events, 1 s wait",
            "results                 Ready        5 rows/s         40 rows, 8 s",
            "9 read = 8",
            "hash abc",
        ] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        assert!(plan(&pipeline()).contains("create Job x\nto have it done: kubectl clickstream approve medallion abc"));
        let told = explain(&pipeline(), "spec.process.replicas");
        assert!(told.contains("set by kubectl (Apply)") && told.contains("stays at 2"), "{told}");
        assert!(explain(&pipeline(), "spec.nothing").contains("not set"));
    }

    #[test]
    fn a_drain_is_done_when_the_operator_saw_it_and_no_pod_is_left() {
        let mut pipeline = pipeline();
        assert!(!is_drained(&pipeline));
        pipeline.status.as_mut().unwrap().process.as_mut().unwrap().replicas = 0;
        assert!(is_drained(&pipeline));
        pipeline.metadata.generation = Some(4);
        assert!(!is_drained(&pipeline));
        assert_eq!(patch(Wish::Drain)["spec"]["suspend"], true);
        assert!(patch(Wish::Resume)["metadata"]["annotations"][PAUSED_ANNOTATION].is_null());
    }
}
