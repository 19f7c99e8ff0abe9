//! A fleet over a real Kafka, its processors killed and put to sleep amid the work: the tables are what the reference says.
//!
//! Needs Java and Maven (`tests/run` installs them); `tests/kafka/fetch` gets the broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use engine::decimal::Decimal;
use serde_json::Value;
use tests::{
    binary::{free_address, root, run},
    kafka::{Broker, grow_topic, raw_records},
    reference::{cell::Cell, reference},
    roles::{PATIENCE, Role, SIGCONT, SIGSTOP, get, role},
};
use worker::{
    kafka::{client::Cluster, facts::Facts, names::Names},
    secrets::Secrets,
};

/// Events that are made, and how many a second.
const EVENTS: u64 = 150_000;
const RATE: u64 = 15_000;

/// Partitions of the example's topic.
const PARTITIONS: u32 = 4;

/// From a kill to the moment when every partition is processed again. The promise.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// The example, with events at a rate and towards this broker.
fn write_manifest(directory: &Path, broker: &Broker, (count, partitions): (u64, u32)) -> PathBuf {
    let text = fs::read_to_string(root().join("examples/category-sales.yaml")).unwrap();
    let text = text.replace("kafka-bootstrap:9092", &broker.address);
    let text = text.replace("eventsPerSecond: 1000", &format!("eventsPerSecond: {RATE}\n      count: {count}"));
    let text = text.replace("    partitions: 4", &format!("    partitions: {partitions}"));
    let said = [broker.address.clone(), format!("count: {count}"), format!("partitions: {partitions}")];
    assert!(said.iter().all(|said| text.contains(said)), "the example has changed");
    let file = directory.join(format!("pipeline-{partitions}.yaml"));
    fs::write(&file, text).unwrap();
    file
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

/// A pipeline over a broker of its own: ingester, tables, and processors that come and go.
struct Fleet {
    checked: crds::Checked,
    manifest: PathBuf,
    page: String,
    serve: Role,
    ingest: Option<Role>,
    directory: tempfile::TempDir,
    broker: Broker,
    /// One fleet at a time: the machine has few processors.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Fleet {
    fn set_up() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = Broker::start().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let manifest = write_manifest(directory.path(), &broker, (EVENTS, PARTITIONS));
        let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
        let set_up = |more: &[&str]| run(role("setup", &manifest, more).unwrap(), PATIENCE).unwrap();
        assert!(set_up(&[]).status.success());
        assert!(set_up(&["--dry-run"]).stdout.contains("as they should be"));
        let page = free_address().unwrap();
        let serve = Role::start("serve", &manifest, &["--listen", &page]).unwrap();
        Self { checked, manifest, page, serve, ingest: None, directory, broker, _turn: turn }
    }

    fn processor(&self) -> Role {
        let mut role = Role::start("process", &self.manifest, &["--threads", "1"]).unwrap();
        role.wait_until_ready().unwrap();
        role
    }

    /// Starts the events, and waits until some of them were processed.
    fn flow(&mut self) {
        self.serve.wait_until_ready().unwrap();
        self.ingest = Some(Role::start("ingest", &self.manifest, &["--name", "checkout", "--until-done"]).unwrap());
        let some = || positions(&self.checked).values().map(|(position, _)| position).sum::<u64>() > EVENTS / 10;
        self.serve.running.wait_for(PATIENCE, || some().then_some(())).unwrap();
    }

    /// Waits until every partition is processed beyond where it ended at `then`.
    fn goes_on_after(&mut self, then: &BTreeMap<u32, (u64, u64)>) {
        let goes_on = || {
            let now = positions(&self.checked);
            then.iter().all(|(partition, (_, end))| now[partition].0 > *end)
        };
        self.serve.running.wait_for(PATIENCE, || goes_on().then_some(())).unwrap();
    }

    /// Waits for the last event, and compares everything with the reference.
    fn prove(&mut self) {
        self.prove_all(EVENTS);
    }

    /// The same where more events were made than at first.
    fn prove_all(&mut self, events: u64) {
        let ended = self.ingest.take().unwrap().running.wait(PATIENCE).unwrap();
        assert!(ended.status.success(), "{}", ended.stderr);
        let page = self.page.clone();
        let ledger = || get(&page, "/api/v1/ledger");
        let counted =
            |ledger: Value| (ledger["tables"][0]["counted"] == events && ledger["unaccounted"] == 0).then_some(ledger);
        let all = self.serve.running.wait_for(PATIENCE, || ledger().and_then(counted));
        let all = all.unwrap_or_else(|error| panic!("{error}: {:?}, {:?}", ledger(), positions(&self.checked)));
        assert_eq!(all["streams"][0]["read"], events, "{all}");
        // Early rows leave at most once in `emit.every`, so they may come after the ledger.
        let expected = expected(&self.checked);
        let equal = self.serve.running.wait_for(PATIENCE, || (served(&page) == expected).then_some(()));
        assert!(equal.is_ok(), "served {:?}, the reference says {expected:?}", served(&page));
    }
}

#[test]
fn a_processor_that_is_killed_costs_nothing_but_time() {
    let mut fleet = Fleet::set_up();
    let (victim, other) = (fleet.processor(), fleet.processor());
    fleet.flow();
    let at_the_kill = positions(&fleet.checked);
    let killed = Instant::now();
    victim.running.kill().unwrap();
    fleet.goes_on_after(&at_the_kill);
    let recovery = killed.elapsed();
    println!("from kill -9 until every partition goes on: {:.1} s", recovery.as_secs_f64());
    assert!(recovery < RECOVERY_MAX);
    let successor = fleet.processor();
    fleet.prove();

    [successor, other].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
    // Everything was committed and checkpointed: whoever comes next replays nothing.
    let mut next = fleet.processor();
    next.wait_for_figure("clickstream_process_recoveries_total{epoch=\"1\"}", |tasks| tasks >= 9.0).unwrap();
    assert_eq!(next.figure("clickstream_process_replayed_records_total{epoch=\"1\"}").unwrap(), Some(0.0));
    [next, fleet.serve].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

#[test]
fn a_sleeper_that_wakes_up_late_changes_nothing() {
    let mut fleet = Fleet::set_up();
    let (sleeper, other) = (fleet.processor(), fleet.processor());
    fleet.flow();
    let asleep = positions(&fleet.checked);
    sleeper.running.signal(SIGSTOP).unwrap();
    fleet.goes_on_after(&asleep);
    // It believes that it still owns partitions that others process by now.
    sleeper.running.signal(SIGCONT).unwrap();
    let third = fleet.processor();
    other.end_in_order().unwrap();
    fleet.prove();
    [sleeper, third, fleet.serve].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

/// Whether a processor says that partitions wait to be read.
fn puts_aside(processor: &Role) -> bool {
    let request = ureq::get(format!("http://{}/readyz", processor.health)).config().http_status_as_error(false).build();
    let said = request.call().ok().and_then(|answer| answer.into_body().read_to_string().ok());
    said.is_some_and(|said| said.contains("wait to be read: say the topic's `partitions`"))
}

#[test]
fn partitions_that_are_added_while_processors_run_are_counted_by_them() {
    let mut fleet = Fleet::set_up();
    let (mut one, mut other, third) = (fleet.processor(), fleet.processor(), fleet.processor());
    fleet.flow();
    // Somebody adds them by hand: they wait, and what is read goes on.
    let name = fleet.checked.manifest.spec.topics[0].name.clone();
    grow_topic(&fleet.checked, &name, PARTITIONS + 2).unwrap();
    third.end_in_order().unwrap();
    let waits = || (puts_aside(&one) || puts_aside(&other)).then_some(());
    fleet.serve.running.wait_for(PATIENCE, waits).unwrap();
    let mut then = positions(&fleet.checked);
    then.retain(|partition, _| *partition < PARTITIONS);
    fleet.goes_on_after(&then);

    let events = EVENTS + EVENTS / 2;
    let grown = write_manifest(fleet.directory.path(), &fleet.broker, (events, PARTITIONS + 2));
    tests::roles::set_up(&grown).unwrap();
    fleet.serve.running.wait_for(PATIENCE, || (!puts_aside(&one) && !puts_aside(&other)).then_some(())).unwrap();
    [&mut one, &mut other].into_iter().for_each(|role| role.wait_until_ready().unwrap());

    // Ingesters know of partitions when they start.
    let ended = fleet.ingest.take().unwrap().running.wait(PATIENCE).unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    fleet.checked = crds::check(&fs::read_to_string(&grown).unwrap(), &[]).unwrap();
    fleet.ingest = Some(Role::start("ingest", &grown, &["--name", "checkout", "--until-done"]).unwrap());
    fleet.prove_all(events);
    let filled = raw_records(&fleet.checked).unwrap().values().filter(|records| !records.is_empty()).count();
    assert_eq!(filled as u32, PARTITIONS + 2, "the new partitions take part");
    [one, other, fleet.serve].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}
