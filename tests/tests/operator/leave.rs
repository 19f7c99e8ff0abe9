//! What goes with a pipeline that is deleted, and that neither it nor its namespace is ever held for good.

use serde_json::{Value, json};

use crate::cluster::{Cluster, NAMESPACE, PATIENCE, SIGTERM, changed, name, small};

const FINALIZER: &str = "clickstream.dev/delete-data";

fn finalizers(cluster: &Cluster, pipeline: &str) -> Value {
    cluster.get(&format!("csp/{pipeline}")).unwrap()["metadata"]["finalizers"].clone()
}

fn doomed(name: &str) -> Value {
    changed(&small(name), |all| all["spec"]["deletionPolicy"] = json!("Delete"))
}

fn make(cluster: &Cluster, pipeline: &Value) {
    cluster.apply(pipeline).unwrap();
    cluster.until_condition(name(pipeline), "Ready", "True", "Ready");
    assert_eq!(finalizers(cluster, name(pipeline)), json!([FINALIZER]));
}

/// The Job that deletes, once no pod is wanted any more.
fn deletion_job(cluster: &Cluster, pipeline: &str) -> Value {
    cluster.until("the Job that deletes", || {
        cluster.finish_pods();
        cluster.list("jobs").into_iter().find(|job| name(job).starts_with(&format!("{pipeline}-delete-")))
    })
}

fn until_gone(cluster: &Cluster, pipeline: &str, mut play: impl FnMut()) {
    cluster.until("the pipeline to be gone", || {
        cluster.finish_pods();
        play();
        cluster.get(&format!("csp/{pipeline}")).is_none().then_some(())
    });
}

fn until_told(cluster: &Cluster, reason: &str) -> String {
    cluster.until(reason, || {
        let event = cluster.list("events").into_iter().find(|event| event["reason"] == reason)?;
        Some(event["message"].as_str()?.to_owned())
    })
}

#[test]
fn data_goes_only_where_asked_and_never_holds_a_pipeline_or_a_namespace_for_good() {
    let cluster = Cluster::start();
    let operator = cluster.operator("first");

    // The finalizer comes and goes with the wish.
    make(&cluster, &doomed("orders"));
    cluster.patch("csp/orders", &json!({"spec": {"deletionPolicy": "Retain"}}), &[]);
    cluster.until("no finalizer", || finalizers(&cluster, "orders").is_null().then_some(()));
    cluster.patch("csp/orders", &json!({"spec": {"deletionPolicy": "Delete"}}), &[]);
    cluster.until("the finalizer", || (finalizers(&cluster, "orders") == json!([FINALIZER])).then_some(()));

    // Pods first, then the Job with the words of the manifest, then the pipeline.
    cluster.kubectl(&["delete", "csp", "orders", "--wait=false"]).unwrap();
    let job = deletion_job(&cluster, "orders");
    assert!(cluster.list("deployments").iter().all(|one| one["spec"]["replicas"] == 0));
    let args = &job["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(args, &json!(["setup", "--manifest", "/etc/clickstream/pipeline.yaml", "--delete"]));
    let manifest = job["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"].as_str().unwrap();
    let manifest = cluster.get(&format!("configmap/{manifest}")).unwrap();
    assert!(manifest["data"]["pipeline.yaml"].as_str().unwrap().contains("deletionPolicy: Delete"), "{manifest}");
    until_gone(&cluster, "orders", || cluster.finish_jobs());
    let told = until_told(&cluster, "DataDeleted");
    assert!(told.contains("topic orders-clicks") && told.contains("orders.*"), "{told}");
    assert!(
        cluster
            .list("jobs")
            .iter()
            .all(|job| !name(job).contains("-delete-") || !job["metadata"]["deletionTimestamp"].is_null())
    );

    // A Job that fails holds nothing up: what is left is told.
    make(&cluster, &doomed("visits"));
    cluster.kubectl(&["delete", "csp", "visits", "--wait=false"]).unwrap();
    let job = deletion_job(&cluster, "visits");
    let failed = |ty: &str| json!({"type": ty, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "no broker"});
    let status = json!({"status": {"startTime": "2026-01-01T00:00:00Z", "failed": 1, "conditions": [failed("FailureTarget"), failed("Failed")]}});
    cluster.patch(&format!("job/{}", name(&job)), &status, &["--subresource=status"]);
    until_gone(&cluster, "visits", || {});
    let told = until_told(&cluster, "DataLeft");
    assert!(told.contains("no broker") && told.contains("topic visits-clicks"), "{told}");

    // In a namespace that is being deleted no Job can be made: the pipeline goes all the same.
    make(&cluster, &doomed("shop"));
    make(&cluster, &doomed("later"));
    cluster.server.kubectl_ok(&["delete", "namespace", NAMESPACE, "--wait=false"]).unwrap();
    cluster.kubectl(&["delete", "csp", "shop", "--wait=false"]).unwrap();
    until_gone(&cluster, "shop", || {});
    assert!(cluster.list("jobs").iter().all(|job| !name(job).starts_with("shop-delete-")));

    // The operator's own namespace takes the operator along, often before its pipelines: it lets them go first.
    assert_eq!(finalizers(&cluster, "later"), json!([FINALIZER]));
    operator.running.signal(SIGTERM).unwrap();
    let ended = operator.running.wait(PATIENCE).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(finalizers(&cluster, "later").is_null(), "{}", ended.stderr);
}
