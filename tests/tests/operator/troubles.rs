//! What fails while the rest goes on: it is told with its reason, once, and taken back when it is over.

use serde_json::{Value, json};

use crate::cluster::{Cluster, small};

/// Warnings that were told of a pipeline, by reason.
fn warnings(cluster: &Cluster, reason: &str) -> Vec<Value> {
    let events = cluster.list("events").into_iter();
    events.filter(|event| event["type"] == "Warning" && event["reason"] == reason).collect()
}

#[test]
fn a_quota_that_is_too_small_is_a_condition_until_it_is_raised() {
    let cluster = Cluster::start();
    let _operator = cluster.operator("first");
    cluster
        .apply(&json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"},
            "spec": {"hard": {"count/deployments.apps": "1"}},
        }))
        .unwrap();
    // What the controller of quotas would count.
    let counted = json!({"status": {
        "hard": {"count/deployments.apps": "1"}, "used": {"count/deployments.apps": "0"},
    }});
    cluster.patch("resourcequota/small", &counted, &["--subresource=status"]);
    cluster.apply(&small("orders")).unwrap();

    let told = cluster.until_condition("orders", "Degraded", "True", "ApplyFailed");
    let message = told["message"].as_str().unwrap();
    println!("{message}");
    let parts = ["apply Deployment orders-", "exceeded quota: small", "raise the quota"];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    cluster.until_condition("orders", "Ready", "False", "ApplyFailed");
    cluster.until_condition("orders", "Progressing", "True", "Retrying");
    assert_eq!(cluster.list("deployments").len(), 1, "what may be made is made");

    // It is tried again, and nothing is written about it.
    let version = || cluster.get("csp/orders").unwrap()["metadata"]["resourceVersion"].clone();
    let before = version();
    cluster.renewals(3);
    assert_eq!(version(), before, "the same trouble is written again");
    let warned = warnings(&cluster, "ApplyFailed");
    assert_eq!(warned.len(), 1, "{warned:#?}");

    cluster.kubectl(&["delete", "resourcequota/small"]).unwrap();
    cluster.until_condition("orders", "Ready", "True", "Ready");
    cluster.until_condition("orders", "Degraded", "False", "NothingFails");
    assert_eq!(cluster.list("deployments").len(), 2);
}
