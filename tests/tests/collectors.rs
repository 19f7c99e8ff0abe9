//! Two collectors of one ingester behind a load balancer, under load, while the broker is away for longer than their
//! transactions last: what was answered 200 is in the topic, once unless it was posted twice, and both go on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, UNIX_EPOCH},
};

use engine::time::rfc3339;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};
use tests::{
    binary::free_address,
    kafka::{Broker, raw_records, read_topic},
    roles::{PATIENCE, Role, SIGCONT, SIGSTOP, set_up, wait},
    sales::over_http,
};
use worker::{
    kafka::{client::Cluster, context::Logged},
    secrets::Secrets,
};

/// Clients that post at once; they are evenly on both collectors.
const CLIENTS: u64 = 8;

/// Events of a post.
const BATCH: u64 = 20;

/// Longer than a transaction may last (15 s): brokers end those that are open when they come back.
const OUTAGE: Duration = Duration::from_secs(20);

/// Progress of a replica that died long ago.
const OLD_KEY: &str = "checkout@long-gone";

/// The example with a collector; events may wait as long as the broker is away.
fn write_manifest(directory: &Path, broker: &Broker, collector: &str) -> PathBuf {
    let text = over_http(&broker.address, collector).unwrap().replace("outOfOrderness: 1m", "outOfOrderness: 5m");
    let file = directory.join("pipeline.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// What clients have seen.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    /// Answers 200 of each collector.
    stored: [AtomicU64; 2],
    /// Answers 503 of each collector; every one said when to try again.
    refused: [AtomicU64; 2],
    /// Batches that were answered 200, by their first event, and how often they were posted.
    posts: Mutex<BTreeMap<u64, u64>>,
}

impl Seen {
    fn count(&self, of: &[AtomicU64; 2]) -> [u64; 2] {
        of.each_ref().map(|count| count.load(Ordering::Acquire))
    }
}

/// Posts batches to the collectors in turn, each until it is stored.
fn client(number: u64, collectors: [String; 2], seen: Arc<Seen>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for (first, turn) in (0..).map(|turn| ((turn * CLIENTS + number) * BATCH, turn + number)) {
            if seen.over.load(Ordering::Acquire) {
                return;
            }
            let body = batch(first);
            let posts =
                (0..).find(|again| is_stored(&collectors, (turn + again) as usize % 2, &body, &seen)).unwrap() + 1;
            seen.posts.lock().unwrap().insert(first, posts);
            std::thread::park_timeout(Duration::from_millis(10));
        }
    })
}

fn is_stored(collectors: &[String; 2], at: usize, body: &str, seen: &Seen) -> bool {
    let request = ureq::post(&collectors[at]).content_type("application/json");
    let answer = request.config().http_status_as_error(false).build().send(body).unwrap();
    match answer.status().as_u16() {
        200 => {
            seen.stored[at].fetch_add(1, Ordering::AcqRel);
            true
        }
        503 => {
            let after = answer.headers().get("retry-after").expect("a 503 says when").to_str().unwrap();
            std::thread::park_timeout(Duration::from_secs(after.parse().unwrap()));
            seen.refused[at].fetch_add(1, Ordering::AcqRel);
            false
        }
        other => panic!("{other}: {:?}", answer.into_body().read_to_string()),
    }
}

fn batch(first: u64) -> String {
    let now = rfc3339(i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap());
    let event = |number: u64| json!({"transaction_id": format!("t{number}"), "category": "Home", "amount": 1, "timestamp": now});
    Value::from((first..first + BATCH).map(event).collect::<Vec<Value>>()).to_string()
}

/// Waits until both collectors have stored more than now.
fn both_go_on(seen: &Seen, what: &str) {
    let (before, begun) = (seen.count(&seen.stored), Instant::now());
    let more = |now: &[u64; 2]| now[0] > before[0] + 20 && now[1] > before[1] + 20;
    wait(what, || seen.count(&seen.stored), more);
    println!("{what}: both go on after {:.1} s", begun.elapsed().as_secs_f64());
}

/// Lets a replica have written to the topic of progress eight days ago.
fn leave_an_old_key(checked: &crds::Checked) {
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment()).unwrap();
    let producer = cluster.create::<BaseProducer<Logged>>(&cluster.producer()).unwrap();
    let time = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() - 8 * 24 * 3_600_000;
    let record = BaseRecord::to("category-sales.progress").partition(0).key(OLD_KEY).payload("!1").timestamp(time);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
}

/// Keys of replicas in the topic of progress, and whether they are still there.
fn keys(checked: &crds::Checked) -> BTreeMap<String, bool> {
    let records = read_topic(checked, "category-sales.progress", 1).unwrap();
    let keys =
        records.into_iter().map(|record| (String::from_utf8_lossy(&record.key).into_owned(), record.value.is_some()));
    keys.filter(|(key, _)| key.starts_with("checkout")).collect()
}

/// How often each event lies in the raw topic.
fn copies(checked: &crds::Checked) -> BTreeMap<u64, u64> {
    let mut copies = BTreeMap::new();
    for record in raw_records(checked).unwrap().into_values().flatten() {
        let event: Value = serde_json::from_slice(&record.payload).unwrap();
        let number = event["transaction_id"].as_str().unwrap()[1..].parse().unwrap();
        *copies.entry(number).or_default() += 1;
    }
    copies
}

fn ledger(page: &str) -> Value {
    let told = ureq::get(format!("http://{page}/api/v1/ledger")).call().ok();
    let text = told.and_then(|answer| answer.into_body().read_to_string().ok()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[test]
fn what_either_collector_has_acknowledged_is_in_the_topic_however_long_the_broker_was_away() {
    let (mut broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let [page, one, other] = [(); 3].map(|()| free_address().unwrap());
    let manifest = write_manifest(directory.path(), &broker, &one);
    let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
    set_up(&manifest).unwrap();
    leave_an_old_key(&checked);
    let mut serve = Role::start("serve", &manifest, &["--listen", &page]).unwrap();
    let mut process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut collectors = [&one, &other].map(|address| {
        let port = format!("ingest.checkout.http.port={}", address.rsplit_once(':').unwrap().1);
        Role::start("ingest", &manifest, &["--name", "checkout", "-s", &port]).unwrap()
    });
    let [first, second] = &mut collectors;
    [&mut serve, &mut process, first, second].into_iter().for_each(|role| role.wait_until_ready().unwrap());
    let seen = Arc::new(Seen::default());
    let urls = [one, other].map(|address| format!("http://{address}/v1/events"));
    let clients: Vec<_> = (0..CLIENTS).map(|number| client(number, urls.clone(), Arc::clone(&seen))).collect();
    both_go_on(&seen, "the first events");

    broker.process.signal(SIGSTOP).unwrap();
    let (stopped, all) = (Instant::now(), |refused: &[u64; 2]| refused.iter().all(|count| *count > 0));
    wait("a broker that sleeps", || seen.count(&seen.refused), |refused| all(refused) && stopped.elapsed() > OUTAGE);
    broker.process.signal(SIGCONT).unwrap();
    both_go_on(&seen, "a broker that slept");

    broker.kill().unwrap();
    let killed = Instant::now();
    wait("a broker that is dead", || killed.elapsed(), |passed| *passed > OUTAGE);
    broker.restart().unwrap();
    both_go_on(&seen, "a broker that was dead");

    seen.over.store(true, Ordering::Release);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let posts = seen.posts.lock().unwrap();
    let stored = copies(&checked);
    for (first, posts) in posts.iter() {
        for event in *first..first + BATCH {
            let found = stored.get(&event).copied().unwrap_or_default();
            assert!(
                (1..=*posts).contains(&found),
                "event {event} was posted {posts} times, and is there {found} times"
            );
        }
    }
    assert_eq!(stored.len(), posts.len() * BATCH as usize);
    let counted = |all: &Value| all["tables"][0]["counted"] == stored.len() && all["unaccounted"] == 0;
    wait("every event once in the table", || ledger(&page), counted);
    let again = stored.values().filter(|copies| **copies > 1).count();
    println!("{} events, {again} of them more than once, refused {:?}", stored.len(), seen.count(&seen.refused));

    let there = keys(&checked);
    assert_eq!(there.values().filter(|is_there| **is_there).count(), 2, "{there:?}");
    assert_eq!(there.get(OLD_KEY), Some(&false), "{there:?}");
    collectors.into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
    let there = keys(&checked);
    assert!(there.values().all(|is_there| !is_there), "{there:?}");
    [process, serve].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}
