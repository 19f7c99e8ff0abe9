//! A topic of another Kafka cluster, copied into a pipeline's own: every event once, also when the copier is killed, the topic grows
//! and retention passes; in the order in which events came about, so that none is late; by a fleet and by a laptop.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crds::Checked;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use tests::{
    binary::{Running, clickstream, free_address},
    kafka::{Broker, grow_topic, make_topic, read_topic},
    roles::{PATIENCE, Role, get, set_up, wait},
};
use worker::{
    kafka::{admin::Admin, client::Cluster, connection::Connection, context::Logged},
    secrets::Secrets,
};

/// 2025-03-01T09:00:00Z.
const BEGIN: u64 = 1_740_819_600;

/// Events of a minute.
const EACH: u64 = 3_000;

/// Events keep the time at which they came about, which is long ago.
const KEPT: [(&str, &str); 1] = [("retention.ms", "-1")];

const COPIED: &str = "clickstream_ingest_events_total{ingester=\"theirs\"}";
const WAIT: &str = "clickstream_ingest_lag_events{ingester=\"theirs\"}";
const EXPIRED: &str = "clickstream_ingest_expired_events_total{ingester=\"theirs\"}";

fn manifest(directory: &Path, name: &str, (own, other): (&str, &str), more: &str) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: copies}}
spec:
  kafka: {{bootstrapServers: ['{own}']}}
  topics:
  - {{name: clicks, partitions: 2}}
  ingest:
  - name: theirs
    topic: clicks
    kafka: {{bootstrapServers: ['{other}'], topic: foreign{more}}}
  streams:
  - name: clicks
    topics: [clicks]
    key: user
    eventTime: {{field: at, outOfOrderness: 1m}}
    fields:
    - {{name: at, type: timestamp}}
    - {{name: user, type: string}}
    - {{name: id, type: integer}}
  tables:
  - {{name: per_minute, from: clicks, window: {{tumbling: 1m}}, groupBy: [user], select: {{clicks: count()}}}}
"
    );
    let file = directory.join(name);
    fs::write(&file, text).unwrap();
    file
}

fn checked(manifest: &Path) -> Checked {
    crds::check(&fs::read_to_string(manifest).unwrap(), &[]).unwrap()
}

fn cluster(checked: &Checked) -> Cluster {
    Cluster::of(&checked.manifest.spec, &Secrets::from_environment()).unwrap()
}

/// Somebody else's program.
struct Other {
    producer: Connection<BaseProducer<Logged>>,
    next: u64,
    /// Events by minute and user.
    clicks: BTreeMap<(u64, u64), u64>,
}

impl Other {
    fn new(checked: &Checked) -> Self {
        let cluster = cluster(checked);
        let producer = cluster.create(&cluster.producer()).unwrap();
        Self { producer, next: 0, clicks: BTreeMap::new() }
    }

    /// Minutes of events over so many partitions, a minute after the other.
    fn click(&mut self, minutes: std::ops::Range<u64>, partitions: u64) {
        for minute in minutes {
            for nth in 0..EACH {
                let (id, user, at) = (self.next, self.next % 7, BEGIN + minute * 60 + nth % 60);
                let payload = format!("{{\"id\":{id},\"user\":\"u{user}\",\"at\":{at}}}");
                let record = BaseRecord::<str, str>::to("foreign").partition((id % partitions) as i32);
                self.producer
                    .send(record.payload(&payload).timestamp(at as i64 * 1000))
                    .map_err(|(error, _)| error)
                    .unwrap();
                *self.clicks.entry((minute, user)).or_default() += 1;
                self.next += 1;
            }
            self.producer.flush(Duration::from_secs(30)).unwrap();
        }
    }
}

fn start_copy(manifest: &Path) -> Role {
    let mut copy = Role::start("ingest", manifest, &["--name", "theirs"]).unwrap();
    copy.wait_until_ready().unwrap();
    copy
}

/// Numbers of the events in our topic, in order.
fn ids(checked: &Checked) -> Vec<u64> {
    let records = read_topic(checked, "clicks", 2).unwrap();
    let id = |value: Vec<u8>| serde_json::from_slice::<Value>(&value).unwrap()["id"].as_u64().unwrap();
    let mut ids: Vec<u64> = records.into_iter().map(|record| id(record.value.unwrap())).collect();
    ids.sort_unstable();
    ids
}

/// Rows of the table by minute and user.
fn served(page: &str) -> BTreeMap<(u64, u64), u64> {
    let answer = get(page, "/api/v1/tables/per_minute?limit=10000").unwrap_or_default();
    let row = |row: &Value| {
        let start = engine::decode::timestamp(row["window_start"].as_str().unwrap().as_bytes()).unwrap() as u64 / 1000;
        let user = row["user"].as_str().unwrap().trim_start_matches('u').parse().unwrap();
        (((start - BEGIN) / 60, user), row["clicks"].as_u64().unwrap())
    };
    answer["rows"].as_array().into_iter().flatten().map(row).collect()
}

fn late(page: &str) -> Option<u64> {
    get(page, "/api/v1/ledger")?["tables"][0]["late"].as_u64()
}

#[test]
fn everything_is_copied_once_and_in_order() {
    let (own, other) = (Broker::start().unwrap(), Broker::start().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let file = manifest(directory.path(), "copies.yaml", (&own.address, &other.address), "");
    let ours = checked(&file);
    let theirs = checked(&manifest(directory.path(), "theirs.yaml", (&other.address, &other.address), ""));
    set_up(&file).unwrap();
    let missing = Role::start("ingest", &file, &["--name", "theirs"]).unwrap().running.wait(PATIENCE).unwrap();
    assert!(!missing.status.success() && missing.stderr.contains("no topic `foreign` at `"), "{}", missing.stderr);

    // History of two hours, in three partitions that are read from their beginnings at once; killed twice on the way.
    make_topic(&theirs, "foreign", 3, &KEPT).unwrap();
    let mut clicking = Other::new(&theirs);
    clicking.click(0..120, 3);
    for _ in 0..2 {
        let had = ids(&ours).len();
        let mut copy = Role::start("ingest", &file, &["--name", "theirs"]).unwrap();
        copy.wait_for_figure(COPIED, |copied| copied as usize > had).unwrap();
        copy.wait_for_figure(WAIT, |wait| wait > 0.0).unwrap();
        drop(copy.running.kill());
        let has = ids(&ours).len();
        assert!((had + 1..clicking.next as usize).contains(&has), "killed on the way: {had}, then {has}");
    }
    let mut copy = start_copy(&file);
    copy.wait_for_figure(COPIED, |copied| copied as u64 == clicking.next).unwrap();
    copy.wait_for_figure(WAIT, |wait| wait == 0.0).unwrap();
    assert_eq!(copy.figure(EXPIRED).unwrap(), Some(0.0));
    assert_eq!(ids(&ours), (0..clicking.next).collect::<Vec<_>>());

    // The tables of a fleet, and those of a laptop that copies by itself.
    let page = free_address().unwrap();
    let process = Role::start("process", &file, &["--threads", "1"]).unwrap();
    let serve = Role::start("serve", &file, &["--listen", &page]).unwrap();
    wait("rows of the fleet", || served(&page).values().sum::<u64>(), |clicks| *clicks == clicking.next);
    assert_eq!(served(&page), clicking.clicks);
    assert_eq!(late(&page), Some(0), "{:?}", get(&page, "/api/v1/ledger"));
    let laptop = free_address().unwrap();
    let mut command = clickstream().unwrap();
    command.arg("run").arg(&file).args(["--listen", &laptop, "--data-dir"]).arg(directory.path().join("data"));
    let running = Running::start(command).unwrap();
    wait("rows of the laptop", || served(&laptop).values().sum::<u64>(), |clicks| *clicks == clicking.next);
    assert_eq!(served(&laptop), clicking.clicks);
    assert_eq!(late(&laptop), Some(0));
    drop(running.kill());
    [process, serve].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));

    // It grows while it is copied.
    grow_topic(&theirs, "foreign", 4).unwrap();
    clicking.producer = Other::new(&theirs).producer;
    clicking.click(120..125, 4);
    copy.wait_for_figure(COPIED, |copied| copied as u64 == clicking.next).unwrap();
    assert_eq!(ids(&ours), (0..clicking.next).collect::<Vec<_>>());

    // What retention took while nobody copied is told, and the rest is copied.
    copy.end_in_order().unwrap();
    let before = clicking.next;
    clicking.click(125..127, 4);
    let end = clicking.next;
    Admin::new(&cluster(&theirs)).unwrap().delete_below("foreign", 1, 10 + 120 * EACH / 3 + 5 * EACH / 4).unwrap();
    let mut copy = start_copy(&file);
    let lost = 10;
    copy.wait_for_figure(COPIED, |copied| copied as u64 == end - lost).unwrap();
    copy.wait_for_figure(EXPIRED, |expired| expired as u64 == lost).unwrap();
    let told = copy.end_in_order().unwrap().stderr;
    assert!(told.contains("retention took records before they were copied") && told.contains("lost=10"), "{told}");
    let gone: Vec<u64> = (before..end).filter(|id| id % 4 == 1).take(lost as usize).collect();
    assert_eq!(ids(&ours), (0..end).filter(|id| !gone.contains(id)).collect::<Vec<_>>());
}

#[test]
fn a_start_at_the_end_begins_there_also_when_it_was_killed_before_anything_came() {
    let (own, other) = (Broker::start().unwrap(), Broker::start().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let from = ", startFrom: latest";
    let file = manifest(directory.path(), "copies.yaml", (&own.address, &other.address), from);
    let ours = checked(&file);
    let theirs = checked(&manifest(directory.path(), "theirs.yaml", (&other.address, &other.address), ""));
    set_up(&file).unwrap();
    make_topic(&theirs, "foreign", 2, &KEPT).unwrap();
    let mut clicking = Other::new(&theirs);
    clicking.click(0..2, 2);
    let copy = start_copy(&file);
    let progress = || {
        read_topic(&ours, "copies.progress", 1).unwrap().into_iter().filter(|record| record.key == b"theirs").count()
    };
    wait("the beginning is written down", progress, |count| *count > 0);
    drop(copy.running.kill());
    let before = clicking.next;
    clicking.click(2..4, 2);
    let mut copy = start_copy(&file);
    copy.wait_for_figure(COPIED, |copied| copied as u64 == clicking.next - before).unwrap();
    assert_eq!(ids(&ours), (before..clicking.next).collect::<Vec<_>>());
    copy.end_in_order().unwrap();
}
