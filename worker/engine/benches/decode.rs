//! What decoding costs for each event, in nanoseconds of CPU: `cargo bench -p engine --bench decode`.
//!
//! The events are the yardstick's: about 260 bytes, ten fields. Beside the common shape it measures what leaves it:
//! spaces, an unknown nested object, fields that lie nested, an escape in every record, a hashed field.

mod measure;

use std::hint::black_box;

use engine::{
    batch::RawBatch,
    decode::{Decoded, Decoder},
    plan::{EventTimePlan, FieldPlan, StreamPlan},
    time::{Millis, rfc3339},
    value::Type,
};
use measure::{Random, quickest};

const EVENTS: usize = 20_000;
const START: Millis = 1_763_700_000_000;

fn main() {
    let plain = events(|event| event.to_owned());
    println!("{:.0} bytes an event", plain.iter().map(String::len).sum::<usize>() as f64 / EVENTS as f64);
    measure("ten fields", &fields(&[], ""), &plain);
    measure("four fields of ten", &fields(&["event_id", "product_id", "timestamp", "price"], ""), &plain);
    measure("ten fields, one hashed", &fields(&[], "user_id"), &plain);
    let spaced = events(|event| event.replace("\":", "\": ").replace(",\"", ", \""));
    measure("ten fields, spaces", &fields(&[], ""), &spaced);
    let context = r#"{"context":{"ip":"10.0.0.1","tags":["a","b",{"c":null}],"scroll":0.25},"#;
    let unknown = events(|event| event.replacen('{', context, 1));
    measure("ten fields, an unknown object", &fields(&[], ""), &unknown);
    let inside = events(|event| format!("{{\"event\":{event}}}"));
    let mut deep = fields(&[], "");
    deep.iter_mut().for_each(|field| field.path.insert(0, "event".into()));
    measure("ten fields, nested", &deep, &inside);
    let escaped = events(|event| event.replace("/product/", "\\/product\\/"));
    measure("ten fields, an escape", &fields(&[], ""), &escaped);
}

fn measure(name: &str, fields: &[FieldPlan], events: &[String]) {
    let time = fields.iter().position(|field| field.ty == Type::Timestamp).expect("there is a time");
    let mut decoder = Decoder::new(&stream(fields, time), &[7; 32]);
    let mut filled = RawBatch::default();
    events.iter().enumerate().for_each(|(at, event)| filled.push(event.as_bytes(), at as u64, START + 86_400_000));
    let (mut batch, mut decoded) = (filled.clone(), Decoded::default());
    quickest(name, EVENTS, || {
        batch.bytes.truncate(filled.bytes.len());
        decoder.decode(&mut batch, &mut decoded);
        black_box(&decoded);
    });
    assert_eq!(decoded.rows.len(), EVENTS, "{:?}", decoded.rejects.first());
}

/// The yardstick's fields, all or the `kept`.
fn fields(kept: &[&str], hashed: &str) -> Vec<FieldPlan> {
    let all = [
        ("event_id", Type::String),
        ("user_id", Type::String),
        ("product_id", Type::String),
        ("event_type", Type::String),
        ("timestamp", Type::Timestamp),
        ("session_id", Type::String),
        ("product_category", Type::String),
        ("device_type", Type::String),
        ("page_url", Type::String),
        ("price", Type::Decimal),
    ];
    let kept = all.into_iter().filter(|(name, _)| kept.is_empty() || kept.contains(name));
    kept.map(|(name, ty)| FieldPlan {
        name: name.into(),
        path: vec![name.into()],
        ty,
        required: true,
        hashed: name == hashed,
    })
    .collect()
}

fn stream(fields: &[FieldPlan], time: usize) -> StreamPlan {
    StreamPlan {
        name: "events".into(),
        topics: vec![0],
        key: None,
        fields: fields.to_vec(),
        columns: Vec::new(),
        event_time: Some(EventTimePlan { column: time, out_of_orderness_ms: 30_000, idle_after_ms: 30_000 }),
        deduplicate: None,
        rules: Vec::new(),
        enrich: Vec::new(),
        bots: None,
        derive: Vec::new(),
        quality: None,
        silver: false,
    }
}

fn events(change: impl Fn(&str) -> String) -> Vec<String> {
    let mut random = Random(1);
    (0..EVENTS).map(|at| change(&event(at, &mut random))).collect()
}

fn event(at: usize, random: &mut Random) -> String {
    let product = random.below(1_000);
    format!(
        concat!(
            r#"{{"event_id":"evt_{:08}","user_id":"user_{:05}","product_id":"prod_{:04}","event_type":"{}","#,
            r#""timestamp":"{}","session_id":"session_{:04}","product_category":"{}","device_type":"{}","#,
            r#""page_url":"/product/prod_{:04}","price":{}.{:02}}}"#
        ),
        at,
        random.below(50_000),
        product,
        random.pick(&["view", "view", "view", "add_to_cart", "purchase"]),
        rfc3339(START + at as Millis - random.below(30_000) as Millis),
        random.below(10_000),
        random.pick(&["Electronics", "Clothing", "Home", "Books", "Sports"]),
        random.pick(&["mobile", "desktop", "tablet"]),
        product,
        5 + random.below(495),
        random.below(100),
    )
}
