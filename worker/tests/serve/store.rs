//! The tables themselves: exact, exactly once, readable while they are written.

use std::time::Instant;

use engine::{output::Row, plan::Plan, value::Value};
use serde_json::Value as Json;
use worker::store::{Bounds, Format, Part, QueryError, Reader, StoreError, TableQuery, TableStore};

use super::fixture::{FUNNEL, NOON, Results, SESSIONS, TOTALS, decimal, plan, records, sale, text, total};

struct Shop {
    plan: Plan,
    results: Results,
    store: TableStore,
    reader: Reader,
}

fn shop(rows: &[Row]) -> Shop {
    let plan = plan();
    let mut store = TableStore::open(None, &plan).unwrap();
    let mut results = Results::new(&plan);
    results.apply(&mut store, rows);
    let reader = Reader::open(store.path()).unwrap();
    Shop { plan, results, store, reader }
}

fn lines(reader: &Reader, query: &TableQuery) -> String {
    let answer = reader.query(query, Format::JsonLines, Bounds::default()).unwrap();
    String::from_utf8(answer.body).unwrap()
}

fn all(table: &str) -> TableQuery {
    TableQuery { table: table.into(), limit: 1_000, ..TableQuery::default() }
}

#[test]
fn a_row_reads_as_it_was_written() {
    let Shop { reader, .. } = shop(&[
        sale(0, text("Beauty"), "12345678901234567.123456789", 3),
        sale(0, Value::Null, "0.1", 1),
        total(TOTALS, vec![text("a \"b\"\n")], vec![Value::Integer(2), top(&[("p1", 2), ("p2", 1)])]),
    ]);
    assert_eq!(
        lines(&reader, &all("category_sales")),
        concat!(
            r#"{"window_start":"2025-11-21T00:00:00Z","window_end":"2025-11-21T00:01:00Z","category":"Beauty","#,
            r#""total_sales":12345678901234567.123456789,"transaction_count":3,"#,
            r#""average":12345678901234567.123456789,"final":false,"version":0}"#,
            "\n",
            r#"{"window_start":"2025-11-21T00:00:00Z","window_end":"2025-11-21T00:01:00Z","category":null,"#,
            r#""total_sales":0.1,"transaction_count":1,"average":0.1,"final":false,"version":1}"#,
            "\n",
        )
    );
    assert_eq!(
        lines(&reader, &all("by_region")),
        r#"{"region":"a \"b\"\n","events":2,"top_products":[["p1",2],["p2",1]],"final":false,"version":2}"#.to_owned()
            + "\n"
    );
}

fn top(pairs: &[(&str, i64)]) -> Value {
    let pair = |(name, count): &(&str, i64)| Value::List([text(name), Value::Integer(*count)].into());
    Value::List(pairs.iter().map(pair).collect())
}

#[test]
fn repeats_change_nothing_and_newer_rows_replace() {
    let mut shop = shop(&[sale(0, text("Home"), "5", 1)]);
    let again = Results::new(&shop.plan).write(&[sale(0, text("Home"), "7", 9)]);
    shop.store.apply(&records(&again)).unwrap();
    assert!(lines(&shop.reader, &all("category_sales")).contains("\"total_sales\":5,"));
    shop.results.apply(&mut shop.store, &[sale(0, text("Home"), "8", 2), sale(1, text("Home"), "1", 1)]);
    assert_eq!(shop.store.offset(), 3);
    let answer = lines(&shop.reader, &all("category_sales"));
    assert!(answer.contains("\"total_sales\":8,"), "{answer}");
    assert_eq!(shop.reader.table("category_sales").unwrap().rows, 2);
}

#[test]
fn a_deleted_row_is_gone() {
    let mut shop = shop(&[sale(0, text("Home"), "5", 1), sale(0, Value::Null, "5", 1)]);
    let gone = Row { values: vec![], deleted: true, is_final: true, ..sale(0, Value::Null, "0", 0) };
    shop.results.apply(&mut shop.store, &[gone]);
    assert_eq!(shop.reader.table("category_sales").unwrap().rows, 1);
    assert!(!lines(&shop.reader, &all("category_sales")).contains("null"));
}

#[test]
fn a_restart_goes_on_behind_the_last_commit_and_a_new_epoch_starts_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tables.db");
    let mut plan = plan();
    let mut results = Results::new(&plan);
    let mut store = TableStore::open(Some(&path), &plan).unwrap();
    results.apply(&mut store, &[sale(0, text("Home"), "5", 1), total(TOTALS, vec![text("eu")], totals(1))]);
    drop(store);

    let store = TableStore::open(Some(&path), &plan).unwrap();
    assert_eq!(store.offset(), 2, "everything is still there");
    drop(store);

    plan.tables[0].epoch = 2;
    let store = TableStore::open(Some(&path), &plan).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(store.offset(), 2, "rows of the new epoch come behind");
    assert_eq!(reader.table("category_sales").unwrap().rows, 0);
    assert_eq!(reader.table("by_region").unwrap().rows, 1);
    drop((store, reader));

    plan.tables[3].outputs.pop();
    let mut store = TableStore::open(Some(&path), &plan).unwrap();
    assert_eq!(store.offset(), 0, "a column is missing in the same epoch: the results are read again");
    let old = Results::new(&super::fixture::plan()).write(&[sale(0, text("Home"), "5", 1)]);
    store.apply(&records(&old)).unwrap();
    assert_eq!(Reader::open(&path).unwrap().table("category_sales").unwrap().rows, 0, "an older epoch is ignored");
}

fn totals(events: i64) -> Vec<Value> {
    vec![Value::Integer(events), top(&[])]
}

#[test]
fn rows_of_a_newer_epoch_empty_the_table_first() {
    let mut shop = shop(&[sale(0, text("Home"), "5", 1), sale(0, text("Beauty"), "5", 1)]);
    let mut newer = shop.plan.clone();
    newer.tables[0].epoch = 2;
    let mut results = Results::new(&newer);
    results.next = 2;
    results.apply(&mut shop.store, &[sale(0, text("Sports"), "1", 1)]);
    let listed = shop.reader.table("category_sales").unwrap();
    assert_eq!((listed.rows, listed.info.epoch), (1, 2));
}

#[test]
fn a_bad_record_changes_nothing() {
    let mut shop = shop(&[sale(0, text("Home"), "5", 1)]);
    let mut written = shop.results.write(&[sale(1, text("Home"), "6", 1), sale(2, text("Home"), "7", 1)]);
    written[1].2.truncate(20);
    let error = shop.store.apply(&records(&written)).unwrap_err();
    assert!(matches!(error, StoreError::BadRecord { offset: 2, .. }), "{error}");
    assert_eq!(shop.reader.table("category_sales").unwrap().rows, 1);
    assert_eq!(shop.store.offset(), 1);
}

#[test]
fn questions_select_order_and_page() {
    let rows: Vec<Row> = (0..4).map(|minute| sale(minute, text("Home"), &format!("{minute}.5"), minute)).collect();
    let Shop { reader, .. } = shop(&rows);
    let check = |filter: Option<&str>, order: Option<&str>, limit: u64, offset: u64, expected: &[i64]| {
        let query = TableQuery {
            filter: filter.map(Into::into),
            order: order.map(Into::into),
            limit,
            offset,
            ..all("category_sales")
        };
        let counts: Vec<i64> = lines(&reader, &query)
            .lines()
            .map(|line| serde_json::from_str::<Json>(line).unwrap()["transaction_count"].as_i64().unwrap())
            .collect();
        assert_eq!(counts, expected, "{query:?}");
    };
    check(None, None, 9, 0, &[3, 2, 1, 0]);
    check(None, Some("total_sales"), 2, 1, &[1, 2]);
    check(None, Some("category, -transaction_count"), 9, 0, &[3, 2, 1, 0]);
    check(Some("total_sales > 1 -- not the first"), Some("window_start asc"), 9, 0, &[1, 2, 3]);
    check(Some("category_sales.final or category like 'X%'"), None, 9, 0, &[]);
}

#[test]
fn sessions_are_in_order_of_time_within_a_second() {
    let session = |start: i64| Row {
        table: SESSIONS,
        window: Some((NOON + start, NOON + start + 1_800_000)),
        group: vec![text("u")],
        values: vec![Value::Integer(start), Value::Boolean(true)],
        is_final: true,
        deleted: false,
    };
    let Shop { reader, .. } = shop(&[session(50), session(0), session(1_000)]);
    let query = TableQuery { order: Some("window_start".into()), ..all("sessions") };
    let answer = lines(&reader, &query);
    let at = |text: &str| answer.find(text).unwrap();
    assert!(at("00:00:00Z\",\"window_end") < at("00:00:00.050Z\",\"window_end"), "{answer}");
    assert!(answer.contains("\"converted\":true,\"final\":true"), "{answer}");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let Shop { reader, .. } = shop(&[sale(0, text("Home"), "5", 1)]);
    let bad = |query: TableQuery| match reader.query(&query, Format::Json, Bounds::default()).unwrap_err() {
        QueryError::BadText { part, message, position } => (part, message, position),
        other => panic!("{other}"),
    };
    let filter = |text: &str| bad(TableQuery { filter: Some(text.into()), ..all("category_sales") });
    let (part, message, position) = filter("final and totl_sales > 3");
    assert_eq!((part, position), (Part::Where, Some(10)));
    assert!(message.contains("did you mean total_sales"), "{message}");
    assert_eq!(filter("1) union select ((1").2, Some(1));
    assert_eq!(filter("(category = 'x'").2, Some(0));
    assert_eq!(filter("category = 'x").2, Some(11));
    assert_eq!(filter("1; drop table x").2, Some(1));
    let (part, message, position) =
        bad(TableQuery { order: Some("final, totals desc".into()), ..all("category_sales") });
    assert_eq!((part, position), (Part::Order, Some(7)), "{message}");

    let unknown = reader.query(&all("category_sale"), Format::Json, Bounds::default()).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no table \"category_sale\"; did you mean \"category_sales\"?");
}

#[test]
fn sql_answers_questions_and_nothing_else() {
    let Shop { reader, .. } = shop(&[sale(0, text("Home"), "5.25", 1), sale(1, text("Home"), "6", 2)]);
    let sql = |text: &str| reader.sql(text, Format::Json, Bounds::default());
    let answer = sql("select category, sum(total_sales) s, count(*) s from category_sales group by 1").unwrap();
    assert_eq!(String::from_utf8(answer.body).unwrap(), r#"{"category":"Home","s":11.25,"s:2":2}"#);
    let csv = reader.sql("select 'a,\"b' as x, null as y, 1.5 as z", Format::Csv, Bounds::default()).unwrap();
    assert_eq!(String::from_utf8(csv.body).unwrap(), "x,y,z\r\n\"a,\"\"b\",,1.5\r\n");
    for refused in [
        "drop table \"_rows_sessions\"",
        "delete from _store",
        "insert into _store values (1, 2)",
        "attach database '/tmp/x' as y",
        "pragma journal_mode = delete",
        "vacuum into '/tmp/y'",
        "select load_extension('x')",
        "begin immediate",
        "select 1; select 2",
        "selec 1",
        "",
    ] {
        let error = sql(refused).expect_err(refused);
        assert!(matches!(error, QueryError::BadText { part: Part::Sql, .. }), "{refused}: {error:?}");
    }
    let Err(QueryError::BadText { position, .. }) = sql("select nope from sessions") else { panic!() };
    assert_eq!(position, Some(7));
}

#[test]
fn a_query_without_end_is_stopped() {
    let Shop { reader, .. } = shop(&[]);
    let bounds = Bounds { time: std::time::Duration::from_millis(50), ..Bounds::default() };
    let forever = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
    let error = reader.sql(forever, Format::Json, bounds).unwrap_err();
    assert!(matches!(error, QueryError::TooSlow { .. }), "{error}");
    let large = "select printf('%10000000d', 1)";
    let bounds = Bounds { bytes: 1_000, ..Bounds::default() };
    assert!(matches!(reader.sql(large, Format::Json, bounds), Err(QueryError::TooLarge)));
    assert!(reader.sql("select printf('%100000000d', 1)", Format::Json, Bounds::default()).is_err());
}

#[test]
fn listeners_hear_of_changes() {
    let mut shop = shop(&[]);
    let (mut summaries, mut rows) = (shop.store.changes().summaries(), shop.store.changes().rows());
    shop.results.apply(&mut shop.store, &[sale(0, text("Home"), "5.50", 1)]);
    let summary = summaries.try_recv().unwrap();
    assert_eq!((summary.offset, summary.tables["category_sales"]), (1, 1));
    let changed = rows.try_recv().unwrap();
    let row: Json = serde_json::from_str(&changed.rows).unwrap();
    assert_eq!((changed.count, changed.left_out, row["version"].as_i64()), (1, 0, Some(0)));
    assert_eq!(row["category"], "Home");
}

#[test]
fn tables_say_what_they_are() {
    let Shop { reader, .. } = shop(&[]);
    let tables = reader.tables().unwrap();
    let names: Vec<&str> = tables.iter().map(|table| &*table.info.name).collect();
    assert_eq!(&names[..4], ["category_sales", "sessions", "checkout_funnel", "by_region"]);
    assert_eq!(tables.len(), 9);
    let funnel = serde_json::to_value(&tables[FUNNEL]).unwrap();
    assert_eq!(funnel["kind"], "funnel");
    assert_eq!(funnel["steps"], serde_json::json!(["viewed", "carted", "bought"]));
    assert_eq!(funnel["window"], serde_json::json!({"kind": "tumbling", "size_ms": 3_600_000}));
    assert_eq!(reader.pipeline().unwrap(), "shop");
}

/// Prints figures; `cargo test --release -p worker --test serve -- figures --nocapture`.
#[test]
fn figures_over_a_hundred_thousand_rows() {
    let mut shop = shop(&[]);
    let rows: Vec<Row> = (0..100_000)
        .map(|at| sale(at / 100, text(&format!("category_{:03}", at % 100)), &format!("{at}.25"), at))
        .collect();
    let written = shop.results.write(&rows);
    let start = Instant::now();
    for commit in records(&written).chunks(1_000) {
        shop.store.apply(commit).unwrap();
    }
    let inserted = 100_000.0 / start.elapsed().as_secs_f64();
    let written = shop.results.write(&rows);
    let start = Instant::now();
    for commit in records(&written).chunks(1_000) {
        shop.store.apply(commit).unwrap();
    }
    let updated = 100_000.0 / start.elapsed().as_secs_f64();
    println!("store: {inserted:.0} new rows/s, {updated:.0} changed rows/s");

    let query = |filter: Option<&str>, order: Option<&str>| {
        let query =
            TableQuery { filter: filter.map(Into::into), order: order.map(Into::into), ..all("category_sales") };
        let mut times: Vec<f64> = (0..40)
            .map(|_| {
                let start = Instant::now();
                shop.reader.query(&query, Format::Json, Bounds::default()).unwrap();
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("query where {filter:?} order {order:?}: p50 {:.1} ms, p95 {:.1} ms", times[20], times[38]);
    };
    query(None, None);
    query(Some("category = 'category_042'"), None);
    query(None, Some("-total_sales"));
    query(Some("total_sales > 99000 and not final"), Some("category, window_start"));
    assert_eq!(shop.reader.table("category_sales").unwrap().rows, 100_000);
    assert_eq!(decimal("0.25"), decimal("0.250"));
}
