//! What every role tells those who watch it: when it is ready, when it is not, and what it counts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fs, path::PathBuf};

use tests::{
    binary::free_address,
    kafka::Broker,
    roles::{Role, SIGCONT, SIGSTOP, set_up},
};

const EVENTS: u64 = 20_000;

fn manifest(directory: &tempfile::TempDir, broker: &Broker) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: roles}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: views, partitions: 2}}
  ingest:
  - name: made
    topic: views
    synthetic: {{count: {EVENTS}, fields: {{user: {{choice: [a, b, c]}}, at: {{now: {{}}}}}}}}
  streams:
  - name: views
    topics: [views]
    key: user
    eventTime: {{field: at, outOfOrderness: 1s}}
    fields:
    - {{name: user, type: string}}
    - {{name: at, type: timestamp}}
  tables:
  - {{name: per_user, from: views, groupBy: [user], maxGroups: 1000, select: {{views: count()}}}}
  process: {{checkpoints: {{every: 1s}}}}
",
        broker.address
    );
    let file = directory.path().join("roles.yaml");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_role_tells_whether_it_is_ready_and_what_it_counts() {
    let (broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let manifest = manifest(&directory, &broker);
    set_up(&manifest).unwrap();
    let page = free_address().unwrap();
    let mut serve = Role::start("serve", &manifest, &["--listen", &page]).unwrap();
    let mut process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut ingest = Role::start("ingest", &manifest, &["--name", "made"]).unwrap();
    for role in [&mut serve, &mut process, &mut ingest] {
        role.wait_until_ready().unwrap();
    }
    ingest.wait_for_figure("clickstream_ingest_complete{ingester=\"made\"}", |complete| complete == 1.0).unwrap();
    let all = |figure: f64| figure == EVENTS as f64;
    serve.wait_for_figure("clickstream_stream_events{outcome=\"accepted\",stream=\"views\"}", all).unwrap();
    serve.wait_for_figure("clickstream_table_events{outcome=\"counted\",table=\"per_user\"}", all).unwrap();
    serve.wait_for_figure("clickstream_ledger_unaccounted_events", |count| count == 0.0).unwrap();
    // With nothing new to write down, no checkpoint is waited for.
    for stage in ["map", "merge"] {
        let age = format!("clickstream_checkpoint_age_seconds{{epoch=\"1\",stage=\"{stage}\"}}");
        process.wait_for_figure(&age, |seconds| seconds == 0.0).unwrap();
    }

    broker.process.signal(SIGSTOP).unwrap();
    for role in [&mut process, &mut ingest] {
        role.wait_until_unready().unwrap();
    }
    broker.process.signal(SIGCONT).unwrap();
    ingest.wait_until_ready().unwrap();
    let told = ingest.end_in_order().unwrap();
    assert!(told.stderr.contains(&format!("ingester made: complete, {EVENTS} events")), "{}", told.stderr);
    serve.end_in_order().unwrap();
    // However long it could not commit: it waits, and goes on.
    process.wait_until_ready().unwrap();
    process.end_in_order().unwrap();
}
