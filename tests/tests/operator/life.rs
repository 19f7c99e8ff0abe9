//! One pipeline from its first Job to its end, what the definition refuses, and who leads.

use std::{fs, path::Path, time::Instant};

use serde_json::{Value, json};
use tests::binary::root;

use crate::cluster::{Cluster, Operator, PATIENCE, SIGTERM, changed, example, name};

#[test]
fn an_api_server_refuses_what_would_hurt_and_says_why() {
    let cluster = Cluster::start();
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).unwrap();
            let said = cluster.apply_text(&text, &["--dry-run=server"]).unwrap();
            assert!(!said.contains("Warning"), "{}: {said}", Path::display(&path));
        }
    }
    let mut good = example("category-sales");
    good["spec"]["topics"][0]["replicationFactor"] = json!(3);
    let doomed = json!({"name": "doomed", "partitions": 2, "deletionPolicy": "Delete"});
    good["spec"]["topics"].as_array_mut().unwrap().push(doomed);
    cluster.apply(&good).unwrap();

    let grown = changed(&good, |all| all["spec"]["topics"][0]["partitions"] = json!(8));
    let retained =
        changed(&good, |all| drop(all["spec"]["topics"][1].as_object_mut().unwrap().remove("deletionPolicy")));
    for fine in [&grown, &retained] {
        cluster.try_out(fine).unwrap();
    }
    type Row = (&'static str, fn(&mut Value));
    let rows: [Row; 10] = [
        ("partitions can only grow", |all| all["spec"]["topics"][0]["partitions"] = json!(3)),
        ("replicationFactor cannot change", |all| all["spec"]["topics"][0]["replicationFactor"] = json!(2)),
        ("set it to Retain first", |all| drop(all["spec"]["topics"].as_array_mut().unwrap().pop())),
        // A rename is a removal and an addition.
        ("set it to Retain first", |all| all["spec"]["topics"][1]["name"] = json!("renamed")),
        ("of a bucket cannot change", |all| all["spec"]["sinks"][0]["couchbase"]["bucket"]["name"] = json!("other")),
        ("at most 40 characters", |all| all["metadata"]["name"] = json!("n".repeat(41))),
        ("should match", |all| all["spec"]["topics"][0]["name"] = json!("a: {b}\nc")),
        ("expected numeric", |all| all["spec"]["topics"][0]["partitions"] = json!("many")),
        ("field not declared in schema", |all| all["spec"]["tpics"] = json!([])),
        ("Invalid value", |all| all["spec"]["ingest"][0]["http"] = json!({"port": 8090})),
    ];
    let long = |all: &mut Value| all["spec"]["streams"][0]["rules"][0]["check"] = json!("a".repeat(2 << 20));
    let many = |all: &mut Value| {
        let rule = |at: u32| json!({"name": format!("r{at}"), "check": "amount > 0"});
        all["spec"]["streams"][0]["rules"] = (0..60_000).map(rule).collect();
    };
    let rows = rows.into_iter().chain([("may not be more than", long as fn(&mut Value)), ("must have at most", many)]);
    for (why, change) in rows {
        let bad = changed(&good, change);
        let said = cluster.try_out(&bad).expect_err(&format!("it should be refused: {why}"));
        assert!(said.contains(why), "{why} is not in: {}", said.chars().take(2_000).collect::<String>());
    }
    explained(&cluster);
}

/// What `kubectl explain` says is the definition's own text: what a field means, its unit, what it is unless said.
fn explained(cluster: &Cluster) {
    let rows = [
        ("csp", "DESCRIPTION"),
        ("csp.spec.topics.retention", "retention"),
        ("csp.spec.process.autoscale", "drainWithin"),
        ("csp.spec.deletionPolicy", "ENUM"),
        ("csp.status.conditions", "observedGeneration"),
    ];
    for (field, words) in rows {
        let said = cluster.kubectl(&["explain", field]).unwrap();
        let described = said.split_once("DESCRIPTION:").map(|(_, text)| text.trim_start());
        let described = described.is_some_and(|text| !text.starts_with("<empty>") && text.len() > 20);
        assert!(described && said.contains(words), "{field}: {said}");
    }
}

#[test]
fn a_pipeline_is_made_kept_changed_and_left_alone() {
    let cluster = Cluster::start();
    let operator = cluster.operator("first");
    let good = example("category-sales");
    cluster.apply(&good).unwrap();

    // Topics first: until the Job is done there are no pods.
    let job = cluster.until("the setup Job", || cluster.list("jobs").pop());
    assert!(name(&job).starts_with("category-sales-setup-"), "{job}");
    cluster.until("TopicsReady=False", || {
        cluster.condition("category-sales", "TopicsReady").filter(|found| found["reason"] == "SettingUp")
    });
    assert!(cluster.list("deployments").is_empty());
    let ready = cluster.until_condition("category-sales", "Ready", "True", "Ready");
    println!("{ready}");
    everything_is_owned(&cluster);

    idle_means_no_writes(&cluster, &operator);
    scaled_by_kubectl(&cluster);
    drift_is_put_right(&cluster, &operator);
    an_invalid_change_changes_nothing(&cluster, &good);
    suspended_and_resumed(&cluster);
    collectors_are_scaled_by_load(&cluster);

    // Deletion needs no finalizer: it is done at once, and nothing is made again.
    cluster.kubectl(&["delete", "csp", "category-sales", "--timeout=20s"]).unwrap();
    cluster.kubectl(&["delete", "deployments,services", "--all"]).unwrap();
    cluster.renewals(2);
    assert!(cluster.list("deployments").is_empty() && cluster.list("services").is_empty());
}

/// Names, kinds, owners and field managers of what was made.
fn everything_is_owned(cluster: &Cluster) {
    let uid = cluster.get("csp/category-sales").unwrap()["metadata"]["uid"].clone();
    let all = cluster
        .list("configmaps,jobs,networkpolicies,services,poddisruptionbudgets,deployments,horizontalpodautoscalers");
    for object in all.iter().filter(|object| name(object) != "kube-root-ca.crt") {
        let metadata = &object["metadata"];
        assert_eq!(metadata["ownerReferences"][0]["uid"], uid, "{object}");
        assert!(metadata["finalizers"].is_null() || object["kind"] == "Job", "{object}");
    }
    let deployments: Vec<Value> = cluster.list("deployments");
    let names: Vec<&str> = deployments.iter().map(name).collect();
    assert_eq!(
        names,
        [
            "category-sales-ingest-checkout",
            "category-sales-process",
            "category-sales-serve",
            "category-sales-sink-debug",
            "category-sales-sink-postgres",
            "category-sales-sink-results",
        ]
    );
    let shown = ["get", "deployments", "-o", "json", "--show-managed-fields"];
    let shown: Value = serde_json::from_str(&cluster.kubectl(&shown).unwrap()).unwrap();
    for fields in shown["items"][0]["metadata"]["managedFields"].as_array().unwrap() {
        let by_us = fields["manager"] == "clickstream-operator" && fields["operation"] == "Apply";
        assert!(by_us || fields["subresource"] == "status", "{fields}");
    }
}

fn idle_means_no_writes(cluster: &Cluster, operator: &Operator) {
    let settled = cluster.until("writes to stop", || {
        let before = cluster.versions();
        cluster.renewals(1);
        (cluster.versions() == before).then_some(before)
    });
    let writes = operator.writes();
    cluster.renewals(4);
    let said = cluster.list("events").pop().map(|event| event["message"].clone());
    assert_eq!(operator.writes(), writes, "an idle operator wrote something: {said:?}");
    assert_eq!(cluster.versions(), settled, "{said:?}");
}

fn scaled_by_kubectl(cluster: &Cluster) {
    let process = || cluster.get("deployment/category-sales-process").unwrap();
    let hash = |one: &Value| one["spec"]["template"]["metadata"]["annotations"].clone();
    let before = process();
    cluster.kubectl(&["scale", "csp", "category-sales", "--replicas=3"]).unwrap();
    let after = cluster.until("three pods", || Some(process()).filter(|one| one["spec"]["replicas"] == 3));
    assert_eq!(hash(&before), hash(&after), "scaling restarts nothing");
    cluster.until_condition("category-sales", "Ready", "True", "Ready");
    let scale = cluster.kubectl(&["get", "csp", "category-sales", "--subresource=scale", "-o", "json"]).unwrap();
    let scale: Value = serde_json::from_str(&scale).unwrap();
    assert_eq!(scale["status"]["replicas"], 3);
    assert!(scale["status"]["selector"].as_str().unwrap().contains("component=process"), "{scale}");
}

/// What others changed of ours is put right, what they added of theirs is left, and nobody fights over it.
fn drift_is_put_right(cluster: &Cluster, operator: &Operator) {
    cluster.patch("deployment/category-sales-serve", &json!({"spec": {"replicas": 9}}), &[]);
    cluster.kubectl(&["delete", "service", "category-sales-serve"]).unwrap();
    cluster.until("the Service and the number of pods to be put right", || {
        let serve = cluster.get("deployment/category-sales-serve")?;
        (cluster.get("service/category-sales-serve").is_some() && serve["spec"]["replicas"] != 9).then_some(())
    });
    cluster.kubectl(&["set", "env", "deployment/category-sales-serve", "THEIRS=kept"]).unwrap();
    cluster.until_condition("category-sales", "Progressing", "False", "Settled");
    cluster.renewals(1);
    let writes = operator.writes();
    cluster.renewals(3);
    assert_eq!(operator.writes(), writes, "the operator fights over a variable that is not its own");
    let serve = cluster.get("deployment/category-sales-serve").unwrap().to_string();
    assert!(serve.contains("THEIRS"), "{serve}");
}

fn an_invalid_change_changes_nothing(cluster: &Cluster, good: &Value) {
    let before: Vec<Value> = cluster.list("deployments").iter().map(|one| one["spec"].clone()).collect();
    let bad =
        json!({"spec": {"tables": [changed(&good["spec"]["tables"][0], |table| table["from"] = json!("sails"))]}});
    cluster.patch("csp/category-sales", &bad, &[]);
    let refused = cluster.until_condition("category-sales", "Accepted", "False", "Invalid");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("sails") && message.contains("the last valid spec goes on"), "{message}");
    cluster.renewals(1);
    let after: Vec<Value> = cluster.list("deployments").iter().map(|one| one["spec"].clone()).collect();
    assert_eq!(before, after);
    cluster.patch("csp/category-sales", &json!({"spec": {"tables": good["spec"]["tables"]}}), &[]);
    cluster.until_condition("category-sales", "Ready", "True", "Ready");
}

fn suspended_and_resumed(cluster: &Cluster) {
    let pods = || cluster.list("deployments").iter().filter_map(|one| one["spec"]["replicas"].as_i64()).sum::<i64>();
    let before = pods();
    cluster.patch("csp/category-sales", &json!({"spec": {"suspend": true}}), &[]);
    cluster.until("no pods", || {
        cluster.finish_pods();
        (pods() == 0).then_some(())
    });
    cluster.until_condition("category-sales", "Ready", "False", "Suspended");
    cluster.patch("csp/category-sales", &json!({"spec": {"suspend": false}}), &[]);
    cluster.until_condition("category-sales", "Ready", "True", "Ready");
    assert_eq!(pods(), before);
}

/// Their number is the autoscaler's, which `kubectl scale` stands for here: it is left within the limits.
fn collectors_are_scaled_by_load(cluster: &Cluster) {
    let name = "deployment/category-sales-ingest-checkout";
    let autoscale = json!({"minReplicas": 2, "maxReplicas": 6});
    let ingest = json!([{"name": "checkout", "topic": "transactions", "http": {"port": 8090}, "autoscale": autoscale}]);
    cluster.patch("csp/category-sales", &json!({"spec": {"ingest": ingest}}), &[]);
    let pods = || cluster.get(name).and_then(|one| one["spec"]["replicas"].as_i64());
    let autoscaler = || cluster.get("hpa/category-sales-ingest-checkout");
    let made = cluster.until("an autoscaler", || {
        cluster.finish_jobs();
        cluster.finish_pods();
        autoscaler().filter(|_| pods() == Some(2))
    });
    assert_eq!((&made["spec"]["minReplicas"], &made["spec"]["maxReplicas"]), (&json!(2), &json!(6)));
    cluster.until_condition("category-sales", "Progressing", "False", "Settled");

    cluster.kubectl(&["scale", name, "--replicas=5"]).unwrap();
    cluster.renewals(2);
    cluster.until_condition("category-sales", "Ready", "True", "Ready");
    cluster.renewals(1);
    assert_eq!((pods(), autoscaler().is_some()), (Some(5), true));
    // Another change is made around it.
    cluster.kubectl(&["delete", "pdb", "category-sales-ingest-checkout"]).unwrap();
    cluster.kubectl(&["scale", name, "--replicas=9"]).unwrap();
    cluster.until("the limit", || (pods() == Some(6)).then_some(()));
    cluster.until("a budget", || cluster.get("pdb/category-sales-ingest-checkout"));

    cluster.patch("csp/category-sales", &json!({"spec": {"suspend": true}}), &[]);
    cluster.until("no pods and no autoscaler", || {
        cluster.finish_pods();
        (pods() == Some(0) && autoscaler().is_none()).then_some(())
    });
    cluster.patch("csp/category-sales", &json!({"spec": {"suspend": false}}), &[]);
    cluster.until_condition("category-sales", "Ready", "True", "Ready");
    assert_eq!((pods(), autoscaler().is_some()), (Some(2), true));
}

#[test]
fn one_leads_and_the_next_takes_over() {
    let cluster = Cluster::start();
    let led_by = |who: &str| cluster.until(who, || cluster.lease().filter(|(holder, _)| holder == who));
    let first = cluster.operator("first");
    led_by("first");
    let second = cluster.operator("second");
    cluster.renewals(2);
    led_by("first");

    // One that is told to stop gives the lease back.
    first.running.signal(SIGTERM).unwrap();
    let told = Instant::now();
    led_by("second");
    println!("handed over in {} ms", told.elapsed().as_millis());
    assert!(first.running.wait(PATIENCE).unwrap().status.success());

    // One that dies is waited for until its lease runs out.
    second.running.kill().unwrap();
    let third = cluster.operator("third");
    let died = Instant::now();
    led_by("third");
    println!("taken over from the dead in {} ms", died.elapsed().as_millis());
    cluster.apply(&example("category-sales")).unwrap();
    cluster.until("the new leader to work", || cluster.list("jobs").pop());

    // One whose lease somebody else took works no more.
    cluster.patch("lease/clickstream-operator", &json!({"spec": {"holderIdentity": "another"}}), &[]);
    let ended = third.running.wait(PATIENCE).unwrap();
    assert!(!ended.status.success() && ended.stderr.contains("the lease is lost"), "{}", ended.stderr);
    led_by("another");
}
