//! Looking into a fleet from the command line, and repairing what it refused: over Kafka itself, and over `serve`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tests::{
    binary::{clickstream, free_address, run},
    kafka::Broker,
    roles::{PATIENCE, Role, set_up},
};

const ROWS: &str = "{\"user\":\"a\",\"price\":1,\"at\":1763700000}\n{\"user\":\"b\",\"price\":\"two\",\"at\":1763700000}\n\
                    {\"user\":\"a\",\"price\":3,\"at\":1763700000}\nnot json\n";

fn manifest(directory: &Path, broker: &Broker) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: look}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: sales, partitions: 2}}
  ingest:
  - {{name: rows, topic: sales, dataset: {{path: rows.jsonl}}}}
  streams:
  - name: sales
    topics: [sales]
    key: user
    eventTime: {{field: at, outOfOrderness: 1m}}
    fields:
    - {{name: at, type: timestamp}}
    - {{name: user, type: string, required: true}}
    - {{name: price, type: integer, required: true}}
  tables:
  - {{name: totals, from: sales, groupBy: [user], maxGroups: 1000, select: {{total: sum(price)}}}}
  sinks:
  - {{name: lines, streams: [sales], console: {{}}}}
",
        broker.address
    );
    let file = directory.join("look.yaml");
    fs::write(&file, text).unwrap();
    fs::write(directory.join("rows.jsonl"), ROWS).unwrap();
    file
}

/// What a command says; it must succeed.
fn says(arguments: &[&str]) -> String {
    let mut command = clickstream().unwrap();
    command.args(arguments);
    let ended = run(command, PATIENCE).unwrap();
    assert!(ended.status.success(), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

fn letters(at: &[&str]) -> Vec<Value> {
    let list = [&["dead-letters", "list", "--format", "jsonl"], at].concat();
    says(&list).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_fleet_can_be_looked_into_and_repaired() {
    let (broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let file = manifest(directory.path(), &broker);
    set_up(&file).unwrap();
    let file = file.to_str().unwrap();
    let page = free_address().unwrap();
    let url = format!("http://{page}");
    let mut serve = Role::start("serve", Path::new(file), &["--listen", &page]).unwrap();
    let mut process = Role::start("process", Path::new(file), &["--threads", "1"]).unwrap();
    process.wait_until_ready().unwrap();
    let ingest = Role::start("ingest", Path::new(file), &["--name", "rows", "--until-done"]).unwrap();
    let ended = ingest.running.wait(PATIENCE).unwrap();
    assert!(ended.status.success() && ended.stderr.contains("complete, 4 events"), "{}", ended.stderr);
    let read = "clickstream_stream_events{outcome=\"read\",stream=\"sales\"}";
    serve.wait_for_figure(read, |events| events == 4.0).unwrap();

    // The same from Kafka and from `serve`.
    let (kafka, served) = (["--manifest", file], ["--url", &url]);
    for at in [&kafka[..], &served] {
        let mut raw: Vec<String> =
            says(&[&["tail", "sales", "--raw"], at].concat()).lines().map(String::from).collect();
        let mut expected: Vec<&str> = ROWS.lines().collect();
        raw.sort_unstable();
        expected.sort_unstable();
        assert_eq!(raw, expected);
        let accepted = says(&[&["tail", "look.silver.sales", "--raw"], at].concat());
        assert_eq!(accepted.lines().count(), 2, "{accepted}");
        let refused = says(&[&["tail", "dead-letters"], at].concat());
        assert!(refused.contains("wrong-type") && refused.contains("not-json"), "{refused}");
        assert!(says(&[&["tail", "results", "--raw"], at].concat()).contains("\"totals\""));
        let found = letters(at);
        assert_eq!(found.len(), 2, "{found:?}");
        let id = found.iter().find(|letter| letter["reason"] == "not-json").unwrap()["id"].as_str().unwrap();
        assert_eq!(says(&[&["dead-letters", "show", id, "--raw"], at].concat()), "not json");
    }

    let repair = ["dead-letters", "replay", "--reason", "wrong-type", "--set", "price=2"];
    assert!(says(&[&repair[..], &kafka, &["--dry-run"]].concat()).contains('1'));
    let repaired = says(&[&repair[..], &kafka].concat());
    assert!(repaired.contains("1 repaired"), "{repaired}");
    // It is marked: neither way repairs it again.
    for at in [&kafka[..], &served] {
        let again = says(&[&repair[..], at].concat());
        assert!(again.contains("0 repaired"), "{again}");
        assert_eq!(letters(at).iter().filter(|letter| letter["replayed"] == true).count(), 1);
    }
    let unreadable = letters(&kafka).into_iter().find(|letter| letter["reason"] == "not-json").unwrap();
    let whole = [
        "dead-letters",
        "replay",
        unreadable["id"].as_str().unwrap(),
        "--json",
        "{\"user\":\"b\",\"price\":5,\"at\":1763700000}",
    ];
    assert!(says(&[&whole[..], &served].concat()).contains("1 repaired"));
    serve.wait_for_figure(read, |events| events == 6.0).unwrap();
    let totals = || says(&["query", "totals", "--url", &url, "--order", "user", "--format", "jsonl"]);
    let is_right = || {
        let totals: Vec<Value> = totals().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let total = |at: usize| totals.get(at).map(|row| row["total"].to_string());
        (total(0) == Some("4".into()) && total(1) == Some("7".into())).then_some(())
    };
    serve.running.wait_for(PATIENCE, is_right).unwrap_or_else(|error| panic!("{error}: {}", totals()));

    let overview: Value = serde_json::from_str(&says(&["topics", "--manifest", file, "--format", "json"])).unwrap();
    let sales: Vec<&Value> =
        overview["partitions"].as_array().unwrap().iter().filter(|at| at["topic"] == "sales").collect();
    assert_eq!(sales.len(), 2, "{overview}");
    for at in sales {
        let group = &at["groups"][0];
        assert_eq!(group["group"], "look.process", "{overview}");
        assert!(group["owner"].as_str().unwrap().contains("look.process."), "{overview}");
    }
    let table = says(&["topics", "--manifest", file]);
    assert!(table.lines().next().unwrap().starts_with("topic") && table.contains("look.results"), "{table}");
    [serve, process].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}
