//! Transactions that the only broker forgets: it comes back, and completes those that had been decided without a word in their
//! partitions. Readers of what is committed would wait there for good.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crds::Checked;
use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, Producer as _},
};
use tests::{
    binary::{Running, free_address},
    kafka::{Broker, raw_records},
    roles::{PATIENCE, set_up, wait},
    sales::over_http,
    writers::{Writer, cluster, event, transaction},
};
use worker::kafka::{connection::Connection, context::Logged};

/// Writers, and partitions of the raw topic.
const WRITERS: u64 = 8;

/// Commits before the broker dies.
const COMMITS: usize = 300;

/// How often it dies at most until it has forgotten a transaction.
const DEATHS_MAX: usize = 6;

/// How long a transaction may still be open that its id's next owner has ended.
const OPEN_TIME_MAX: Duration = Duration::from_secs(3);

/// How long whoever waits for it may take to go on, the time included in which it may still be somebody's.
const GO_ON_TIME_MAX: Duration = Duration::from_secs(90);

/// The example with a collector.
fn write_manifest(directory: &Path, broker: &Broker) -> PathBuf {
    let text = over_http(&broker.address, &free_address().unwrap()).unwrap();
    let file = directory.join("pipeline.yaml");
    fs::write(&file, text.replace("partitions: 4", &format!("partitions: {WRITERS}"))).unwrap();
    file
}

fn check(manifest: &Path) -> Checked {
    crds::check(&fs::read_to_string(manifest).unwrap(), &[]).unwrap()
}

/// Lets writers and their broker die at once, and the broker come back. Returns the last commit of each that it heard of.
fn die_together(broker: &mut Broker, manifest: &Path) -> Vec<u64> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_writers"));
    command.arg(manifest).arg(WRITERS.to_string());
    let writers = Running::start(command).unwrap();
    wait("commits", || writers.complaints().lines().count(), |count| *count > COMMITS);
    broker.kill().unwrap();
    let said = writers.kill().unwrap().stderr;
    broker.restart().unwrap();
    // Whatever was merely open ends by this.
    let checked = check(manifest);
    let cluster = cluster(&checked).unwrap();
    std::thread::scope(|scope| {
        for id in (0..WRITERS).map(|number| transaction(&checked, number)) {
            let producer = cluster.create::<BaseProducer<Logged>>(&cluster.transactional(&id)).unwrap();
            scope.spawn(move || producer.init_transactions(PATIENCE).unwrap());
        }
    });
    let mut last = vec![0; WRITERS as usize];
    for line in said.lines().filter_map(|line| line.split_once(' ')) {
        last[line.0.parse::<usize>().unwrap()] = line.1.parse().unwrap();
    }
    last
}

/// Where the topic of progress ends, for those who read what is committed and for those who read all.
fn ends(checked: &Checked) -> Option<[i64; 2]> {
    let cluster = cluster(checked).unwrap();
    let end = |isolation: &str| {
        let mut config = cluster.consumer("looks");
        config.set("isolation.level", isolation);
        let consumer: Connection<BaseConsumer<Logged>> = cluster.create(&config).unwrap();
        consumer.fetch_watermarks("category-sales.progress", 0, Duration::from_secs(5)).ok().map(|(_, end)| end)
    };
    Some([end("read_committed")?, end("read_uncommitted")?])
}

/// Whether a transaction stays open although nobody writes.
fn progress_is_forgotten(checked: &Checked) -> bool {
    let asked = Instant::now();
    loop {
        if ends(checked).is_some_and(|[shown, all]| shown == all) {
            return false;
        }
        if asked.elapsed() > OPEN_TIME_MAX {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

/// Until somebody writes under the same id again, progress after it is seen by nobody. Whether a broker forgets one is luck: all
/// go on with what they had committed in either case.
#[test]
fn progress_that_is_hidden_is_shown_by_whoever_comes_first() {
    let (mut broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let manifest = write_manifest(directory.path(), &broker);
    let checked = check(&manifest);
    set_up(&manifest).unwrap();
    let mut acknowledged = vec![0; WRITERS as usize];
    let has_forgotten = (1..=DEATHS_MAX).any(|death| {
        let now = die_together(&mut broker, &manifest);
        acknowledged.iter_mut().zip(now).for_each(|(known, now)| *known = now.max(*known));
        let is_forgotten = progress_is_forgotten(&checked);
        let began = Instant::now();
        go_on(&checked, &mut acknowledged);
        let took = began.elapsed();
        println!("death {death}: forgotten: {is_forgotten}, all went on after {:.1} s", took.as_secs_f64());
        assert!(took < GO_ON_TIME_MAX);
        is_forgotten
    });
    println!("the broker has forgotten something: {has_forgotten}");
}

/// Every writer commits once more, and what all have committed is there once; `acknowledged` is what they heard of.
fn go_on(checked: &Checked, acknowledged: &mut [u64]) {
    let mut writers: Vec<Writer> = std::thread::scope(|scope| {
        let open = |number| scope.spawn(move || Writer::open(checked, number).unwrap());
        let opened: Vec<_> = (0..WRITERS).map(open).collect();
        opened.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    for (writer, acknowledged) in writers.iter_mut().zip(acknowledged) {
        let count = writer.count().unwrap();
        assert!((*acknowledged..=*acknowledged + 1).contains(&count), "{count}, not {acknowledged}");
        *acknowledged = writer.commit().unwrap();
    }
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for record in raw_records(checked).unwrap().into_values().flatten() {
        *found.entry(String::from_utf8(record.payload.to_vec()).unwrap()).or_default() += 1;
    }
    for (writer, number) in writers.iter().zip(0..) {
        for count in 1..=writer.count().unwrap() {
            assert_eq!(found.remove(&event(number, count)), Some(WRITERS), "commit {count} of writer {number}");
        }
    }
    assert!(found.is_empty(), "{found:?}");
}
