//! The real controller against an API server in memory: whatever goes wrong at whichever write, read or watched change of
//! creation, change, scaling, suspension and deletion, the end is that of the calm run.
//!
//! Every stage is run calmly first, which tells how many points it passes. Then it is run again for every point and fault,
//! from the same start: the operator dies before or after the write and another takes over; writes are refused or their answer
//! is lost; lists fail or are old; watched changes are dropped or told twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod merge;
mod refusals;
mod server;
mod store;
mod webhooks;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use operator::{
    controller::{self, Pace, Setting},
    desired::monitoring::Monitoring,
    metrics::Metrics,
};
use serde_json::{Value, json};
use server::{Fault, Passed, Server};
use store::{Key, Store};

/// A run ends within milliseconds; this is for busy cores.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster that did not change during so many of the operator's reads has settled: a reconcile takes eleven, so that two
/// whole ones found nothing to do.
const QUIET_READS: usize = 33;

/// Rounds of the cluster's own controllers in which what is gone stays gone.
const GONE_ROUNDS: usize = 30;

const PIPELINE: &str = "multi-sink";

/// Everything that can go wrong with a write.
const WRITES: [Fault; 3] = [Fault::CrashBefore, Fault::CrashAfter, Fault::AnswerLost];

/// How it may be refused: one of them at each write, by turns.
const REFUSALS: [u16; 6] = [403, 409, 422, 429, 500, 504];

/// What can go wrong with a list.
const LISTS: [Fault; 2] = [Fault::ListFails(500), Fault::ListStale(3)];

/// Lists of a stage at which something goes wrong: six of the watches, then those of the first reconciles.
const LISTS_MAX: usize = 40;

/// What can go wrong with a watched change.
const WATCHES: [Fault; 2] = [Fault::WatchDrops, Fault::WatchRepeats];

/// What a person does.
struct Stage {
    name: &'static str,
    act: fn(&mut Store),
}

const STAGES: [Stage; 9] = [
    Stage { name: "create", act: |store| store.change(&pipeline(), |object| *object = example()) },
    // Another spec, with another hash: all pods restart, and what is too many goes.
    Stage { name: "change", act: |store| spec(store, |spec| spec["sinks"].as_array_mut().unwrap().truncate(1)) },
    // As the operator does itself where topics were set otherwise.
    Stage { name: "set up again", act: |store| assert!(store.delete(&job(store))) },
    Stage { name: "scale", act: |store| spec(store, |spec| spec["process"]["replicas"] = json!(3)) },
    Stage { name: "suspend", act: |store| spec(store, |spec| spec["suspend"] = json!(true)) },
    Stage { name: "resume", act: |store| spec(store, |spec| spec["suspend"] = json!(false)) },
    Stage { name: "scale by load", act: |store| spec(store, |spec| spec["process"]["autoscale"] = autoscale()) },
    Stage { name: "ask for deletion", act: |store| spec(store, |spec| spec["deletionPolicy"] = json!("Delete")) },
    Stage { name: "delete", act: |store| assert!(store.delete(&pipeline())) },
];

fn pipeline() -> Key {
    ("clickstreampipelines".into(), PIPELINE.into())
}

/// The Job of the present spec.
fn job(store: &Store) -> Key {
    store.objects.keys().find(|(plural, _)| plural == "jobs").unwrap().clone()
}

/// Limits that the present number of pods does not keep.
fn autoscale() -> Value {
    json!({"minReplicas": 4, "maxReplicas": 6, "drainWithin": "5m"})
}

fn spec(store: &mut Store, change: impl FnOnce(&mut Value)) {
    store.change(&pipeline(), |object| change(&mut object["spec"]));
}

fn example() -> Value {
    let file = format!("{}/../examples/{PIPELINE}.yaml", env!("CARGO_MANIFEST_DIR"));
    let mut object: Value = serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    object["metadata"] = json!({"name": PIPELINE, "namespace": "shop"});
    object["spec"]["process"].as_object_mut().unwrap().remove("autoscale");
    let topic = object["spec"]["topics"][0]["name"].clone();
    let archive = json!({"name": "archive", "topics": [topic], "parquet": {"path": "s3://lake/archive/"}});
    object["spec"]["sinks"].as_array_mut().unwrap().insert(0, archive);
    object["spec"]["schedules"] = json!([{"name": "nightly", "cron": "15 2 * * *", "replay": {"from": "archive"}}]);
    object
}

/// How a run ended.
struct End {
    state: BTreeMap<Key, Value>,
    store: Store,
    passed: Passed,
}

fn setting(server: &Server) -> Setting {
    Setting {
        client: server.client(),
        namespaces: vec!["shop".into()],
        image: "clickstream:1".into(),
        monitoring: Monitoring::default(),
        couchbase_operator: false,
        identity: "test".into(),
        metrics: Metrics::new(),
        pace: Pace {
            look_every: Duration::from_millis(5),
            look_soon: Duration::from_millis(3),
            backoff: Duration::from_millis(2)..Duration::from_millis(10),
        },
    }
}

/// Runs one stage from `start` until nothing changes any more; the operator that dies is followed by another.
async fn run(start: &Store, stage: &Stage, fault: Option<(Fault, usize)>) -> End {
    let server = Server::new(start.clone());
    server.with(stage.act);
    server.arm(fault);
    let operators = async {
        loop {
            tokio::select! {
                () = controller::run(setting(&server)) => panic!("the controller stopped by itself"),
                () = server.crashed() => {}
            }
        }
    };
    tokio::select! {
        never = operators => never,
        settled = settled(&server) => {
            assert!(settled.is_ok(), "{} with {fault:?}: {settled:?}", stage.name);
        }
    }
    let passed = server.passed();
    server.with(|store| {
        assert!(store.broken.is_empty(), "{}: {:?}", stage.name, store.broken);
        End { state: store.end_state(), store: store.clone(), passed }
    })
}

/// Plays the cluster's controllers until nothing changes any more, and the pipeline says that nothing is left to do.
async fn settled(server: &Server) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let (mut seen, mut rounds) = ((0, 0), 0);
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (version, is_done, is_gone) = server.with(|store| {
            store.play();
            (store.version, is_done(store), store.objects.is_empty())
        });
        let reads = server.passed().lists;
        if version != seen.0 {
            (seen, rounds) = ((version, reads), 0);
        }
        rounds += 1;
        // Of what is gone nothing is read any more.
        if (is_gone && rounds >= GONE_ROUNDS) || (is_done && reads >= seen.1 + QUIET_READS) {
            return Ok(());
        }
    }
    let state = server.with(|store| store.objects.get(&pipeline()).map(|object| object["status"].clone()));
    Err(format!("it never settles: {state:?}"))
}

fn is_done(store: &Store) -> bool {
    let Some(object) = store.objects.get(&pipeline()) else { return store.objects.is_empty() };
    let conditions = object["status"]["conditions"].as_array();
    let progressing = conditions.and_then(|all| all.iter().find(|one| one["type"] == "Progressing"));
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
        && progressing.is_some_and(|one| one["status"] == "False")
}

/// Every fault at every point that the calm run passed.
fn points(passed: Passed) -> Vec<(Fault, usize)> {
    let all = |faults: &'static [Fault], count: usize| {
        (0..count).flat_map(move |at| faults.iter().map(move |fault| (*fault, at)))
    };
    // While nothing is left to do the operator goes on looking: those lists are all alike.
    let lists = passed.lists.min(LISTS_MAX);
    let refused = (0..passed.writes).map(|at| (Fault::Refused(REFUSALS[at % REFUSALS.len()]), at));
    all(&WRITES, passed.writes).chain(refused).chain(all(&LISTS, lists)).chain(all(&WATCHES, passed.watched)).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn whatever_goes_wrong_the_end_is_that_of_the_calm_run() {
    let mut start = Store::default();
    let mut explored = 0;
    for stage in &STAGES {
        let began = Instant::now();
        let calm = runtime().block_on(run(&start, stage, None));
        println!("{}: {:?} in {:.2} s", stage.name, calm.passed, began.elapsed().as_secs_f64());
        let points = points(calm.passed);
        let next = AtomicUsize::new(0);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let runtime = runtime();
                    while let Some(fault) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let end = runtime.block_on(run(&start, stage, Some(*fault)));
                        same(&end.state, &calm.state, &format!("{} with {fault:?}", stage.name));
                    }
                });
            }
        });
        println!(
            "{}: {} writes, {} points explored in {:.1} s",
            stage.name,
            calm.passed.writes,
            points.len(),
            began.elapsed().as_secs_f64()
        );
        explored += points.len();
        start = calm.store;
    }
    println!("{explored} points explored");
    assert!(start.objects.is_empty(), "{:?}", start.objects.keys());
    assert!(explored > 1_000, "{explored} points");
}

fn same(end: &BTreeMap<Key, Value>, calm: &BTreeMap<Key, Value>, what: &str) {
    let keys = |state: &BTreeMap<Key, Value>| state.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(end), keys(calm), "{what}");
    for (key, object) in end {
        for (name, value) in object.as_object().unwrap() {
            assert_eq!(value, &calm[key][name], "{what}: {name} of {key:?}");
        }
    }
}
