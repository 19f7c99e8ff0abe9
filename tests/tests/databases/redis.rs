//! A real Redis.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::{
    changes::{Results, connect, prove},
    servers::Server,
};

/// What lies under a key.
struct Found {
    is_json: bool,
    live_ms: i64,
    columns: BTreeMap<String, String>,
}

fn found(port: u16) -> Vec<Found> {
    let mut connection = redis::Client::open(format!("redis://127.0.0.1:{port}/0")).unwrap().get_connection().unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("shop:*").query(&mut connection).unwrap();
    let mut all = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut connection).unwrap();
        let live_ms: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
        let is_json = kind == "string";
        let columns = if is_json {
            let text: String = redis::cmd("GET").arg(&key).query(&mut connection).unwrap();
            let row: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
            let text = |value: Value| match value {
                Value::Null => String::new(),
                Value::String(text) => text,
                other => other.to_string(),
            };
            row.into_iter().map(|(name, value)| (name, text(value))).collect()
        } else {
            redis::cmd("HGETALL").arg(&key).query(&mut connection).unwrap()
        };
        all.push(Found { is_json, live_ms, columns });
    }
    all
}

fn rows(port: u16) -> Vec<BTreeMap<String, String>> {
    let mut rows = Vec::new();
    for Found { columns: mut row, .. } in found(port) {
        if row.contains_key("_deleted") {
            continue;
        }
        let version = row.remove("_version").unwrap();
        row.insert("version".into(), version);
        row.retain(|name, _| !["_epoch", "window_end"].contains(&name.as_str()));
        rows.push(row);
    }
    rows.sort();
    rows
}

/// Rows live as long as the manifest says, deletions for a day.
fn all_end(port: u16, is_json: bool) {
    const HOUR: i64 = 3_600_000;
    let all = found(port);
    assert!(all.iter().any(|one| one.columns.contains_key("_deleted")), "nothing was deleted");
    for Found { is_json: kind, live_ms, columns } in all {
        let most = if columns.contains_key("_deleted") { 24 * HOUR } else { HOUR };
        assert_eq!(kind, is_json, "{columns:?}");
        assert!((most - HOUR / 2..=most).contains(&live_ms), "{live_ms} ms: {columns:?}");
    }
}

#[test]
fn rows_are_those_of_the_tables_however_often_they_are_written() {
    let server = Server::redis();
    let results = Results::new();
    prove(&results, "redis", server.secrets.path(), &|| rows(server.port));
}

#[test]
fn rows_end_where_the_manifest_says_when() {
    let server = Server::redis();
    prove(&Results::new(), "redis-brief", server.secrets.path(), &|| rows(server.port));
    all_end(server.port, false);
}

#[test]
fn rows_as_json_are_the_same_also_where_hashes_were_before() {
    let server = Server::redis();
    let (results, secrets) = (Results::new(), server.secrets.path().to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut before = connect(&results, "redis", &secrets).await;
        before.write(&results.changes("redis", 0..100)).await.unwrap();
    });
    prove(&results, "redis-json", &secrets, &|| rows(server.port));
    all_end(server.port, true);
    // Whoever still writes hashes is older.
    runtime.block_on(async {
        let mut late = connect(&results, "redis", &secrets).await;
        late.write(&results.changes("redis", 0..150)).await.unwrap();
    });
    assert_eq!(rows(server.port), results.expected());
    all_end(server.port, true);
}

#[test]
fn a_server_that_was_away_is_used_again() {
    let mut server = Server::redis();
    let results = Results::new();
    let secrets = server.secrets.path().to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut database = runtime.block_on(connect(&results, "redis", &secrets));
    server.kill();
    runtime.block_on(async {
        database.write(&results.changes("redis", 0..100)).await.unwrap_err();
        assert!(results.connector("redis", &secrets).connect().await.is_err(), "nobody is there");
    });
    server.restart();
    runtime.block_on(async {
        let mut database = connect(&results, "redis", &secrets).await;
        database.write(&results.changes("redis", 0..results.len())).await.unwrap();
    });
    assert_eq!(rows(server.port), results.expected());
}
