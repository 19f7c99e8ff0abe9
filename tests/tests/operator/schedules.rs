//! A schedule becomes a CronJob, follows the manifest, and says how it went.

use serde_json::{Value, json};

use crate::cluster::{Cluster, changed, small};

const CRON_JOB: &str = "cronjob/orders-schedule-nightly";

fn manifest() -> Value {
    changed(&small("orders"), |all| {
        let topics: Vec<Value> =
            all["spec"]["topics"].as_array().unwrap().iter().map(|topic| topic["name"].clone()).collect();
        let volume = json!({"persistentVolumeClaim": "lake"});
        let bronze = json!({"name": "bronze", "topics": topics, "parquet": {"path": "bronze", "volume": volume}});
        all["spec"]["sinks"] = json!([bronze]);
        let replay = json!({"from": "bronze", "since": "24h"});
        let nightly = json!({"name": "nightly", "cron": "15 2 * * *", "timeZone": "Europe/Berlin", "replay": replay});
        all["spec"]["schedules"] = json!([nightly]);
    })
}

/// What the cluster's own controller would say of the runs.
fn ran(cluster: &Cluster, status: &Value) {
    cluster.patch(CRON_JOB, &json!({ "status": status }), &["--subresource=status"]);
}

#[test]
fn a_schedule_is_a_cron_job_and_says_how_it_went() {
    let cluster = Cluster::start();
    let _operator = cluster.operator("first");
    cluster.apply(&manifest()).unwrap();
    cluster.until_condition("orders", "Ready", "True", "Ready");
    let made = cluster.until("the CronJob", || cluster.get(CRON_JOB));
    let spec = &made["spec"];
    assert_eq!((&spec["schedule"], &spec["timeZone"]), (&json!("15 2 * * *"), &json!("Europe/Berlin")));
    assert_eq!((&spec["suspend"], &spec["concurrencyPolicy"]), (&json!(false), &json!("Forbid")));
    let job = &spec["jobTemplate"]["spec"];
    assert_eq!((&job["backoffLimit"], &job["template"]["spec"]["restartPolicy"]), (&json!(0), &json!("Never")));
    let pod = &job["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let args: Vec<&str> = pod["containers"][0]["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(
        args[..7],
        ["replay", "--manifest", "/etc/clickstream/pipeline.yaml", "--from", "bronze", "--since", "1d"]
    );
    assert_eq!(args[7..], ["-s", "sinks.bronze.parquet.path=/var/lib/clickstream/claim-lake/bronze"]);
    let label = &job["template"]["metadata"]["labels"]["clickstream.dev/pipeline"];
    assert_eq!(label, "orders", "the NetworkPolicy is about its pods too");
    let labels = &spec["jobTemplate"]["metadata"]["labels"];
    assert!(labels["app.kubernetes.io/managed-by"].is_null(), "its Jobs are the CronJob's: {labels}");
    cluster.until_condition("orders", "SchedulesSucceeded", "Unknown", "NotRun");

    // How it went.
    ran(&cluster, &json!({"lastScheduleTime": "2026-01-01T01:15:00Z"}));
    let failed = cluster.until_condition("orders", "SchedulesSucceeded", "False", "ScheduleFailed");
    let told = failed["message"].as_str().unwrap();
    assert!(told.contains("schedule nightly at 2026-01-01T01:15:00Z") && told.contains("kubectl logs"), "{told}");
    let about = |event: &Value| event["reason"] == "ScheduleFailed" && event["type"] == "Warning";
    cluster.until("an event", || cluster.list("events").iter().any(about).then_some(()));
    ran(&cluster, &json!({"lastSuccessfulTime": "2026-01-01T01:17:00Z"}));
    cluster.until_condition("orders", "SchedulesSucceeded", "True", "Succeeded");

    // Drift is put right; what suspends the pipeline suspends it; without a schedule there is none.
    cluster.patch(CRON_JOB, &json!({"spec": {"schedule": "0 0 1 1 *", "concurrencyPolicy": "Allow"}}), &[]);
    cluster.until("the drift to be put right", || {
        let spec = cluster.get(CRON_JOB)?["spec"].clone();
        (spec["schedule"] == "15 2 * * *" && spec["concurrencyPolicy"] == "Forbid").then_some(())
    });
    cluster.patch("csp/orders", &json!({"spec": {"suspend": true}}), &[]);
    cluster.until("its suspension", || (cluster.get(CRON_JOB)?["spec"]["suspend"] == true).then_some(()));
    cluster.patch("csp/orders", &json!({"spec": {"suspend": false}}), &[]);
    cluster.until("its resumption", || (cluster.get(CRON_JOB)?["spec"]["suspend"] == false).then_some(()));
    cluster.patch("csp/orders", &json!({"spec": {"schedules": null}}), &[]);
    cluster.until("it to be gone", || cluster.get(CRON_JOB).is_none().then_some(()));
    cluster.until_condition("orders", "Progressing", "False", "Settled");
    assert!(cluster.condition("orders", "SchedulesSucceeded").is_none());
}
