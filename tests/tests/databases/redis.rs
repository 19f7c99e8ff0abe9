//! A real Redis.

use std::collections::BTreeMap;

use tests::{
    changes::{Results, connect, prove},
    servers::Server,
};

fn rows(port: u16) -> Vec<BTreeMap<String, String>> {
    let mut connection = redis::Client::open(format!("redis://127.0.0.1:{port}/0")).unwrap().get_connection().unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("shop:*").query(&mut connection).unwrap();
    let mut rows = Vec::new();
    for key in keys {
        let mut row: BTreeMap<String, String> = redis::cmd("HGETALL").arg(&key).query(&mut connection).unwrap();
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

#[test]
fn rows_are_those_of_the_tables_however_often_they_are_written() {
    let server = Server::redis();
    let results = Results::new();
    prove(&results, "redis", server.secrets.path(), &|| rows(server.port));
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
