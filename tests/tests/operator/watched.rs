//! What a pipeline may own or delete depends on all others: also those of other namespaces, and those that nobody can read.

use serde_json::{Value, json};

use crate::cluster::{Cluster, NAMESPACE, changed, name, rights, small};

/// The other namespace that the operator watches.
const OTHER: &str = "web";

/// In the other namespace, and with the topic of `orders`.
fn elsewhere(name: &str) -> Value {
    changed(&small(name), |all| {
        all["metadata"]["namespace"] = json!(OTHER);
        all["spec"]["topics"][0]["name"] = json!("orders-clicks");
        all["spec"]["streams"][0]["topics"][0] = json!("orders-clicks");
    })
}

/// A cluster with the chart's roles in both namespaces.
fn cluster() -> Cluster {
    let cluster = Cluster::start();
    cluster.kubectl(&["create", "namespace", OTHER]).unwrap();
    for object in rights(&[]).into_iter().filter(|object| object["kind"] != "ServiceAccount") {
        let there = changed(&object, |all| all["metadata"]["namespace"] = json!(OTHER));
        cluster.apply_elsewhere(&there, OTHER).unwrap();
    }
    cluster
}

fn until_told(cluster: &Cluster, reason: &str) -> String {
    cluster.until(reason, || {
        let event = cluster.list("events").into_iter().find(|event| event["reason"] == reason)?;
        Some(event["message"].as_str()?.to_owned())
    })
}

#[test]
fn a_topic_has_one_owner_in_all_namespaces_and_goes_only_if_nobody_uses_it() {
    let cluster = cluster();
    let _operator = cluster.operator_of("first", &format!("{NAMESPACE},{OTHER}"));
    let orders = changed(&small("orders"), |all| all["spec"]["deletionPolicy"] = json!("Delete"));
    cluster.apply(&orders).unwrap();
    cluster.until_condition("orders", "Ready", "True", "Ready");

    cluster.apply_elsewhere(&elsewhere("visits"), OTHER).unwrap();
    let condition = cluster.until("the conflict", || {
        let all = cluster.kubectl(&["get", "csp/visits", "-n", OTHER, "-o", "json"]).ok()?;
        let all: Value = serde_json::from_str(&all).unwrap();
        let conditions = all["status"]["conditions"].as_array()?.clone();
        conditions.into_iter().find(|one| one["type"] == "Accepted" && one["status"] == "False")
    });
    assert!(condition["reason"] == "Conflict" && condition["message"].as_str().unwrap().contains("shop/orders"));

    cluster.kubectl(&["delete", "csp", "orders", "--wait=false"]).unwrap();
    cluster.until("the pipeline to be gone", || {
        cluster.finish_pods();
        cluster.finish_jobs();
        cluster.get("csp/orders").is_none().then_some(())
    });
    let told = until_told(&cluster, "DataDeleted");
    assert!(told.contains("topic orders-clicks stays, because web/visits uses it"), "{told}");
}

#[test]
fn one_that_nobody_can_read_holds_up_no_other_and_deletes_nothing() {
    let cluster = Cluster::start();
    let _operator = cluster.operator("first");
    let doomed = changed(&small("orders"), |all| all["spec"]["deletionPolicy"] = json!("Delete"));
    cluster.apply(&doomed).unwrap();
    cluster.until_condition("orders", "Ready", "True", "Ready");

    // As one is that was stored under another definition.
    let definition = "crd/clickstreampipelines.clickstream.dev";
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let strict = cluster.get(definition).unwrap().pointer(schema).unwrap().clone();
    let set = |spec: &Value| {
        let patch = json!([{"op": "replace", "path": schema, "value": spec}]).to_string();
        cluster.kubectl(&["patch", definition, "--type=json", "-p", &patch]).unwrap();
    };
    // Other objects are selected by what stays described.
    let suspend = strict["properties"]["suspend"].clone();
    set(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"suspend": suspend}}));
    let broken = changed(&small("broken"), |all| all["spec"]["tables"] = json!("none"));
    cluster.until("a broken pipeline", || cluster.apply(&broken).ok());
    set(&strict);
    let refused = cluster.until_condition("broken", "Accepted", "False", "Unreadable");
    assert!(refused["message"].as_str().unwrap().contains("what runs goes on"), "{refused}");

    cluster.apply(&small("visits")).unwrap();
    cluster.until_condition("visits", "Ready", "True", "Ready");
    cluster.kubectl(&["delete", "csp", "orders", "--wait=false"]).unwrap();
    cluster.until("the pipeline to be gone", || {
        cluster.finish_pods();
        cluster.get("csp/orders").is_none().then_some(())
    });
    let told = until_told(&cluster, "DataLeft");
    assert!(told.contains("pipeline shop/broken cannot be read"), "{told}");
    assert!(cluster.list("jobs").iter().all(|job| !name(job).contains("-delete-")));

    cluster.kubectl(&["delete", "csp", "broken", "--wait=false"]).unwrap();
    cluster.until("the broken one to be gone", || cluster.get("csp/broken").is_none().then_some(()));
}
