//! The reference against small cases worked out by hand, and the engine against the same.
//!
//! Times are seconds behind 2023-11-14T22:13:20Z (1,700,000,000), which is aligned to ten seconds and to nothing longer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fmt::Write as _;

use engine::output::Source;
use tests::{
    memory::Cut,
    pipeline,
    random::Random,
    reference::{self, Answer, Input, Record, cell::Cell},
};

const START: i64 = 1_700_000_000;

/// Events as `second id user kind price`, `-` where there is nothing; a stream with a bound of 10 s, ids for a minute.
fn check(tables: &str, events: &[&str], expected: &[&str]) {
    let manifest = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: small}}
spec:
  kafka: {{bootstrapServers: [\"kafka:9092\"]}}
  topics:
  - {{name: events, partitions: 1}}
  streams:
  - name: events
    topics: [events]
    key: user
    eventTime: {{field: at, outOfOrderness: 10s}}
    id: {{field: id, deduplicateWithin: 1m}}
    fields:
    - {{name: at, type: timestamp, required: true}}
    - {{name: id, type: string}}
    - {{name: user, type: string}}
    - {{name: kind, type: string, required: true}}
    - {{name: price, type: decimal}}
    rules:
    - {{name: price-not-negative, check: price >= 0}}
  tables:
{tables}"
    );
    let plan = pipeline::plan(&manifest).unwrap();
    let mut input = Input::new();
    let records = events.iter().zip(0..).map(|(event, offset)| record(event, offset)).collect();
    input.insert(Source { topic: 0, partition: 0 }, records);
    let answer = reference::reference(&plan, &Vec::new(), &input);
    assert_eq!(rows(&answer), expected, "the reference");
    pipeline::check(&plan, &input, Cut::each_record(), &mut Random::new(0)).unwrap();
}

fn record(event: &str, offset: u64) -> Record {
    let words: Vec<&str> = event.split_whitespace().collect();
    let &[second, id, user, kind, price] = words.as_slice() else { panic!("{event:?} is not five words") };
    let at = START + second.parse::<i64>().unwrap();
    let text = |word: &str| if word == "-" { "null".to_owned() } else { format!("\"{word}\"") };
    let price = if price == "-" { "null" } else { price };
    let (id, user, kind) = (text(id), text(user), text(kind));
    let payload = format!("{{\"at\":{at},\"id\":{id},\"user\":{user},\"kind\":{kind},\"price\":{price}}}");
    Record { payload: payload.into_bytes(), offset, arrival: at * 1_000 }
}

/// Rows as `table start..end group: values`, in order.
fn rows(answer: &Answer) -> Vec<String> {
    let second = |millis: i64| millis / 1_000 - START;
    let show = |((table, start, group), (end, values)): (&reference::RowKey, &reference::RowValue)| {
        let mut line = table.clone();
        if let (Some(start), Some(end)) = (start, end) {
            let _ = write!(line, " {}..{}", second(*start), second(*end));
        }
        group.iter().for_each(|cell| line += &format!(" {}", cell_text(cell)));
        line.push(':');
        values.iter().for_each(|cell| line += &format!(" {}", cell_text(cell)));
        line
    };
    answer.rows.iter().map(show).collect()
}

fn cell_text(cell: &Cell) -> String {
    match cell {
        Cell::Null => "-".into(),
        Cell::Boolean(truth) => truth.to_string(),
        Cell::Integer(number) => number.to_string(),
        Cell::Decimal(units) => format!("{}", *units as f64 / 1e9),
        Cell::Text(text) => text.clone(),
        Cell::Time(at) => format!("@{}", at / 1_000 - START),
        Cell::List(items) => format!("[{}]", items.iter().map(cell_text).collect::<Vec<_>>().join(" ")),
        Cell::Between(low, high) => format!("{low}..{high}"),
    }
}

#[test]
fn tumbling_windows_count_what_falls_into_them() {
    check(
        "  - {name: t, from: events, window: {tumbling: 10s}, groupBy: [kind], select: {n: count(), money: sum(price)}}",
        &["0 a u view 1.5", "9 b u view 2", "10 c u view -", "3 d u buy 4"],
        &["t 0..10 buy: 1 4", "t 0..10 view: 2 3.5", "t 10..20 view: 1 -"],
    );
}

#[test]
fn a_repeated_id_counts_once_until_it_is_forgotten() {
    check(
        "  - {name: t, from: events, window: {tumbling: 1h}, select: {n: count()}}",
        // Remembered until the watermark passes 0 + 60; 71 moves it to 61, after which `a` is new again.
        &["0 a u view -", "0 a u view -", "70 b u view -", "60 a u view -", "71 c u view -", "62 a u view -"],
        &["t -800..2800: 4"],
    );
}

#[test]
fn what_is_later_than_bound_and_lateness_does_not_count() {
    check(
        "  - {name: t, from: events, window: {tumbling: 10s, allowedLateness: 5s}, select: {n: count()}}",
        // The watermark is 14 after the third event, 15 after the fifth: then the first window is freed.
        &["1 a u view -", "9 b u view -", "24 c u view -", "2 d u view -", "25 e u view -", "3 f u view -"],
        &["t 0..10: 3", "t 20..30: 2"],
    );
}

#[test]
fn hopping_windows_overlap() {
    check(
        "  - {name: t, from: events, window: {hopping: {size: 10s, every: 5s}}, select: {n: count()}}",
        &["0 a u view -", "7 b u view -"],
        &["t -5..5: 1", "t 0..10: 2", "t 5..15: 1"],
    );
}

#[test]
fn sessions_merge_over_a_late_bridge() {
    check(
        "  - {name: t, from: events, window: {session: {gap: 5s}}, groupBy: [user], select: {n: count()}}",
        &["0 a u view -", "0 e v view -", "8 b u view -", "4 c u view -", "30 d u view -"],
        &["t 0..13 u: 3", "t 0..5 v: 1", "t 30..35 u: 1"],
    );
}

#[test]
fn aggregates_skip_nulls_and_order_by_time_then_id() {
    check(
        "  - name: t
    from: events
    keepFor: 30d
    select:
      n: count(price)
      mean: avg(price)
      low: min(price)
      first: first(kind)
      last: last(kind)
      recent: last_n(2, kind)
      kinds: last_distinct(5, kind)
      best: top(1, kind)
      users: count(distinct user)
      bought: bool_or(kind = 'buy')
",
        &["1 a u view 1", "3 c v buy -", "3 b u cart 2", "2 d u view 2", "0 e u view -5"],
        &["t: 3 1.666666667 1 view buy [buy cart] [buy cart view] [[view 2]] 2 true"],
    );
}

#[test]
fn funnels_follow_every_start_and_forget_what_is_undone() {
    check(
        "  - name: t
    from: events
    funnel:
      by: user
      within: 20s
      steps:
      - {name: viewed, where: kind = 'view'}
      - {name: carted, where: kind = 'cart', undoneBy: kind = 'undo'}
      - {name: bought, where: kind = 'buy'}
    window: {tumbling: 1h}
",
        // u converts in 8 s from its second start; v undoes its cart; w is too slow; x only carts.
        &[
            "0 a u view -",
            "2 b u view -",
            "5 c u cart -",
            "10 d u buy -",
            "0 e v view -",
            "1 f v cart -",
            "2 g v undo -",
            "3 h v buy -",
            "0 i w view -",
            "1 j w cart -",
            "21 k w buy -",
            "4 l x cart -",
        ],
        &["t -800..2800: 3 2 1 0.333333333 8"],
    );
}

#[test]
fn a_division_by_zero_is_nothing() {
    check(
        "  - name: t
    from: events
    window: {tumbling: 10s}
    select:
      views: count() filter (where kind = 'view')
      buys: count() filter (where kind = 'buy')
      rate: buys / views
",
        &["0 a u buy 1", "10 b u view -", "11 c u view -", "12 d u buy 1"],
        &["t 0..10: 0 1 -", "t 10..20: 2 1 0.5"],
    );
}

#[test]
fn a_correction_leaves_before_its_window_is_freed() {
    check(
        "  - {name: t, from: events, window: {hopping: {size: 10s, every: 5s}, allowedLateness: 3s}, select: {n: count()}}",
        // Final at 5; corrected while the watermark is 6; freed at 8, which the last event passes without closing any.
        &["1 a u view -", "16 b u view -", "2 c u view -", "19 d u view -"],
        &["t -5..5: 2", "t 0..10: 2", "t 10..20: 2", "t 15..25: 2"],
    );
}

#[test]
fn a_group_is_forgotten_even_if_nothing_comes_after_it() {
    check(
        "  - {name: t, from: events, groupBy: [kind], keepFor: 1s, select: {n: count()}}",
        // The watermark is 10 when the last event comes, which is too old to be kept from the start.
        &["0 a u view -", "20 b u buy -", "1 c u view -"],
        &["t buy: 1"],
    );
}
