//! Two hundred pipelines: how long they take, what they cost, and that none of them costs a write once all is as it should be.
//!
//! `CLICKSTREAM_IDLE_SECONDS` makes the idle stretch longer than a minute.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{
    bench::meter,
    binary::{Running, free_address},
};

use crate::cluster::{Cluster, NAMESPACE, small};

const PIPELINES: usize = 200;

/// They settle within one minute on quiet cores.
const PATIENCE: Duration = Duration::from_secs(400);

/// Longer than the operator's longest pause between two looks at a pipeline that runs.
const QUIET: Duration = Duration::from_secs(40);

/// What the controllers of a cluster do, by requests rather than by programs: there are thousands.
struct Controllers {
    base: String,
    _proxy: Running,
}

impl Controllers {
    fn start(cluster: &Cluster) -> Self {
        let address = free_address().unwrap();
        let (_, port) = address.rsplit_once(':').unwrap();
        let mut proxy = Command::new(cluster.server.kubectl_program());
        proxy.arg("--kubeconfig").arg(cluster.server.kubeconfig()).args(["proxy", "--port", port]).stdin(Stdio::null());
        let mut proxy = Running::start(proxy).unwrap();
        let ready = format!("http://{address}/readyz");
        proxy.wait_for(PATIENCE, || ureq::get(&ready).call().ok()).unwrap();
        Self { base: format!("http://{address}/apis"), _proxy: proxy }
    }

    fn list(&self, group: &str, plural: &str) -> Vec<Value> {
        let asked = ureq::get(format!("{}/{group}/namespaces/{NAMESPACE}/{plural}", self.base)).call().unwrap();
        let text = asked.into_body().with_config().limit(1 << 30).read_to_string().unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().clone()
    }

    fn say(&self, group: &str, plural: &str, object: &Value, status: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let place = format!("{}/{group}/namespaces/{NAMESPACE}/{plural}/{name}/status", self.base);
        let patch = json!({"status": status}).to_string();
        // What is gone or has changed meanwhile is looked at in the next round.
        let _ = ureq::patch(place).header("content-type", "application/merge-patch+json").send(&patch);
    }

    /// One round: Jobs end, pods become ready.
    fn play(&self) {
        let now = "2026-01-01T00:00:00Z";
        let done = |ty: &str| json!({"type": ty, "status": "True", "lastTransitionTime": now});
        for job in self.list("batch/v1", "jobs").iter().filter(|job| job["status"]["completionTime"].is_null()) {
            let conditions = [done("SuccessCriteriaMet"), done("Complete")];
            let status = json!({"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions});
            self.say("batch/v1", "jobs", job, &status);
        }
        for deployment in self.list("apps/v1", "deployments") {
            let (replicas, generation) = (&deployment["spec"]["replicas"], &deployment["metadata"]["generation"]);
            if deployment["status"]["observedGeneration"] != *generation {
                let status = json!({
                    "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                    "readyReplicas": replicas, "availableReplicas": replicas,
                });
                self.say("apps/v1", "deployments", &deployment, &status);
            }
        }
    }
}

fn is_settled(pipeline: &Value) -> bool {
    let conditions = pipeline["status"]["conditions"].as_array();
    let said = |type_: &str| conditions.and_then(|all| all.iter().find(|one| one["type"] == type_));
    said("Progressing").is_some_and(|one| one["reason"] == "Settled")
        && said("Ready").is_some_and(|one| one["reason"] == "Ready" || one["reason"] == "Suspended")
}

/// The account's writes but for the Lease, by what they were about; and all its requests.
fn writes(cluster: &Cluster) -> (BTreeMap<String, usize>, usize) {
    let audit = cluster.server.audit().unwrap();
    let mut writes = BTreeMap::new();
    for request in audit.iter().filter(|request| request["stage"] == "ResponseComplete") {
        let (verb, resource) = (request["verb"].as_str().unwrap(), &request["objectRef"]["resource"]);
        if !["get", "list", "watch"].contains(&verb) && resource != "leases" {
            *writes.entry(format!("{verb} {}", resource.as_str().unwrap_or_default())).or_default() += 1;
        }
    }
    (writes, audit.len())
}

#[test]
fn two_hundred_pipelines_settle_and_then_cost_no_write() {
    let cluster = Cluster::start();
    let controllers = Controllers::start(&cluster);
    let mut operator = cluster.operator("first");
    let pipelines: Vec<Value> = (0..PIPELINES)
        .map(|at| {
            let mut pipeline = small(&format!("shop-{at}"));
            pipeline["spec"]["suspend"] = json!(at % 2 == 1);
            pipeline
        })
        .collect();
    let all = json!({"apiVersion": "v1", "kind": "List", "items": pipelines});
    let began = Instant::now();
    cluster.apply(&all).unwrap();
    let applied = began.elapsed();
    let settled = operator.running.wait_for(PATIENCE, || {
        controllers.play();
        let there = controllers.list("clickstream.dev/v1alpha1", "clickstreampipelines");
        (there.len() == PIPELINES && there.iter().all(is_settled)).then_some(())
    });
    let (made, asked) = writes(&cluster);
    settled.unwrap_or_else(|error| panic!("{error}: {made:?}"));
    println!(
        "{PIPELINES} pipelines: applied in {applied:.1?}, settled {:.1?} after the first; {asked} requests, writes {made:?}",
        began.elapsed()
    );

    // Looks that were under way end; then every pipeline that runs was looked at once more.
    let mut last = (made, Instant::now());
    operator
        .running
        .wait_for(PATIENCE, || {
            let (now, _) = writes(&cluster);
            if now != last.0 {
                last = (now, Instant::now());
            }
            (last.1.elapsed() >= QUIET).then_some(())
        })
        .unwrap();

    let seconds = std::env::var("CLICKSTREAM_IDLE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let idle = Duration::from_secs(seconds);
    let ((before, asked), began) = (writes(&cluster), Instant::now());
    operator
        .running
        .wait_for(idle + PATIENCE, || {
            let (now, _) = writes(&cluster);
            assert_eq!(now, before, "a write after {:.0?} with nothing to do", began.elapsed());
            std::thread::park_timeout(Duration::from_secs(1));
            (began.elapsed() >= idle).then_some(())
        })
        .unwrap();
    let requests = writes(&cluster).1 - asked;
    let peak = meter::peak_bytes(operator.running.id()) >> 20;
    println!("{seconds} s idle: no write but the Lease, {requests} requests; {peak} MiB at most (built for tests)");
    assert!(peak < 256, "{peak} MiB: the chart allows 256");
}
