//! What is said of a pipeline in which state.

use super::*;
use crate::accepted::tests::accepted;

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
