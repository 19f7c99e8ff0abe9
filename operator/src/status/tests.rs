//! What is said of a pipeline in which state.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{accepted::tests::accepted, observed::Kind};

#[test]
fn a_refused_change_says_that_the_last_one_goes_on() {
    let accepted = accepted("medallion");
    let facts = Facts {
        name: "medallion",
        couchbase: CouchbaseOperator::Unasked,
        generation: Some(2),
        accepted: Some(&accepted),
        refused: Some(&Refusal { reason: "Invalid", message: "spec.tables[x].from: unknown stream".into() }),
        plan: None,
        is_paused: false,
        pulse: &Pulse::default(),
        observed: &Reading::Known(Objects::new()),
        steps: &Steps::default(),
        trouble: None,
    };
    let first = status(&facts, None, "2026-01-01T00:00:00Z");
    let ready = &first.conditions[0];
    assert_eq!((&*ready.type_, &*ready.status, &*ready.reason), ("Ready", "False", "Invalid"));
    assert!(ready.message.contains("the last valid spec goes on"), "{}", ready.message);
    let second = status(&facts, Some(&first), "2026-01-02T00:00:00Z");
    assert_eq!(first, second, "a status that did not change is not written again");
}

#[test]
fn what_is_not_known_is_not_ready_and_not_failed() {
    let accepted = accepted("medallion");
    let facts = Facts {
        name: "medallion",
        couchbase: CouchbaseOperator::Unasked,
        generation: Some(1),
        accepted: Some(&accepted),
        refused: None,
        plan: None,
        is_paused: false,
        pulse: &Pulse::default(),
        observed: &Reading::Unknown("the API server does not answer".into()),
        steps: &Steps::default(),
        trouble: None,
    };
    let status = status(&facts, None, "2026-01-01T00:00:00Z");
    assert_eq!(status.conditions[0].status, "Unknown");
    assert!(status.ingest.iter().chain(&status.sinks).all(|part| part.state == "Unknown"));
}

fn deployment(ready: i64, conditions: &Value) -> Value {
    json!({
        "metadata": {"generation": 1}, "spec": {"replicas": 1},
        "status": {
            "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready, "conditions": conditions,
        },
    })
}

/// Status, reason and message of a condition.
fn said(status: &PipelineStatus, type_: &str) -> (String, String, String) {
    let one = status.conditions.iter().find(|one| one.type_ == type_).unwrap();
    (one.status.clone(), one.reason.clone(), one.message.clone())
}

#[test]
fn a_part_that_fails_is_told_apart_from_one_that_starts_and_its_store_with_it() {
    let accepted = accepted("multi-sink");
    let with_store = accepted.spec.sinks.iter().find(|sink| sink.couchbase.is_some()).unwrap().name.clone();
    let refused = json!([{"type": "ReplicaFailure", "status": "True",
        "message": "pods \"x-1\" is forbidden: exceeded quota: small\nmore"}]);
    let waits: BTreeMap<String, String> = [(format!("sink-{with_store}"), "CrashLoopBackOff".to_owned())].into();
    let nothing = BTreeMap::new();
    for (what, ready, conditions, waiting, degraded, store) in [
        ("all work", 1, json!([]), &waits, ("False", "NothingFails", ""), ("True", "Ready")),
        ("it starts", 0, json!([]), &nothing, ("False", "NothingFails", ""), ("False", "SinkNotReady")),
        (
            "it fails",
            0,
            json!([]),
            &waits,
            ("True", "PartsNotReady", "0 of 1 pods are ready: CrashLoopBackOff"),
            ("False", "SinkNotReady"),
        ),
        (
            "it may not be made",
            0,
            refused,
            &nothing,
            ("True", "PartsNotReady", "pods are refused: exceeded quota: small; the other"),
            ("False", "SinkNotReady"),
        ),
    ] {
        let name = |part: &Part| part.object_name("multi-sink");
        let is_it = |part: &Part| part.item.as_deref() == Some(with_store.as_str());
        let deployments = parts(&accepted.spec).into_iter().map(|part| {
            let found = if is_it(&part) { deployment(ready, &conditions) } else { deployment(1, &json!([])) };
            ((Kind::Deployment, name(&part)), found)
        });
        let observed = Reading::Known(deployments.collect());
        let pulse = Pulse { waiting: waiting.clone(), ..Pulse::default() };
        let steps = Steps::default();
        let facts = Facts {
            name: "multi-sink",
            couchbase: CouchbaseOperator::Unasked,
            generation: Some(1),
            accepted: Some(&accepted),
            refused: None,
            plan: None,
            is_paused: false,
            pulse: &pulse,
            observed: &observed,
            steps: &steps,
            trouble: None,
        };
        let status = status(&facts, None, "2026-01-01T00:00:00Z");
        let found = said(&status, "Degraded");
        assert_eq!((&*found.0, &*found.1), (degraded.0, degraded.1), "{what}: {found:?}");
        assert!(found.2.contains(degraded.2), "{what}: {found:?}");
        let found = said(&status, "StoreReady");
        assert_eq!((&*found.0, &*found.1), store, "{what}: {found:?}");
    }
}

#[test]
fn topics_that_cannot_be_as_the_spec_says_are_told_apart_from_brokers_that_are_away() {
    let accepted = accepted("multi-sink");
    let ends = |code: i32, why: &str| {
        format!("CrashLoopBackOff: it ends with exit code {code} (Error): error: {why}, see kubectl logs -p")
    };
    let (refused, away) = (ends(2, "topic a has 8 partitions"), ends(1, "no broker answers"));
    for (waits, reason, state) in [
        (None, "SettingUp", "Progressing"),
        (Some(refused), "SetupRefused", "Degraded"),
        (Some(away), "SettingUp", "Progressing"),
    ] {
        let pulse =
            Pulse { waiting: waits.iter().map(|why| ("setup".into(), why.clone())).collect(), ..Pulse::default() };
        let facts = Facts {
            name: "multi-sink",
            couchbase: CouchbaseOperator::Unasked,
            generation: Some(1),
            accepted: Some(&accepted),
            refused: None,
            plan: None,
            is_paused: false,
            pulse: &pulse,
            observed: &Reading::Known(crate::observed::Objects::new()),
            steps: &Steps::default(),
            trouble: None,
        };
        let status = status(&facts, None, "2026-01-01T00:00:00Z");
        let (topics, degraded) = (said(&status, "TopicsReady"), said(&status, "Degraded"));
        assert_eq!((&*topics.0, &*topics.1), ("False", reason), "{topics:?}");
        assert!(waits.iter().all(|why| topics.2.contains(why) && degraded.2.contains(why)), "{topics:?} {degraded:?}");
        assert_eq!(degraded.0 == "True", waits.is_some(), "{degraded:?}");
        assert!(status.topics.iter().all(|topic| topic.state == state), "{:?}", status.topics);
    }
}

#[test]
fn topics_that_somebody_set_otherwise_are_told_each_by_itself() {
    let accepted = accepted("multi-sink");
    let name = accepted.spec.topics[0].name.clone();
    let job = json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}});
    let objects: Objects = [((Kind::Job, crate::desired::setup::job_name("multi-sink", &accepted.hash)), job)].into();
    let differs = |topic: &str, by_hand: bool| TopicDifference {
        topic: topic.into(),
        what: format!("set {topic}: retention.ms=1 (it is 2)"),
        by_hand,
    };
    let known = |differences: Vec<TopicDifference>| Some(Reading::Known(differences));
    for (differences, wanted, state, degraded) in [
        (None, ("True", "Ready"), "Ready", false),
        (known(vec![]), ("True", "Ready"), "Ready", false),
        (known(vec![differs(&name, false)]), ("False", "TopicsDiffer"), "Progressing", false),
        (known(vec![differs(&name, true)]), ("False", "TopicsDiffer"), "Degraded", true),
        // The pipeline's own are in no list of the status.
        (known(vec![differs("multi-sink.results", true)]), ("False", "TopicsDiffer"), "Ready", true),
        (Some(Reading::Unknown("silent".into())), ("Unknown", "BrokersSilent"), "Unknown", false),
    ] {
        let pulse = Pulse { differences: differences.clone(), ..Pulse::default() };
        let facts = Facts {
            name: "multi-sink",
            couchbase: CouchbaseOperator::Unasked,
            generation: Some(1),
            accepted: Some(&accepted),
            refused: None,
            plan: None,
            is_paused: false,
            pulse: &pulse,
            observed: &Reading::Known(objects.clone()),
            steps: &Steps::default(),
            trouble: None,
        };
        let status = status(&facts, None, "2026-01-01T00:00:00Z");
        let topics = said(&status, "TopicsReady");
        assert_eq!((&*topics.0, &*topics.1), wanted, "{topics:?}");
        let other = if wanted.0 == "Unknown" { "Unknown" } else { "Ready" };
        for topic in &status.topics {
            assert_eq!(topic.state, if topic.name == name { state } else { other }, "{differences:?}");
        }
        assert_eq!(said(&status, "Degraded").0 == "True", degraded, "{differences:?}");
        if let Some(Reading::Known(differences)) = &differences {
            assert!(differences.iter().all(|one| topics.2.contains(&one.what)), "{topics:?}");
        }
    }
}
