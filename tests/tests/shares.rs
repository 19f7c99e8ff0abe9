//! Replicas of a dataset ingester over a real Kafka, one killed and one added amid the work: every row is there once, whether the
//! files lie on a disk or in a bucket of an S3 server that others wrote, a whole machine vanishes, or a stranger hides what was
//! written; and none is late, however far
//! shares came apart.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crds::Checked;
use engine::time::rfc3339;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use tests::{
    binary::{free_address, run},
    bucket::Bucket,
    kafka::{Broker, Trio, read_topic},
    roles::{PATIENCE, Role, SIGCONT, SIGSTOP, get, role, set_up, wait},
};
use worker::{
    kafka::{client::Cluster, context::Logged},
    secrets::Secrets,
    sink::parquet::Shelf as _,
};

/// Rows of two files, and how many go a second. Ten seconds of work, of which a dead replica's session takes six.
const ROWS: [u64; 2] = [170_001, 30_000];
const RATE: u64 = 20_000;

const USERS: u64 = 97;

/// Seconds since 1970: in order, so that no row is late for whoever reads them in theirs.
fn time_of(id: u64) -> u64 {
    1_763_700_000 + id / 20
}

const COMMITTED: &str = "clickstream_ingest_events_total{ingester=\"rows\"}";
const COMPLETE: &str = "clickstream_ingest_complete{ingester=\"rows\"}";

fn manifest(directory: &Path, bootstrap: &str, place: &str, (files, rate): ([u64; 2], u64)) -> PathBuf {
    let replication = if bootstrap.contains(',') { ", replicationFactor: 2" } else { "" };
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: shares}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: rows, partitions: 3{replication}}}
  ingest:
  - name: rows
    topic: rows
    replicas: 2
    dataset: {{{place}, format: jsonl, eventsPerSecond: {rate}}}
  streams:
  - name: rows
    topics: [rows]
    key: user
    eventTime: {{field: at, outOfOrderness: 1s}}
    fields:
    - {{name: at, type: timestamp}}
    - {{name: id, type: integer}}
    - {{name: user, type: string}}
  tables:
  - {{name: per_minute, from: rows, window: {{tumbling: 1m}}, groupBy: [user], select: {{rows: count()}}}}
  sinks:
  - {{name: bronze, topics: [rows], parquet: {{path: '{}', rollEvery: 1s}}}}
",
        bootstrap.replace(',', "', '"),
        directory.join("bronze").display()
    );
    let file = directory.join("shares.yaml");
    fs::write(&file, text).unwrap();
    fs::create_dir(directory.join("data")).unwrap();
    let mut id = 0;
    for (number, rows) in files.into_iter().enumerate() {
        let mut lines = String::new();
        for _ in 0..rows {
            writeln!(lines, "{{\"id\":{id},\"user\":\"u{}\",\"at\":{}}}", id % USERS, time_of(id)).unwrap();
            id += 1;
        }
        fs::write(directory.join(format!("data/{number}.jsonl")), lines).unwrap();
    }
    file
}

fn replica(manifest: &Path, more: &[&str]) -> Role {
    Role::start("ingest", manifest, &[&["--name", "rows"], more].concat()).unwrap()
}

/// Numbers of the rows in the topic, of which there are as many as in the files.
fn ids(checked: &Checked, files: [u64; 2]) -> BTreeSet<u64> {
    let records = read_topic(checked, "rows", 3).unwrap();
    assert_eq!(records.len() as u64, files.iter().sum::<u64>());
    let id = |value: Vec<u8>| serde_json::from_slice::<Value>(&value).unwrap()["id"].as_u64().unwrap();
    records.into_iter().map(|record| id(record.value.unwrap())).collect()
}

/// Rows by minute and user.
type Counts = BTreeMap<(String, String), u64>;

/// What a processor makes of the topic: every row counts, and each in its minute. Returns how many rows its table has.
fn prove(manifest: &Path) -> usize {
    let page = free_address().unwrap();
    let _process = Role::start("process", manifest, &["--threads", "1"]).unwrap();
    let _serve = Role::start("serve", manifest, &["--listen", &page]).unwrap();
    let accounted = |ledger: &Option<Value>| {
        ledger.as_ref().is_some_and(|ledger| ledger["streams"][0]["read"] == all() && ledger["unaccounted"] == 0)
    };
    let ledger = wait("all rows are accounted for", || get(&page, "/api/v1/ledger"), accounted).unwrap();
    let table = &ledger["tables"][0];
    assert!(table["counted"] == all() && table["late"] == 0, "{ledger}");
    let mut expected = Counts::new();
    for id in 0..all() {
        let minute = rfc3339((time_of(id) / 60 * 60_000) as i64);
        *expected.entry((minute, format!("u{}", id % USERS))).or_default() += 1;
    }
    let row = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        ((text("window_start"), text("user")), row["rows"].as_u64().unwrap())
    };
    let served = || {
        let page = get(&page, "/api/v1/tables/per_minute?limit=100000").unwrap_or_default();
        page["rows"].as_array().into_iter().flatten().map(row).collect::<Counts>()
    };
    // Early rows leave at most once in `emit.every`, so they may come after the ledger.
    wait("every minute is as it should be", || served() == expected, |equal| *equal);
    expected.len()
}

/// What the archive of the topic says of a table of so many rows: the same, for it was told how far all shares were.
fn prove_history(manifest: &Path, rows: usize) {
    let sink = Role::start("sink", manifest, &["--name", "bronze"]).unwrap();
    let ask = ["--from", "bronze", "--format", "json"];
    let compared = || run(role("replay", manifest, &ask).unwrap(), PATIENCE).unwrap().stdout;
    // The last windows are still open: nobody processes any more.
    let is_whole = |said: &String| {
        let found: Value = serde_json::from_str(said).unwrap_or_default();
        found["tables"][0]["equal"].as_u64().is_some_and(|equal| equal * 10 >= rows as u64 * 9)
    };
    let said = wait("the archive says the same", compared, is_whole);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["agree"], true, "{said}");
    sink.end_in_order().unwrap();
}

fn all() -> u64 {
    ROWS.iter().sum()
}

/// Rows that replicas have committed since they began, as far as they tell.
fn committed(replicas: &[Role]) -> f64 {
    replicas.iter().filter_map(|replica| replica.figure(COMMITTED).ok().flatten()).sum()
}

/// Rows of the datasets of which a machine vanishes, and how many go a second.
const FEW: [u64; 2] = [20_000, 15_000];
const SLOWLY: u64 = 500;

/// How long nothing may move then.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Somebody else's transaction that nobody ends hides what is committed after it, for as long as brokers let it: 15 to 25 s.
#[test]
fn what_a_stranger_hides_is_not_written_again() {
    let (broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let manifest = manifest(directory.path(), &broker.address, "path: data", (FEW, 2_000));
    let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
    set_up(&manifest).unwrap();
    let mut victim = replica(&manifest, &[]);
    victim.wait_for_figure(COMMITTED, |rows| rows > 2_000.0).unwrap();
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment()).unwrap();
    let stranger = cluster.create::<BaseProducer<Logged>>(&cluster.transactional("stranger")).unwrap();
    stranger.init_transactions(PATIENCE).unwrap();
    stranger.begin_transaction().unwrap();
    stranger.send(BaseRecord::<str, str>::to("shares.progress").key("stranger").payload("?")).unwrap();
    stranger.flush(PATIENCE).unwrap();
    let before = victim.figure(COMMITTED).unwrap().unwrap();
    victim.wait_for_figure(COMMITTED, |rows| rows > before + 4_000.0).unwrap();
    victim.running.kill().unwrap();
    let mut successor = replica(&manifest, &[]);
    successor.wait_for_figure(COMPLETE, |complete| complete == 1.0).unwrap();
    assert_eq!(ids(&checked, FEW).len() as u64, FEW.iter().sum::<u64>());
    successor.end_in_order().unwrap();
}

/// A machine that vanishes closes no connection: its broker says nothing more, and a replica of the ingester is gone with it.
#[test]
fn a_machine_that_vanishes_stops_nobody_for_long() {
    let (mut kafka, directory) = (Trio::start().unwrap(), tempfile::tempdir().unwrap());
    let manifest = manifest(directory.path(), &kafka.bootstrap, "path: data", (FEW, SLOWLY));
    let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
    set_up(&manifest).unwrap();
    let mut replicas: Vec<Role> = (0..3).map(|_| replica(&manifest, &[])).collect();
    for machine in 0..kafka.brokers.len() {
        for replica in &mut replicas {
            replica.wait_for_figure(COMMITTED, |rows| rows > 100.0).unwrap();
        }
        kafka.brokers[machine].process.signal(SIGSTOP).unwrap();
        let since = Instant::now();
        replicas.remove(0).running.kill().unwrap();
        replicas.push(replica(&manifest, &[]));
        let before = committed(&replicas);
        // Whose shares nobody has holds all others up after a while: this is more than is committed ahead of them.
        let moves = || committed(&replicas) > before + 2_000.0;
        while !moves() {
            let told = || replicas.iter().map(|replica| replica.running.complaints()).collect::<String>();
            assert!(since.elapsed() < SILENCE_MAX, "nothing moves after machine {machine} has vanished: {}", told());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        println!("machine {machine} vanished: 2,000 rows later after {:.1} s", since.elapsed().as_secs_f64());
        kafka.brokers[machine].kill().unwrap();
        kafka.brokers[machine].restart().unwrap();
        kafka.wait_for_copies().unwrap();
    }
    for replica in &mut replicas {
        replica.wait_for_figure(COMPLETE, |complete| complete == 1.0).unwrap();
    }
    assert_eq!(ids(&checked, FEW).len() as u64, FEW.iter().sum::<u64>());
}

#[test]
fn rows_are_written_once_whoever_dies_sleeps_or_joins() {
    let (broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let manifest = manifest(directory.path(), &broker.address, "path: data", (ROWS, RATE));
    let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
    set_up(&manifest).unwrap();
    let [mut victim, mut sleeper] = [(); 2].map(|()| replica(&manifest, &[]));
    for replica in [&mut victim, &mut sleeper] {
        replica.wait_for_figure(COMMITTED, |rows| rows > 4_000.0).unwrap();
    }
    victim.running.kill().unwrap();
    let mut added = replica(&manifest, &[]);
    added.wait_for_figure(COMMITTED, |rows| rows > 4_000.0).unwrap();
    sleeper.running.signal(SIGSTOP).unwrap();
    let before = added.figure(COMMITTED).unwrap().unwrap();
    // More than is written ahead of the sleeper's shares: they are the other's by now.
    added.wait_for_figure(COMMITTED, |rows| rows > before + 70_000.0).unwrap();
    sleeper.running.signal(SIGCONT).unwrap();

    for replica in [&mut added, &mut sleeper] {
        replica.wait_for_figure(COMPLETE, |complete| complete == 1.0).unwrap();
        replica.wait_until_ready().unwrap();
    }
    assert_eq!(ids(&checked, ROWS).len() as u64, all());
    for replica in [added, sleeper] {
        let told = replica.end_in_order().unwrap().stderr;
        assert!(told.contains(&format!("ingester rows: complete, {} events, ", all())), "{told}");
    }

    // Whoever comes later finds nothing to do.
    let late = replica(&manifest, &["--until-done"]).running.wait(PATIENCE).unwrap();
    assert!(late.status.success() && late.stderr.contains(&format!("complete, {} events", all())), "{}", late.stderr);
    assert_eq!(ids(&checked, ROWS).len() as u64, all());
    let rows = prove(&manifest);
    prove_history(&manifest, rows);

    // But for files that came later.
    let id = all();
    let line = format!("{{\"id\":{id},\"user\":\"u1\",\"at\":{}}}\n", time_of(id));
    fs::write(directory.path().join("data/2.jsonl"), line).unwrap();
    let late = replica(&manifest, &["--until-done"]).running.wait(PATIENCE).unwrap();
    let told = format!("complete, {} events", all() + 1);
    assert!(late.status.success() && late.stderr.contains(&told), "{}", late.stderr);
    assert_eq!(ids(&checked, [all(), 1]).len() as u64, all() + 1);
}

#[test]
fn rows_of_a_bucket_are_written_once_too() {
    let (broker, bucket) = (Broker::start().unwrap(), Bucket::start("lake").unwrap());
    let directory = bucket.directory.path();
    let manifest =
        manifest(directory, &broker.address, "path: 's3://lake/rows/', credentialsSecret: lake", (ROWS, RATE));
    let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
    set_up(&manifest).unwrap();
    let replica = || Role::start_as(bucket.role("ingest", &manifest, &["--name", "rows"]).unwrap()).unwrap();
    let ended = replica().running.wait(PATIENCE).unwrap();
    let told = "no object below it ends in .jsonl";
    assert!(ended.status.code() == Some(2) && ended.stderr.contains(told), "{}: {}", ended.status, ended.stderr);

    let objects = bucket.objects("rows/").unwrap();
    for number in 0..ROWS.len() {
        objects
            .put(&format!("day={number}/rows ~{number}.jsonl"), &directory.join(format!("data/{number}.jsonl")))
            .unwrap();
    }
    objects.put_bytes("notes.txt", b"nothing".into()).unwrap();
    // What people's tools call a folder.
    bucket.make_folder("rows").unwrap();
    fs::remove_dir_all(directory.join("data")).unwrap();

    let [mut victim, mut other] = [(); 2].map(|()| replica());
    for replica in [&mut victim, &mut other] {
        replica.wait_for_figure(COMMITTED, |rows| rows > 4_000.0).unwrap();
    }
    victim.running.kill().unwrap();
    let mut added = replica();
    for replica in [&mut added, &mut other] {
        replica.wait_for_figure(COMPLETE, |complete| complete == 1.0).unwrap();
    }
    assert_eq!(ids(&checked, ROWS).len() as u64, all());
    [added, other].into_iter().for_each(|replica| drop(replica.end_in_order().unwrap()));
}
