//! Retention that overtakes processing: what it deleted is counted to the record, shown as a figure that an alert watches,
//! and nothing else is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fs, path::PathBuf};

use serde_json::Value;
use tests::{
    binary::free_address,
    kafka::{Broker, produce},
    roles::{PATIENCE, Role, SIGCONT, SIGSTOP, set_up},
};
use worker::{
    kafka::{admin::Admin, client::Cluster},
    secrets::Secrets,
};

fn manifest(directory: &tempfile::TempDir, broker: &Broker) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: expired}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: views, partitions: 2}}
  streams:
  - name: views
    topics: [views]
    key: user
    fields:
    - {{name: user, type: string}}
  tables:
  - {{name: totals, from: views, select: {{views: count()}}}}
  process: {{checkpoints: {{every: 1s}}}}
",
        broker.address
    );
    let file = directory.path().join("expired.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// Records into each of both partitions.
fn write(checked: &crds::Checked, count: usize) {
    let records: Vec<String> = (0..count).map(|at| format!("{{\"user\": \"u{}\"}}", at % 7)).collect();
    [0, 1].into_iter().for_each(|partition| produce(checked, "views", partition, &records).unwrap());
}

/// What retention does, at once.
fn delete_below(checked: &crds::Checked, partition: u32, offset: u64) {
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment()).unwrap();
    Admin::new(&cluster).unwrap().delete_below("views", partition, offset).unwrap();
}

/// Waits until the ledger says so many, and compares the figures and the rows.
fn counted(serve: &mut Role, page: &str, read: u64, expired: u64) {
    let figure = |outcome: &str| format!("clickstream_stream_events{{outcome=\"{outcome}\",stream=\"views\"}}");
    let exactly = |wanted: u64| move |found: f64| found == wanted as f64;
    serve.wait_for_figure(&figure("read"), exactly(read)).unwrap();
    serve.wait_for_figure(&figure("expired"), exactly(expired)).unwrap();
    serve.wait_for_figure(&figure("accepted"), exactly(read - expired)).unwrap();
    serve.wait_for_figure("clickstream_ledger_unaccounted_events", exactly(0)).unwrap();
    let get = || ureq::get(format!("http://{page}/api/v1/tables/totals?limit=100")).call().ok();
    let rows = || serde_json::from_str::<Value>(&get()?.into_body().read_to_string().ok()?).ok();
    let count = |rows: &Value| {
        rows["rows"].as_array().into_iter().flatten().filter_map(|row| row["views"].as_u64()).sum::<u64>()
    };
    let all = || rows().is_some_and(|rows| count(&rows) == read - expired).then_some(());
    serve.running.wait_for(PATIENCE, all).unwrap();
    println!("read {read}, expired {expired}, counted {}, unaccounted 0", read - expired);
}

#[test]
fn records_that_retention_took_first_are_counted_as_expired() {
    let (broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let manifest = manifest(&directory, &broker);
    let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
    set_up(&manifest).unwrap();
    let page = free_address().unwrap();
    let mut serve = Role::start("serve", &manifest, &["--listen", &page]).unwrap();
    let processor = || Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut process = processor();
    process.wait_until_ready().unwrap();
    write(&checked, 1_000);
    counted(&mut serve, &page, 2_000, 0);

    // While nobody processes.
    process.end_in_order().unwrap();
    write(&checked, 500);
    delete_below(&checked, 0, 1_200);
    delete_below(&checked, 1, 1_100);
    process = processor();
    counted(&mut serve, &page, 3_000, 300);

    // While the processor believes that it is at the end.
    process.wait_until_ready().unwrap();
    process.running.signal(SIGSTOP).unwrap();
    write(&checked, 500);
    delete_below(&checked, 0, 1_900);
    process.running.signal(SIGCONT).unwrap();
    counted(&mut serve, &page, 4_000, 700);
    let told = process.end_in_order().unwrap().stderr;
    assert!(told.contains("retention deleted records before they were read"), "{told}");
    serve.end_in_order().unwrap();
}
