//! Datasets from files to the log.

use std::{fs, path::Path, time::Instant};

use engine::{
    expr::{Compare, Expr},
    plan::FieldPlan,
    value::{Type, Value},
};

use super::{Feed, Format, files, pace::Pace, times::Times};
use crate::ingest::{Control, Outbox, Routes, Target, Topics, expressions::Expression, memory::MemoryLog, now};

fn field(name: &str, ty: Type) -> FieldPlan {
    FieldPlan { name: name.into(), path: vec![name.into()], ty, required: false, hashed: false }
}

fn feed(base: &Path, path: &str, format: Format) -> Feed {
    Feed {
        path: path.into(),
        files: files::list(base, path, format.extensions()).unwrap(),
        format,
        delimiter: b',',
        columns: Vec::new(),
        fields: vec![field("n", Type::Integer), field("user", Type::String), field("at", Type::Timestamp)],
        pace: Pace::Free,
        repeat: false,
        times: Times::new(Some(vec!["at".into()]), Vec::new()),
        low_field: None,
        until: None,
    }
}

fn run(feed: Feed, log: &MemoryLog, topics: &[&str]) -> Result<(), String> {
    run_routed(feed, log, topics, Routes::default())
}

fn run_routed(feed: Feed, log: &MemoryLog, topics: &[&str], routes: Routes) -> Result<(), String> {
    let target = |topic: &&str| Target { topic: (*topic).into(), key: Some(vec!["user".into()]) };
    let mut topics = Topics::new(topics.iter().map(target).collect(), routes, log);
    let ended = feed.run(&mut topics, &mut Outbox::new(Box::new(log.clone()), "dataset"), &Control::new());
    ended.map_err(|error| error.to_string())
}

fn event(n: u64) -> String {
    format!(r#"{{"n":{n},"user":"u{}","at":{}}}"#, n % 7, 1_763_700_000_000 + n * 1_000)
}

#[test]
fn a_restart_goes_on_behind_the_last_row_whatever_the_format() {
    let base = tempfile::tempdir().unwrap();
    // Several blocks, so that a commit can fail in the middle of a file.
    let count = 120_000_u64;
    let events: Vec<String> = (0..count).map(event).collect();
    let half = events.len() / 2;
    let csv = |events: std::ops::Range<u64>| {
        let row = |n: u64| format!("{n},u{},{}\n", n % 7, 1_763_700_000_000 + n * 1_000);
        "n,user,at\n".to_owned() + &events.map(row).collect::<String>()
    };
    let write = |name: &str, bytes: &[u8]| {
        fs::create_dir_all(base.path().join(name).parent().unwrap()).unwrap();
        fs::write(base.path().join(name), bytes).unwrap();
    };
    let gzip = |text: &str| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut out, text.as_bytes()).unwrap();
        out.finish().unwrap()
    };
    write("lines/a.jsonl", events[..half].join("\n").as_bytes());
    write("lines/b.jsonl.gz", &gzip(&events[half..].join("\r\n")));
    write("array/a.json", format!("[\n{}\n]", events[..half].join(",\n")).as_bytes());
    write("array/b.json.zst", &zstd::encode_all(events[half..].join(" ").as_bytes(), 1).unwrap());
    write("csv/a.csv", csv(0..half as u64).as_bytes());
    write("csv/b.csv.gz", &gzip(&csv(half as u64..count)));
    for (path, format) in [("lines", Format::JsonLines), ("array", Format::Json), ("csv", Format::Csv)] {
        let log = MemoryLog::new(3);
        for fail_at in [0, 1, 2, 3, 100] {
            log.committed.lock().unwrap().fail_at = Some(fail_at);
            let ended = run(feed(base.path(), path, format), &log, &["t"]);
            assert_eq!(ended.is_err(), fail_at < 3 || (fail_at == 3 && log.payloads().len() < events.len()), "{path}");
        }
        assert!(log.payloads() == events, "{path}: {} rows", log.payloads().len());
        let partitions = |user: u64| {
            let committed = log.committed.lock().unwrap();
            let of: std::collections::BTreeSet<u32> =
                committed.records.iter().skip(user as usize).step_by(7).map(|record| record.1).collect();
            of.len()
        };
        assert_eq!((0..7).map(partitions).max(), Some(1), "{path}");
        run(feed(base.path(), path, format), &log, &["t"]).unwrap();
        assert_eq!(log.payloads().len(), events.len(), "{path}: done is done");
    }
}

#[test]
fn rows_go_where_the_first_condition_that_holds_says() {
    let base = tempfile::tempdir().unwrap();
    let rows = ["{\"n\":1}", "{\"n\":2}", "{\"n\":\"x\"}", "not json", "{\"n\":null}", "{\"n\":3}"];
    fs::write(base.path().join("a.jsonl"), rows.join("\n")).unwrap();
    let is = |n: i64| {
        let (column, literal) = (Expr::Column(0, Type::Integer), Expr::Literal(Value::Integer(n), Type::Integer));
        Expression::new(Expr::Compare(Compare::Equal, Box::new(column), Box::new(literal)))
    };
    let feed = feed(base.path(), "a.jsonl", Format::JsonLines);
    let routes = Routes { whens: vec![is(1), is(3)], fields: vec![(vec!["n".into()], Type::Integer)] };
    let log = MemoryLog::new(1);
    run_routed(feed, &log, &["ones", "threes", "rest"], routes).unwrap();
    let topics: Vec<String> = log.committed.lock().unwrap().records.iter().map(|record| record.0.clone()).collect();
    assert_eq!(topics, ["ones", "rest", "rest", "rest", "rest", "threes"]);
}

#[test]
fn times_are_moved_so_that_each_pass_begins_now() {
    let base = tempfile::tempdir().unwrap();
    let rows = r#"{"at":"2020-01-01T00:00:00Z","until":1577840400,"n":1}
{"n":2,"at":"2020-01-01T00:00:01.5+00:00","until":null}
{"n":3,"at":"never"}"#;
    fs::write(base.path().join("a.jsonl"), rows).unwrap();
    let mut feed = feed(base.path(), "a.jsonl", Format::JsonLines);
    feed.times = Times::new(Some(vec!["at".into()]), vec![vec!["at".into()], vec!["until".into()]]);
    feed.repeat = true;
    feed.pace = Pace::Rate(100.0);
    feed.until = Some(Instant::now() + std::time::Duration::from_millis(300));
    let started = now();
    let log = MemoryLog::new(1);
    run(feed, &log, &["t"]).unwrap();
    let payloads = log.payloads();
    assert!(payloads.len() > 6, "{payloads:?}");
    for pass in payloads.chunks_exact(3) {
        let [first, second, third] = [0, 1, 2].map(|at| serde_json::from_str::<serde_json::Value>(&pass[at]).unwrap());
        let time = |value: &serde_json::Value| super::time(serde_json::to_string(value).unwrap().as_bytes()).unwrap();
        let began = time(&first["at"]);
        assert!((started..=now()).contains(&began), "{first}");
        assert_eq!(time(&first["until"]) - began, 3_600_000);
        assert_eq!((time(&second["at"]) - began, &second["until"]), (1_500, &serde_json::Value::Null));
        assert_eq!((&third["at"], &first["n"]), (&"never".into(), &1.into()));
    }
}

#[test]
fn a_dataset_that_cannot_be_read_says_which_file_and_line() {
    let base = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(base.path().join(name), text).unwrap();
    write("empty.jsonl", "\n");
    write("empty.csv", "");
    write("broken.json", "[{\"n\":1},\n{\"n\":2},\n{\"n\":");
    let check = |path: &str, format: Format, rows: usize, message: &str| {
        let log = MemoryLog::new(1);
        let error = run(feed(base.path(), path, format), &log, &["t"]).unwrap_err();
        assert_eq!((log.payloads().len(), error.as_str()), (rows, message));
    };
    check("empty.jsonl", Format::JsonLines, 0, "dataset empty.jsonl is empty; expected at least one row");
    check("empty.csv", Format::Csv, 0, "empty.csv:1: the file is empty; expected a header");
    check("broken.json", Format::Json, 2, "broken.json:3: the file ends before the array is closed by `]`");
    let log = MemoryLog::new(1);
    write("shrinks.jsonl", "{\"n\":1}\n{\"n\":2}\n");
    run(feed(base.path(), "shrinks.jsonl", Format::JsonLines), &log, &["t"]).unwrap();
    write("shrinks.jsonl", "{}\n");
    let error = run(feed(base.path(), "shrinks.jsonl", Format::JsonLines), &log, &["t"]).unwrap_err();
    assert_eq!(error, "shrinks.jsonl has 3 bytes, but 16 of them were read before the restart; was it replaced?");
    fs::rename(base.path().join("shrinks.jsonl"), base.path().join("other.jsonl")).unwrap();
    let error = run(feed(base.path(), "other.jsonl", Format::JsonLines), &log, &["t"]).unwrap_err();
    assert_eq!(error, "shrinks.jsonl was being read before the restart and is no longer there");
}
