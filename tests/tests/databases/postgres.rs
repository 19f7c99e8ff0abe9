//! A real PostgreSQL.

use std::collections::BTreeMap;

use tokio_postgres::NoTls;

use tests::{
    changes::{Results, connect, prove},
    roles::wait,
    servers::Server,
};
use worker::sink::row::{Change, Key, Version};

/// Asks for one text a row.
fn ask(port: u16, sql: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    })
}

fn rows(port: u16) -> Vec<BTreeMap<String, String>> {
    let sql = "select jsonb_build_object('window_start', to_char(window_start at time zone 'utc', \
               'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), 'category', category, 'revenue', revenue::text, 'orders', orders, \
               'top', replace(top::text, ', ', ','), 'final', final, 'version', _version)::text from shop.sales";
    let mut rows: Vec<_> =
        ask(port, sql).iter().map(|row| tests::changes::texts(&serde_json::from_str(row).unwrap())).collect();
    rows.sort();
    rows
}

/// PostgreSQL has no zero character: it stands as U+FFFD there.
fn without_zero(rows: Vec<BTreeMap<String, String>>) -> Vec<BTreeMap<String, String>> {
    let mut rows: Vec<BTreeMap<String, String>> = rows
        .into_iter()
        .map(|row| row.into_iter().map(|(name, text)| (name, text.replace('\u{fffd}', "\0"))).collect())
        .collect();
    for row in &mut rows {
        if let Some(top) = row.get_mut("top") {
            *top = top.replace('\0', "\\u0000");
        }
    }
    rows.sort();
    rows
}

#[test]
fn rows_are_those_of_the_tables_however_often_they_are_written() {
    let server = Server::postgres();
    let results = Results::new();
    prove(&results, "postgres", server.secrets.path(), &|| without_zero(rows(server.port)));
}

#[test]
fn a_server_that_was_away_is_used_again_and_a_column_that_came_is_added() {
    let mut server = Server::postgres();
    let results = Results::new();
    let secrets = server.secrets.path().to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut database = runtime.block_on(async {
        let mut database = connect(&results, "postgres", &secrets).await;
        database.write(&results.changes("postgres", 0..100)).await.unwrap();
        database
    });
    server.kill();
    runtime.block_on(async {
        // The server's child that we are connected to may outlive it for a moment, and still take a batch.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while database.write(&results.changes("postgres", 100..200)).await.is_ok() {
            assert!(std::time::Instant::now() < deadline, "a killed server takes what is written");
        }
        let refused = results.connector("postgres", &secrets).connect().await;
        assert!(refused.is_err(), "nobody is there");
    });
    server.restart();
    let connector = results.connector("postgres", &secrets);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut database = loop {
        match runtime.block_on(connector.connect()) {
            Ok(database) => break database,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error:#}"),
        }
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    };
    ask(server.port, "alter table shop.sales drop column orders");
    drop(std::mem::replace(&mut database, runtime.block_on(connector.connect()).unwrap()));
    runtime.block_on(database.write(&results.changes("postgres", 0..results.len()))).unwrap();
    let found: BTreeMap<String, String> =
        rows(server.port).into_iter().map(|row| (format!("{row:?}"), row["orders"].clone())).collect();
    assert_eq!(found.len(), results.expected().len());
    assert!(found.values().any(|orders| !orders.is_empty()), "{found:?}");
}

#[test]
fn an_event_is_added_once() {
    let server = Server::postgres();
    let results = Results::new();
    let mut reader = results.reader("audit");
    let mut event = |offset: u64| {
        let mut record = Vec::new();
        engine::codec::put_bytes(b"raw", &mut record);
        engine::codec::put_u64(0, &mut record);
        engine::codec::put_u64(offset, &mut record);
        engine::codec::put_i64(0, &mut record);
        engine::codec::put_bytes(b"", &mut record);
        record.extend_from_slice(
            br#"{"at":"2026-01-01T00:00:00.5Z","category":"x","price":12345678901234567890.123456789}"#,
        );
        reader.event("events", offset, &record).unwrap().unwrap()
    };
    let events: Vec<_> = (0..10).map(&mut event).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut database = connect(&results, "audit", server.secrets.path()).await;
        database.write(&events[..6]).await.unwrap();
        database.write(&events[3..]).await.unwrap();
        database.write(&events).await.unwrap();
    });
    let sql = "select _topic || ' ' || _partition || ' ' || _offset || ' ' || price from shop.audit order by _offset";
    let found = ask(server.port, sql);
    assert_eq!(found.len(), 10, "{found:?}");
    assert_eq!(found[9], "raw 0 9 12345678901234567890.123456789");
}

#[test]
fn rows_that_only_this_server_minds_are_written() {
    let server = Server::postgres();
    let results = Results::new();
    let all = results.changes("postgres", 0..results.len());
    let row = all.into_iter().find(|change| matches!(change.key, Key::Row { .. })).unwrap();
    let of = |id: &str, category: String| {
        let columns = row.columns.iter().map(|(name, literal)| match name.as_str() {
            "category" => (name.clone(), format!("\"{category}\"")),
            _ => (name.clone(), literal.clone()),
        });
        let version = Version { epoch: 1, offset: 7 };
        Change { key: Key::Row { id: id.into(), version }, columns: columns.collect(), ..row.clone() }
    };
    // Longer than an entry of an index may be, and nothing that compression makes shorter.
    let long: String = (0_u64..400)
        .map(|at| format!("{:016x}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(at as u32)))
        .collect();
    let changes = [of("a\0", "\\u0000".into()), of("a\u{fffd}", "\u{fffd}".into()), of("long", long.clone())];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut database = connect(&results, "postgres", server.secrets.path()).await;
        database.write(&changes).await.unwrap();
        database.write(&changes).await.unwrap();
    });
    let found = ask(server.port, "select _key || ' ' || length(category) from shop.sales order by _key");
    assert_eq!(found, ["a\u{fffd} 1".to_owned(), format!("long {}", long.len())]);
}

#[test]
fn a_write_that_waits_in_vain_leaves_nothing_behind() {
    let server = Server::postgres();
    let results = Results::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let refused = runtime.block_on(async {
        let mut database = connect(&results, "postgres", server.secrets.path()).await;
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
        let (mut holder, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let held = holder.transaction().await.unwrap();
        held.batch_execute("lock table shop.sales in exclusive mode").await.unwrap();
        database.write(&results.changes("postgres", 0..10)).await.unwrap_err()
    });
    println!("{refused:#}");
    let waits =
        "select pid::text from pg_stat_activity where application_name = 'clickstream' and wait_event_type = 'Lock'";
    wait("nobody waits at the server", || ask(server.port, waits), Vec::is_empty);
}
