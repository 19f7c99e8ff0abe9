//! Single values: what a group is keyed by, what a row shows, what a literal says.

use crate::{
    decimal::Decimal,
    time::{self, Millis},
};

/// The type of a column. `list` appears only in results (`last`, `top`), never in an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// True or false.
    Boolean,
    /// A 64-bit whole number.
    Integer,
    /// An exact decimal; see [`Decimal`].
    Decimal,
    /// UTF-8 text.
    String,
    /// UTC milliseconds.
    Timestamp,
    /// A list of values, in results only.
    List,
}

impl Type {
    /// The name people write in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::String => "string",
            Self::Timestamp => "timestamp",
            Self::List => "list",
        }
    }
}

/// One value, owned. The order is total: null first, then by type, then by value; strings by bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Value {
    /// Nothing there.
    #[default]
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// An exact decimal.
    Decimal(Decimal),
    /// Text.
    String(Box<str>),
    /// A point in time.
    Timestamp(Millis),
    /// A list, in results only.
    List(Box<[Value]>),
}

impl Value {
    /// Returns the type, or `None` for null, which belongs to every type.
    #[must_use]
    pub fn type_of(&self) -> Option<Type> {
        match self {
            Self::Null => None,
            Self::Boolean(_) => Some(Type::Boolean),
            Self::Integer(_) => Some(Type::Integer),
            Self::Decimal(_) => Some(Type::Decimal),
            Self::String(_) => Some(Type::String),
            Self::Timestamp(_) => Some(Type::Timestamp),
            Self::List(_) => Some(Type::List),
        }
    }

    /// Writes the value as JSON: decimals as exact number literals, times as RFC 3339 strings.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Boolean(true) => out.extend_from_slice(b"true"),
            Self::Boolean(false) => out.extend_from_slice(b"false"),
            Self::Integer(value) => write_integer(*value, out),
            Self::Decimal(value) => value.write(out),
            Self::String(text) => write_json_string(text, out),
            Self::Timestamp(at) => {
                out.push(b'"');
                time::write_rfc3339(*at, out);
                out.push(b'"');
            }
            Self::List(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write_json(out);
                }
                out.push(b']');
            }
        }
    }
}

/// Writes a whole number in decimal digits.
pub fn write_integer(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes `text` as a quoted JSON string.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.push(b"0123456789abcdef"[usize::from(byte >> 4)]);
                out.push(b"0123456789abcdef"[usize::from(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
