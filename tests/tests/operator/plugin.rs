//! `kubectl clickstream` against a real API server and a real operator.

use serde_json::{Value, json};
use tests::binary::{Ended, Running, plugin};

use crate::cluster::{Cluster, NAMESPACE, PATIENCE, changed, small};

fn start(cluster: &Cluster, arguments: &[&str]) -> Running {
    let mut command = plugin().unwrap();
    command.args(["-n", NAMESPACE]).args(arguments).env("KUBECONFIG", cluster.server.kubeconfig());
    Running::start(command).unwrap()
}

fn ask(cluster: &Cluster, arguments: &[&str]) -> Ended {
    start(cluster, arguments).wait(PATIENCE).unwrap()
}

/// What it says, where it does what it was asked.
fn said(cluster: &Cluster, arguments: &[&str]) -> String {
    let ended = ask(cluster, arguments);
    assert!(ended.status.success(), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

fn spec(cluster: &Cluster) -> Value {
    cluster.get("csp/orders").unwrap()["spec"].clone()
}

#[test]
fn people_look_after_a_pipeline_with_the_plugin() {
    let cluster = Cluster::start();
    let _operator = cluster.operator("first");
    cluster.apply(&changed(&small("orders"), |all| all["spec"]["apply"] = json!("Manual"))).unwrap();

    // Nothing is made before its plan is approved.
    cluster.until_condition("orders", "Approved", "False", "Waiting");
    let plan = said(&cluster, &["plan", "orders"]);
    assert!(plan.contains("create Deployment orders-process"), "{plan}");
    assert!(cluster.list("deployments").is_empty() && cluster.list("jobs").is_empty());
    let hash = plan.trim().rsplit(' ').next().unwrap();
    said(&cluster, &["approve", "orders", hash]);
    cluster.until_condition("orders", "Ready", "True", "Ready");
    assert_eq!(said(&cluster, &["plan", "orders"]), "nothing waits for approval\n");

    // What a change means for data is said before anybody approves it.
    let before = spec(&cluster);
    let mut topics = before["topics"].clone();
    topics[0]["retention"] = json!("1h");
    cluster.patch("csp/orders", &json!({"spec": {"topics": topics}}), &[]);
    cluster.until_condition("orders", "Approved", "False", "Waiting");
    let plan = said(&cluster, &["plan", "orders"]);
    assert!(plan.contains("topic orders-clicks: keeps events for 1h instead of "), "{plan}");
    cluster.patch("csp/orders", &json!({"spec": {"topics": before["topics"], "apply": "Automatic"}}), &[]);

    let status = said(&cluster, &["status", "orders"]);
    assert!(status.contains("pipeline shop/orders\n") && status.contains("orders-clicks"), "{status}");
    assert_eq!(said(&cluster, &["status"]).matches("pipeline shop/").count(), 1);
    cluster.kubectl(&["scale", "csp", "orders", "--replicas=2"]).unwrap();
    let told = said(&cluster, &["explain", "orders", "spec.process.replicas"]);
    assert_eq!(told, "spec.process.replicas is 2\n  set by nobody by name: a default, or `kubectl scale`\n");
    let told = said(&cluster, &["explain", "orders", "spec.apply"]);
    assert!(told.starts_with("spec.apply is \"Automatic\"\n  set by kubectl-patch (Update)"), "{told}");

    // Paused, nothing is put right.
    said(&cluster, &["pause", "orders"]);
    cluster.until_condition("orders", "Progressing", "False", "Paused");
    cluster.kubectl(&["delete", "service", "orders-serve"]).unwrap();
    cluster.renewals(2);
    assert!(cluster.get("service/orders-serve").is_none());
    said(&cluster, &["resume", "orders"]);
    cluster.until("the Service", || cluster.get("service/orders-serve"));
    cluster.until_condition("orders", "Ready", "True", "Ready");

    let hash = || cluster.get("csp/orders").unwrap()["status"]["acceptedHash"].clone();
    let before = hash();
    said(&cluster, &["restart", "orders"]);
    cluster.until("another hash", || (hash() != before).then_some(()));
    cluster.until_condition("orders", "Ready", "True", "Ready");

    // A drain ends when no pod is left.
    let drain = start(&cluster, &["drain", "orders", "--timeout", "80"]);
    cluster.until_condition("orders", "Ready", "False", "Suspended");
    let ended = drain.wait(PATIENCE).unwrap();
    assert!(
        ended.status.success() && ended.stdout.contains("orders has no pods any more"),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    assert_eq!(spec(&cluster)["suspend"], true);
    said(&cluster, &["resume", "orders"]);
    assert_eq!(spec(&cluster)["suspend"], false);

    let ended = ask(&cluster, &["status", "nothing"]);
    assert!(!ended.status.success() && ended.stderr.contains("failed to read pipeline nothing"), "{}", ended.stderr);
}
