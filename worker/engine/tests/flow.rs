//! From raw records to rows through both tasks, on plans written by hand: the smallest examples of every road.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::sync::Arc;

use engine::{
    batch::RawBatch,
    expr::{Compare, Expr, Logic},
    map::{MapContext, MapTask},
    merge::MergeTask,
    output::{Output, Row, Source, SystemTable, schemas},
    plan::{
        Aggregate, AggregatePlan, AlertPlan, ColumnPlan, DeduplicatePlan, Emit, EventTimePlan, FieldPlan, GroupPlan,
        Input, OutputPlan, Plan, RulePlan, StreamPlan, TableKind, TablePlan, TopicPlan, Window,
    },
    value::{Type, Value},
};

const ID: usize = 0;
const CATEGORY: usize = 1;
const AMOUNT: usize = 2;
const TIME: usize = 3;

fn column(name: &str, ty: Type) -> ColumnPlan {
    ColumnPlan { name: name.into(), ty }
}

fn field(name: &str, ty: Type) -> FieldPlan {
    FieldPlan { name: name.into(), path: vec![name.into()], ty, required: true, hashed: false }
}

/// Sales per category and `window`, 60 s out of order, ids for 15 minutes.
fn sales(window: Window) -> Plan {
    let fields = vec![
        field("id", Type::String),
        field("category", Type::String),
        field("amount", Type::Decimal),
        field("at", Type::Timestamp),
    ];
    let positive = Expr::Compare(
        Compare::Greater,
        Box::new(Expr::Column(AMOUNT, Type::Decimal)),
        Box::new(Expr::Literal(Value::Decimal(engine::decimal::Decimal::ZERO), Type::Decimal)),
    );
    let stream = StreamPlan {
        name: "sales".into(),
        topics: vec![0],
        key: Some(ID),
        columns: fields.iter().map(|field| column(&field.name, field.ty)).collect(),
        fields,
        event_time: Some(EventTimePlan { column: TIME, out_of_orderness_ms: 60_000, idle_after_ms: 30_000 }),
        deduplicate: Some(DeduplicatePlan { column: ID, within_ms: 900_000 }),
        rules: vec![RulePlan { name: "positive".into(), check: positive }],
        enrich: Vec::new(),
        bots: None,
        derive: Vec::new(),
        quality: None,
        silver: true,
    };
    let sum =
        AggregatePlan { function: Aggregate::Sum, argument: Some(Expr::Column(AMOUNT, Type::Decimal)), filter: None };
    let count = AggregatePlan { function: Aggregate::Count, argument: None, filter: None };
    let output = |at: usize, name: &str, ty| OutputPlan { column: column(name, ty), expr: Expr::Column(at, ty) };
    let table = TablePlan {
        name: "category_sales".into(),
        epoch: 1,
        fingerprint: 7,
        input: Input::Stream(0),
        filter: None,
        window,
        lateness_ms: 0,
        group_by: vec![GroupPlan {
            column: column("category", Type::String),
            expr: Expr::Column(CATEGORY, Type::String),
        }],
        kind: TableKind::Aggregate(vec![sum, count]),
        outputs: vec![output(1, "total", Type::Decimal), output(2, "sales", Type::Integer)],
        keep_for_ms: None,
        max_groups: None,
        emit: Emit { every_ms: Some(1_000) },
    };
    Plan {
        pipeline: "shop".into(),
        topics: vec![TopicPlan { name: "transactions".into(), partitions: 1 }],
        lookups: Vec::new(),
        streams: vec![stream],
        joins: Vec::new(),
        tables: vec![table],
        alerts: Vec::new(),
        shuffle_partitions: 1,
    }
}

/// Reads `records` in one partition to the end, cutting and restoring behind `cut` records, and returns the last row of every key.
fn run(plan: Plan, records: &[&str], cut: usize) -> Vec<String> {
    let plan = Arc::new(plan);
    let context = Arc::new(MapContext { lookups: Vec::new(), hash_key: [0; 32] });
    let source = Source { topic: 0, partition: 0 };
    let mut map = MapTask::new(Arc::clone(&plan), Arc::clone(&context), source);
    let mut merge = MergeTask::new(Arc::clone(&plan), 0);
    let mut rows = Vec::new();
    let (first, second) = records.split_at(cut);
    for (at, part) in [first, second].into_iter().enumerate() {
        let mut batch = RawBatch::default();
        for (place, record) in part.iter().enumerate() {
            batch.push(record.as_bytes(), (at * cut + place) as u64, 1_000_000_000_000);
        }
        map.process(&mut batch);
        if at == 1 {
            map.finish();
        }
        let mut output = Output::default();
        map.flush(&mut output);
        rows.append(&mut output.rows);
        for _delivered_twice in 0..2 {
            merge.apply(at as u64, &output.shuffle[0]).unwrap();
        }
        let mut output = Output::default();
        merge.flush_all(&mut output);
        rows.append(&mut output.rows);
        let (mut map_bytes, mut merge_bytes) = (Vec::new(), Vec::new());
        map.snapshot(&mut map_bytes);
        merge.snapshot(&mut merge_bytes);
        map = MapTask::restore(Arc::clone(&plan), Arc::clone(&context), source, &map_bytes).unwrap();
        merge = MergeTask::restore(Arc::clone(&plan), 0, &merge_bytes).unwrap();
    }
    last_rows(&plan, rows)
}

fn last_rows(plan: &Plan, rows: Vec<Row>) -> Vec<String> {
    let schemas = schemas(plan);
    let mut last = std::collections::BTreeMap::new();
    for row in rows.into_iter().filter(|row| ["category_sales", "_ledger_streams"].contains(&&*schemas[row.table].name))
    {
        let (mut key, mut document) = (Vec::new(), Vec::new());
        row.write_key(&schemas[row.table], &mut key);
        row.write_document(&schemas[row.table], &mut document);
        last.insert(String::from_utf8(key).unwrap(), (row.deleted, String::from_utf8(document).unwrap()));
    }
    last.into_values().filter(|(deleted, _)| !deleted).map(|(_, document)| document).collect()
}

const RECORDS: [&str; 7] = [
    r#"{"id":"a","category":"Home","amount":10.10,"at":"2001-01-01T00:00:30Z"}"#,
    r#"{"id":"b","category":"Home","amount":"5","at":"2001-01-01T00:00:10Z"}"#,
    r#"{"id":"a","category":"Home","amount":10.10,"at":"2001-01-01T00:00:30Z"}"#,
    r#"{"id":"c","category":"B\u00e9b\u00e9","amount":1,"at":978307270}"#,
    r#"{"id":"d","category":"Home","amount":-1,"at":"2001-01-01T00:00:30Z"}"#,
    r#"{"id":"e","category":"Home""#,
    r#"{"id":"f","category":"Home","amount":0.000000001,"at":"2001-01-01T01:00:59+01:00","more":[1]}"#,
];

#[test]
fn sales_per_minute_are_exact_wherever_the_task_was_cut() {
    let want = [
        r#"{"table":"_ledger_streams","epoch":1,"final":false,"group":{"stream":"sales","source":"transactions/0"},"values":{"read":7,"accepted":4,"duplicate":1,"invalid":2,"expired":0}}"#,
        r#"{"table":"category_sales","epoch":1,"window_start":"2001-01-01T00:00:00Z","window_end":"2001-01-01T00:01:00Z","final":true,"group":{"category":"Home"},"values":{"total":15.100000001,"sales":3}}"#,
        r#"{"table":"category_sales","epoch":1,"window_start":"2001-01-01T00:01:00Z","window_end":"2001-01-01T00:02:00Z","final":true,"group":{"category":"Bébé"},"values":{"total":1,"sales":1}}"#,
    ];
    for cut in 0..=RECORDS.len() {
        assert_eq!(run(sales(Window::Tumbling { size_ms: 60_000 }), &RECORDS, cut), want, "cut behind {cut}");
    }
}

#[test]
fn hopping_windows_share_panes() {
    for cut in 0..=RECORDS.len() {
        let rows = run(sales(Window::Hopping { size_ms: 120_000, every_ms: 60_000 }), &RECORDS, cut);
        let start = |row: &String| row.split("window_start\":\"").nth(1).map(|rest| rest[..20].to_owned());
        let starts: Vec<String> = rows.iter().filter_map(start).collect();
        let want = ["2000-12-31T23:59:00Z", "2001-01-01T00:00:00Z", "2001-01-01T00:00:00Z", "2001-01-01T00:01:00Z"];
        assert_eq!(starts, want, "cut behind {cut}");
    }
}

#[test]
fn sessions_are_joined_by_what_lies_between() {
    for cut in 0..=RECORDS.len() {
        let rows = run(sales(Window::Session { gap_ms: 20_000 }), &RECORDS, cut);
        let home: Vec<&String> = rows.iter().filter(|row| row.contains("Home")).collect();
        assert_eq!(home.len(), 2, "cut behind {cut}: {home:#?}");
        assert!(home[0].contains(r#""window_start":"2001-01-01T00:00:10Z","window_end":"2001-01-01T00:00:50Z""#));
        assert!(home[0].contains(r#""total":15.1,"sales":2"#));
    }
}

/// Feeds one message for each of `parts` to MERGE; `flush` says whether and when rows leave after each. Returns what the alert
/// said, in order.
fn alerts(plan: &Arc<Plan>, parts: &[&[&str]], flush: impl Fn(&mut MergeTask, &mut Output)) -> Vec<Value> {
    let context = Arc::new(MapContext { lookups: Vec::new(), hash_key: [0; 32] });
    let mut map = MapTask::new(Arc::clone(plan), context, Source { topic: 0, partition: 0 });
    let mut merge = MergeTask::new(Arc::clone(plan), 0);
    let (mut rows, mut position) = (Vec::new(), 0);
    for (at, part) in parts.iter().enumerate() {
        let mut batch = RawBatch::default();
        for record in *part {
            batch.push(record.as_bytes(), position, 1_000_000_000_000);
            position += 1;
        }
        map.process(&mut batch);
        let mut output = Output::default();
        map.flush(&mut output);
        merge.apply(at as u64, &output.shuffle[0]).unwrap();
        let mut output = Output::default();
        flush(&mut merge, &mut output);
        rows.append(&mut output.rows);
    }
    let mut output = Output::default();
    merge.flush_all(&mut output);
    rows.append(&mut output.rows);
    let said = rows.into_iter().filter(|row| row.table == SystemTable::Alerts.index(plan));
    said.map(|row| row.values[0].clone()).collect()
}

#[test]
fn what_an_alert_says_does_not_depend_on_when_rows_leave() {
    // Two sales are one too many; a third takes it back. In windows both come late, to a row that is final.
    let parts: [&[&str]; 3] = [
        &[
            r#"{"id":"a","category":"Home","amount":1,"at":"2001-01-01T00:00:30Z"}"#,
            r#"{"id":"b","category":"Other","amount":1,"at":"2001-01-01T00:03:00Z"}"#,
        ],
        &[r#"{"id":"c","category":"Home","amount":1,"at":"2001-01-01T00:00:40Z"}"#],
        &[r#"{"id":"d","category":"Home","amount":1,"at":"2001-01-01T00:00:50Z"}"#],
    ];
    let windows = [
        Window::Tumbling { size_ms: 60_000 },
        Window::Hopping { size_ms: 60_000, every_ms: 60_000 },
        Window::Session { gap_ms: 20_000 },
        Window::None,
    ];
    for window in windows {
        let mut plan = sales(window);
        plan.tables[0].lateness_ms = 300_000;
        let two = Expr::Literal(Value::Integer(2), Type::Integer);
        plan.alerts.push(AlertPlan {
            name: "two".into(),
            table: 0,
            when: Expr::Compare(Compare::Equal, Box::new(Expr::Column(2, Type::Integer)), Box::new(two)),
            zscores: Vec::new(),
            for_windows: 1,
        });
        let plan = Arc::new(plan);
        let said = ["raised", "withdrawn"].map(|state| Value::String(state.into()));
        assert_eq!(alerts(&plan, &parts, MergeTask::flush_all), said, "{window:?}, with every message");
        assert_eq!(alerts(&plan, &parts, |_, _| {}), said, "{window:?}, at the end");
        let held_back = |merge: &mut MergeTask, output: &mut Output| {
            merge.flush(1_000, output);
        };
        assert_eq!(alerts(&plan, &parts, held_back), said, "{window:?}, held back by `emit.every`");
    }
}

#[test]
fn an_alert_of_a_session_that_opens_again_is_withdrawn_for_as_long() {
    // Final, then open again by what came late, and for longer than what was said is kept; three sales in the end.
    let parts: [&[&str]; 4] = [
        &[
            r#"{"id":"a","category":"Home","amount":1,"at":"2001-01-01T00:00:30Z"}"#,
            r#"{"id":"b","category":"Other","amount":1,"at":"2001-01-01T00:01:55Z"}"#,
        ],
        &[r#"{"id":"c","category":"Home","amount":1,"at":"2001-01-01T00:00:48Z"}"#],
        &[
            r#"{"id":"d","category":"Home","amount":1,"at":"2001-01-01T00:01:05Z"}"#,
            r#"{"id":"e","category":"Other","amount":1,"at":"2001-01-01T00:02:20Z"}"#,
        ],
        &[r#"{"id":"f","category":"None","amount":1,"at":"2001-01-01T00:02:45Z"}"#],
    ];
    let mut plan = sales(Window::Session { gap_ms: 20_000 });
    plan.tables[0].lateness_ms = 20_000;
    let home = Expr::Compare(
        Compare::Equal,
        Box::new(Expr::Column(0, Type::String)),
        Box::new(Expr::Literal(Value::String("Home".into()), Type::String)),
    );
    let one = Expr::Compare(
        Compare::Equal,
        Box::new(Expr::Column(2, Type::Integer)),
        Box::new(Expr::Literal(Value::Integer(1), Type::Integer)),
    );
    plan.alerts.push(AlertPlan {
        name: "one".into(),
        table: 0,
        when: Expr::Logic(Logic::And, Box::new(home), Box::new(one)),
        zscores: Vec::new(),
        for_windows: 1,
    });
    let said = ["raised", "withdrawn"].map(|state| Value::String(state.into()));
    assert_eq!(alerts(&Arc::new(plan), &parts, MergeTask::flush_all), said);
}

#[test]
fn a_stream_may_list_its_topics_in_any_order() {
    for topics in [vec![0, 1], vec![1, 0]] {
        let mut plan = sales(Window::Tumbling { size_ms: 60_000 });
        plan.topics = ["first", "second"].map(|name| TopicPlan { name: name.into(), partitions: 2 }).into();
        plan.streams[0].topics.clone_from(&topics);
        let (plan, context) = (Arc::new(plan), Arc::new(MapContext { lookups: Vec::new(), hash_key: [0; 32] }));
        let mut merge = MergeTask::new(Arc::clone(&plan), 0);
        let sources = (0..2).flat_map(|topic| (0..2).map(move |partition| Source { topic, partition }));
        for (at, source) in sources.enumerate() {
            let mut map = MapTask::new(Arc::clone(&plan), Arc::clone(&context), source);
            let mut batch = RawBatch::default();
            for (offset, time) in ["00:00:30", "00:03:00"].into_iter().enumerate() {
                let record =
                    format!(r#"{{"id":"{at}-{offset}","category":"Home","amount":1,"at":"2001-01-01T{time}Z"}}"#);
                batch.push(record.as_bytes(), offset as u64, 1_000_000_000_000);
            }
            map.process(&mut batch);
            let mut output = Output::default();
            map.flush(&mut output);
            merge.apply(at as u64, &output.shuffle[0]).unwrap();
        }
        let mut output = Output::default();
        merge.flush_all(&mut output);
        let closed: Vec<&Row> = output.rows.iter().filter(|row| row.table == 0 && row.is_final).collect();
        assert_eq!(closed.len(), 1, "{topics:?}: {:?}", output.rows);
        assert_eq!(closed[0].values[1], Value::Integer(4));
    }
}
