//! Ingesters from a manifest's text to a log, and `clickstream generate`, as people use them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use worker::{
    ingest::{self, IngestOptions, Ingesters},
    ports::{IngestLog, IngestRecord, LogError},
};

/// A log in memory: (topic, partition, payload) of every record, and progress by ingester.
#[derive(Clone, Default)]
struct MemoryLog(Arc<Mutex<Committed>>);

#[derive(Default)]
struct Committed {
    records: Vec<(String, u32, String)>,
    progress: BTreeMap<String, Vec<u8>>,
}

impl IngestLog for MemoryLog {
    fn commit(&mut self, ingester: &str, records: &[IngestRecord<'_>], progress: &[u8]) -> Result<(), LogError> {
        let mut committed = self.0.lock().unwrap();
        let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
        let records = records.iter().map(|record| (record.topic.into(), record.partition, text(record.payload)));
        committed.records.extend(records);
        committed.progress.insert(ingester.into(), progress.into());
        Ok(())
    }

    fn progress(&self, ingester: &str) -> Result<Option<Vec<u8>>, LogError> {
        Ok(self.0.lock().unwrap().progress.get(ingester).cloned())
    }

    fn partitions(&self, _: &str) -> u32 {
        3
    }
}

impl MemoryLog {
    fn of_topic(&self, topic: &str) -> Vec<Json> {
        let committed = self.0.lock().unwrap();
        let records = committed.records.iter().filter(|record| record.0 == topic);
        records.map(|record| serde_json::from_str(&record.2).unwrap_or(Json::String(record.2.clone()))).collect()
    }
}

fn manifest(ingest: &str) -> String {
    format!(
        "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: shop}}
spec:
  topics: [{{name: views, partitions: 3}}, {{name: purchases, partitions: 3}}]
  lookups: [{{name: products, key: product_id, file: products.json}}]
  ingest:
{ingest}
  streams:
  - name: activity
    topics: [views, purchases]
    key: user_id
    eventTime: {{field: timestamp, outOfOrderness: 1m}}
    fields:
    - {{name: timestamp, type: timestamp, required: true}}
    - {{name: user_id, type: string, required: true}}
    - {{name: product_id, type: string}}
    - {{name: action, type: string, required: true}}
    - {{name: quantity, type: integer}}
    - {{name: total, type: decimal}}
    rules: [{{name: known-action, check: \"action in ('view', 'purchase')\"}}]
  tables: [{{name: counts, from: activity, window: {{tumbling: 1m}}, groupBy: [action], select: {{events: count()}}}}]
"
    )
}

fn spawn(ingest: &str, directory: &Path, log: &MemoryLog, options: IngestOptions) -> Result<Ingesters, String> {
    let checked = crds::check(&manifest(ingest), &[]).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let options = IngestOptions { directory: directory.into(), ..options };
    ingest::spawn(&checked, &options, || Box::new(log.clone())).map_err(|error| error.to_string())
}

fn run(ingest: &str, directory: &Path, log: &MemoryLog) -> Vec<String> {
    let ingesters = spawn(ingest, directory, log, IngestOptions::default()).unwrap();
    let errors = ingesters.join();
    errors.into_iter().map(|(name, error)| format!("{name}: {error}")).collect()
}

const PRODUCTS: &str = r#"[{"product_id":"p1","price":9.5},{"product_id":"p2","price":10}]"#;

#[test]
fn expressions_and_cases_see_the_other_fields_and_the_lookup_in_any_order() {
    let (base, log) = (tempfile::tempdir().unwrap(), MemoryLog::default());
    fs::write(base.path().join("products.json"), PRODUCTS).unwrap();
    let errors = run(
        "
  - name: shop
    topic: views
    synthetic:
      count: 500
      fields:
        timestamp: {now: {}}
        total: {expression: quantity * products.price}
        quantity: {integer: {min: 1, max: 5}}
        user_id: {oneOf: {format: 'u%d', count: 9}}
        product_id: {from: products}
        action: {const: view, cases: [{when: product_id = 'p1' and quantity > 3, const: purchase}]}",
        base.path(),
        &log,
    );
    assert_eq!(errors, Vec::<String>::new());
    let events = log.of_topic("views");
    assert_eq!(events.len(), 500);
    for event in events {
        let (quantity, product) = (event["quantity"].as_f64().unwrap(), event["product_id"].as_str().unwrap());
        let price = if product == "p1" { 9.5 } else { 10.0 };
        assert_eq!(event["total"].as_f64(), Some(quantity * price), "{event}");
        let bought = product == "p1" && quantity > 3.0;
        assert_eq!(event["action"], if bought { "purchase" } else { "view" }, "{event}");
    }
}

#[test]
fn ingesters_of_one_seed_make_other_ids_and_the_same_prices() {
    let (base, log) = (tempfile::tempdir().unwrap(), MemoryLog::default());
    let fields = "{user_id: {uuid: {}}, product_id: {oneOf: {format: 'p%d', count: 5}}, total: {decimal: {min: 1, max: 99}, fixedPer: product_id}}";
    let one = |name: &str| format!("  - {{name: {name}, topic: views, synthetic: {{count: 100, fields: {fields}}}}}\n");
    assert_eq!(run(&(one("web") + &one("app")), base.path(), &log), Vec::<String>::new());
    let events = log.of_topic("views");
    let distinct = |fields: &[&str]| {
        let values = |event: &Json| fields.iter().map(|field| event[field].to_string()).collect::<Vec<_>>();
        events.iter().map(values).collect::<BTreeSet<_>>().len()
    };
    assert_eq!((events.len(), distinct(&["user_id"]), distinct(&["product_id", "total"])), (200, 200, 5));
}

#[test]
fn rows_of_a_dataset_are_routed_by_the_streams_types() {
    let (base, log) = (tempfile::tempdir().unwrap(), MemoryLog::default());
    fs::create_dir(base.path().join("data")).unwrap();
    let csv = "User ID,Action,Timestamp,total\nu1,view,2025-01-01T00:00:00Z,\nu2,purchase,2025-01-01T00:00:01Z,12.5\n\
               u3,purchase\nu1,purchase,2025-01-01T00:00:02Z,9\n";
    fs::write(base.path().join("data/clicks.csv"), csv).unwrap();
    let errors = run(
        "
  - name: files
    dataset:
      path: data/*.csv
      columns: {user_id: User ID, action: Action, timestamp: Timestamp}
    routes: [{when: action = 'purchase' and total > 10, topic: purchases}, {topic: views}]",
        base.path(),
        &log,
    );
    assert_eq!(errors, Vec::<String>::new());
    let bought = log.of_topic("purchases");
    assert_eq!((bought.len(), &bought[0]["total"], &bought[0]["user_id"]), (1, &Json::from(12.5), &Json::from("u2")));
    let viewed = log.of_topic("views");
    assert_eq!((viewed.len(), &viewed[0]["total"]), (3, &Json::Null));
    assert_eq!(viewed[1], "data/clicks.csv:4: 2 columns where the header has 4: u3,purchase");
}

#[test]
fn what_cannot_start_says_why_and_writes_nothing() {
    let (base, log) = (tempfile::tempdir().unwrap(), MemoryLog::default());
    fs::create_dir(base.path().join("empty")).unwrap();
    fs::write(base.path().join("headless.csv"), "u1,view\n").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = |ingest: &str, part: &str| match spawn(ingest, base.path(), &log, IngestOptions::default()) {
        Ok(_) => panic!("started: {ingest}"),
        Err(error) => assert!(error.contains(part), "{error}"),
    };
    refused("  - {name: a, topic: views, dataset: {path: none.csv}}", "failed to open none.csv");
    refused(
        "  - {name: a, topic: views, dataset: {path: empty, format: csv}}",
        "dataset empty: the directory has no file",
    );
    refused("  - {name: a, topic: views, dataset: {path: headless.csv}}", "headless.csv:1: the header has no column");
    refused(&format!("  - {{name: a, topic: views, http: {{port: {port}}}}}"), "is the port taken?");
    refused(
        "  - {name: a, topic: views, synthetic: {count: 1, fields: {x: {from: products}}}}",
        "failed to open products.json",
    );
    assert!(log.0.lock().unwrap().records.is_empty());
}

#[test]
fn a_collector_listens_on_its_port_and_stores_what_waits_when_it_is_stopped() {
    let (base, log) = (tempfile::tempdir().unwrap(), MemoryLog::default());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tokens = [("web".to_owned(), vec!["secret".to_owned()])].into();
    let text = format!("  - {{name: web, topic: views, http: {{port: {port}, tokensSecret: tokens}}}}");
    let options = IngestOptions { tokens, ..IngestOptions::default() };
    let ingesters = spawn(&text, base.path(), &log, options).unwrap();
    assert_eq!(ingesters.addresses(), [("web".to_owned(), ([127, 0, 0, 1], port).into())]);
    assert!(ingesters.router().is_some() && !ingesters.done());
    let post = |body: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(socket, "POST /v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer secret\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    let event = |action: &str| format!(r#"{{"timestamp":"2025-01-01T00:00:00Z","user_id":"u1","action":"{action}"}}"#);
    let answer = post(&format!("[{},{}]", event("view"), event("dance")));
    assert!(
        answer.contains(r#""accepted":1,"rejected":1"#) && answer.contains("rule known-action is false"),
        "{answer}"
    );
    assert_eq!(log.of_topic("views").len(), 1);
    assert_eq!(ingesters.progress()[0].read, 1);
    ingesters.stop();
    assert!(ingesters.join().is_empty());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_generator_that_never_ends_is_named_and_ends_when_it_is_stopped() {
    let (base, log) = (tempfile::tempdir().unwrap(), MemoryLog::default());
    let text = "  - {name: shop, topic: views, synthetic: {eventsPerSecond: 1000, realistic: true}}";
    let checked = crds::check(&manifest(text), &[]).unwrap();
    assert_eq!(ingest::endless(&checked.manifest.spec), ["shop"]);
    let ingesters = spawn(text, base.path(), &log, IngestOptions::default()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while ingesters.progress()[0].read < 100 {
        assert!(Instant::now() < deadline, "{:?}", ingesters.progress());
        std::thread::yield_now();
    }
    ingesters.stop();
    assert!(ingesters.join().is_empty());
    let first = log.of_topic("views").len();
    let bounded =
        IngestOptions { duration: Some(Duration::from_millis(first as u64 + 200)), ..IngestOptions::default() };
    assert!(spawn(text, base.path(), &log, bounded).unwrap().join().is_empty());
    let ids: BTreeSet<String> = log.of_topic("views").iter().map(|event| event["user_id"].to_string()).collect();
    assert!(log.of_topic("views").len() == first + 200 && ids.len() > 1, "{first}");
}

const GENERATED: &str = "
  - name: shop
    topic: views
    synthetic: {eventsPerSecond: 10, seed: 1, fields: {user_id: {oneOf: {format: 'u%d', count: 9}}, timestamp: {now: {}}}}
  - {name: till, topic: purchases, synthetic: {count: 5, fields: {user_id: {const: u1}}}}";

fn generate(base: &Path, arguments: &[&str]) -> Command {
    let file = base.join("shop.yaml");
    fs::write(&file, manifest(GENERATED)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_clickstream"));
    command.arg("generate").arg(file).args(arguments);
    command
}

#[test]
fn generate_writes_the_same_bytes_for_the_same_seed() {
    let base = tempfile::tempdir().unwrap();
    let text = |arguments: &[&str]| {
        let output = generate(base.path(), arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = text(&["--ingest", "shop", "--count", "20000"]);
    assert_eq!(first.lines().count(), 20_000);
    assert!(first.lines().next().unwrap().contains("2025-01-01T00:00:00Z"));
    assert_eq!(text(&["--ingest", "shop", "--count", "20000"]), first);
    assert_eq!(text(&["--ingest", "shop", "--count", "20000", "-s", "ingest.shop.synthetic.seed=1"]), first);
    assert_ne!(text(&["--ingest", "shop", "--count", "20000", "--seed", "2"]), first);
    assert!(
        text(&["--ingest", "shop", "--count", "1", "--start", "2025-06-01T12:00:00+02:00"])
            .contains("2025-06-01T10:00:00Z")
    );
    assert_eq!(text(&["--count", "3"]).lines().count(), 6);
    let file = base.path().join("events.jsonl");
    assert_eq!(text(&["--ingest", "shop", "--count", "20000", "--output", file.to_str().unwrap()]), "");
    assert_eq!(fs::read_to_string(file).unwrap(), first);
}

#[test]
fn generate_ends_quietly_when_nobody_reads_any_more() {
    let base = tempfile::tempdir().unwrap();
    let mut child =
        generate(base.path(), &["--ingest", "shop"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && line.starts_with('{'), "{line}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn generate_tells_mistakes_with_exit_code_2() {
    let base = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], part: &str| {
        let output = generate(base.path(), arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(part), "{told}");
    };
    check(&["--ingest", "web"], "there is no synthetic ingester \"web\"; there are shop, till");
    check(&[], "ingester shop never ends; say --count N, or --ingest shop");
    check(&["--start", "tomorrow"], "expected a time such as");
    check(&["-s", "ingest.shop.synthetic.seed=x"], "seed");
    check(&["-s", "nonsense"], "expected path=value");
}
