//! The chart's roles: enough for a whole life of a pipeline, and nothing in them that such a life does not use.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::{
    binary::run,
    chart::{couchbase_kinds, monitoring_kinds, objects, template},
};

use crate::{
    cluster::{Cluster, NAMESPACE, PATIENCE, SIGTERM, changed, example, name, rights, rights_to_uninstall, small},
    promises,
};

/// Verb and resource.
type Right = (String, String);

/// Rights that no request shows: the server asks for them beside another one, where it is told to guard owner references.
const BESIDE: [(&str, &str); 1] = [("update", "clickstreampipelines/finalizers")];

/// What helm is told of the Prometheus operator's kinds, and their resources.
const MONITORING: [(&str, &str); 2] = [
    ("monitoring.coreos.com/v1/PodMonitor", "podmonitors"),
    ("monitoring.coreos.com/v1/PrometheusRule", "prometheusrules"),
];

/// The same of Couchbase's operator.
const COUCHBASE: [(&str, &str); 4] = [
    ("couchbase.com/v2/CouchbaseBucket", "couchbasebuckets"),
    ("couchbase.com/v2/CouchbaseEphemeralBucket", "couchbaseephemeralbuckets"),
    ("couchbase.com/v2/CouchbaseScope", "couchbasescopes"),
    ("couchbase.com/v2/CouchbaseCollection", "couchbasecollections"),
];

fn words(rule: &Value, what: &str) -> Vec<String> {
    rule[what].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn granted(rights: Vec<Value>) -> BTreeSet<Right> {
    let roles = rights.into_iter().filter(|object| object["kind"] == "Role");
    let rules = roles.flat_map(|role| role["rules"].as_array().unwrap().clone());
    let pairs = rules.flat_map(|rule| {
        let verbs = words(&rule, "verbs");
        words(&rule, "resources")
            .into_iter()
            .flat_map(move |resource| verbs.clone().into_iter().map(move |verb| (verb, resource.clone())))
    });
    pairs.collect()
}

/// What the account did, by the server's own record.
fn used(audit: &[Value]) -> BTreeSet<Right> {
    let mut used = BTreeSet::new();
    for request in audit.iter().filter(|request| request["stage"] == "ResponseComplete" || request["verb"] == "watch") {
        let about = &request["objectRef"];
        let Some(resource) = about["resource"].as_str() else { continue };
        let resource = about["subresource"].as_str().map_or(resource.to_owned(), |sub| format!("{resource}/{sub}"));
        // An apply that makes an object needs the right to create it as well.
        if request["verb"] == "patch" && request["responseStatus"]["code"] == 201 {
            used.insert(("create".into(), resource.clone()));
        }
        used.insert((request["verb"].as_str().unwrap().to_owned(), resource));
    }
    used
}

#[test]
fn the_charts_roles_are_enough_and_nothing_in_them_is_too_much() {
    let cluster = Cluster::start();
    let operator = cluster.operator("first");
    let ingress = json!({"host": "shop.example.com"});
    let whole = changed(&example("category-sales"), |all| {
        let autoscale = json!({"minReplicas": 2, "maxReplicas": 4});
        all["spec"]["ingest"][0] =
            json!({"name": "collector", "topic": "transactions", "http": {"port": 8090}, "autoscale": autoscale});
        all["spec"]["serve"] = json!({"ingress": ingress});
        all["spec"]["deletionPolicy"] = json!("Delete");
        let bronze = json!({"name": "bronze", "topics": ["transactions"], "parquet": {"path": "s3://lake/bronze/"}});
        all["spec"]["sinks"].as_array_mut().unwrap().push(bronze);
        let nightly = json!({"name": "nightly", "cron": "15 2 * * *", "replay": {"from": "bronze"}});
        all["spec"]["schedules"] = json!([nightly]);
    });
    cluster.apply(&whole).unwrap();
    cluster.until_condition("category-sales", "Ready", "True", "Ready");
    assert!(cluster.get("ingress/category-sales-serve").is_some());
    assert!(cluster.get("poddisruptionbudget/category-sales-ingest-collector").is_some());
    assert!(cluster.get("hpa/category-sales-ingest-collector").is_some());
    assert!(cluster.get("cronjob/category-sales-schedule-nightly").is_some());

    // Fewer parts: what nobody wants any more is deleted, of every kind that can be.
    cluster.patch("csp/category-sales", &json!({"spec": {"ingest": null, "serve": null, "schedules": null}}), &[]);
    cluster.until_condition("category-sales", "Progressing", "False", "Settled");
    let gone = [
        "ingress/category-sales-serve",
        "service/category-sales-ingest-collector",
        "hpa/category-sales-ingest-collector",
        "cronjob/category-sales-schedule-nightly",
    ];
    assert!(gone.iter().all(|what| cluster.get(what).is_none()));
    cluster.kubectl(&["delete", "csp", "category-sales", "--wait=false"]).unwrap();
    cluster.until("the pipeline to be gone", || {
        cluster.finish_pods();
        cluster.finish_jobs();
        cluster.get("csp/category-sales").is_none().then_some(())
    });
    cluster.apply(&small("again")).unwrap();
    cluster.until_condition("again", "Ready", "True", "Ready");
    operator.running.signal(SIGTERM).unwrap();
    assert_eq!(operator.running.wait(PATIENCE).unwrap().status.code(), Some(0));

    nothing_is_too_much_or_too_little(&cluster, &[]);
    let left = cluster.list("deployments");
    assert!(left.iter().all(|one| name(one).starts_with("again-") || one["spec"]["replicas"] == 0));
}

fn nothing_is_too_much_or_too_little(cluster: &Cluster, kinds: &[&str]) {
    let audit = cluster.server.audit().unwrap();
    nothing_was_refused(&audit);
    let (granted, used) = (granted(rights(kinds)), used(&audit));
    let beside = BESIDE.map(|(verb, resource)| (verb.to_owned(), resource.to_owned()));
    // With more kinds, only what is special about them: the rest is the other test's.
    let more = || MONITORING.iter().chain(&COUCHBASE);
    let is_asked = |right: &&Right| kinds.is_empty() || more().any(|(_, resource)| *resource == right.1);
    let idle: Vec<&Right> =
        granted.difference(&used).filter(|right| !beside.contains(right)).filter(is_asked).collect();
    assert!(idle.is_empty(), "granted and never used: {idle:?}; used: {used:?}");
    println!("{} rights, {} requests of the account, none refused", granted.len(), audit.len());
}

fn nothing_was_refused(audit: &[Value]) {
    let refused: Vec<&Value> = audit.iter().filter(|request| request["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "the roles are not enough: {refused:#?}");
}

#[test]
fn before_it_is_uninstalled_the_operator_is_stopped_and_lets_its_pipelines_go() {
    let cluster = Cluster::start();
    let operator = cluster.operator("first");
    let doomed = changed(&small("orders"), |all| all["spec"]["deletionPolicy"] = json!("Delete"));
    cluster.apply(&doomed).unwrap();
    cluster.until_condition("orders", "Ready", "True", "Ready");
    operator.running.signal(SIGTERM).unwrap();
    assert_eq!(operator.running.wait(PATIENCE).unwrap().status.code(), Some(0));
    let finalizers = || cluster.get("csp/orders").unwrap()["metadata"]["finalizers"].clone();
    assert_eq!(finalizers(), json!(["clickstream.dev/delete-data"]), "an operator that is only restarted lets none go");

    let rendered = objects(&template(&[], &[]).unwrap()).unwrap();
    let deployment = rendered.iter().find(|object| object["kind"] == "Deployment").unwrap();
    // Octal is for readers of YAML 1.1.
    let mode =
        |all: &mut Value| all["spec"]["template"]["spec"]["volumes"][0]["projected"]["defaultMode"] = json!(0o440);
    cluster.apply(&changed(deployment, mode)).unwrap();
    let before = cluster.server.audit().unwrap().len();
    let more: Vec<String> = rights_to_uninstall().iter().map(Value::to_string).collect();
    cluster.apply_text(&more.join("\n---\n"), &[]).unwrap();
    let job = rendered.iter().find(|object| object["kind"] == "Job").unwrap();
    let mut command = tests::binary::operator().unwrap();
    command.args(words(&job["spec"]["template"]["spec"]["containers"][0], "args"));
    command.env("WATCH_NAMESPACE", NAMESPACE).env("POD_NAMESPACE", NAMESPACE);
    command.env("KUBECONFIG", cluster.server.kubeconfig_of_account());
    let ended = run(command, PATIENCE).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("shop/orders") && ended.stderr.contains("stays"), "{}", ended.stderr);
    assert_eq!(finalizers(), Value::Null);
    assert_eq!(cluster.get("deployment/clickstream").unwrap()["spec"]["replicas"], 0);
    cluster.kubectl(&["delete", "csp/orders", "--timeout=30s"]).unwrap();

    let audit = cluster.server.audit().unwrap();
    nothing_was_refused(&audit);
    let used = used(&audit[before..]);
    let idle: Vec<Right> = granted(rights_to_uninstall()).difference(&used).cloned().collect();
    assert!(idle.is_empty(), "granted and never used: {idle:?}; used: {used:?}");
}

#[test]
fn monitors_and_rules_come_once_the_cluster_knows_them() {
    let kinds = MONITORING.map(|(kind, _)| kind);
    let cluster = Cluster::start_with(&kinds);
    let _operator = cluster.operator("first");
    let objectives = json!({"latencyP95": "10s", "accuracy": 0.998, "availability": 0.99});
    let promising = |all: &mut Value| {
        all["spec"]["objectives"] = objectives.clone();
        all["spec"]["streams"][0]["quality"] = json!({"target": 0.95, "over": "10m"});
    };
    cluster.apply(&changed(&small("orders"), promising)).unwrap();
    cluster.until_condition("orders", "Ready", "True", "Ready");

    cluster.apply_text(&monitoring_kinds(), &[]).unwrap();
    let rule = cluster.until("the rule", || cluster.get("prometheusrule/orders"));
    let monitor = cluster.until("the monitor", || cluster.get("podmonitor/orders"));
    let label = "clickstream.dev/pipeline";
    assert_eq!(monitor["spec"]["selector"]["matchLabels"][label], "orders");
    assert_eq!(monitor["spec"]["podTargetLabels"], json!([label]));
    let alerts = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
    let alerts: Vec<&str> = alerts.iter().filter_map(|alert| alert["alert"].as_str()).collect();
    let promised = [
        "ClickstreamLatencyObjective",
        "ClickstreamAccuracyObjective",
        "ClickstreamAvailabilityObjective",
        "ClickstreamQuality",
    ];
    assert_eq!((alerts[0], &alerts[1..]), ("ClickstreamPipelineSilent", &promised[..]));
    promises::are_told_when_they_are_broken(&rule);

    // Nothing is promised while it is suspended.
    cluster.patch("csp/orders", &json!({"spec": {"suspend": true}}), &[]);
    cluster.until_condition("orders", "Ready", "False", "Suspended");
    cluster.until("no rule", || cluster.get("prometheusrule/orders").is_none().then_some(()));
    nothing_is_too_much_or_too_little(&cluster, &kinds);
}

#[test]
fn what_couchbases_operator_reads_is_made_and_stays() {
    let kinds = COUCHBASE.map(|(kind, _)| kind);
    let cluster = Cluster::start_with(&kinds);
    let _operator = cluster.operator("first");
    let store = |bucket: Value| json!({"connectionSecret": "couchbase", "bucket": bucket, "operator": {"labels": {"cluster": "shop"}}});
    let sinks = json!([
        {"name": "gold", "tables": ["users"], "couchbase": store(json!({"name": "sales", "ramQuota": "256Mi", "replicas": 1}))},
        {"name": "fast", "tables": ["users"], "couchbase": store(json!({"name": "cache", "type": "ephemeral"}))},
    ]);
    let orders = changed(&small("orders"), |all| all["spec"]["sinks"] = sinks.clone());
    let deletes = changed(&orders, |all| all["spec"]["deletionPolicy"] = json!("Delete"));
    cluster.apply(&deletes).unwrap();
    let refused = cluster.until_condition("orders", "Accepted", "False", "Invalid");
    assert!(refused["message"].as_str().unwrap().contains("would make it again"), "{refused}");
    cluster.apply(&changed(&orders, |all| all["spec"]["deletionPolicy"] = json!("Retain"))).unwrap();
    // A store that is missing holds up nobody else.
    cluster.until_condition("orders", "StoreReady", "False", "CouchbaseOperatorMissing");
    cluster.until_condition("orders", "Ready", "True", "Ready");

    cluster.apply_text(&couchbase_kinds(), &[]).unwrap();
    cluster.until_condition("orders", "StoreReady", "True", "Ready");
    let bucket = cluster.until("the bucket", || cluster.get("couchbasebucket/orders-sales"));
    assert_eq!(bucket["metadata"]["labels"]["cluster"], "shop");
    assert_eq!(bucket["spec"]["memoryQuota"], "256Mi");
    cluster.until("the other", || cluster.get("couchbaseephemeralbucket/orders-cache"));
    let of = |kind: &str| cluster.list(kind);
    assert_eq!((of("couchbasescopes").len(), of("couchbasecollections").len()), (2, 2));

    // Neither a sink that goes nor the end of the pipeline takes data with it.
    cluster.patch("csp/orders", &json!({"spec": {"sinks": [sinks[1]]}}), &[]);
    cluster.until("the sink to go", || {
        cluster.finish_jobs();
        cluster.finish_pods();
        cluster.get("deployment/orders-sink-gold").is_none().then_some(())
    });
    nothing_is_too_much_or_too_little(&cluster, &kinds);
    cluster.kubectl(&["delete", "csp/orders"]).unwrap();
    let kept: Vec<Value> = kinds.iter().flat_map(|kind| of(kind.rsplit('/').next().unwrap())).collect();
    assert_eq!(kept.len(), 6);
    assert!(kept.iter().all(|object| object["metadata"]["ownerReferences"].is_null()), "{kept:#?}");
}
