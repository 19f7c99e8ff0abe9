//! Checkpoints in a bucket of an S3 server that others wrote, and in a topic: a killed processor goes on from them, from an
//! older one where the newest is damaged, and is not held up by a server that hangs or a store that refuses.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tests::{
    binary::free_address,
    bucket::Bucket,
    kafka::{Broker, read_topic, set_topic},
    roles::{PATIENCE, Role, SIGCONT, SIGSTOP, set_up},
};
use worker::{objects::Objects, sink::parquet::Shelf as _};

/// More events that must be counted while the store takes nothing: some seconds of work.
const MEANWHILE: f64 = 6_000.0;

/// The oldest checkpoint's age, for each stage.
const AGES: [&str; 2] = ["map", "merge"];

const COUNTED: &str = "clickstream_table_events{outcome=\"counted\",table=\"totals\"}";

fn manifest(directory: &Path, broker: &Broker, store: &str) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: kept}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: views, partitions: 2}}
  ingest:
  - name: made
    topic: views
    synthetic: {{eventsPerSecond: 1000, fields: {{user: {{choice: [a, b, c, d, e]}}}}}}
  streams:
  - {{name: views, topics: [views], key: user, fields: [{{name: user, type: string}}]}}
  tables:
  - {{name: totals, from: views, select: {{views: count()}}}}
  process:
    checkpoints: {{{store}every: 1s}}
",
        broker.address
    );
    let file = directory.join("kept.yaml");
    fs::write(&file, text).unwrap();
    file
}

struct World {
    bucket: Bucket,
    manifest: PathBuf,
    serve: Role,
}

impl World {
    fn process(&self) -> Role {
        Role::start_as(self.bucket.role("process", &self.manifest, &["--threads", "1"]).unwrap()).unwrap()
    }

    fn objects(&self) -> Objects {
        self.bucket.objects("of/tests/").unwrap()
    }

    /// Names of checkpoints by task, oldest first.
    fn checkpoints(&self) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in self.objects().names().unwrap() {
            let steps: Vec<&str> = name.split('/').collect();
            found.entry(steps[..steps.len() - 2].join("/")).or_default().push(name);
        }
        found.values_mut().for_each(|names| names.sort());
        found
    }
}

/// Waits until so many more events are counted.
fn counts(serve: &mut Role, more: f64) {
    let before = serve.figure(COUNTED).unwrap().unwrap_or(0.0);
    serve.wait_for_figure(COUNTED, |figure| figure >= before + more).unwrap();
}

/// The offset that a task was read on from, as the log tells.
fn recovered(told: &str) -> Vec<u64> {
    let lines = told.lines().filter(|line| line.contains("recovers") && line.contains("map:views"));
    lines.filter_map(|line| line.split("from=").nth(1)?.split(' ').next()?.parse().ok()).collect()
}

/// Waits until the checkpoints of both stages are so old, or so young.
fn wait_for_ages(process: &mut Role, is_wanted: impl Fn(f64) -> bool) {
    for stage in AGES {
        let series = format!("clickstream_checkpoint_age_seconds{{epoch=\"1\",stage=\"{stage}\"}}");
        process.wait_for_figure(&series, &is_wanted).unwrap();
    }
}

#[test]
fn a_processor_goes_on_from_a_bucket_and_without_one() {
    let (broker, bucket) = (Broker::start().unwrap(), Bucket::start("checkpoints").unwrap());
    let store = "store: 's3://checkpoints/of/tests/', credentialsSecret: lake, ";
    let manifest = manifest(bucket.directory.path(), &broker, store);
    set_up(&manifest).unwrap();
    let page = free_address().unwrap();
    let serve = Role::start("serve", &manifest, &["--listen", &page]).unwrap();
    let mut world = World { bucket, manifest, serve };
    let ingest = Role::start("ingest", &world.manifest, &["--name", "made"]).unwrap();

    let mut process = world.process();
    // Both partitions, and where all of it is one row.
    let three = |world: &World| world.checkpoints().values().filter(|names| names.len() >= 3).count() >= 3;
    process.running.wait_for(PATIENCE, || three(&world).then_some(())).unwrap();
    process.running.kill().unwrap();

    let process = world.process();
    counts(&mut world.serve, MEANWHILE);
    let told = process.running.complaints();
    assert!(recovered(&told).iter().all(|from| *from > 0) && recovered(&told).len() >= 2, "{told}");
    let before = process.running.kill().unwrap();
    assert!(!before.stderr.contains("a checkpoint is left out"), "{}", before.stderr);

    let checkpoints = world.checkpoints();
    for names in checkpoints.values() {
        assert!(names.len() <= 5, "more are kept than need be: {names:?}");
        let (objects, newest) = (world.objects(), names.last().unwrap());
        let mut bytes = objects.get(newest).unwrap().unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        objects.put_bytes(newest, bytes).unwrap();
    }
    let mut process = world.process();
    counts(&mut world.serve, MEANWHILE);
    let told = process.running.complaints();
    assert!(told.matches("skipping an unreadable checkpoint").count() >= checkpoints.len(), "{told}");
    assert!(recovered(&told).iter().all(|from| *from > 0) && recovered(&told).len() >= 2, "{told}");

    // It hangs.
    world.bucket.server.signal(SIGSTOP).unwrap();
    counts(&mut world.serve, MEANWHILE);
    wait_for_ages(&mut process, |age| age > 8.0);
    world.bucket.server.signal(SIGCONT).unwrap();
    wait_for_ages(&mut process, |age| age < 4.0);

    // It refuses.
    let objects = world.objects();
    let is_gone = || {
        objects.names().unwrap().iter().for_each(|name| objects.remove(name).unwrap());
        world.bucket.unmake().ok()
    };
    process.running.wait_for(PATIENCE, is_gone).unwrap();
    counts(&mut world.serve, MEANWHILE);
    wait_for_ages(&mut process, |age| age > 8.0);
    world.bucket.make().unwrap();
    wait_for_ages(&mut process, |age| age < 4.0);

    ingest.end_in_order().unwrap();
    let checked = crds::check(&fs::read_to_string(&world.manifest).unwrap(), &[]).unwrap();
    let events = read_topic(&checked, "views", 2).unwrap().len();
    world.serve.wait_for_figure(COUNTED, |figure| figure == events as f64).unwrap();
    println!("{events} of {events} events counted");
    let told = process.end_in_order().unwrap().stderr;
    assert!(told.contains("a checkpoint is left out"), "{told}");
    assert!(read_topic(&checked, "kept.checkpoints", 16).unwrap().is_empty(), "the topic was written to as well");
    world.serve.end_in_order().unwrap();
}

#[test]
fn a_topic_that_refuses_checkpoints_costs_none_of_those_it_has() {
    let (broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let manifest = manifest(directory.path(), &broker, "");
    let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
    set_up(&manifest).unwrap();
    let page = free_address().unwrap();
    let mut serve = Role::start("serve", &manifest, &["--listen", &page]).unwrap();
    let ingest = Role::start("ingest", &manifest, &["--name", "made"]).unwrap();
    let process = || Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut first = process();
    [&mut serve, &mut first].into_iter().for_each(|role| role.wait_until_ready().unwrap());
    counts(&mut serve, MEANWHILE);
    wait_for_ages(&mut first, |age| age < 4.0);

    // As from a full disk: whatever is written is refused, for longer than three checkpoints take.
    let takes = |bytes: &str| set_topic(&checked, "kept.checkpoints", &[("max.message.bytes", bytes)]).unwrap();
    takes("64");
    wait_for_ages(&mut first, |age| age > 8.0);
    counts(&mut serve, MEANWHILE);
    let told = first.running.kill().unwrap().stderr;
    assert!(told.contains("a checkpoint is left out"), "{told}");

    takes("33554432");
    let mut second = process();
    counts(&mut serve, MEANWHILE);
    wait_for_ages(&mut second, |age| age < 4.0);
    let told = second.running.complaints();
    assert!(recovered(&told).iter().all(|from| *from > 0) && recovered(&told).len() >= 2, "{told}");

    ingest.end_in_order().unwrap();
    let events = read_topic(&checked, "views", 2).unwrap().len();
    serve.wait_for_figure(COUNTED, |figure| figure == events as f64).unwrap();
    println!("{events} of {events} events counted");
    [second, serve].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}
