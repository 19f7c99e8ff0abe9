//! What generators make, from the manifest's words on.

use std::collections::{BTreeMap, BTreeSet};

use crds::spec::Synthetic;
use engine::{
    batch::RawBatch,
    decode::{Decoded, Decoder, timestamp},
    expr::Expr,
    plan::{ColumnPlan, DeduplicatePlan, EventTimePlan, FieldPlan, RulePlan, StreamPlan},
    value::{Type, Value},
};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::{
    Feed,
    compile::{Surroundings, compile},
    generator::{Events, Generator, Model},
    lookup::Rows,
};
use crate::ingest::{Control, IngestError, Outbox, Routes, Target, Topics, memory::MemoryLog};

/// 2025-11-21T04:40:00Z.
const START: i64 = 1_763_700_000_000;

const SHOP: &str = "
seed: 42
fields:
  event_id: {sequence: {format: 'evt_%08d'}}
  user_id: {oneOf: {format: 'user_%04d', count: 50}}
  product_id: {oneOf: {format: 'prod_%04d', count: 100, share: {prod_0042: 0.2}}}
  event_type: {weighted: {view: 70, add_to_cart: 20, purchase: 10}}
  timestamp: {now: {jitter: 5s}}
  session_id: {sessionOf: {key: user_id, idle: 30s, format: 'session_%04d'}}
  product_category: {choice: [Electronics, Clothing, Home, Books, Sports], fixedPer: product_id}
  page_url: {template: '/product/{product_id}?by={user_id}'}
  price: {decimal: {min: 5, max: 500}, fixedPer: product_id}
  quantity: {integer: {min: 1, max: 5}}
  nested.flag: {const: true}
  trace: {uuid: {}}
";

fn stream() -> StreamPlan {
    let fields = [
        ("event_id", Type::String, true),
        ("user_id", Type::String, true),
        ("product_id", Type::String, true),
        ("event_type", Type::String, true),
        ("timestamp", Type::Timestamp, true),
        ("session_id", Type::String, false),
        ("price", Type::Decimal, false),
        ("quantity", Type::Integer, false),
        ("user_agent", Type::String, false),
        ("email", Type::String, false),
        ("page_url", Type::String, false),
        ("returning", Type::Boolean, false),
    ];
    let fields = fields.map(|(name, ty, required)| FieldPlan {
        name: name.into(),
        path: vec![name.into()],
        ty,
        required,
        hashed: false,
    });
    let types = ["view", "add_to_cart", "purchase"].map(|text| Value::String(text.into()));
    StreamPlan {
        name: "events".into(),
        topics: vec![0],
        key: Some(1),
        columns: fields.iter().map(|field| ColumnPlan { name: field.name.clone(), ty: field.ty }).collect(),
        fields: fields.into(),
        event_time: Some(EventTimePlan { column: 4, out_of_orderness_ms: 0, idle_after_ms: 0 }),
        deduplicate: Some(DeduplicatePlan { column: 0, within_ms: 1 }),
        rules: vec![RulePlan {
            name: "known-type".into(),
            check: Expr::In(Box::new(Expr::Column(3, Type::String)), types.into()),
        }],
        enrich: Vec::new(),
        bots: None,
        derive: Vec::new(),
        quality: None,
        silver: false,
    }
}

fn model(text: &str, rate: f64) -> Result<Model, String> {
    let spec: Synthetic = serde_yaml::from_str(text).unwrap();
    let (stream, lookups) = (stream(), lookups());
    let around = Surroundings { path: "spec", streams: &[&stream], lookups: &lookups, start: START, rate };
    compile(&spec, around).map_err(|error: IngestError| error.to_string())
}

fn lookups() -> BTreeMap<String, Rows> {
    let base = tempfile::tempdir().unwrap();
    std::fs::write(base.path().join("p.json"), r#"[{"id":"p1","price":9.5},{"id":"p2","price":10}]"#).unwrap();
    [("products".to_owned(), Rows::read(base.path(), "p.json", "id", &[]).unwrap())].into()
}

fn generate(text: &str, rate: f64, count: usize) -> Vec<Json> {
    let mut events = Events::default();
    Generator::new(model(text, rate).unwrap(), 4, 0).generate(count, &mut events);
    events.iter().map(|(payload, _)| serde_json::from_slice(payload).unwrap()).collect()
}

fn text<'a>(event: &'a Json, field: &str) -> &'a str {
    event[field].as_str().unwrap()
}

#[test]
fn fields_are_made_as_the_manifest_says() {
    let events = generate(SHOP, 10.0, 20_000);
    let share = |count: usize| count as f64 / events.len() as f64;
    let count = |field: &str, value: &str| share(events.iter().filter(|event| event[field] == value).count());
    assert!((count("product_id", "prod_0042") - 0.2).abs() < 0.01);
    assert!((count("event_type", "view") - 0.7).abs() < 0.01);
    assert!((count("user_id", "user_0050") - 0.02).abs() < 0.005 && count("user_id", "user_0051") == 0.0);
    let mut prices = BTreeMap::new();
    let mut traces = BTreeSet::new();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(text(event, "event_id"), format!("evt_{at:08}"));
        let time = timestamp(text(event, "timestamp").as_bytes()).unwrap();
        let behind = START + at as i64 * 100 - time;
        assert!((0..=5_000).contains(&behind), "{behind}");
        let url = format!("/product/{}?by={}", text(event, "product_id"), text(event, "user_id"));
        assert_eq!(text(event, "page_url"), url);
        let fixed = (event["price"].as_f64().unwrap().to_bits(), text(event, "product_category").to_owned());
        assert_eq!(prices.entry(text(event, "product_id")).or_insert(fixed.clone()), &fixed);
        assert!((5.0..=500.0).contains(&event["price"].as_f64().unwrap()));
        assert!((1..=5).contains(&event["quantity"].as_i64().unwrap()));
        assert_eq!(event["nested"]["flag"], true);
        let trace = text(event, "trace");
        assert!(trace.len() == 36 && &trace[14..15] == "4" && "89ab".contains(&trace[19..20]), "{trace}");
        assert!(traces.insert(trace.to_owned()));
    }
    assert!(prices.len() == 100 && prices.values().collect::<BTreeSet<_>>().len() > 90);
}

#[test]
fn a_session_ends_when_its_key_was_idle() {
    let mut last: BTreeMap<String, (i64, String)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut gaps = 0;
    for (at, event) in generate(&SHOP.replace("jitter: 5s", ""), 2.0, 5_000).iter().enumerate() {
        let (user, session, time) = (text(event, "user_id"), text(event, "session_id"), at as i64 * 500);
        match last.insert(user.into(), (time, session.into())) {
            Some((before, same)) if time - before <= 30_000 => assert_eq!(session, same),
            Some(_) => {
                gaps += 1;
                assert!(seen.insert(session.to_owned()), "{session}");
            }
            None => assert!(seen.insert(session.to_owned())),
        }
    }
    assert!(gaps > 100, "{gaps}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let bytes = |text: &str, steps: &[usize]| {
        let mut events = Events::default();
        let mut generator = Generator::new(model(text, 10.0).unwrap(), 4, 0);
        steps.iter().for_each(|step| generator.generate(*step, &mut events));
        (events.bytes, events.ends)
    };
    let whole = bytes(SHOP, &[5_000]);
    assert_eq!(bytes(SHOP, &[1, 1, 7, 2_991, 2_000]), whole);
    assert_ne!(bytes(&SHOP.replace("42\n", "43\n"), &[5_000]), whole);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_restart_goes_on_as_if_nothing_had_happened(at in 0_u64..6_000, partitions in 1_u32..9) {
        let shop = format!("duplicates: 0.3\nmalformed: 0.1\nlate: {{share: 0.1, by: 10m}}{SHOP}");
        let mut whole = Events::default();
        Generator::new(model(&shop, 10.0).unwrap(), partitions, 0).generate(at as usize + 300, &mut whole);
        let mut rest = Events::default();
        Generator::new(model(&shop, 10.0).unwrap(), partitions, at).generate(300, &mut rest);
        prop_assert_eq!(whole.iter().skip(at as usize).collect::<Vec<_>>(), rest.iter().collect::<Vec<_>>());
    }
}

#[test]
fn shares_of_duplicates_and_late_events_are_kept() {
    let events = generate(&format!("duplicates: 0.05\nlate: {{share: 0.1, by: 10m}}{SHOP}"), 10.0, 20_000);
    let ids: BTreeSet<&str> = events.iter().map(|event| text(event, "event_id")).collect();
    let duplicates = events.len() - ids.len();
    assert!((duplicates as i64 - 1_000).abs() < 150, "{duplicates}");
    let time = |event: &Json| timestamp(text(event, "timestamp").as_bytes()).unwrap();
    let late = events.iter().zip(0..).filter(|(event, at)| START + at * 100 - time(event) >= 600_000).count();
    assert!((late as i64 - 2_000).abs() < 200, "{late}");
}

fn decode(payloads: &[&[u8]]) -> (usize, Vec<String>) {
    let mut batch = RawBatch::default();
    payloads.iter().for_each(|payload| batch.push(payload, 0, START + 3_600_000));
    let mut decoded = Decoded::default();
    Decoder::new(&stream(), &[0; 32]).decode(&mut batch, &mut decoded);
    (decoded.rows.len(), decoded.rejects.into_iter().map(|reject| reject.reason.to_owned()).collect())
}

#[test]
fn malformed_events_are_refused_by_the_decoder_and_the_others_are_not() {
    let shop = SHOP;
    let mut events = Events::default();
    Generator::new(model(&format!("malformed: 1\n{shop}"), 10.0).unwrap(), 4, 0).generate(3_000, &mut events);
    let payloads: Vec<&[u8]> = events.iter().map(|(payload, _)| payload).collect();
    let (accepted, reasons) = decode(&payloads);
    let reasons: BTreeSet<String> = reasons.into_iter().collect();
    assert_eq!(accepted, 0);
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), ["missing-field", "not-json", "wrong-type"]);
    events.clear();
    Generator::new(model(shop, 10.0).unwrap(), 4, 0).generate(3_000, &mut events);
    assert_eq!(decode(&events.iter().map(|(payload, _)| payload).collect::<Vec<_>>()).0, 3_000);
}

#[test]
fn a_realistic_load_fills_every_field_of_the_stream_with_visits() {
    let mut events = Events::default();
    let realistic = "realistic: true\nfields: {quantity: {const: 7}}";
    Generator::new(model(realistic, 50.0).unwrap(), 4, 0).generate(20_000, &mut events);
    let payloads: Vec<&[u8]> = events.iter().map(|(payload, _)| payload).collect();
    assert_eq!(decode(&payloads), (20_000, Vec::new()));
    let events: Vec<Json> = payloads.iter().map(|payload| serde_json::from_slice(payload).unwrap()).collect();
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &events {
        assert!(stream().fields.iter().all(|field| !event[&field.name].is_null()), "{event}");
        assert_eq!(event["quantity"], 7);
        assert!(["view", "add_to_cart", "purchase"].contains(&text(event, "event_type")));
        *users.entry(text(event, "user_id")).or_default() += 1;
    }
    let mean = events.len() as f64 / users.len() as f64;
    assert!((5.0..30.0).contains(&mean), "{mean} events for each of {} users", users.len());
}

#[test]
fn keys_of_lookups_are_drawn() {
    let events = generate("fields: {product_id: {from: products}, user_id: {const: u}}", 10.0, 1_000);
    let keys: BTreeSet<&str> = events.iter().map(|event| text(event, "product_id")).collect();
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["p1", "p2"]);
}

#[test]
fn what_cannot_be_made_is_named_with_its_place() {
    let refused = |text: &str, part: &str| {
        let error = model(text, 1.0).map(|_| ()).unwrap_err();
        assert!(error.contains(part), "{error}");
    };
    refused("fields: {}", "spec.fields: a generator needs fields");
    refused("fields: {a: {}}", "spec.fields.a: says no way to make a value");
    refused("fields: {a: {sequence: {format: x}}}", "spec.fields.a: format \"x\" is not");
    refused("fields: {a: {oneOf: {format: 'x%d', count: 3, share: {y: 0.5}}}}", "which is none of the 3");
    refused("fields: {a: {oneOf: {format: 'x%d', count: 3, share: {x1: 0.8, x2: 0.3}}}}", "the shares come to 1.1");
    refused("fields: {a: {weighted: {x: 0}}}", "weights must not be negative");
    refused("fields: {a: {choice: [1, x]}}", "all texts, all numbers, or all booleans");
    refused("fields: {a: {integer: {min: 2, max: 1}}}", "min must be at most max");
    refused("fields: {a: {decimal: {min: 2, max: 1}}}", "min must be at most max");
    refused("fields: {a: {template: '/{b}'}}", "there is no field \"b\"; there are a");
    refused("fields: {a: {template: '/{b'}}", "never closed");
    refused("fields: {a: {template: '/{b}'}, b: {template: '{a}'}}", "needs its own value");
    refused("fields: {a: {from: users}}", "there is no lookup \"users\"");
    refused("fields: {a: {const: 1, fixedPer: c}}", "there is no field \"c\"");
}

#[test]
fn a_generator_that_fails_goes_on_with_the_next_event() {
    let log = MemoryLog::new(3);
    let target = vec![Target { topic: "t".into(), key: Some(vec!["user_id".into()]) }];
    for fail_at in [1, 2, 5, 100] {
        log.committed.lock().unwrap().fail_at = Some(fail_at);
        let feed = Feed {
            model: model(SHOP, 10.0).unwrap(),
            total: Some(240_000),
            paced: false,
            fixed_start: true,
            until: None,
        };
        let mut topics = Topics::new(target.clone(), Routes::default(), &log);
        let ended = feed.run(&mut topics, &mut Outbox::new(Box::new(log.clone()), "shop"), &Control::new());
        assert_eq!(ended.is_err(), fail_at < 100);
    }
    let mut whole = Events::default();
    Generator::new(model(SHOP, 10.0).unwrap(), 3, 0).generate(240_000, &mut whole);
    let committed = log.committed.lock().unwrap();
    assert_eq!(committed.records.len(), 240_000);
    for ((payload, partition), record) in whole.iter().zip(&committed.records) {
        assert_eq!((partition, payload), (record.1, record.2.as_bytes()));
    }
}

#[test]
fn a_paced_generator_keeps_the_real_time() {
    let log = MemoryLog::new(1);
    let mut model = model(SHOP, 200.0).unwrap();
    let started = std::time::Instant::now();
    let start = crate::ingest::now();
    model.clock = super::clock::Clock::new(start, 200.0);
    let feed = Feed { model, total: Some(60), paced: true, fixed_start: false, until: None };
    let mut topics = Topics::new(vec![Target { topic: "t".into(), key: None }], Routes::default(), &log);
    feed.run(&mut topics, &mut Outbox::new(Box::new(log.clone()), "shop"), &Control::new()).unwrap();
    assert!(started.elapsed().as_millis() >= 290, "{:?}", started.elapsed());
    assert_eq!(log.payloads().len(), 60);
}
