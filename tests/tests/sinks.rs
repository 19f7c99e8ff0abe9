//! Sinks of a fleet that are killed and put to sleep amid their work: what arrives is what the tables say, each event once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tests::{
    kafka::{Broker, read_topic},
    lake::{Places, add_places},
    roles::{Role, SIGCONT, SIGSTOP, set_up},
};
use worker::kafka::feed::FeedRecord;

const EVENTS: u64 = 40_000;
const RATE: u64 = 5_000;
const USERS: usize = 50;

fn manifest(directory: &Path, broker: &Broker) -> PathBuf {
    let users: Vec<String> = (0..USERS).map(|user| format!("u{user}")).collect();
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: sinks}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: views, partitions: 2}}
  - {{name: totals, partitions: 3}}
  - {{name: events, partitions: 3}}
  ingest:
  - name: made
    topic: views
    synthetic: {{count: {EVENTS}, eventsPerSecond: {RATE}, fields: {{user: {{choice: [{}]}}, at: {{now: {{}}}}}}}}
  streams:
  - name: seen
    topics: [views]
    key: user
    eventTime: {{field: at, outOfOrderness: 1s}}
    fields:
    - {{name: user, type: string}}
    - {{name: at, type: timestamp}}
  tables:
  - {{name: per_user, from: seen, groupBy: [user], maxGroups: 1000, select: {{views: count()}}}}
  sinks:
  - {{name: to-topic, tables: [per_user], kafka: {{topic: totals}}}}
  - {{name: to-events, streams: [seen], kafka: {{topic: events}}}}
  - {{name: lines, tables: [per_user], console: {{format: json}}}}
  - {{name: some-lines, tables: [per_user], console: {{every: {EVENTS}}}}}
  - {{name: files, streams: [seen], parquet: {{path: '{}', rollEvery: 2s}}}}
",
        broker.address,
        users.join(", "),
        directory.join("files").display(),
    );
    let file = directory.join("sinks.yaml");
    fs::write(&file, text).unwrap();
    file
}

fn sink(manifest: &Path, name: &str) -> Role {
    Role::start("sink", manifest, &["--name", name]).unwrap()
}

/// Rows of a user: how often it was seen.
type Totals = BTreeMap<String, u64>;

fn total(document: &[u8]) -> (String, u64) {
    let row: Value = serde_json::from_slice(document).unwrap();
    (row["group"]["user"].as_str().unwrap().to_owned(), row["values"]["views"].as_u64().unwrap())
}

fn header(record: &FeedRecord, name: &str) -> String {
    let found = record.headers.iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", record.headers)).1.clone()
}

/// The last row of each key; versions of a key only grow, so that none comes twice.
fn latest(records: &[FeedRecord]) -> Totals {
    let mut versions: BTreeMap<&[u8], (u64, u64)> = BTreeMap::new();
    let mut rows = Totals::new();
    for record in records {
        let number = |name| header(record, name).parse::<u64>().unwrap();
        let version = (number("clickstream-epoch"), number("clickstream-version"));
        let before = versions.insert(&record.key, version);
        assert!(before.is_none_or(|before| before < version), "{before:?}, then {version:?}");
        let (user, views) = total(record.value.as_ref().unwrap());
        rows.insert(user, views);
    }
    rows
}

fn rows_of_files(directory: &Path) -> Places {
    let mut found = Places::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "parquet") {
                add_places(&path, &mut found).unwrap();
            }
        }
    }
    found
}

#[test]
fn whatever_happens_to_sinks_each_row_and_event_arrives_once() {
    let (broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let manifest = manifest(directory.path(), &broker);
    let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
    set_up(&manifest).unwrap();
    let mut process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let [mut victim, mut sleeper] = ["to-topic", "to-events"].map(|name| sink(&manifest, name));
    let (mut lines, some_lines, mut files) =
        (sink(&manifest, "lines"), sink(&manifest, "some-lines"), sink(&manifest, "files"));
    // Else everything may be there before anybody is, and comes as one commit.
    [&mut process, &mut victim, &mut sleeper, &mut lines, &mut files]
        .into_iter()
        .for_each(|role| role.wait_until_ready().unwrap());
    let ingest = Role::start("ingest", &manifest, &["--name", "made", "--until-done"]).unwrap();

    let written = "clickstream_sink_records_total";
    victim.wait_for_figure(written, |records| records > 100.0).unwrap();
    victim.running.kill().unwrap();
    let mut victim = sink(&manifest, "to-topic");
    sleeper.wait_for_figure(written, |records| records > EVENTS as f64 / 20.0).unwrap();
    sleeper.running.signal(SIGSTOP).unwrap();
    let mut other = sink(&manifest, "to-events");
    other.wait_for_figure(written, |records| records > 100.0).unwrap();
    sleeper.running.signal(SIGCONT).unwrap();
    files.wait_for_figure(written, |records| records > EVENTS as f64 / 10.0).unwrap();
    files.running.kill().unwrap();
    let mut files = sink(&manifest, "files");

    assert!(ingest.running.wait(tests::roles::PATIENCE).unwrap().status.success());
    let all = |records: &[FeedRecord]| latest(records).values().sum::<u64>() == EVENTS;
    let read = |topic: &str| read_topic(&checked, topic, 3).unwrap();
    victim.running.wait_for(tests::roles::PATIENCE, || all(&read("totals")).then_some(())).unwrap();
    other.running.wait_for(tests::roles::PATIENCE, || (read("events").len() as u64 >= EVENTS).then_some(())).unwrap();
    let totals = latest(&read("totals"));
    assert_eq!(totals.len(), USERS);

    let events = read("events");
    let sources: BTreeSet<String> = events.iter().map(|event| header(event, "clickstream-source")).collect();
    assert_eq!((events.len() as u64, sources.len() as u64), (EVENTS, EVENTS));
    let mut seen = Totals::new();
    for event in &events {
        let user: Value = serde_json::from_slice(event.value.as_ref().unwrap()).unwrap();
        assert_eq!(user["user"].as_str().unwrap().as_bytes(), event.key);
        *seen.entry(user["user"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(seen, totals);

    let place = directory.path().join("files");
    files
        .running
        .wait_for(tests::roles::PATIENCE, || (rows_of_files(&place).len() as u64 >= EVENTS).then_some(()))
        .unwrap();
    assert_eq!(rows_of_files(&place).len() as u64, EVENTS);

    lines.wait_for_figure("clickstream_sink_lag_records", |lag| lag == 0.0).unwrap();
    let printed = lines.end_in_order().unwrap().stdout;
    let rows: Totals = printed.lines().map(|line| total(line.as_bytes())).collect();
    assert_eq!(rows, totals);
    // What waits for the next so many events is printed at the end.
    let printed = some_lines.end_in_order().unwrap().stdout;
    let told: BTreeSet<&str> = printed.lines().collect();
    let row = |(user, views): (&String, &u64)| format!("per_user  user={user}  views={views}");
    assert!(totals.iter().map(row).all(|row| told.contains(row.as_str())), "{printed}");
    [process, victim, sleeper, other, files].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}
