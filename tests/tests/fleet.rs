//! A fleet over a real Kafka, one of its processors killed amid the work: the tables are what the reference says.
//!
//! Needs Java and Maven (`tests/run` installs them); `tests/kafka/fetch` gets the broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use engine::decimal::Decimal;
use serde_json::Value;
use tests::{
    binary::{Running, clickstream, free_address, root, run},
    kafka::{Broker, raw_records},
    reference::{cell::Cell, reference},
};
use worker::{
    kafka::{client::Cluster, facts::Facts, names::Names},
    secrets::Secrets,
};

/// Events that are made, and how many a second.
const EVENTS: u64 = 150_000;
const RATE: u64 = 15_000;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(90);

/// From a kill to the moment when every partition is processed again. The promise.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

const SIGTERM: i32 = 15;

/// A role of the fleet that runs.
struct Role {
    running: Running,
    health: String,
}

impl Role {
    fn start(name: &str, manifest: &Path, more: &[&str]) -> Self {
        let health = free_address().unwrap();
        let mut command = role(name, manifest, more);
        command.args(["--health-listen", &health]);
        Self { running: Running::start(command).unwrap(), health }
    }

    fn wait_until_ready(&mut self) {
        let address = format!("http://{}/readyz", self.health);
        self.running.wait_for(PATIENCE, || ureq::get(&address).call().ok()).unwrap();
    }

    /// A counter of its metrics.
    fn counter(&self, name: &str) -> u64 {
        let text = ureq::get(format!("http://{}/metrics", self.health)).call().unwrap();
        let text = text.into_body().read_to_string().unwrap();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    fn end_in_order(self) {
        self.running.signal(SIGTERM).unwrap();
        let ended = self.running.wait(PATIENCE).unwrap();
        assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    }
}

fn role(name: &str, manifest: &Path, more: &[&str]) -> Command {
    let mut command = clickstream().unwrap();
    command.env("RUST_LOG", "info").arg(name).arg("--manifest").arg(manifest).args(more);
    command
}

/// The example, with events at a rate and towards this broker.
fn write_manifest(directory: &Path, broker: &Broker) -> PathBuf {
    let text = fs::read_to_string(root().join("examples/category-sales.yaml")).unwrap();
    let text = text.replace("kafka-bootstrap:9092", &broker.address);
    let text = text.replace("eventsPerSecond: 1000", &format!("eventsPerSecond: {RATE}\n      count: {EVENTS}"));
    assert!(text.contains(&broker.address) && text.contains(&format!("count: {EVENTS}")), "the example has changed");
    let file = directory.join("pipeline.yaml");
    fs::write(&file, text).unwrap();
    file
}

fn get(address: &str, path: &str) -> Option<Value> {
    let answer = ureq::get(format!("http://{address}{path}")).call().ok()?;
    serde_json::from_str(&answer.into_body().read_to_string().ok()?).ok()
}

/// Rows by window and category: sum in units of 10⁻⁹, count.
type Rows = BTreeMap<(String, String), (i128, i64)>;

fn served(address: &str) -> Rows {
    let answer = get(address, "/api/v1/tables/category_sales?limit=10000").unwrap();
    let rows = answer["rows"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let row = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("{row}")).to_owned();
        let total = Decimal::parse(row["total_sales"].to_string().as_bytes()).unwrap();
        ((text("window_start"), text("category")), (total.0, row["transaction_count"].as_i64().unwrap()))
    };
    rows.iter().map(row).collect()
}

fn expected(checked: &crds::Checked) -> Rows {
    let answer = reference(&checked.plan, &Vec::new(), &raw_records(checked).unwrap());
    let row = |((_, start, group), (_, values)): (&_, &(_, Vec<Cell>))| match (start, group, &values[..]) {
        (Some(start), group, [Cell::Decimal(total), Cell::Integer(count)]) => {
            let group: &Vec<Cell> = group;
            let category = group[0].text().unwrap().to_owned();
            ((engine::time::rfc3339(*start), category), (*total, *count))
        }
        other => panic!("another kind of row: {other:?}"),
    };
    answer.rows.iter().map(row).collect()
}

/// Raw positions and ends, as the brokers know them.
fn positions(checked: &crds::Checked) -> BTreeMap<u32, (u64, u64)> {
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment()).unwrap();
    let topics = checked.plan.topics.iter().map(|topic| topic.name.clone()).collect();
    let facts = Facts::new(&cluster, &Names::new(&checked.manifest.name), topics).unwrap();
    let told = facts.partitions().unwrap();
    told.into_iter().map(|partition| (partition.partition, (partition.position, partition.end))).collect()
}

#[test]
fn a_processor_that_is_killed_costs_nothing_but_time() {
    let broker = Broker::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let manifest = write_manifest(directory.path(), &broker);
    let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
    let set_up = |more: &[&str]| run(role("setup", &manifest, more), PATIENCE).unwrap();
    assert!(set_up(&[]).status.success());
    assert!(set_up(&["--dry-run"]).stdout.contains("as they should be"), "{:?}", set_up(&["--dry-run"]));

    let mut victim = Role::start("process", &manifest, &["--threads", "1"]);
    let mut other = Role::start("process", &manifest, &["--threads", "1"]);
    let page = free_address().unwrap();
    let mut serve = Role::start("serve", &manifest, &["--listen", &page]);
    [&mut victim, &mut other, &mut serve].into_iter().for_each(Role::wait_until_ready);
    let ingest = Role::start("ingest", &manifest, &["--name", "checkout", "--until-done"]);

    let flowing = || victim.counter("clickstream_process_records_total") > EVENTS / 10;
    other.running.wait_for(PATIENCE, || flowing().then_some(())).unwrap();
    let at_the_kill = positions(&checked);
    let killed = Instant::now();
    victim.running.kill().unwrap();
    let goes_on = || {
        let now = positions(&checked);
        now.iter().all(|(partition, (position, _))| *position > at_the_kill[partition].1).then_some(())
    };
    other.running.wait_for(PATIENCE, goes_on).unwrap();
    let recovery = killed.elapsed();
    println!("from kill -9 until every partition goes on: {:.1} s", recovery.as_secs_f64());
    assert!(recovery < RECOVERY_MAX);

    let mut successor = Role::start("process", &manifest, &["--threads", "1"]);
    successor.wait_until_ready();
    let ended = ingest.running.wait(PATIENCE).unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    let counted = || {
        let ledger = get(&page, "/api/v1/ledger")?;
        (ledger["tables"][0]["counted"] == EVENTS && ledger["unaccounted"] == 0).then_some(ledger)
    };
    let ledger = serve.running.wait_for(PATIENCE, counted).unwrap_or_else(|error| {
        panic!("{error}; the ledger says {:?}, positions are {:?}", get(&page, "/api/v1/ledger"), positions(&checked))
    });
    assert_eq!(ledger["streams"][0]["read"], EVENTS, "{ledger}");
    // Early rows leave at most once in `emit.every`, so they may come after the ledger.
    let expected = expected(&checked);
    let equal = serve.running.wait_for(PATIENCE, || (served(&page) == expected).then_some(()));
    assert!(equal.is_ok(), "served {:?}, the reference says {expected:?}", served(&page));

    [successor, other].into_iter().for_each(Role::end_in_order);
    // Everything was committed and checkpointed: whoever comes next replays nothing.
    let mut next = Role::start("process", &manifest, &["--threads", "1"]);
    next.wait_until_ready();
    let deadline = Instant::now() + PATIENCE;
    while next.counter("clickstream_process_recoveries_total") < 9 {
        assert!(Instant::now() < deadline && !next.running.has_ended().unwrap(), "the tasks were not recovered");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert_eq!(next.counter("clickstream_process_replayed_records_total"), 0);
    [next, serve].into_iter().for_each(Role::end_in_order);
}
