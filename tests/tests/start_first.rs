//! Roles that are started before Kafka: they live, say what they wait for, end in order when asked to, and go on once brokers
//! answer. Commands do not wait for long.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use tests::{
    binary::{free_address, run},
    kafka::Broker,
    roles::{PATIENCE, Role, role, set_up},
};

/// How long a command may ask brokers that do not answer.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(45);

const EVENTS: usize = 5_000;

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
