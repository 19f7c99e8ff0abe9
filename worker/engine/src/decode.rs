//! JSON straight into the columns that a stream declares.
//!
//! Two scanners give the same answers: [`flat`] for the common shape (one flat object, strings without escapes), made
//! for speed; [`nested`] for everything else, over a general parser. Either leaves for each field what was found, and one
//! conversion turns that into columns. A property test holds the scanners against each other.

mod flat;
mod nested;
pub mod timestamps;
#[cfg(test)]
mod tests;

#[cfg(test)]
use crate::value::Type;
use crate::{
    batch::{RawBatch, RawRecord},
    column::{Column, Data, Span, append},
    decimal::{Decimal, ONE},
    hashing::keyed_hash,
    limits::{FUTURE_MS_MAX, RECORD_BYTES_MAX},
    plan::{FieldPlan, StreamPlan},
    time::{Millis, TIME_MAX},
};
use flat::FlatScanner;
use nested::NestedScanner;
pub use timestamps::timestamp;

/// Decodes the records of one stream.
pub struct Decoder {
    fields: Vec<FieldPlan>,
    event_time: Option<usize>,
    hash_key: [u8; 32],
    /// `None` where a field lies deeper than the first level.
    flat: Option<FlatScanner>,
    nested: NestedScanner,
    found: Vec<Found>,
}

/// The rows of a batch that could be decoded, and what was wrong with the others.
#[derive(Debug, Default)]
pub struct Decoded {
    /// One column for each field.
    pub columns: Vec<Column>,
    /// The record of each row.
    pub rows: Vec<u32>,
    /// Records without a row, in order.
    pub rejects: Vec<Reject>,
}

/// A record that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Index into the batch's records.
    pub record: u32,
    /// Why, as a word that can be counted.
    pub reason: &'static str,
    /// Field and what was found, for people.
    pub detail: String,
}

/// What a scanner found for a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Found {
    #[default]
    Absent,
    Null,
    Boolean(bool),
    /// The literal.
    Number(Span),
    /// The text, unescaped.
    String(Span),
    /// An object or a list.
    Composite,
}

/// Why a record or a field is refused: reason and detail.
type Refusal = (&'static str, String);

impl Decoder {
    /// Makes a decoder. `hash_key` hides `hashed` fields.
    #[must_use]
    pub fn new(stream: &StreamPlan, hash_key: &[u8; 32]) -> Self {
        let is_flat = stream.fields.iter().all(|field| field.path.len() == 1);
        Self {
            event_time: stream.event_time.as_ref().map(|time| time.column),
            hash_key: *hash_key,
            flat: is_flat.then(|| FlatScanner::new(&stream.fields)),
            nested: NestedScanner::new(&stream.fields),
            found: vec![Found::Absent; stream.fields.len()],
            fields: stream.fields.clone(),
        }
    }

    /// Decodes a batch: rows for good records, rejects for the others. Strings that had to be made are appended to the
    /// batch's bytes.
    pub fn decode(&mut self, batch: &mut RawBatch, out: &mut Decoded) {
        out.rows.clear();
        out.rejects.clear();
        if out.columns.len() != self.fields.len() {
            out.columns = self.fields.iter().map(|field| Column::new(field.ty)).collect();
        }
        out.columns.iter_mut().for_each(Column::clear);
        let RawBatch { bytes, records, .. } = batch;
        for (at, record) in records.iter().enumerate() {
            let read = self.scan(bytes, record).and_then(|()| self.convert(bytes, record, &mut out.columns));
            match read {
                Ok(()) => out.rows.push(at as u32),
                Err((reason, detail)) => {
                    out.columns.iter_mut().for_each(|column| column.truncate(out.rows.len()));
                    out.rejects.push(Reject { record: at as u32, reason, detail });
                }
            }
        }
    }

    fn scan(&mut self, arena: &mut Vec<u8>, record: &RawRecord) -> Result<(), Refusal> {
        if record.len as usize > RECORD_BYTES_MAX {
            return Err(("too-large", format!("{} bytes, at most {RECORD_BYTES_MAX}", record.len)));
        }
        let span = Span { start: record.start, len: record.len };
        let text = match std::str::from_utf8(span.of(arena)) {
            Ok(text) => text,
            Err(error) => return Err(("not-utf8", format!("at byte {}", error.valid_up_to()))),
        };
        self.found.fill(Found::Absent);
        if let Some(flat) = &mut self.flat {
            if flat.scan(text.as_bytes(), record.start, &mut self.found) {
                return Ok(());
            }
            self.found.fill(Found::Absent);
        }
        self.nested.scan(span, arena, &mut self.found)
    }

    fn convert(&mut self, arena: &mut Vec<u8>, record: &RawRecord, columns: &mut [Column]) -> Result<(), Refusal> {
        for (at, ((field, found), column)) in self.fields.iter().zip(&self.found).zip(columns.iter_mut()).enumerate() {
            let is_time = self.event_time == Some(at);
            if matches!(found, Found::Absent | Found::Null) {
                if field.required || is_time {
                    let what = if *found == Found::Null { "is null" } else { "is missing" };
                    return Err(("missing-field", format!("{} {what}", field.name)));
                }
                column.push_null();
                continue;
            }
            push(field, *found, arena, column)?;
            if is_time {
                check_event_time(field, column, record.arrival)?;
            }
            if field.hashed {
                hash_last(&self.hash_key, column, arena);
            }
        }
        Ok(())
    }
}

/// Appends what was found to the field's column.
#[inline]
fn push(field: &FieldPlan, found: Found, arena: &[u8], column: &mut Column) -> Result<(), Refusal> {
    match (&mut column.data, found) {
        (Data::String(spans), Found::String(span)) => spans.push(span),
        (Data::Boolean(values), Found::Boolean(value)) => values.push(value),
        (Data::Decimal(values), Found::Number(span)) => {
            values.push(Decimal::parse(span.of(arena)).ok_or_else(|| out_of_range(field, span, arena))?);
        }
        (Data::Decimal(values), Found::String(span)) => {
            values.push(Decimal::parse(span.of(arena)).ok_or_else(|| wrong_type(field, found, arena))?);
        }
        (Data::Integer(values), Found::Number(span)) => values.push(integer(field, span, arena)?),
        (Data::Timestamp(values), Found::String(span)) => {
            values.push(timestamp(span.of(arena)).ok_or_else(|| wrong_type(field, found, arena))?);
        }
        (Data::Timestamp(values), Found::Number(span)) => {
            values.push(epoch(span.of(arena)).ok_or_else(|| out_of_range(field, span, arena))?);
        }
        _ => return Err(wrong_type(field, found, arena)),
    }
    column.valid.push(true);
    Ok(())
}

fn integer(field: &FieldPlan, span: Span, arena: &[u8]) -> Result<i64, Refusal> {
    let text = std::str::from_utf8(span.of(arena)).expect("numbers are ASCII");
    if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return Err(wrong_type(field, Found::Number(span), arena));
    }
    text.parse().map_err(|_| out_of_range(field, span, arena))
}

/// A number as a time: below 10¹¹ seconds, below 10¹⁴ milliseconds, else microseconds.
#[must_use]
pub fn epoch(text: &[u8]) -> Option<Millis> {
    let units = Decimal::parse(text)?.0;
    let magnitude = units.unsigned_abs() / ONE as u128;
    let per_ms = match magnitude {
        0..100_000_000_000 => ONE / 1_000,
        100_000_000_000..100_000_000_000_000 => ONE,
        _ => ONE * 1_000,
    };
    let time = Millis::try_from(units.div_euclid(per_ms)).ok()?;
    (time.unsigned_abs() <= TIME_MAX as u64).then_some(time)
}

fn check_event_time(field: &FieldPlan, column: &Column, arrival: Millis) -> Result<(), Refusal> {
    let Data::Timestamp(values) = &column.data else { unreachable!("bug: event time is a time") };
    let time = *values.last().expect("it was pushed by the caller");
    if time >= 0 && time <= arrival.saturating_add(FUTURE_MS_MAX).min(TIME_MAX) {
        return Ok(());
    }
    let when = if time < 0 { "before 1970" } else { "more than a day after the record's arrival" };
    Err(("time-out-of-range", format!("{}: {} is {when}", field.name, crate::time::rfc3339(time))))
}

fn hash_last(key: &[u8; 32], column: &mut Column, arena: &mut Vec<u8>) {
    let Data::String(spans) = &mut column.data else { unreachable!("bug: hashed fields are strings") };
    let last = spans.last_mut().expect("it was pushed by the caller");
    let hash = keyed_hash(key, last.of(arena));
    *last = append(&hash, arena);
}

fn wrong_type(field: &FieldPlan, found: Found, arena: &[u8]) -> Refusal {
    let shown = |span: Span| String::from_utf8_lossy(&span.of(arena)[..span.len.min(64) as usize]).into_owned();
    let found = match found {
        Found::Absent | Found::Null => "null".to_owned(),
        Found::Boolean(value) => value.to_string(),
        Found::Number(span) => shown(span),
        Found::String(span) => format!("\"{}\"", shown(span)),
        Found::Composite => "an object or a list".to_owned(),
    };
    ("wrong-type", format!("{}: found {found}, expected {}", field.name, field.ty.name()))
}

fn out_of_range(field: &FieldPlan, span: Span, arena: &[u8]) -> Refusal {
    let shown = String::from_utf8_lossy(&span.of(arena)[..span.len.min(64) as usize]).into_owned();
    ("number-out-of-range", format!("{}: {shown} does not fit {}", field.name, field.ty.name()))
}
