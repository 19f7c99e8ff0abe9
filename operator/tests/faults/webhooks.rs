//! A cluster with webhooks, as a mesh and a mirror of images have them: what they add costs nothing, what they overwrite is said
//! once, and what a hand changes is put right all the same.

use operator::controller;
use serde_json::{Value, json};

use crate::{
    STAGES, pipeline,
    refusals::{looked_again, until},
    runtime,
    server::Server,
    setting, settled,
    store::{Key, Store},
};

/// Adds a container, a variable and an annotation to every pod, and takes its image from elsewhere.
fn webhook(plural: &str, object: &mut Value) {
    if plural != "deployments" {
        return;
    }
    let template = &mut object["spec"]["template"];
    template["metadata"]["annotations"]["mesh"] = json!("injected");
    let containers = template["spec"]["containers"].as_array_mut().unwrap();
    add(containers, json!({"name": "proxy", "image": "proxy:1"}));
    for container in containers.iter_mut().filter(|container| container["name"] == "clickstream") {
        container["image"] = json!("mirror/clickstream:1");
        add(container["env"].as_array_mut().unwrap(), json!({"name": "MESH", "value": "on"}));
    }
}

fn add(list: &mut Vec<Value>, item: Value) {
    if !list.contains(&item) {
        list.insert(0, item);
    }
}

fn deployments(store: &Store) -> Vec<Key> {
    store.objects.keys().filter(|(plural, _)| plural == "deployments").cloned().collect()
}

#[test]
fn what_webhooks_make_otherwise_is_said_once_and_drift_is_put_right() {
    let mut start = Store::default();
    start.webhook = Some(webhook);
    let server = Server::new(start);
    server.with(STAGES[0].act);
    let calm = async {
        settled(&server).await.unwrap();
        let all = server.with(|store| deployments(store));
        assert!(all.len() > 3, "{all:?}");
        assert_eq!(server.refused().1, vec!["Overruled"; all.len()]);
        let before = server.passed().writes;
        looked_again(&server).await;
        assert_eq!(server.passed().writes, before, "it goes on writing");

        let process = ("deployments".to_owned(), "multi-sink-process".to_owned());
        let arguments = |store: &Store| {
            let containers = store.objects[&process]["spec"]["template"]["spec"]["containers"].as_array().unwrap();
            containers.iter().find(|one| one["name"] == "clickstream").unwrap()["args"].clone()
        };
        let said = server.with(|store| arguments(store));
        server.with(|store| {
            store.change(&process, |object| {
                let containers = object["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap();
                let ours = containers.iter_mut().find(|one| one["name"] == "clickstream").unwrap();
                ours["args"] = json!(["by hand"]);
            });
        });
        until(&server, "drift to be put right", || (server.with(|store| arguments(store)) == said).then_some(())).await;
        // Another spec restarts all parts, one after the other, also where the last word is not ours.
        server.with(STAGES[1].act);
        settled(&server).await.unwrap();
        let writes = server.passed().writes;
        looked_again(&server).await;
        assert_eq!(server.passed().writes, writes, "it goes on writing after a change");
        assert!(server.with(|store| store.objects.contains_key(&pipeline())));
    };
    runtime().block_on(async {
        tokio::select! {
            () = controller::run(setting(&server)) => panic!("the controller stopped by itself"),
            () = calm => {}
        }
    });
}
