//! Parquet files of a fleet in a bucket: over an S3 server that others wrote, with sinks that are killed and sinks that sleep, each
//! event is in one object.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use tests::{
    bucket::Bucket,
    kafka::Broker,
    lake::{Places, add_places},
    roles::{PATIENCE, Role, SIGCONT, SIGSTOP, set_up},
};
use worker::sink::parquet::Shelf as _;

/// Events, and how many a second.
const EVENTS: u64 = 20_000;
const RATE: u64 = 4_000;

const RECORDS: &str = "clickstream_sink_records_total";

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

fn manifest(directory: &Path, broker: &Broker, (events, rate): (u64, u64)) -> PathBuf {
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
    synthetic: {{count: {events}, eventsPerSecond: {rate}, fields: {{user: {{choice: [a, b, c, d, e]}}, at: {{now: {{}}}}}}}}
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
    let manifest = manifest(bucket.directory.path(), &broker, (EVENTS, RATE));
    set_up(&manifest).unwrap();
    let mut process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut lake = sink(&bucket, &manifest);
    [&mut process, &mut lake].into_iter().for_each(|role| role.wait_until_ready().unwrap());
    let ingest = Role::start("ingest", &manifest, &["--name", "made", "--until-done"]).unwrap();
    for share in [10, 3] {
        let written = |records: f64| records > (EVENTS / share) as f64;
        lake.wait_for_figure(RECORDS, written).unwrap();
        lake.running.kill().unwrap();
        lake = sink(&bucket, &manifest);
    }
    assert!(ingest.running.wait(PATIENCE).unwrap().status.success());
    lake.running.wait_for(PATIENCE, || (rows(&bucket).len() as u64 >= EVENTS).then_some(())).unwrap();
    assert_eq!(rows(&bucket).len() as u64, EVENTS);
    [process, lake].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

#[test]
fn a_bucket_that_is_away_is_waited_for() {
    let (broker, bucket) = (Broker::start().unwrap(), Bucket::start("lake").unwrap());
    let manifest = manifest(bucket.directory.path(), &broker, (EVENTS, RATE));
    set_up(&manifest).unwrap();
    let mut process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut lake = sink(&bucket, &manifest);
    [&mut process, &mut lake].into_iter().for_each(|role| role.wait_until_ready().unwrap());
    let ingest = Role::start("ingest", &manifest, &["--name", "made", "--until-done"]).unwrap();
    lake.wait_for_figure(RECORDS, |records| records > (EVENTS / 10) as f64).unwrap();
    bucket.server.signal(SIGSTOP).unwrap();
    // All others go on, and the sink itself says how much waits for it.
    assert!(ingest.running.wait(PATIENCE).unwrap().status.success());
    lake.wait_for_figure("clickstream_sink_failures_total", |failures| failures >= 1.0).unwrap();
    lake.wait_for_figure("clickstream_sink_lag_records", |lag| lag > 0.0).unwrap();
    bucket.server.signal(SIGCONT).unwrap();
    lake.running.wait_for(PATIENCE, || (rows(&bucket).len() as u64 >= EVENTS).then_some(())).unwrap();
    assert_eq!(rows(&bucket).len() as u64, EVENTS);
    lake.wait_for_figure("clickstream_sink_lag_records", |lag| lag == 0.0).unwrap();
    [process, lake].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

#[test]
fn a_sleeper_does_not_write_what_its_successor_has_written() {
    const MANY: u64 = 60_000;
    let (broker, bucket) = (Broker::start().unwrap(), Bucket::start("lake").unwrap());
    let manifest = manifest(bucket.directory.path(), &broker, (MANY, 2_000));
    set_up(&manifest).unwrap();
    let mut process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut sleeper = sink(&bucket, &manifest);
    [&mut process, &mut sleeper].into_iter().for_each(|role| role.wait_until_ready().unwrap());
    let ingest = Role::start("ingest", &manifest, &["--name", "made", "--until-done"]).unwrap();
    sleeper.wait_for_figure(RECORDS, |records| records > 4_000.0).unwrap();
    // Events come all the time, so that it has begun a file.
    sleeper.running.signal(SIGSTOP).unwrap();
    let mut successor = sink(&bucket, &manifest);
    successor.wait_for_figure(RECORDS, |records| records > 10_000.0).unwrap();
    sleeper.running.signal(SIGCONT).unwrap();
    sleeper.wait_until_ready().unwrap();
    assert!(ingest.running.wait(PATIENCE).unwrap().status.success());
    successor.running.wait_for(PATIENCE, || (rows(&bucket).len() as u64 >= MANY).then_some(())).unwrap();
    assert_eq!(rows(&bucket).len() as u64, MANY);
    [process, successor, sleeper].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}
