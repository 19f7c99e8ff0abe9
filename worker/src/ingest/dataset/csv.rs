//! CSV records as JSON objects.
//!
//! The machine is csv-core's (the one inside the `csv` crate), because it tells how many bytes each record took:
//! a record that does not fit the header goes to the log as it stands in the file, with its file and line before
//! it. No decoder takes that for JSON, so it becomes a dead letter (`not-json`) that says where to look; nothing is
//! skipped.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use engine::{decimal::Decimal, value::Type};

use super::{
    block::{Block, Place, Row},
    splitter::Split,
};
use crate::ingest::layout::{Layout, Member};

/// Cuts CSV into records and writes them as JSON.
pub struct CsvSplitter {
    file: String,
    reader: Reader,
    columns: Columns,
    /// Unquoted fields of the record at hand, side by side, and where each ends.
    fields: Vec<u8>,
    ends: Vec<usize>,
    fields_len: usize,
    ends_len: usize,
    /// Bytes of a record that is not whole yet, already given to the reader.
    scanned: usize,
}

/// What becomes of the columns of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// How many the header has.
    pub count: usize,
    /// The object that a record becomes.
    pub layout: Layout<Field>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The column, from zero.
    pub column: usize,
    /// How its text is written.
    pub ty: Type,
}

impl CsvSplitter {
    /// Makes one for the records of `file`, behind its header.
    #[must_use]
    pub fn new(file: &str, delimiter: u8, columns: Columns) -> Self {
        let ends = vec![0; columns.count + 1];
        let (reader, fields) = (ReaderBuilder::new().delimiter(delimiter).build(), vec![0; 4_096]);
        Self { file: file.into(), reader, columns, fields, ends, fields_len: 0, ends_len: 0, scanned: 0 }
    }

    /// As [`super::splitter::Splitter::split`].
    pub fn split(&mut self, bytes: &[u8], last: bool, place: Place, block: &mut Block) -> Split {
        let (mut start, mut at, mut line) = (0, self.scanned, place.line);
        let mut closed = true;
        // Nothing left to give would tell the reader that the file has ended.
        while last || at < bytes.len() {
            let (fields, ends) = (&mut self.fields[self.fields_len..], &mut self.ends[self.ends_len..]);
            // At the end of the file a line break shows whether a quote is open: then it ends no record.
            let ending = at == bytes.len() && closed;
            let given = if ending { b"\n" } else { &bytes[at..] };
            let (result, taken, written, ended) = self.reader.read_record(given, fields, ends);
            if ending {
                closed = result != ReadRecordResult::InputEmpty;
            } else {
                at += taken;
            }
            self.fields_len += written;
            self.ends_len += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::End => break,
                ReadRecordResult::Record => {
                    let from = block.bytes.len() as u32;
                    self.write(&bytes[start..at], line, closed, &mut block.bytes);
                    line += memchr::memchr_iter(b'\n', &bytes[start..at]).count() as u64;
                    let after = place.byte + at as u64;
                    block.rows.push(Row { start: from, end: block.bytes.len() as u32, after, line_after: line });
                    (start, self.fields_len, self.ends_len) = (at, 0, 0);
                }
            }
        }
        self.scanned = at - start;
        Split { place: Place { byte: place.byte + start as u64, line }, verbatim: false, wrong: None }
    }

    fn write(&self, raw: &[u8], line: u64, closed: bool, out: &mut Vec<u8>) {
        let blank = raw.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let line = line + memchr::memchr_iter(b'\n', &raw[..blank]).count() as u64;
        if self.ends_len != self.columns.count || !closed {
            let why = match closed {
                true => format!("{} columns where the header has {}", self.ends_len, self.columns.count),
                false => "a quote is never closed".into(),
            };
            out.extend_from_slice(format!("{}:{line}: {why}: ", self.file).as_bytes());
            out.extend_from_slice(raw.trim_ascii());
            return;
        }
        let layout = &self.columns.layout;
        for Member { before, source } in &layout.members {
            out.extend_from_slice(before);
            let start = source.column.checked_sub(1).map_or(0, |before| self.ends[before]);
            write_field(&self.fields[start..self.ends[source.column]], source.ty, out);
        }
        out.extend_from_slice(&layout.close);
    }
}

/// Writes the text of a field as the stream's decoder will want it; a text that is not of its type stays a text, so
/// that the decoder refuses it with a reason. Empty is null.
fn write_field(text: &[u8], ty: Type, out: &mut Vec<u8>) {
    let bare = text.trim_ascii();
    match ty {
        _ if text.is_empty() => out.extend_from_slice(b"null"),
        Type::Boolean if matches!(bare, b"true" | b"false") => out.extend_from_slice(bare),
        Type::Integer | Type::Decimal | Type::Timestamp if is_json_number(bare) => out.extend_from_slice(bare),
        // Leading zeros and a plus sign are no JSON, but plainly a number.
        Type::Integer | Type::Decimal => match Decimal::parse(bare.strip_prefix(b"+").unwrap_or(bare)) {
            Some(number) => number.write(out),
            None => write_text(text, out),
        },
        _ => write_text(text, out),
    }
}

/// Writes a JSON string; bytes that are no UTF-8 are left for the decoder to refuse.
fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Whether `text` is `-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?`.
fn is_json_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> Option<&[u8]> {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then(|| &text[count..])
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let Some(mut rest) = digits(text) else { return false };
    if text[0] == b'0' && text.len() - rest.len() > 1 {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let Some(behind) = digits(fraction) else { return false };
        rest = behind;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
        let Some(behind) = digits(exponent) else { return false };
        rest = behind;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_values_of_their_type() {
        let check = |text: &str, ty: Type, expected: &str| {
            let mut out = Vec::new();
            write_field(text.as_bytes(), ty, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("", Type::String, "null");
        check("", Type::Decimal, "null");
        check("a \"b\"\\\n\u{1}ü", Type::String, "\"a \\\"b\\\"\\\\\\n\\u0001ü\"");
        check("12", Type::String, "\"12\"");
        check(" 12.50 ", Type::Decimal, "12.50");
        check("-0.5e3", Type::Decimal, "-0.5e3");
        check("007", Type::Integer, "7");
        check("+7", Type::Integer, "7");
        check("1,234", Type::Integer, "\"1,234\"");
        check("NaN", Type::Decimal, "\"NaN\"");
        check("true", Type::Boolean, "true");
        check("yes", Type::Boolean, "\"yes\"");
        check("1763700000", Type::Timestamp, "1763700000");
        check("2025-11-21T04:40:00Z", Type::Timestamp, "\"2025-11-21T04:40:00Z\"");
    }

    #[test]
    fn numbers_are_those_of_json() {
        for text in ["0", "-1", "10.05", "1e5", "1E+5", "-0.0e-1"] {
            assert!(is_json_number(text.as_bytes()), "{text}");
        }
        for text in ["", "-", "01", "1.", ".5", "1e", "1e+", "0x1", "1 ", "NaN", "--1"] {
            assert!(!is_json_number(text.as_bytes()), "{text}");
        }
    }
}
