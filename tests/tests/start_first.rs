//! Roles that are started at a bad time. Before Kafka: they live, say what they wait for, end in order when asked to, and go on
//! once brokers answer; commands do not wait for long. While others write all the time: they begin all the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::producer::{BaseProducer, BaseRecord};
use tests::{
    binary::{free_address, run},
    kafka::Broker,
    roles::{PATIENCE, Role, role, set_up},
};
use worker::{
    kafka::{client::Cluster, context::Logged, names::Names},
    secrets::Secrets,
};

/// How long a command may ask brokers that do not answer.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(45);

const EVENTS: usize = 5_000;

/// Pause between two records of a topic that never rests: no fetch waits so short a time.
const WRITE_EVERY: Duration = Duration::from_millis(2);

fn manifest(directory: &Path, brokers: &str) -> std::path::PathBuf {
    let rows: String = (0..EVENTS).map(|at| format!("{{\"user\":\"{}\"}}\n", at % 7)).collect();
    fs::write(directory.join("rows.jsonl"), rows).unwrap();
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: patient}}
spec:
  kafka: {{bootstrapServers: ['{brokers}']}}
  topics:
  - {{name: views, partitions: 2}}
  ingest:
  - {{name: rows, topic: views, dataset: {{path: rows.jsonl}}}}
  - {{name: made, topic: views, synthetic: {{count: {EVENTS}, fields: {{user: {{choice: [a, b]}}}}}}}}
  streams:
  - {{name: views, topics: [views], key: user, fields: [{{name: user, type: string}}]}}
  tables:
  - {{name: totals, from: views, select: {{views: count()}}}}
  sinks:
  - {{name: lines, tables: [totals], console: {{format: json}}}}
"
    );
    let file = directory.join("patient.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// What `/healthz` and `/readyz` say.
fn health(address: &str) -> Option<(u16, u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let alive = agent.get(format!("http://{address}/healthz")).call().ok()?.status().as_u16();
    let mut ready = agent.get(format!("http://{address}/readyz")).call().ok()?;
    Some((alive, ready.status().as_u16(), ready.body_mut().read_to_string().ok()?))
}

fn start_all(manifest: &Path) -> Vec<Role> {
    let page = free_address().unwrap();
    let all: [(&str, &[&str]); 5] = [
        ("process", &["--threads", "1"]),
        ("sink", &["--name", "lines"]),
        ("ingest", &["--name", "rows"]),
        ("ingest", &["--name", "made"]),
        ("serve", &["--listen", &page]),
    ];
    all.map(|(name, more)| Role::start(name, manifest, more).unwrap()).into()
}

#[test]
fn roles_wait_for_brokers_and_commands_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = Broker::start().unwrap();
    let manifest = manifest(directory.path(), &broker.address);
    set_up(&manifest).unwrap();
    broker.kill().unwrap();

    for mut role in start_all(&manifest) {
        let (alive, ready, why) = role.running.wait_for(PATIENCE, || health(&role.health)).unwrap();
        assert_eq!((alive, ready), (200, 503), "{why}");
        assert!(why.contains(&format!("Kafka at {} does not answer", broker.address)), "{why}");
        let ended = role.end_in_order().unwrap();
        let waits = ended.stderr.lines().filter(|line| line.contains("waiting for Kafka")).count();
        assert_eq!(waits, 1, "{}", ended.stderr);
    }
    for (name, more) in [("setup", &[][..]), ("topics", &[]), ("replay", &["--all"])] {
        let begun = Instant::now();
        let ended = run(role(name, &manifest, more).unwrap(), PATIENCE).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(&broker.address), "{name}: {}", ended.stderr);
        assert!(begun.elapsed() < COMMAND_TIME_MAX, "{name} asked for {:?}", begun.elapsed());
    }

    let mut roles = start_all(&manifest);
    for role in &mut roles {
        role.wait_until_unready().unwrap();
    }
    broker.restart().unwrap();
    let begun = Instant::now();
    roles.iter_mut().for_each(|role| role.wait_until_ready().unwrap());
    println!("ready {:.1} s after the broker is up", begun.elapsed().as_secs_f64());
    let all = |figure: f64| figure == 2.0 * EVENTS as f64;
    let serve = roles.last_mut().unwrap();
    serve.wait_for_figure("clickstream_table_events{outcome=\"counted\",table=\"totals\"}", all).unwrap();
    roles.into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

/// Writes to topics until it is dropped.
struct Restless {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Restless {
    fn start(manifest: &Path, topics: Vec<String>) -> Self {
        let checked = crds::check(&fs::read_to_string(manifest).unwrap(), &[]).unwrap();
        let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment()).unwrap();
        let mut config = cluster.producer();
        config.set("linger.ms", "0");
        let producer = cluster.create::<BaseProducer<Logged>>(&config).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let body = move || {
            let mut written = 0;
            while !stopped.load(Ordering::Acquire) {
                for topic in &topics {
                    let record = BaseRecord::<_, [u8]>::to(topic).partition(0).key("restless");
                    written += u64::from(producer.send(record).is_ok());
                }
                producer.poll(Duration::ZERO);
                thread::park_timeout(WRITE_EVERY);
            }
            written
        };
        Self { stop, thread: Some(thread::spawn(body)) }
    }

    /// Ends it and tells how many records were written.
    fn end(&mut self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn roles_begin_while_their_topics_never_rest() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start().unwrap();
    let manifest = manifest(directory.path(), &broker.address);
    set_up(&manifest).unwrap();
    let names = Names::new("patient");
    let mut restless = Restless::start(&manifest, vec![names.progress(), names.results()]);
    let begun = Instant::now();
    let mut roles = start_all(&manifest);
    roles.iter_mut().for_each(|role| role.wait_until_ready().unwrap());
    let took = begun.elapsed();
    println!("ready after {:.1} s and {} records", took.as_secs_f64(), restless.end());
    roles.into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}
