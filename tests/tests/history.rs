//! `clickstream replay --from SINK` over a real Kafka: what the archive says is what is shown, while events flow and after; and
//! where a file is gone, changed or repeated, it is told; and what is archived stays there.
//!
//! Needs Java and Maven (`tests/run` installs them); `tests/kafka/fetch` gets the broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tests::{
    binary::{Ended, run},
    bucket::Bucket,
    kafka::{Broker, forget_group, raw_records},
    lake::{Places, add_places},
    reference::reference,
    roles::{PATIENCE, Role, role, set_up, wait},
};
use worker::{kafka::names::Names, sink::parquet::Shelf as _};

/// Events a second, and all of them.
const RATE: u64 = 2_000;
const EVENTS: u64 = 60_000;

fn manifest(directory: &Path, broker: &Broker, bronze: &str, events: u64) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: kept}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: views, partitions: 3}}
  - {{name: other, partitions: 1}}
  ingest:
  - name: made
    topic: views
    synthetic:
      count: {events}
      eventsPerSecond: {RATE}
      fields: {{id: {{uuid: {{}}}}, user: {{choice: [a, b, c, d, e]}}, at: {{now: {{}}}}, price: {{decimal: {{min: 1, max: 100}}}}}}
  streams:
  - name: seen
    topics: [views]
    key: user
    eventTime: {{field: at, outOfOrderness: 1s, idleAfter: 5s}}
    id: {{field: id, deduplicateWithin: 1m}}
    fields:
    - {{name: id, type: string}}
    - {{name: user, type: string}}
    - {{name: at, type: timestamp}}
    - {{name: price, type: decimal}}
  - name: others
    topics: [other]
    eventTime: {{field: at, outOfOrderness: 1s}}
    fields:
    - {{name: at, type: timestamp}}
  tables:
  - name: by_second
    from: seen
    window: {{tumbling: 1s}}
    groupBy: [user]
    select: {{views: count(), spent: sum(price), people: approx_distinct(id)}}
  - name: totals
    from: seen
    groupBy: [user]
    maxGroups: 100
    select: {{views: count(), spent: sum(price)}}
  - name: elsewhere
    from: others
    window: {{tumbling: 1s}}
    select: {{views: count()}}
  sinks:
  - {{name: bronze, topics: [views], parquet: {{{bronze}, partitionBy: hour, rollEvery: 1s}}}}
  - {{name: silver, streams: [seen], parquet: {{path: '{}', rollEvery: 1s}}}}
",
        broker.address,
        directory.join("silver").display(),
    );
    let file = directory.join("kept.yaml");
    fs::write(&file, text).unwrap();
    file
}

fn replay(manifest: &Path, more: &[&str]) -> Ended {
    run(role("replay", manifest, more).unwrap(), PATIENCE).unwrap()
}

const TABLES: [&str; 6] = ["--from", "bronze", "--table", "by_second", "--table", "totals"];

fn found(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}{}", ended.stdout, ended.stderr))
}

/// Equal and differing rows of a table, and those that were not compared.
fn counts(found: &Value, table: &str) -> [u64; 3] {
    let of = found["tables"].as_array().unwrap().iter().find(|of| of["table"] == table).unwrap();
    let sum = |of: &Value, names: [&str; 3]| names.map(|name| of[name].as_u64().unwrap()).iter().sum();
    let left_out = sum(&of["left_out"], ["open", "early", "ahead"]);
    [of["equal"].as_u64().unwrap(), sum(of, ["changed", "gone", "new"]), left_out]
}

/// Rows of `by_second` that begin in the last `seconds` of those that have any, as the reference says.
fn last_rows(manifest: &Path, seconds: i64) -> u64 {
    let checked = crds::check(&fs::read_to_string(manifest).unwrap(), &[]).unwrap();
    let answer = reference(&checked.plan, &Vec::new(), &raw_records(&checked).unwrap());
    let starts = || answer.rows.keys().filter(|(table, ..)| table == "by_second").filter_map(|(_, start, _)| *start);
    let last = starts().max().unwrap();
    starts().filter(|start| *start > last - seconds * 1_000).count() as u64
}

/// Every file of the archive with records, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    all.sort();
    all
}

#[test]
fn the_archive_says_what_is_shown() {
    let broker = Broker::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let bronze = format!("path: '{}'", directory.path().join("bronze").display());
    let manifest = manifest(directory.path(), &broker, &bronze, EVENTS);
    set_up(&manifest).unwrap();
    let wrong = replay(&manifest, &["--from", "bronce", "--table", "nothing"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("no such sink; of those that archive raw topics there are bronze"),
        "{}",
        wrong.stderr
    );
    assert!(wrong.stderr.contains("--table nothing: the pipeline has no such table"), "{}", wrong.stderr);
    let wrong = replay(&manifest, &["--from", "silver"]);
    assert!(wrong.status.code() == Some(2) && wrong.stderr.contains("archives no raw topics"), "{}", wrong.stderr);
    let wrong = replay(&manifest, &["--from", "bronze"]);
    let told = "does not archive other, from which table elsewhere is made";
    assert!(wrong.status.code() == Some(2) && wrong.stderr.contains(told), "{}", wrong.stderr);

    let mut process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut sink = Role::start("sink", &manifest, &["--name", "bronze"]).unwrap();
    [&mut process, &mut sink].into_iter().for_each(|role| role.wait_until_ready().unwrap());
    let mut ingest = Role::start("ingest", &manifest, &["--name", "made", "--until-done"]).unwrap();

    ingest.running.wait_for(PATIENCE, || files(&directory.path().join("bronze")).first().map(drop)).unwrap();

    // While events flow, again and again: nothing differs, and more can be compared each time.
    let (mut compared, mut rounds) = (0, 0);
    while !ingest.running.has_ended().unwrap() {
        let ended = replay(&manifest, &[&TABLES[..], &["--format", "json"]].concat());
        assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
        let [equal, differs, _] = counts(&found(&ended), "by_second");
        assert_eq!((differs, equal >= compared), (0, true), "{}", ended.stdout);
        (compared, rounds) = (equal, rounds + 1);
    }
    assert!(compared > 25 && rounds > 1, "{compared} rows in {rounds} rounds");
    assert!(ingest.running.wait(PATIENCE).unwrap().status.success());

    // Then everything is archived and quiet, and everything can be compared, the running totals too.
    let look = || replay(&manifest, &[&TABLES[..], &["--format", "json"]].concat());
    let is_whole = |ended: &Ended| {
        assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
        counts(&found(ended), "totals") == [5, 0, 0] && counts(&found(ended), "by_second")[2] == 0
    };
    let whole = wait("everything is compared", look, is_whole);
    let [all, ..] = counts(&found(&whole), "by_second");
    assert!(all >= EVENTS / RATE * 5, "{}", whole.stdout);
    let recent = found(&replay(&manifest, &[&TABLES[..], &["--since", "10s", "--format", "json"]].concat()));
    let rows = last_rows(&manifest, 10);
    assert_eq!(counts(&recent, "by_second"), [rows, 0, all - rows], "{recent}");
    assert_eq!(counts(&recent, "totals"), [0, 0, 5], "totals are of all time: {recent}");

    // A file that is gone is told, with the offsets that nobody has; so is one with another's records.
    let files = files(&directory.path().join("bronze"));
    // Not the first of a partition: an archive that begins later is another thing.
    let (lost, other) = (&files[1], &files[2]);
    let kept = fs::read(lost).unwrap();
    fs::remove_file(lost).unwrap();
    let differs = |what: &str| {
        let ended = replay(&manifest, &TABLES);
        assert_eq!(ended.status.code(), Some(1), "{what}: {}{}", ended.stdout, ended.stderr);
        assert!(!ended.stdout.contains("totals: 5 rows equal") && ended.stdout.contains(" → "), "{}", ended.stdout);
        assert!(ended.stdout.ends_with("the live tables and the archive differ\n"), "{}", ended.stdout);
        ended.stderr
    };
    assert!(differs("a file is gone").contains("offsets between files are in none"));
    fs::copy(other, lost).unwrap();
    differs("a file has the records of another");
    fs::write(lost, &kept[..kept.len() / 2]).unwrap();
    let damaged = replay(&manifest, &TABLES);
    assert!(damaged.status.code() == Some(1) && damaged.stderr.contains("failed to read"), "{}", damaged.stderr);
    fs::write(lost, &kept).unwrap();
    assert!(replay(&manifest, &TABLES).stdout.ends_with("the live tables and the archive agree\n"));
    [process, sink].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

/// Of the test with a bucket.
const FEW_EVENTS: u64 = 20_000;

#[test]
fn the_archive_in_a_bucket_says_the_same() {
    let (broker, bucket) = (Broker::start().unwrap(), Bucket::start("lake").unwrap());
    let bronze = "path: 's3://lake/raw/', credentialsSecret: lake";
    let manifest = manifest(bucket.directory.path(), &broker, bronze, FEW_EVENTS);
    set_up(&manifest).unwrap();
    let process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let sink = Role::start_as(bucket.role("sink", &manifest, &["--name", "bronze"]).unwrap()).unwrap();
    let ingest = Role::start("ingest", &manifest, &["--name", "made", "--until-done"]).unwrap();
    assert!(ingest.running.wait(PATIENCE).unwrap().status.success());

    let json = [&TABLES[..], &["--format", "json"]].concat();
    let replay = || run(bucket.role("replay", &manifest, &json).unwrap(), PATIENCE).unwrap();
    let is_whole = |ended: &Ended| {
        assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
        counts(&found(ended), "totals") == [5, 0, 0] && counts(&found(ended), "by_second")[2] == 0
    };
    let whole = wait("everything is compared", replay, is_whole);
    assert!(counts(&found(&whole), "by_second")[0] >= FEW_EVENTS / RATE * 5, "{}", whole.stdout);

    // An object that is gone is told, and one that was cut short; with all of them there is nothing to tell.
    let objects = bucket.objects("raw/").unwrap();
    let mut names = objects.names().unwrap();
    names.sort();
    let lost = &names[1];
    let kept = objects.get(lost).unwrap().unwrap();
    objects.remove(lost).unwrap();
    let ended = replay();
    let told = "offsets between files are in none";
    assert!(
        ended.status.code() == Some(1) && found(&ended).to_string().contains(told),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    objects.put_bytes(lost, kept[..kept.len() / 2].into()).unwrap();
    let ended = replay();
    assert!(ended.status.code() == Some(1) && ended.stderr.contains("failed to read"), "{}", ended.stderr);
    objects.put_bytes(lost, kept).unwrap();
    assert!(is_whole(&replay()), "it is whole again");
    [process, sink].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

/// Files with their bytes.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(directory).into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[test]
fn what_is_archived_stays_whatever_offsets_begin_again() {
    let broker = Broker::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let [bronze, silver] = ["bronze", "silver"].map(|name| directory.path().join(name));
    let manifest = manifest(directory.path(), &broker, &format!("path: '{}'", bronze.display()), FEW_EVENTS);
    set_up(&manifest).unwrap();
    let archived = |directory: &Path| -> u64 {
        let mut places = Places::new();
        files(directory).iter().for_each(|file| add_places(file, &mut places).unwrap());
        places.len() as u64
    };
    let process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let sink = |name: &str| Role::start("sink", &manifest, &["--name", name]).unwrap();
    let sinks = [sink("bronze"), sink("silver")];
    let ingest = Role::start("ingest", &manifest, &["--name", "made", "--until-done"]).unwrap();
    assert!(ingest.running.wait(PATIENCE).unwrap().status.success());
    for directory in [&bronze, &silver] {
        wait("everything is archived", || archived(directory), |rows| *rows == FEW_EVENTS);
    }
    [process].into_iter().chain(sinks).for_each(|role| drop(role.end_in_order().unwrap()));
    let before = [&bronze, &silver].map(|directory| contents(directory));

    // Another definition: the events are accepted anew, under offsets that begin with 0.
    let text = fs::read_to_string(&manifest)
        .unwrap()
        .replace("field: at, outOfOrderness: 1s, idle", "field: at, outOfOrderness: 2s, idle");
    fs::write(&manifest, text).unwrap();
    set_up(&manifest).unwrap();
    let process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let again = sink("silver");
    let newer = || contents(&silver).keys().filter(|file| file.display().to_string().contains("/seen.e2-0-")).count();
    wait("the events of the newer epoch", newer, |count| *count > 0);
    [process, again].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
    let now = contents(&silver);
    assert!(before[1].iter().all(|(file, bytes)| now.get(file) == Some(bytes)), "{:?}", now.keys());

    // Offsets that are forgotten, as after a week without the sink.
    forget_group(&broker.address, &Names::new("kept").sink_group("bronze")).unwrap();
    let refused = sink("bronze").running.wait(PATIENCE).unwrap();
    let told = "does not know how far views/";
    assert!(refused.status.code() == Some(2) && refused.stderr.contains(told), "{}", refused.stderr);
    assert!(refused.stderr.contains("--reset-offsets --to-offset "), "{}", refused.stderr);
    assert_eq!(contents(&bronze), before[0]);
}
