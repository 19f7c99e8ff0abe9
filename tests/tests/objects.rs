//! Parquet files of a fleet in a bucket: over an S3 server that others wrote, killed sinks and all, each event is in one
//! object.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use tests::{
    bucket::Bucket,
    kafka::Broker,
    lake::{Places, add_places},
    roles::{PATIENCE, Role, set_up},
};
use worker::sink::parquet::Shelf as _;

const EVENTS: u64 = 20_000;

fn sink(bucket: &Bucket, manifest: &Path) -> Role {
    Role::start_as(bucket.role("sink", manifest, &["--name", "lake"]).unwrap()).unwrap()
}

/// Where the rows of all objects come from.
fn rows(bucket: &Bucket) -> Places {
    let objects = bucket.objects("events/").unwrap();
    let mut found = Places::new();
    for name in objects.names().unwrap() {
        assert!(name.starts_with("date=") && name.ends_with(".parquet"), "{name}");
        let file = bucket.directory.path().join("fetched");
        objects.fetch(&name, &file).unwrap();
        add_places(&file, &mut found).unwrap();
    }
    found
}

fn manifest(directory: &Path, broker: &Broker) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: lake}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: views, partitions: 2}}
  ingest:
  - name: made
    topic: views
    synthetic: {{count: {EVENTS}, eventsPerSecond: 4000, fields: {{user: {{choice: [a, b, c, d, e]}}, at: {{now: {{}}}}}}}}
  streams:
  - name: seen
    topics: [views]
    key: user
    eventTime: {{field: at, outOfOrderness: 1s}}
    fields:
    - {{name: user, type: string}}
    - {{name: at, type: timestamp}}
  sinks:
  - {{name: lake, streams: [seen], parquet: {{path: 's3://lake/events/', credentialsSecret: lake, partitionBy: date, rollEvery: 1s}}}}
",
        broker.address
    );
    let file = directory.join("lake.yaml");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn each_event_is_in_one_object() {
    let (broker, bucket) = (Broker::start().unwrap(), Bucket::start("lake").unwrap());
    let manifest = manifest(bucket.directory.path(), &broker);
    set_up(&manifest).unwrap();
    let mut process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut lake = sink(&bucket, &manifest);
    [&mut process, &mut lake].into_iter().for_each(|role| role.wait_until_ready().unwrap());
    let ingest = Role::start("ingest", &manifest, &["--name", "made", "--until-done"]).unwrap();
    for share in [10, 3] {
        let written = |records: f64| records > (EVENTS / share) as f64;
        lake.wait_for_figure("clickstream_sink_records_total", written).unwrap();
        lake.running.kill().unwrap();
        lake = sink(&bucket, &manifest);
    }
    assert!(ingest.running.wait(PATIENCE).unwrap().status.success());
    lake.running.wait_for(PATIENCE, || (rows(&bucket).len() as u64 >= EVENTS).then_some(())).unwrap();
    assert_eq!(rows(&bucket).len() as u64, EVENTS);
    [process, lake].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}
