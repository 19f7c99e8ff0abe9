//! What goes wrong with data, directories, ports and disks: said clearly, nothing lost, nothing damaged. By the built program.

use std::{collections::BTreeMap, fs, net::TcpListener, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value as Json, json};
use tests::{
    bench::product,
    binary::{self, Ended, clickstream, free_address, root},
};

const PATIENCE: Duration = Duration::from_secs(300);

/// A folder with the manifest `kill.yaml`, which reads `events.jsonl` beside it.
fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    fs::copy(root().join("tests/manifests/kill.yaml"), folder.path().join("kill.yaml"))?;
    Ok(folder)
}

fn command(folder: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = clickstream()?;
    command.current_dir(folder).args(arguments);
    Ok(command)
}

fn run(folder: &Path, manifest: &str, data_dir: &str) -> Result<Ended> {
    let address = free_address()?;
    let arguments = ["run", manifest, "--until-done", "--data-dir", data_dir, "--listen", &address];
    binary::run(command(folder, &arguments)?, PATIENCE)
}

/// The rows that a command prints as JSON lines.
fn lines(folder: &Path, arguments: &[&str]) -> Result<Vec<Json>> {
    let ended = binary::run(command(folder, arguments)?, PATIENCE)?;
    ensure!(ended.status.success(), "{arguments:?} failed: {}", ended.stderr);
    ended.stdout.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[track_caller]
fn told(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "{part:?} is not in: {}", ended.stderr);
    }
}

/// An event that is as it should be, but for some fields; null takes a field away.
fn event(id: &str, changes: &[(&str, Json)]) -> Vec<u8> {
    let mut event = json!({
        "event_id": id, "user_id": "u", "product_id": "p", "event_type": "view",
        "timestamp": "2026-01-01T00:00:30Z", "product_category": "Home", "price": 1.5,
    });
    let fields = event.as_object_mut().expect("it is an object");
    for (name, value) in changes {
        match value {
            Json::Null => drop(fields.remove(*name)),
            value => drop(fields.insert((*name).to_owned(), value.clone())),
        }
    }
    event.to_string().into_bytes()
}

#[test]
fn bad_records_are_kept_with_reason_and_position_and_the_stream_goes_on() -> Result<()> {
    let price = |text: &str| String::from_utf8_lossy(&event("n", &[])).replace("1.5", text).into_bytes();
    let nested = [b"{\"a\":".repeat(10_000), b"1".to_vec(), b"}".repeat(10_000)].concat();
    let bad: [(&str, Vec<u8>); 15] = [
        ("not-json", b"not json".to_vec()),
        ("not-json", b"{\"event_id\":\"cut".to_vec()),
        ("not-json", price("NaN")),
        ("not-an-object", b"[]".to_vec()),
        ("not-an-object", b"null".to_vec()),
        ("not-utf8", b"{\"event_id\":\"\xff\xfe\"}".to_vec()),
        ("wrong-type", event("n", &[("price", json!("abc"))])),
        ("wrong-type", event("n", &[("timestamp", json!("9999-12-31T23:59:59Z"))])),
        ("missing-field", event("n", &[("user_id", Json::Null)])),
        ("too-large", event(&"x".repeat(10_000_000), &[])),
        ("too-deep", nested),
        ("number-out-of-range", price("1e400")),
        ("time-out-of-range", event("n", &[("timestamp", json!(-5))])),
        ("known-type", event("n", &[("event_type", json!("nope"))])),
        ("price-not-negative", event("n", &[("price", json!(-1))])),
    ];
    let folder = folder()?;
    let folder = folder.path();
    let mut file = event("first", &[]);
    for (_, record) in &bad {
        file.push(b'\n');
        file.extend_from_slice(record);
    }
    file.push(b'\n');
    file.extend_from_slice(&event("last", &[]));
    fs::write(folder.join("events.jsonl"), file)?;
    let ended = run(folder, "kill.yaml", "data")?;
    told(&ended, 0, &["accepted 2", &format!("invalid {}", bad.len()), "unaccounted 0"]);

    let mut expected = BTreeMap::new();
    bad.iter().for_each(|(reason, _)| *expected.entry((*reason).to_owned()).or_insert(0) += 1);
    let mut found = BTreeMap::new();
    for letter in lines(folder, &["dead-letters", "list", "--data-dir", "data", "--format", "jsonl"])? {
        ensure!(letter["source"].as_str().is_some_and(|source| source.starts_with("events/")), "{letter}");
        ensure!(letter["offset"].is_u64() && !letter["detail"].as_str().unwrap_or_default().is_empty(), "{letter}");
        *found.entry(letter["reason"].as_str().context("a reason")?.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(found, expected);
    Ok(())
}

#[test]
fn a_directory_of_another_pipeline_is_left_alone() -> Result<()> {
    let folder = folder()?;
    let folder = folder.path();
    fs::write(folder.join("events.jsonl"), event("first", &[]))?;
    told(&run(folder, "kill.yaml", "data")?, 0, &["accepted 1"]);
    let query = ["query", "--data-dir", "data", "--format", "jsonl", "product_minutes"];
    let before = lines(folder, &query)?;

    let manifest = fs::read_to_string(folder.join("kill.yaml"))?;
    fs::write(folder.join("other.yaml"), manifest.replace("name: kill", "name: other"))?;
    told(&run(folder, "other.yaml", "data")?, 2, &["holds pipeline `kill`", "--data-dir"]);
    fs::write(folder.join("changed.yaml"), manifest.replace("size: 2m", "size: 4m"))?;
    told(&run(folder, "changed.yaml", "data")?, 2, &["another version of the manifest", "--data-dir"]);
    assert_eq!(lines(folder, &query)?, before);
    Ok(())
}

#[test]
fn what_cannot_be_used_is_named_with_the_way_out() -> Result<()> {
    let folder = folder()?;
    let folder = folder.path();
    told(&run(folder, "absent.yaml", "data")?, 2, &["there is no manifest absent.yaml"]);
    told(&run(folder, "kill.yaml", "data")?, 1, &["failed to open events.jsonl"]);
    fs::write(folder.join("events.jsonl"), event("first", &[]))?;
    fs::write(folder.join("file"), "")?;
    told(&run(folder, "kill.yaml", "file")?, 1, &["data directory file", "--data-dir"]);

    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let arguments = ["run", "kill.yaml", "--until-done", "--listen", &address];
    told(&binary::run(command(folder, &arguments)?, PATIENCE)?, 1, &[&address, "--listen"]);

    fs::write(folder.join("bad.yaml"), fs::read(root().join("crds/tests/bad/ten-mistakes.yaml"))?)?;
    for verb in ["validate", "run", "plan"] {
        let ended = binary::run(command(folder, &[verb, "bad.yaml"])?, PATIENCE)?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!((ended.status.code(), said.matches("spec.").count() >= 10), (Some(2), true), "{said}");
    }
    Ok(())
}

/// A file-size limit stands for the full disk: writes fail in the middle of the run, for any user and without a mount.
#[test]
fn a_full_disk_stops_the_run_and_loses_nothing() -> Result<()> {
    let folder = folder()?;
    let folder = folder.path();
    product::write_events(&folder.join("events.jsonl"), 1_000_000)?;
    let program = clickstream()?.get_program().to_str().context("a path in UTF-8")?.to_owned();
    for kib_max in [8_000, 66_000] {
        let mut limited = Command::new("sh");
        let script = format!(
            "trap '' XFSZ; ulimit -f {}; exec '{program}' run kill.yaml --until-done --data-dir data --listen {}",
            kib_max * 2,
            free_address()?
        );
        limited.current_dir(folder).args(["-c", &script]);
        told(&binary::run(limited, PATIENCE)?, 1, &["error: failed to"]);
    }
    told(&run(folder, "kill.yaml", "data")?, 0, &["read 1000000", "unaccounted 0"]);
    told(&run(folder, "kill.yaml", "calm")?, 0, &["read 1000000", "unaccounted 0"]);
    for (table, columns) in [
        ("product_minutes", "window_start, product_id, views, purchases, revenue, conversion"),
        ("category_trend", "window_start, product_category, events, users, best"),
        ("totals", "event_type, events, revenue"),
        ("purchase_funnel", "*"),
    ] {
        let rows = |data_dir: &str| -> Result<Vec<Json>> {
            let sql = format!("select {columns} from {table} order by 1, 2, 3");
            let mut rows =
                lines(folder, &["query", "--data-dir", data_dir, "--limit", "0", "--format", "jsonl", "--sql", &sql])?;
            rows.iter_mut().for_each(|row| drop(row.as_object_mut().and_then(|row| row.remove("version"))));
            Ok(rows)
        };
        let (disturbed, calm) = (rows("data")?, rows("calm")?);
        ensure!(!calm.is_empty() && disturbed == calm, "{table}: {} rows, not {}", disturbed.len(), calm.len());
    }
    Ok(())
}
