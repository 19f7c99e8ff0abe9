//! Rows as text: JSON, JSON lines, CSV; exact decimals, true and false, lists as lists.

use std::{fmt::Write as _, io::Write as _, str::FromStr};

use engine::value::{write_integer, write_json_string};
use rusqlite::types::ValueRef;

use super::{
    describe::{ColumnInfo, TableInfo},
    document::{Document, Pairs},
};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON objects separated by commas: the inside of an array.
    Json,
    /// One JSON object a line.
    JsonLines,
    /// RFC 4180 with a header; null is an empty field.
    Csv,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "jsonl" => Ok(Self::JsonLines),
            "csv" => Ok(Self::Csv),
            other => Err(format!("there is no format {other:?}; there are json, jsonl, csv")),
        }
    }
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Names of the columns, unique.
    pub columns: Vec<String>,
    /// The rows, in the format asked for.
    pub body: Vec<u8>,
    /// Rows in `body`.
    pub rows: u64,
    /// Whether there are more rows than were asked for.
    pub more: bool,
}

/// Writes rows as they come from SQLite.
pub(super) struct Encoder {
    format: Format,
    columns: Vec<ColumnInfo>,
    /// `"name":` of each column.
    keys: Vec<Vec<u8>>,
    pub out: Vec<u8>,
    pub rows: u64,
}

impl Encoder {
    /// Starts an answer; a name that appears twice gets a number.
    pub fn new(format: Format, columns: Vec<ColumnInfo>) -> Self {
        let keys = columns.iter().map(|column| json_key(&column.name)).collect();
        let mut out = Vec::with_capacity(16 << 10);
        if format == Format::Csv {
            for (at, column) in columns.iter().enumerate() {
                write_csv_field(at, column.name.as_bytes(), &mut out);
            }
            out.extend_from_slice(b"\r\n");
        }
        Self { format, columns, keys, out, rows: 0 }
    }

    /// Writes one row: a value for each column, and the texts of decimals that doubles do not hold.
    pub fn row(&mut self, values: &rusqlite::Row<'_>, exact: Option<&str>) -> rusqlite::Result<()> {
        let exact: Pairs<'_> = exact.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        if self.format == Format::Json && self.rows > 0 {
            self.out.push(b',');
        }
        for at in 0..self.columns.len() {
            let value = values.get_ref(at)?;
            let exact = exact.get(usize::MAX, &self.columns[at].name);
            match self.format {
                Format::Csv => self.csv_cell(at, value, exact),
                Format::Json | Format::JsonLines => {
                    self.out.push(if at == 0 { b'{' } else { b',' });
                    self.out.extend_from_slice(&self.keys[at]);
                    write_json_cell(&self.columns[at].ty, value, exact, &mut self.out);
                }
            }
        }
        match self.format {
            Format::Csv => self.out.extend_from_slice(b"\r\n"),
            Format::JsonLines => self.out.extend_from_slice(b"}\n"),
            Format::Json => self.out.push(b'}'),
        }
        self.rows += 1;
        Ok(())
    }

    pub fn finish(self, more: bool) -> Outcome {
        let columns = self.columns.into_iter().map(|column| column.name).collect();
        Outcome { columns, body: self.out, rows: self.rows, more }
    }

    fn csv_cell(&mut self, at: usize, value: ValueRef<'_>, exact: Option<&str>) {
        match value {
            ValueRef::Null => write_csv_field(at, b"", &mut self.out),
            ValueRef::Text(text) => write_csv_field(at, text, &mut self.out),
            value => {
                let mut cell = Vec::new();
                write_json_cell(&self.columns[at].ty, value, exact, &mut cell);
                write_csv_field(at, &cell, &mut self.out);
            }
        }
    }
}

/// Gives columns that share a name a number, so that objects keep all of them.
pub(super) fn unique_columns<'n>(names: impl Iterator<Item = &'n str>) -> Vec<ColumnInfo> {
    let mut taken = std::collections::BTreeSet::new();
    let unique = |name: &str| {
        let mut chosen = name.to_owned();
        let mut number = 2;
        while !taken.insert(chosen.clone()) {
            chosen = format!("{name}:{number}");
            number += 1;
        }
        ColumnInfo { name: chosen, ty: String::new(), role: super::Role::Value, additive: false }
    };
    names.map(unique).collect()
}

fn json_key(name: &str) -> Vec<u8> {
    let mut key = Vec::new();
    write_json_string(name, &mut key);
    key.push(b':');
    key
}

fn write_json_cell(ty: &str, value: ValueRef<'_>, exact: Option<&str>, out: &mut Vec<u8>) {
    match (value, ty) {
        (ValueRef::Null, _) => out.extend_from_slice(b"null"),
        (ValueRef::Integer(0), "boolean") => out.extend_from_slice(b"false"),
        (ValueRef::Integer(_), "boolean") => out.extend_from_slice(b"true"),
        (ValueRef::Integer(value), _) => write_integer(value, out),
        (ValueRef::Real(value), _) => match exact {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None if value.is_finite() => write!(out, "{value}").expect("memory takes all bytes"),
            None => out.extend_from_slice(b"null"),
        },
        (ValueRef::Text(text), "list") => out.extend_from_slice(text),
        (ValueRef::Text(text), _) => write_json_string(&String::from_utf8_lossy(text), out),
        (ValueRef::Blob(bytes), _) => {
            out.push(b'"');
            bytes.iter().for_each(|byte| write!(out, "{byte:02x}").expect("memory takes all bytes"));
            out.push(b'"');
        }
    }
}

fn write_csv_field(at: usize, field: &[u8], out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
    if !field.iter().any(|byte| matches!(byte, b'"' | b',' | b'\n' | b'\r')) {
        out.extend_from_slice(field);
        return;
    }
    out.push(b'"');
    for byte in field {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Appends a changed row as the API shows rows, with `deleted` for one that is gone.
pub(super) fn write_change(info: &TableInfo, document: &Document<'_>, version: u64, out: &mut String) {
    out.push_str(if out.is_empty() { "{" } else { ",{" });
    if let (Some(start), Some(end)) = (document.window_start, document.window_end) {
        write!(out, "\"window_start\":\"{start}\",\"window_end\":\"{end}\",").expect("a string takes all text");
    }
    let names = info.columns.iter().filter(|column| matches!(column.role, super::Role::Group | super::Role::Value));
    let values = document.group.0.iter().chain(&document.values.0);
    for (column, (_, value)) in names.zip(values) {
        let key = json_key(&column.name);
        out.push_str(std::str::from_utf8(&key).expect("JSON text is UTF-8"));
        out.push_str(value.get());
        out.push(',');
    }
    let deleted = if document.deleted { ",\"deleted\":true" } else { "" };
    write!(out, "\"final\":{},\"version\":{version}{deleted}}}", document.is_final).expect("a string takes all text");
}
