//! A manifest that changes under a running fleet, over a real Kafka: the changed table is rebuilt from what its topic still
//! holds and shown once it has caught up, in the API and in PostgreSQL, where old rows that are no more go; the others go on
//! with all they know, also of what retention has deleted since. What a topic holds no longer, the archive of a sink still has.
//!
//! Needs Java and Maven (`tests/run` installs them); `tests/kafka/fetch` gets the broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crds::Checked;
use engine::decimal::Decimal;
use serde_json::Value;
use tests::{
    binary::{Ended, Running, free_address, root, run},
    kafka::{Broker, raw_records},
    reference::{Input, cell::Cell, reference},
    roles::{PATIENCE, Role, UNASKED, get, role, wait},
    servers::Server,
};
use worker::{
    kafka::{admin::Admin, client::Cluster},
    secrets::Secrets,
};

/// Events before the change and after it, and how many a second.
const BEFORE: u64 = 30_000;
const AFTER: u64 = 30_000;
const RATE: u64 = 10_000;

/// A second table, whose totals outlive the records that they were made from.
const TOTALS: &str = "  - name: totals\n    from: sales\n    groupBy: [category]\n    maxGroups: 100\n    select: {total_sales: sum(amount), \
                      transaction_count: count()}\n  process:\n";

/// The change: other sales count.
const CHANGE: (&str, &str) =
    ("    window: {tumbling: 1m}", "    where: amount > 250 and category <> 'Home'\n    window: {tumbling: 1m}");

/// Beside it the topic grows, which rebuilds nothing.
const GROWTH: (&str, &str) = ("    partitions: 4", "    partitions: 6");

/// Where both tables go.
const SINK: &str = "  sinks:\n  - name: postgres\n    tables: [category_sales, totals]\n    \
                    postgres: {connectionSecret: postgres, schema: public}\n";

/// Where raw records are kept.
fn archive(directory: &Path) -> String {
    let path = directory.join("bronze");
    format!("  - {{name: bronze, topics: [transactions], parquet: {{path: '{}', rollEvery: 1s}}}}\n", path.display())
}

fn manifest(directory: &Path, broker: &Broker, name: &str, count: u64, change: bool) -> PathBuf {
    let text = fs::read_to_string(root().join("examples/category-sales.yaml")).unwrap();
    let (text, _) = text.split_once("  sinks:\n").unwrap();
    let text = text.replace("kafka-bootstrap:9092", &broker.address);
    let text = text.replace("eventsPerSecond: 1000", &format!("eventsPerSecond: {RATE}\n      count: {count}"));
    let text = text.replace("  process:\n", TOTALS);
    let text = text + SINK + &archive(directory);
    let text = if change { text.replace(CHANGE.0, CHANGE.1).replace(GROWTH.0, GROWTH.1) } else { text };
    assert!(text.contains(&broker.address) && text.contains("totals"), "the example has changed");
    assert_eq!(text.contains("amount > 250"), change, "the example has changed");
    let file = directory.join(name);
    fs::write(&file, text).unwrap();
    file
}

fn checked(manifest: &Path) -> Checked {
    crds::check(&fs::read_to_string(manifest).unwrap(), &[]).unwrap()
}

/// Rows by window and category: sum in units of 10⁻⁹, count.
type Rows = BTreeMap<(String, String), (i128, i64)>;

fn served(address: &str, table: &str) -> Rows {
    let answer = get(address, &format!("/api/v1/tables/{table}?limit=10000")).unwrap();
    let rows = answer["rows"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let row = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let total = Decimal::parse(row["total_sales"].to_string().as_bytes()).unwrap();
        ((text("window_start"), text("category")), (total.0, row["transaction_count"].as_i64().unwrap()))
    };
    rows.iter().map(row).collect()
}

/// What a table should hold after `input`.
fn expected(checked: &Checked, table: &str, input: &Input) -> Rows {
    let answer = reference(&checked.plan, &Vec::new(), input);
    let mut rows = Rows::new();
    for ((of, start, group), (_, values)) in &answer.rows {
        let [Cell::Decimal(total), Cell::Integer(count)] = values[..] else {
            panic!("another kind of row: {values:?}")
        };
        if of == table {
            let start = start.map(engine::time::rfc3339).unwrap_or_default();
            rows.insert((start, group[0].text().unwrap().to_owned()), (total, count));
        }
    }
    rows
}

fn start(name: &str, manifest: &Path, more: &[&str]) -> Role {
    let mut role = Role::start(name, manifest, more).unwrap();
    role.wait_until_ready().unwrap();
    role
}

/// The sink, with its secret in a variable.
fn start_sink(manifest: &Path, store: &Server) -> Role {
    let health = free_address().unwrap();
    let mut command = role("sink", manifest, &["--name", "postgres", "--health-listen", &health]).unwrap();
    command
        .env("CLICKSTREAM_SECRET_POSTGRES_URL", fs::read_to_string(store.secrets.path().join("server/url")).unwrap());
    let mut sink = Role { running: Running::start(command).unwrap(), health };
    sink.wait_until_ready().unwrap();
    sink
}

/// Rows as they are in PostgreSQL.
fn stored(store: &Server, table: &str) -> Rows {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", store.port);
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let start = match table {
            "totals" => "''",
            _ => r#"to_char(window_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"#,
        };
        let asked = format!("select {start}, category, total_sales::text, transaction_count from {table}");
        let rows = client.query(&asked, &[]).await.unwrap();
        connection.abort();
        let total = |text: &str| Decimal::parse(text.as_bytes()).unwrap().0;
        rows.iter().map(|row| ((row.get(0), row.get(1)), (total(row.get(2)), row.get(3)))).collect()
    })
}

fn wait_until_stored(sink: &mut Role, store: &Server, table: &str, expected: &Rows) {
    let equal = sink.running.wait_for(PATIENCE, || (stored(store, table) == *expected).then_some(()));
    assert!(equal.is_ok(), "{table}: stored {:?}, the reference says {expected:?}", stored(store, table));
}

fn ingest(manifest: &Path) {
    let more = [&["--name", "checkout", "--until-done"], &UNASKED[..]].concat();
    let ended = run(role("ingest", manifest, &more).unwrap(), PATIENCE).unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
}

fn set_up(manifest: &Path, more: &[&str]) -> String {
    let ended = run(role("setup", manifest, more).unwrap(), PATIENCE).unwrap();
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    ended.stdout
}

fn replay(manifest: &Path, more: &[&str]) -> String {
    let ended = run(role("replay", manifest, more).unwrap(), PATIENCE).unwrap();
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// Waits until a table holds what it should.
fn wait_for_rows(serve: &mut Role, page: &str, table: &str, expected: &Rows) {
    let equal = serve.running.wait_for(PATIENCE, || (served(page, table) == *expected).then_some(()));
    assert!(equal.is_ok(), "{table}: served {:?}, the reference says {expected:?}", served(page, table));
}

/// The epoch that a table shows.
fn epoch(page: &str, table: &str) -> Option<u64> {
    let tables = get(page, "/api/v1/tables")?;
    let listed = tables["tables"].as_array()?.iter().find(|listed| listed["name"] == table)?;
    listed["epoch"].as_u64()
}

/// Deletes the older half of every raw partition, as retention would.
fn delete_half(checked: &Checked, input: &Input) {
    let admin = Admin::new(&Cluster::of(&checked.manifest.spec, &Secrets::from_environment()).unwrap()).unwrap();
    for (source, records) in input {
        let offset = records[records.len() / 2].offset;
        admin.delete_below(&checked.plan.topics[source.topic as usize].name, source.partition, offset).unwrap();
    }
}

#[test]
fn a_changed_table_is_rebuilt_and_the_others_go_on() {
    let (broker, store) = (Broker::start().unwrap(), Server::postgres());
    let directory = tempfile::tempdir().unwrap();
    let old = manifest(directory.path(), &broker, "old.yaml", BEFORE, false);
    let new = manifest(directory.path(), &broker, "new.yaml", BEFORE + AFTER, true);
    let (before, after) = (checked(&old), checked(&new));
    let refused = run(role("process", &old, &UNASKED).unwrap(), PATIENCE).unwrap();
    assert!(!refused.status.success() && refused.stderr.contains("clickstream setup"), "{}", refused.stderr);
    set_up(&old, &[]);
    let page = free_address().unwrap();
    let (process, mut serve) =
        (start("process", &old, &["--threads", "1"]), start("serve", &old, &["--listen", &page]));
    let mut sink = start_sink(&old, &store);
    ingest(&old);
    let first = raw_records(&before).unwrap();
    for table in ["category_sales", "totals"] {
        wait_for_rows(&mut serve, &page, table, &expected(&before, table, &first));
        wait_until_stored(&mut sink, &store, table, &expected(&before, table, &first));
    }
    let old_rows = served(&page, "category_sales");
    delete_half(&before, &first);

    let refused = run(role("process", &new, &UNASKED).unwrap(), PATIENCE).unwrap();
    let told = "category_sales: rebuilt as epoch 2";
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    process.end_in_order().unwrap();
    for more in [&["--dry-run"][..], &[]] {
        let said = set_up(&new, more);
        assert!(said.contains(told) && said.contains("sales, totals: go on under their epoch"), "{said}");
    }
    assert!(set_up(&new, &[]).contains("as they should be"), "a second time changes nothing");
    // Who serves shows the old tables until the new ones are there.
    serve.end_in_order().unwrap();
    sink.end_in_order().unwrap();
    let mut serve = start("serve", &new, &["--listen", &page]);
    let mut sink = start_sink(&new, &store);
    assert_eq!((epoch(&page, "category_sales"), served(&page, "category_sales")), (Some(1), old_rows));
    let process = start("process", &new, &["--threads", "1"]);
    serve.running.wait_for(PATIENCE, || (epoch(&page, "category_sales") == Some(2)).then_some(())).unwrap();
    let kept = raw_records(&after).unwrap();
    wait_for_rows(&mut serve, &page, "category_sales", &expected(&after, "category_sales", &kept));
    wait_for_rows(&mut serve, &page, "totals", &expected(&before, "totals", &first));
    assert_eq!(epoch(&page, "totals"), Some(1));
    let rows = expected(&after, "category_sales", &kept);
    assert!(!rows.keys().any(|(_, category)| category == "Home"));
    wait_until_stored(&mut sink, &store, "category_sales", &rows);

    ingest(&new);
    let kept = raw_records(&after).unwrap();
    assert_eq!(kept.values().filter(|records| !records.is_empty()).count(), 6, "the new partitions take part");
    let mut whole = kept.clone();
    for (source, records) in &first {
        let gone = records.iter().filter(|record| record.offset < kept[source][0].offset).cloned();
        whole.entry(*source).and_modify(|all| *all = gone.chain(all.drain(..)).collect());
    }
    assert!(whole.values().map(Vec::len).sum::<usize>() as u64 == BEFORE + AFTER && whole != kept);
    wait_for_rows(&mut serve, &page, "category_sales", &expected(&after, "category_sales", &kept));
    wait_for_rows(&mut serve, &page, "totals", &expected(&after, "totals", &whole));
    wait_until_stored(&mut sink, &store, "category_sales", &expected(&after, "category_sales", &kept));
    wait_until_stored(&mut sink, &store, "totals", &expected(&after, "totals", &whole));
    let ledger = get(&page, "/api/v1/ledger").unwrap();
    assert_eq!((&ledger["unaccounted"], &ledger["streams"][0]["read"]), (&0.into(), &(BEFORE + AFTER).into()));

    // Computed again by what runs, beside the live tables: what was rebuilt is the same, what outlived its records is not.
    let said = replay(&new, &["--table", "totals"]);
    assert!(said.contains("totals: 0 rows equal, 6 changed, 0 gone, 0 new"), "{said}");
    assert!(replay(&new, &["--abandon"]).contains("go on as they were"));
    let said = replay(&new, &["--table", "category_sales", "--switch"]);
    let rows = expected(&after, "category_sales", &kept);
    assert!(said.contains(&format!("category_sales: {} rows equal, 0 changed, 0 gone, 0 new", rows.len())), "{said}");
    serve.running.wait_for(PATIENCE, || (epoch(&page, "category_sales") == Some(4)).then_some(())).unwrap();
    for (table, rows) in [("category_sales", &rows), ("totals", &expected(&after, "totals", &whole))] {
        wait_for_rows(&mut serve, &page, table, rows);
        wait_until_stored(&mut sink, &store, table, rows);
    }
    [process, serve, sink].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

/// Deletes everything that lies in the raw topics, as retention would.
fn delete_all(checked: &Checked, input: &Input) {
    let admin = Admin::new(&Cluster::of(&checked.manifest.spec, &Secrets::from_environment()).unwrap()).unwrap();
    for (source, records) in input.iter().filter(|(_, records)| !records.is_empty()) {
        let behind = records[records.len() - 1].offset + 1;
        admin.delete_below(&checked.plan.topics[source.topic as usize].name, source.partition, behind).unwrap();
    }
}

#[test]
fn what_retention_has_deleted_is_computed_again_from_the_archive() {
    let broker = Broker::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let old = manifest(directory.path(), &broker, "old.yaml", BEFORE, false);
    let new = manifest(directory.path(), &broker, "new.yaml", BEFORE + AFTER, true);
    let (before, after) = (checked(&old), checked(&new));
    set_up(&old, &[]);
    let page = free_address().unwrap();
    let (process, sink) = (start("process", &old, &["--threads", "1"]), start("sink", &old, &["--name", "bronze"]));
    ingest(&old);
    let first = raw_records(&before).unwrap();
    let compared = || replay(&old, &["--from", "bronze"]);
    wait("everything is archived", compared, |said| said.contains("totals: 6 rows equal, 0 changed, 0 gone, 0 new\n"));
    delete_all(&before, &first);

    // Another definition, and nothing left to compute it from.
    process.end_in_order().unwrap();
    assert!(set_up(&new, &[]).contains("category_sales: rebuilt as epoch 2"));
    let early = run(role("replay", &new, &["--table", "category_sales"]).unwrap(), PATIENCE).unwrap();
    let told =
        "table category_sales is being rebuilt as epoch 2 and its old rows are shown: try again once it has caught up";
    assert!(early.status.code() == Some(2) && early.stderr.contains(told), "{}", early.stderr);
    let (process, mut serve) =
        (start("process", &new, &["--threads", "1"]), start("serve", &new, &["--listen", &page]));
    serve.running.wait_for(PATIENCE, || (epoch(&page, "category_sales") == Some(2)).then_some(())).unwrap();
    assert_eq!(served(&page, "category_sales"), Rows::new());

    let from = ["--from", "bronze", "--table", "category_sales"];
    let wrong =
        run(role("replay", &new, &[&from[..], &["--shadow", "--since", "1h"]].concat()).unwrap(), PATIENCE).unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.stderr);
    // One that is killed on the way changes nothing, and what it leaves behind is nobody's.
    let admin = Admin::new(&Cluster::of(&after.manifest.spec, &Secrets::from_environment()).unwrap()).unwrap();
    let mut killed = Running::start(role("replay", &new, &[&from[..], &["--shadow"]].concat()).unwrap()).unwrap();
    let topic = "category-sales.e3.shuffle";
    killed.wait_for(PATIENCE, || admin.facts(&[topic]).is_ok_and(|facts| !facts.is_empty()).then_some(())).unwrap();
    killed.kill().unwrap();
    assert_eq!((epoch(&page, "category_sales"), served(&page, "category_sales")), (Some(2), Rows::new()));

    // Of two at once one is through, and what it computed can be given up.
    let shadow = || Running::start(role("replay", &new, &[&from[..], &["--shadow"]].concat()).unwrap()).unwrap();
    let both = [shadow(), shadow()].map(|replay| replay.wait(PATIENCE).unwrap());
    let told = |ended: &Ended| ended.status.success() || ended.stderr.contains("try again");
    assert!(both.iter().any(|ended| ended.status.success()) && both.iter().all(told), "{both:#?}");
    assert!(replay(&new, &["--abandon"]).contains("go on as they were"));
    assert_eq!((epoch(&page, "category_sales"), served(&page, "category_sales")), (Some(2), Rows::new()));

    let rows = expected(&after, "category_sales", &first);
    let said = replay(&new, &[&from[..], &["--switch"]].concat());
    let (_, behind) = said.split_once("category_sales: rebuilt as epoch ").unwrap_or_else(|| panic!("{said}"));
    let (shown, behind) = behind.split_once(' ').unwrap();
    let shown: u64 = shown.parse().unwrap();
    assert!(behind.starts_with("from the archive of bronze"), "{said}");
    assert!(said.contains(&format!("category_sales: 0 rows equal, 0 changed, 0 gone, {} new", rows.len())), "{said}");
    serve.running.wait_for(PATIENCE, || (epoch(&page, "category_sales") == Some(shown)).then_some(())).unwrap();
    wait_for_rows(&mut serve, &page, "category_sales", &rows);

    // It goes on with what comes behind the archive, whoever dies.
    process.running.kill().unwrap();
    let process = start("process", &new, &["--threads", "1"]);
    ingest(&new);
    let kept = raw_records(&after).unwrap();
    let mut whole = kept.clone();
    for (source, records) in &first {
        whole.entry(*source).and_modify(|all| *all = records.iter().cloned().chain(all.drain(..)).collect());
    }
    assert_eq!(whole.values().map(Vec::len).sum::<usize>() as u64, BEFORE + AFTER);
    for table in ["category_sales", "totals"] {
        wait_for_rows(&mut serve, &page, table, &expected(&after, table, &whole));
    }
    let ledger = get(&page, "/api/v1/ledger").unwrap();
    assert_eq!((&ledger["unaccounted"], &ledger["streams"][0]["read"]), (&0.into(), &(BEFORE + AFTER).into()));
    [process, serve, sink].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}
