//! What fails while the rest goes on: it is told with its reason, once, and taken back when it is over.

use serde_json::{Value, json};

use crate::cluster::{Cluster, changed, small};

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

/// Says of a Deployment what its controller would: that its one pod is ready, or why there is none.
fn says(cluster: &Cluster, deployment: &str, ready: i64, conditions: &Value) {
    let found = cluster.get(&format!("deployment/{deployment}")).unwrap();
    let status = json!({"status": {
        "observedGeneration": found["metadata"]["generation"], "replicas": ready, "updatedReplicas": ready,
        "readyReplicas": ready, "availableReplicas": ready, "conditions": conditions,
    }});
    cluster.patch(&format!("deployment/{deployment}"), &status, &["--subresource=status"]);
}

/// A pod as the kubelet describes it whose secret is not there.
fn pod_without_its_secret(cluster: &Cluster) {
    let labels = json!({"clickstream.dev/pipeline": "orders", "app.kubernetes.io/component": "sink-gold"});
    let container = json!({"name": "clickstream", "image": "localhost/clickstream:1"});
    let spec = json!({"containers": [container], "automountServiceAccountToken": false});
    let metadata = json!({"name": "orders-sink-gold-0", "labels": labels});
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).unwrap();
    let waiting = json!({"reason": "CreateContainerConfigError", "message": "secret \"couchbase\" not found"});
    let status = json!({"status": {"phase": "Pending", "containerStatuses": [{
        "name": "clickstream", "image": "localhost/clickstream:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": waiting},
    }]}});
    cluster.patch("pod/orders-sink-gold-0", &status, &["--subresource=status"]);
}

#[test]
fn a_part_that_fails_says_why_and_its_store_is_not_ready() {
    let cluster = Cluster::start();
    let _operator = cluster.operator("first");
    let bucket = json!({"name": "sales", "ramQuota": "256Mi", "replicas": 0});
    let store = json!({"connectionSecret": "couchbase", "bucket": bucket});
    let orders = changed(&small("orders"), |all| {
        all["spec"]["sinks"] = json!([{"name": "gold", "tables": ["users"], "couchbase": store}]);
    });
    cluster.apply(&orders).unwrap();
    cluster.until_condition("orders", "Ready", "True", "Ready");
    cluster.until_condition("orders", "StoreReady", "True", "Ready");
    cluster.until_condition("orders", "Degraded", "False", "NothingFails");

    pod_without_its_secret(&cluster);
    says(&cluster, "orders-sink-gold", 0, &json!([]));
    let told = cluster.until_condition("orders", "Degraded", "True", "PartsNotReady");
    let message = told["message"].as_str().unwrap();
    println!("{message}");
    assert!(message.contains("CreateContainerConfigError: secret \"couchbase\" not found"), "{message}");
    assert!(message.starts_with("orders-sink-gold: ") && message.ends_with("the other parts go on"), "{message}");
    let store = cluster.until_condition("orders", "StoreReady", "False", "SinkNotReady");
    assert!(store["message"].as_str().unwrap().contains("sink gold: "), "{store}");
    cluster.until_condition("orders", "TopicsReady", "True", "Ready");
    let part = cluster.get("csp/orders").unwrap()["status"]["sinks"][0].clone();
    assert_eq!(part["state"], "Degraded", "{part}");

    says(&cluster, "orders-sink-gold", 1, &json!([]));
    cluster.until_condition("orders", "StoreReady", "True", "Ready");
    cluster.until_condition("orders", "Degraded", "False", "NothingFails");

    // Pods that are refused are told by their Deployment alone.
    let refused = json!([{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "pods \"orders-serve-7d9f-x2x4z\" is forbidden: violates PodSecurity \"restricted:latest\"",
    }]);
    says(&cluster, "orders-serve", 0, &refused);
    let told = cluster.until_condition("orders", "Degraded", "True", "PartsNotReady");
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("orders-serve: 0 of 1 pods are ready: pods are refused: violates PodSecurity"),
        "{message}"
    );
}
