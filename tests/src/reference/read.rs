//! Reading a record: JSON to one cell for each field, or the ways in which it is wrong.

use std::collections::{BTreeMap, BTreeSet};

use engine::{limits, plan::FieldPlan, value::Type};
use serde_json::value::RawValue;

use super::{cell::Cell, number, text};

/// The bytes are not JSON.
pub const NOT_JSON: &str = "not-json";
/// The bytes are not UTF-8.
pub const NOT_UTF8: &str = "not-utf8";
/// The bytes are JSON, but not one object.
pub const NOT_AN_OBJECT: &str = "not-an-object";
/// Objects and lists nest too deeply.
pub const TOO_DEEP: &str = "too-deep";
/// There are too many bytes.
pub const TOO_LARGE: &str = "too-large";
/// A field has a value of another type.
pub const WRONG_TYPE: &str = "wrong-type";
/// A field has a number that its type cannot hold.
pub const OUT_OF_RANGE: &str = "number-out-of-range";
/// A required field is absent or null.
pub const MISSING: &str = "missing-field";

type Object = BTreeMap<String, Box<RawValue>>;

/// Reads the fields; on the wrong side every reason that would be right.
///
/// # Errors
/// For a record that is invalid.
pub fn read(fields: &[FieldPlan], payload: &[u8]) -> Result<Vec<Cell>, BTreeSet<String>> {
    let object = match serde_json::from_slice::<Object>(payload) {
        Ok(object) if payload.len() <= limits::RECORD_BYTES_MAX && depth(payload) <= limits::JSON_DEPTH_MAX => object,
        _ => return Err(not_an_object(payload)),
    };
    let mut wrong = BTreeSet::new();
    let mut cells = Vec::new();
    for field in fields {
        match reach(&object, &field.path).map(|raw| raw.map_or(Some(Cell::Null), |raw| convert(&raw, field.ty))) {
            Some(Some(Cell::Null)) if field.required => drop(wrong.insert(MISSING.to_owned())),
            Some(Some(cell)) => cells.push(cell),
            None | Some(None) => wrong.extend([WRONG_TYPE, OUT_OF_RANGE].map(str::to_owned)),
        }
    }
    if wrong.is_empty() { Ok(cells) } else { Err(wrong) }
}

/// Every way in which the bytes are not one JSON object.
fn not_an_object(payload: &[u8]) -> BTreeSet<String> {
    let is_json = serde_json::from_slice::<Box<RawValue>>(payload).is_ok();
    let ways = [
        (TOO_LARGE, payload.len() > limits::RECORD_BYTES_MAX),
        (TOO_DEEP, depth(payload) > limits::JSON_DEPTH_MAX),
        (NOT_UTF8, std::str::from_utf8(payload).is_err()),
        (NOT_JSON, !is_json),
        (NOT_AN_OBJECT, is_json),
    ];
    ways.iter().filter(|(_, is_so)| *is_so).map(|(way, _)| (*way).to_owned()).collect()
}

/// How deeply objects and lists nest, counted outside strings.
fn depth(payload: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Follows a path of keys: `Some(None)` where nothing is there, `None` where something on the way is not an object.
fn reach(object: &Object, path: &[String]) -> Option<Option<Box<RawValue>>> {
    let (first, rest) = path.split_first().expect("a field has a path");
    match object.get(first) {
        None => Some(None),
        Some(raw) if rest.is_empty() || raw.get() == "null" => Some(Some(raw.clone())),
        Some(raw) => reach(&serde_json::from_str::<Object>(raw.get()).ok()?, rest),
    }
}

/// Converts a JSON value to a type; `None` where it is of another.
fn convert(raw: &RawValue, ty: Type) -> Option<Cell> {
    let raw = raw.get();
    if raw == "null" {
        return Some(Cell::Null);
    }
    let string = || serde_json::from_str::<String>(raw).ok();
    let is_number = raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    match ty {
        Type::Boolean => raw.parse().ok().map(Cell::Boolean),
        Type::Integer if is_number => raw.parse().ok().map(Cell::Integer),
        Type::Decimal if is_number => number::parse(raw).map(Cell::Decimal),
        Type::Decimal => number::parse(&string()?).map(Cell::Decimal),
        Type::String => string().map(Cell::Text),
        Type::Timestamp if is_number => Some(Cell::Time(epoch(number::parse(raw)?))),
        Type::Timestamp => text::parse_time(&string()?).map(Cell::Time),
        Type::Integer | Type::List => None,
    }
}

/// Seconds, milliseconds or microseconds, by their size, to milliseconds.
fn epoch(value: i128) -> i64 {
    let millis = match value / number::ONE {
        size if size.abs() < 100_000_000_000 => (value * 1_000).div_euclid(number::ONE),
        size if size.abs() < 100_000_000_000_000 => value.div_euclid(number::ONE),
        _ => value.div_euclid(number::ONE * 1_000),
    };
    millis.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, ty: Type, required: bool) -> FieldPlan {
        let path = name.split('.').map(str::to_owned).collect();
        FieldPlan { name: name.into(), path, ty, required, hashed: false }
    }

    #[test]
    fn records_are_read_or_refused() {
        let fields = [
            field("s", Type::String, true),
            field("n.i", Type::Integer, false),
            field("d", Type::Decimal, false),
            field("t", Type::Timestamp, false),
            field("b", Type::Boolean, false),
        ];
        let good = |json: &str| read(&fields, json.as_bytes()).unwrap();
        let bad = |json: &[u8], reason: &str| {
            let reasons = read(&fields, json).unwrap_err();
            assert!(reasons.contains(reason), "{reasons:?} for {}", String::from_utf8_lossy(json));
        };
        let text = |text: &str| Cell::Text(text.into());
        let null = || Cell::Null;
        assert_eq!(good(r#"{"s":"é\u00e9","x":[1e400,{}]}"#), [text("éé"), null(), null(), null(), null()]);
        assert_eq!(good(r#"{"s":"a","s":"b","n":{"i":-7}}"#)[..2], [text("b"), Cell::Integer(-7)]);
        assert_eq!(
            good(r#"{"s":"","n":null,"d":"1.25","t":1700000000,"b":true}"#)[2..],
            [Cell::Decimal(1_250_000_000), Cell::Time(1_700_000_000_000), Cell::Boolean(true)]
        );
        assert_eq!(good(r#"{"s":"","t":1700000000123456}"#)[3], Cell::Time(1_700_000_000_123));
        bad(b"", NOT_JSON);
        bad(b"[]", NOT_AN_OBJECT);
        bad(b"{\"s\":\"a\"", NOT_JSON);
        bad(b"{\"s\":\"a\"} x", NOT_JSON);
        bad(b"{\"s\":\"\xff\"}", NOT_UTF8);
        bad(b"{\"s\":NaN}", NOT_JSON);
        bad(b"{\"s\":1}", WRONG_TYPE);
        bad(b"{\"s\":null}", MISSING);
        bad(b"{}", MISSING);
        bad(b"{\"s\":\"a\",\"n\":{\"i\":1.5}}", WRONG_TYPE);
        bad(b"{\"s\":\"a\",\"d\":1e400}", OUT_OF_RANGE);
        bad(b"{\"s\":\"a\",\"b\":\"true\"}", WRONG_TYPE);
        bad(format!("{{\"s\":\"a\",\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000)).as_bytes(), TOO_DEEP);
    }
}
