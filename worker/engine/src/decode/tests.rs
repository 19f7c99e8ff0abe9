//! The two scanners against each other, and the table of bad records.

use proptest::prelude::*;

use super::*;
use crate::{plan::EventTimePlan, value::Value};

const ARRIVAL: Millis = 1_000_000_000_000;

fn stream() -> StreamPlan {
    let field = |name: &str, ty, required| FieldPlan {
        name: name.into(),
        path: vec![name.into()],
        ty,
        required,
        hashed: name == "mail",
    };
    StreamPlan {
        name: "events".into(),
        topics: vec![0],
        key: None,
        fields: vec![
            field("id", Type::String, true),
            field("n", Type::Integer, false),
            field("price", Type::Decimal, false),
            field("ok", Type::Boolean, false),
            field("at", Type::Timestamp, true),
            field("mail", Type::String, false),
        ],
        columns: Vec::new(),
        event_time: Some(EventTimePlan { column: 4, out_of_orderness_ms: 0, idle_after_ms: 0 }),
        deduplicate: None,
        rules: Vec::new(),
        enrich: Vec::new(),
        bots: None,
        derive: Vec::new(),
        quality: None,
        silver: false,
    }
}

/// Rows as values, and rejects as (record, reason).
type Read = (Vec<Vec<Value>>, Vec<(u32, &'static str)>);

fn read(decoder: &mut Decoder, records: &[Vec<u8>]) -> Read {
    let mut batch = RawBatch::default();
    records.iter().enumerate().for_each(|(at, record)| batch.push(record, at as u64, ARRIVAL));
    let mut decoded = Decoded::default();
    decoder.decode(&mut batch, &mut decoded);
    let row = |row: usize| decoded.columns.iter().map(|column| column.value(row, &batch.bytes)).collect();
    let rejects = decoded.rejects.iter().map(|reject| (reject.record, reject.reason)).collect();
    ((0..decoded.rows.len()).map(row).collect(), rejects)
}

fn read_both(records: &[Vec<u8>]) -> (Read, Read) {
    let mut fast = Decoder::new(&stream(), &[7; 32]);
    let mut slow = Decoder::new(&stream(), &[7; 32]);
    slow.flat = None;
    (read(&mut fast, records), read(&mut slow, records))
}

/// Whole and broken pieces of JSON, so that most documents are nearly right.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("nul".to_owned()),
        any::<i64>().prop_map(|value| value.to_string()),
        (0_u64..3_000_000_000_000).prop_map(|value| value.to_string()),
        "-?[0-9]{1,4}(\\.[0-9]{0,12})?([eE][+-]?[0-9]{0,3})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"[a-z\\\\\"\u{0}-\u{20}é]{0,9}\"",
        Just("\"2001-09-09T01:46:40.5+02:00\"".to_owned()),
        Just("\"\\ud83d\\ude00 \\ud800\"".to_owned()),
        Just("{\"a\":[1,{}]}".to_owned()),
        Just("[".to_owned()),
    ]
}

fn document() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof!["id|n|price|ok|at|mail", "[a-z]{1,3}", Just("i\\u0064".to_owned())];
    let space = prop_oneof![Just(String::new()), "[ \n\t\r]{1,2}"];
    let member = (key, space.clone(), value(), space)
        .prop_map(|(key, before, value, after)| format!("{before}\"{key}\"{before}:{after}{value}{after}"));
    let whole = proptest::collection::vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(",")));
    (whole, any::<prop::sample::Index>(), 0..10_u8, any::<u8>()).prop_map(|(text, at, how, byte)| {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        match how {
            0 => bytes.truncate(at),
            1 => bytes[at] = byte,
            2 => bytes.push(byte),
            _ => {}
        }
        bytes
    })
}

proptest! {
    #[test]
    fn both_scanners_give_the_same_answer(records in proptest::collection::vec(document(), 1..12)) {
        let (fast, slow) = read_both(&records);
        prop_assert_eq!(fast, slow);
    }

    #[test]
    fn garbage_is_refused_and_never_a_panic(records in proptest::collection::vec(any::<Vec<u8>>(), 1..8)) {
        let (fast, slow) = read_both(&records);
        prop_assert_eq!(fast, slow);
    }
}

#[test]
fn bad_records_say_why() {
    let check = |record: &[u8], want: &str| {
        let (fast, slow) = read_both(&[record.to_vec()]);
        assert_eq!(fast, slow, "{}", String::from_utf8_lossy(record));
        assert_eq!(fast.1, [(0, want)], "{}", String::from_utf8_lossy(record));
    };
    let deep = format!("{{\"id\":\"a\",\"at\":1,\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let huge = format!("{{\"id\":\"{}\",\"at\":1}}", "x".repeat(10 << 20));
    check(b"", "not-json");
    check(b"nonsense", "not-json");
    check(b"{\"id\":\"a\",\"at\":1", "not-json");
    check(b"{\"id\":\"a\",\"at\":1}}", "not-json");
    check(b"[1]", "not-an-object");
    check(b"3", "not-an-object");
    check(b"{\"id\":\"\xff\",\"at\":1}", "not-utf8");
    check(b"{\"id\":7,\"at\":1}", "wrong-type");
    check(b"{\"id\":\"a\",\"at\":1,\"n\":1.5}", "wrong-type");
    check(b"{\"id\":\"a\",\"at\":1,\"price\":\"dear\"}", "wrong-type");
    check(b"{\"id\":\"a\",\"at\":1,\"price\":NaN}", "not-json");
    check(b"{\"id\":\"a\",\"at\":1,\"price\":1e400}", "number-out-of-range");
    check(b"{\"id\":\"a\",\"at\":1,\"n\":99999999999999999999}", "number-out-of-range");
    check(b"{\"at\":1}", "missing-field");
    check(b"{\"id\":null,\"at\":1}", "missing-field");
    check(b"{\"id\":\"a\"}", "missing-field");
    check(b"{\"id\":\"a\",\"at\":-5}", "time-out-of-range");
    check(b"{\"id\":\"a\",\"at\":\"9999-06-01T00:00:00Z\"}", "wrong-type");
    check(b"{\"id\":\"a\",\"at\":\"2030-06-01T00:00:00Z\"}", "time-out-of-range");
    check(deep.as_bytes(), "too-deep");
    check(huge.as_bytes(), "too-large");
}

#[test]
fn good_records_are_read_exactly() {
    let record = br#"{"x":{"id":"no"},"id":"B\u00e9","id":"B\u00e9b\u00e9","price":"0.10","n":-3,"ok":true,"at":1000000000,"mail":"a@b"}"#;
    let (fast, slow) = read_both(&[record.to_vec()]);
    assert_eq!(fast, slow);
    let row = &fast.0[0];
    assert_eq!(row[0], Value::String("Bébé".into()));
    assert_eq!(row[1], Value::Integer(-3));
    assert_eq!(row[2], Value::Decimal(Decimal(100_000_000)));
    assert_eq!(row[4], Value::Timestamp(1_000_000_000_000));
    let Value::String(hash) = &row[5] else { panic!("a hash is text") };
    assert_eq!(hash.len(), 32);
    assert!(!hash.contains('@'));
}
