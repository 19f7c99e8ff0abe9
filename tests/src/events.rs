//! Random events of a small shop, with everything that can be wrong with them.
//!
//! The shop has few users, products and times, so that keys meet, windows have neighbours and events share a
//! millisecond. Events are made in order of time and put into an order of arrival afterwards; how they lie in
//! partitions is decided last, so that one stream of events can be laid out in several ways.

use std::fmt::Write as _;

use engine::{output::Source, plan::Plan, time::rfc3339};

use crate::{
    random::Random,
    reference::{Input, Record},
};

/// 2023-11-14T22:13:20Z: aligned to nothing longer than ten seconds.
pub const START_MS: i64 = 1_700_000_000_000;

/// What kind of stream to make.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many events, duplicates and bad ones included.
    pub count: u64,
    /// Mean distance of two events in time.
    pub step_ms: i64,
    /// Events arrive late by at most this; the manifest's bound, or less.
    pub disorder_ms: i64,
    /// How many are later than that, and by how much at most.
    pub late_percent: u64,
    /// See `late_percent`.
    pub late_ms: i64,
    /// How many repeat an earlier one.
    pub duplicate_percent: u64,
    /// How many are not valid.
    pub bad_percent: u64,
    /// How many users there are.
    pub users: u64,
    /// How many products there are.
    pub products: u64,
}

impl Shape {
    /// Draws a stream in which nothing is later than `bound_ms`.
    pub fn on_time(random: &mut Random, bound_ms: i64) -> Self {
        Self {
            count: *random.pick(&[0, 1, 5, 40, 150, 300]),
            step_ms: *random.pick(&[1, 200, 3_000, 20_000]),
            disorder_ms: *random.pick(&[0, bound_ms / 3, bound_ms]),
            late_percent: 0,
            late_ms: 0,
            duplicate_percent: *random.pick(&[0, 10]),
            bad_percent: *random.pick(&[0, 10]),
            users: *random.pick(&[1, 3, 12]),
            products: *random.pick(&[1, 3, 12]),
        }
    }

    /// Draws a stream in which some events are later than the bound.
    pub fn with_late(random: &mut Random, bound_ms: i64) -> Self {
        let late_ms = bound_ms * *random.pick(&[2, 8, 40]);
        Self { late_percent: *random.pick(&[5, 30]), late_ms, ..Self::on_time(random, bound_ms) }
    }
}

/// An event before it has a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Name of the topic.
    pub topic: &'static str,
    /// What partitions it.
    pub key: u64,
    /// The bytes.
    pub payload: Vec<u8>,
    /// Its event time.
    pub time: i64,
    /// When it arrives.
    pub at: i64,
}

/// Makes events for the topics `clicks` and `orders`, and offers for `offers`, in order of arrival.
pub fn arrivals(shape: &Shape, random: &mut Random) -> Vec<Arrival> {
    let mut made: Vec<Arrival> = Vec::new();
    for number in 0..shape.count {
        if !made.is_empty() && random.chance(shape.duplicate_percent) {
            let first = random.pick(&made).clone();
            let at = first.at.max(first.time + delay(shape, random));
            made.push(Arrival { at, ..first });
            continue;
        }
        let time = START_MS + number as i64 * shape.step_ms + random.between(0, shape.step_ms);
        // Without an id, only the time tells two events apart.
        let has_id = random.chance(80);
        let second = time - time.rem_euclid(1_000);
        let time = match has_id {
            true if random.chance(60) => second,
            true => time,
            false => second + 1 + (number % 998) as i64,
        };
        let event = match random.below(100) {
            draw if draw < shape.bad_percent => bad(number, time, shape, random),
            draw if draw >= 88 => offer(number, time, shape, random),
            _ => event(has_id.then_some(number), time, shape, random),
        };
        made.push(Arrival { at: time + delay(shape, random), ..event });
    }
    made.sort_by_key(|arrival| arrival.at);
    made
}

/// Another order of arrival of the same events, in which none is later than `disorder_ms`.
pub fn rearranged(arrivals: &[Arrival], disorder_ms: i64, random: &mut Random) -> Vec<Arrival> {
    let again = |arrival: &Arrival| Arrival { at: arrival.time + random.between(0, disorder_ms), ..arrival.clone() };
    let mut arrivals: Vec<Arrival> = arrivals.iter().map(again).collect();
    arrivals.sort_by_key(|arrival| arrival.at);
    arrivals
}

fn delay(shape: &Shape, random: &mut Random) -> i64 {
    let longest = if random.chance(shape.late_percent) { shape.late_ms } else { shape.disorder_ms };
    random.between(0, longest)
}

/// Lays events out over the plan's partitions: by key, so that repetitions meet, or anyhow.
pub fn lay_out(plan: &Plan, arrivals: &[Arrival], by_key: bool, random: &mut Random) -> Input {
    let mut input = Input::new();
    for arrival in arrivals {
        let Some(topic) = plan.topics.iter().position(|topic| topic.name == arrival.topic) else { continue };
        let partitions = u64::from(plan.topics[topic].partitions);
        let partition = if by_key { arrival.key % partitions } else { random.below(partitions) } as u32;
        let records = input.entry(Source { topic: topic as u32, partition }).or_default();
        // Logs have gaps where transactions ended or compaction was at work.
        let offset = records.last().map_or(0, |last: &Record| last.offset + 1) + u64::from(random.chance(10));
        records.push(Record { payload: arrival.payload.clone(), offset, arrival: arrival.at });
    }
    input
}

const NAMES: [&str; 6] = ["ada", "bjørn", "名前", "q\"uote", "tab\there", "🦀"];

fn name(prefix: &str, number: u64) -> String {
    format!("{prefix}-{}-{number}", NAMES[(number % NAMES.len() as u64) as usize])
}

/// A valid event, written in one of many ways.
fn event(id: Option<u64>, time: i64, shape: &Shape, random: &mut Random) -> Arrival {
    let topic = if random.chance(70) { "clicks" } else { "orders" };
    let user = random.below(shape.users);
    let mut fields = vec![("user", string(&name("user", user), random))];
    if let Some(number) = id {
        fields.push(("id", string(&format!("e{number}"), random)));
    }
    fields.push(("at", timestamp(time, random)));
    let kind = *random.pick(&["view", "view", "cart", "buy", "undo", "other"]);
    fields.push(("kind", string(kind, random)));
    if random.chance(90) {
        fields.push(("product", string(&name("product", random.below(shape.products)), random)));
    }
    optional("price", price(random), random, &mut fields);
    optional("quantity", random.between(-3, 9).to_string(), random, &mut fields);
    optional("ok", random.chance(50).to_string(), random, &mut fields);
    let city = string(&name("city", random.below(3)), random);
    optional("shop", format!("{{\"x\":[{{}},\"}}\"],\"city\":{city}}}"), random, &mut fields);
    if random.chance(10) {
        fields.push(("unknown", "[1e400,{\"deep\":[[]]},\"\\\"\",null]".to_owned()));
    }
    Arrival { topic, key: user, payload: object(fields, random).into_bytes(), time, at: 0 }
}

fn optional(name: &'static str, value: String, random: &mut Random, fields: &mut Vec<(&'static str, String)>) {
    match random.below(10) {
        0 => {}
        1 => fields.push((name, "null".to_owned())),
        _ => fields.push((name, value)),
    }
}

/// A promotion of a product, sometimes longer than the join allows.
fn offer(number: u64, time: i64, shape: &Shape, random: &mut Random) -> Arrival {
    let product = random.below(shape.products);
    let length = *random.pick(&[-1, 0, 1_000, 30_000, 60_000, 60_001, 300_000]);
    let fields = vec![
        ("offer", string(&format!("o{number}"), random)),
        ("product", string(&name("product", product), random)),
        ("starts", timestamp(time, random)),
        ("ends", timestamp(time + length, random)),
        ("discount", price(random)),
    ];
    Arrival { topic: "offers", key: product, payload: object(fields, random).into_bytes(), time, at: 0 }
}

/// A record that cannot be counted, and must not stop anything.
fn bad(number: u64, time: i64, shape: &Shape, random: &mut Random) -> Arrival {
    let mut event = event(Some(number), time, shape, random);
    let text = String::from_utf8(event.payload).expect("events are written as text");
    let field = |from: &str, to: &str| text.replacen(from, to, 1).into_bytes();
    event.payload = match random.below(14) {
        0 => Vec::new(),
        1 => b"not json".to_vec(),
        2 => text.as_bytes()[..text.len() / 2].to_vec(),
        3 => b"[]".to_vec(),
        4 => b"{}".to_vec(),
        5 => field("\"user\"", "\"nobody\""),
        6 => b"{\"user\":\"\xff\xfe\",\"kind\":\"view\",\"at\":1700000000}".to_vec(),
        7 => format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes(),
        8 => b"{\"user\":\"u\",\"kind\":\"view\",\"at\":1700000000,\"price\":NaN}".to_vec(),
        9 => b"{\"user\":\"u\",\"kind\":\"view\",\"at\":1700000000,\"price\":1e400}".to_vec(),
        10 => b"{\"user\":\"u\",\"kind\":\"view\",\"at\":\"9999-01-01T00:00:00Z\"}".to_vec(),
        11 => b"{\"user\":\"u\",\"kind\":\"view\",\"at\":-5}".to_vec(),
        12 => b"{\"user\":17,\"kind\":\"view\",\"at\":1700000000}".to_vec(),
        _ => b"{\"user\":\"u\",\"kind\":\"view\",\"at\":1700000000,\"price\":-1}".to_vec(),
    };
    event
}

/// A JSON object; fields in any order, now and then one twice, of which the last counts.
fn object(mut fields: Vec<(&'static str, String)>, random: &mut Random) -> String {
    if random.chance(30) {
        random.shuffle(&mut fields);
    }
    if random.chance(5) {
        fields.insert(0, ("quantity", "77".to_owned()));
        if !fields[1..].iter().any(|(name, _)| *name == "quantity") {
            fields.push(("quantity", "5".to_owned()));
        }
    }
    let space = if random.chance(20) { " " } else { "" };
    let mut out = format!("{space}{{{space}");
    for (at, (name, value)) in fields.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(out, "{comma}{space}\"{name}\"{space}:{space}{value}");
    }
    let _ = write!(out, "{space}}}{space}");
    out
}

/// A JSON string, sometimes with more escapes than it needs.
fn string(text: &str, random: &mut Random) -> String {
    if random.chance(85) {
        return serde_json::Value::from(text).to_string();
    }
    let mut out = String::from("\"");
    for unit in text.encode_utf16() {
        let _ = write!(out, "\\u{unit:04x}");
    }
    out.push('"');
    out
}

fn price(random: &mut Random) -> String {
    let cents = random.between(0, 50_000);
    let number = match random.below(5) {
        0 => format!("{}", cents / 100),
        1 => format!("{}.{:02}", cents / 100, cents % 100),
        2 => format!("{cents}e-2"),
        3 => format!("0.{:09}5", cents),
        _ => format!("{}.{:03}", cents / 7, cents % 1_000),
    };
    if random.chance(20) { format!("\"{number}\"") } else { number }
}

/// A time in one of the ways in which people write it.
fn timestamp(time: i64, random: &mut Random) -> String {
    match random.below(6) {
        0 if time % 1_000 == 0 => (time / 1_000).to_string(),
        1 => time.to_string(),
        2 => format!("{}{:03}", time, random.below(1_000)),
        3 => {
            let local = rfc3339(time + 90 * 60_000);
            format!("\"{}+01:30\"", local.trim_end_matches('Z'))
        }
        4 => format!("\"{}\"", rfc3339(time).replace('T', " ").trim_end_matches('Z')),
        _ => format!("\"{}\"", rfc3339(time)),
    }
}
