//! A kind that the API server refuses, as a quota or a policy does: people are told once, the operator goes on trying without
//! writing, and once it is allowed the end is that of the calm run.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use operator::{
    controller,
    desired::{MANAGER, PIPELINE_LABEL},
};
use serde_json::{Value, json};

use crate::{PATIENCE, STAGES, pipeline, run, runtime, same, server::Server, setting, settled, store::Store};

/// Tries after which a condition that was written anew at each of them would have shown.
const TRIES: usize = 12;

fn condition(server: &Server, type_: &str) -> Option<Value> {
    server.with(|store| {
        let conditions = store.objects.get(&pipeline())?["status"]["conditions"].as_array()?;
        conditions.iter().find(|one| one["type"] == type_).cloned()
    })
}

/// Plays the cluster's controllers until something is so.
pub async fn until<T>(server: &Server, what: &str, mut is_so: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        server.with(Store::play);
        if let Some(found) = is_so() {
            return found;
        }
        let state = server.with(|store| store.objects.get(&pipeline()).map(|object| object["status"].clone()));
        assert!(Instant::now() < deadline, "in vain for {what}: {state:?}");
    }
}

async fn tried_again(server: &Server) {
    let tries = server.refused().0;
    until(server, "more tries", || (server.refused().0 >= tries + TRIES).then_some(())).await;
}

/// Waits until everything was looked at some times more.
pub async fn looked_again(server: &Server) {
    let lists = server.passed().lists;
    until(server, "more looks", || (server.passed().lists >= lists + 10 * TRIES).then_some(())).await;
}

async fn is_told_once_and_forgotten(server: &Server, kind: &str, code: u16) {
    let told = until(server, "Degraded", || condition(server, "Degraded").filter(|one| one["status"] == "True"));
    let told = told.await;
    let message = told["message"].as_str().unwrap();
    assert_eq!(told["reason"], "ApplyFailed");
    assert!(message.contains(&format!("injected {code}")) && message.starts_with("apply "), "{kind}: {message}");
    let ready = condition(server, "Ready").unwrap();
    assert_eq!((&ready["status"], &ready["reason"]), (&"False".into(), &"ApplyFailed".into()));
    // The pods that may be made are ready by then.
    tried_again(server).await;
    let before = server.with(|store| store.objects[&pipeline()].clone());
    tried_again(server).await;
    let after = server.with(|store| store.objects[&pipeline()].clone());
    assert_eq!(before, after, "{kind}: the same trouble was written again");
    assert_eq!(server.refused().1, ["ApplyFailed"], "{kind}");

    server.forbid(None);
    settled(server).await.unwrap();
    let told = condition(server, "Degraded").unwrap();
    assert_eq!(told["status"], "False", "{kind}: {told}");
}

#[test]
fn a_kind_that_is_refused_is_told_once_and_made_once_it_may_be() {
    let calm = runtime().block_on(run(&Store::default(), &STAGES[0], None));
    let kinds: BTreeSet<&str> = calm.state.keys().map(|(plural, _)| plural.as_str()).collect();
    let kinds: Vec<&str> = kinds.into_iter().filter(|plural| *plural != pipeline().0).collect();
    assert!(kinds.len() >= 6, "{kinds:?}");
    for kind in kinds {
        for code in [403, 413, 422] {
            let server = Server::new(Store::default());
            server.with(STAGES[0].act);
            server.forbid(Some((kind, code)));
            runtime().block_on(async {
                tokio::select! {
                    () = controller::run(setting(&server)) => panic!("the controller stopped by itself"),
                    () = is_told_once_and_forgotten(&server, kind, code) => {}
                }
            });
            let end = server.with(|store| store.end_state());
            same(&end, &calm.state, &format!("{kind} refused with {code}"));
        }
    }
}

/// Of what is no step of a pipeline no condition can tell: an event does, and only one.
#[test]
fn a_status_that_is_refused_is_told_by_one_event() {
    let calm = runtime().block_on(run(&Store::default(), &STAGES[0], None));
    let server = Server::new(Store::default());
    server.with(STAGES[0].act);
    server.forbid(Some((&pipeline().0, 403)));
    let told_once = async {
        until(&server, "an event", || server.refused().1.first().cloned()).await;
        tried_again(&server).await;
        assert_eq!(server.refused().1, ["ApplyFailed"]);
        server.forbid(None);
        settled(&server).await.unwrap();
    };
    runtime().block_on(async {
        tokio::select! {
            () = controller::run(setting(&server)) => panic!("the controller stopped by itself"),
            () = told_once => {}
        }
    });
    same(&server.with(|store| store.end_state()), &calm.state, "the status refused");
}

/// An object of somebody else under a name that the pipeline needs: it stays as it is, people are told which, everything else is made,
/// and once it is gone the pipeline has the name.
#[test]
fn what_others_made_is_never_taken_over() {
    let calm = runtime().block_on(run(&Store::default(), &STAGES[0], None));
    let labels = |pipeline: &str| json!({PIPELINE_LABEL: pipeline, "app.kubernetes.io/managed-by": MANAGER});
    for (kind, plural, name, labels) in [
        ("Deployment", "deployments", "multi-sink-process", json!({"app": "theirs"})),
        ("Deployment", "deployments", "multi-sink-ingest-collector", json!({"app": "theirs"})),
        ("Service", "services", "multi-sink-serve", Value::Null),
        ("NetworkPolicy", "networkpolicies", "multi-sink", json!({PIPELINE_LABEL: "multi-sink"})),
        ("CronJob", "cronjobs", "multi-sink-schedule-nightly", labels("multi")),
    ] {
        let server = Server::new(Store::default());
        let key = (plural.to_owned(), name.to_owned());
        assert!(calm.state.contains_key(&key), "{key:?}");
        server.with(STAGES[0].act);
        server.with(|store| {
            store.change(&key, |object| {
                object["metadata"] = json!({"name": name, "namespace": "shop", "labels": labels});
                object["spec"] = json!({"theirs": true, "selector": {"app": "theirs"}});
            });
        });
        // What the cluster's own controllers say of it is not the operator's doing.
        let as_made = || {
            let mut object = server.with(|store| store.objects[&key].clone());
            object.as_object_mut().unwrap().remove("status");
            object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
            object
        };
        let theirs = as_made();
        let told_and_left = async {
            let told =
                until(&server, "Degraded", || condition(&server, "Degraded").filter(|one| one["status"] == "True"));
            let message = told.await["message"].as_str().unwrap().to_owned();
            assert!(message.contains(&format!("{kind} {name} in namespace shop is not of this pipeline")), "{message}");
            // Every try looks at it again. Once the pods that may be made are ready, none writes anything.
            looked_again(&server).await;
            let before = server.passed().writes;
            looked_again(&server).await;
            assert_eq!(server.passed().writes, before, "{kind}: it goes on writing");
            assert_eq!(as_made(), theirs, "{kind}");
            let made = server.with(|store| store.end_state());
            let missing: Vec<_> = calm.state.keys().filter(|other| !made.contains_key(*other)).collect();
            // What belongs to somebody else is not scaled.
            let autoscaler = ("horizontalpodautoscalers".to_owned(), name.to_owned());
            let held: Vec<_> = calm.state.keys().filter(|other| **other == autoscaler).collect();
            assert_eq!(missing, held, "{kind} {name}");
            assert!(server.with(|store| store.delete(&key)));
            settled(&server).await.unwrap();
        };
        runtime().block_on(async {
            tokio::select! {
                () = controller::run(setting(&server)) => panic!("the controller stopped by itself"),
                () = told_and_left => {}
            }
        });
        same(&server.with(|store| store.end_state()), &calm.state, &format!("{kind} of somebody else"));
    }
}
