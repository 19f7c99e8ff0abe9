//! Rows of columns as JSON objects.

use engine::{
    column::{Column, Data},
    time::write_rfc3339,
    value::{write_integer, write_json_string},
};

use super::{
    fill::write_plain,
    generator::Malformed,
    random::{below, mix},
};
use crate::{ingest::layout::Layout, ports::partition_of};

/// Appends the event of `row`.
pub fn event(layout: &Layout<usize>, columns: &[Column], arena: &[u8], row: usize, out: &mut Vec<u8>) {
    for member in &layout.members {
        out.extend_from_slice(&member.before);
        value(&columns[member.source], row, arena, out);
    }
    out.extend_from_slice(&layout.close);
}

/// Appends the event of `row`, broken in one of three ways: cut off, with a value of a wrong type, without a required
/// value. No decoder takes any of them.
pub fn broken(
    layout: &Layout<usize>,
    columns: &[Column],
    arena: &[u8],
    row: usize,
    (how, draw): (&Malformed, u64),
    out: &mut Vec<u8>,
) {
    let among = |members: &[usize]| members.get(below(draw, members.len() as u64) as usize).copied();
    let (wrong, missing) = match draw % 3 {
        0 => (among(&how.typed), None),
        1 => (None, among(&how.required)),
        _ => (None, None),
    };
    let start = out.len();
    for (at, member) in layout.members.iter().enumerate() {
        out.extend_from_slice(&member.before);
        match (wrong == Some(at), missing == Some(at)) {
            // No field is a list.
            (true, _) => out.extend_from_slice(b"[]"),
            (_, true) => out.extend_from_slice(b"null"),
            _ => value(&columns[member.source], row, arena, out),
        }
    }
    out.extend_from_slice(&layout.close);
    if wrong.is_none() && missing.is_none() {
        let len = (out.len() - start) as u64;
        out.truncate(start + 1 + below(mix(draw), len - 1) as usize);
    }
}

/// Returns the partition of the record that `row` keys: of the text of its key, as for any other producer. Without a
/// key it is the first.
#[must_use]
pub fn partition(key: &Column, row: usize, arena: &[u8], partitions: u32) -> u32 {
    match &key.data {
        _ if !key.valid[row] => 0,
        Data::String(spans) => partition_of(spans[row].of(arena), partitions),
        _ => {
            let mut text = Vec::new();
            write_plain(key, row, arena, &mut text);
            partition_of(&text, partitions)
        }
    }
}

#[inline]
fn value(column: &Column, row: usize, arena: &[u8], out: &mut Vec<u8>) {
    if !column.valid[row] {
        out.extend_from_slice(b"null");
        return;
    }
    match &column.data {
        Data::Boolean(values) => out.extend_from_slice(if values[row] { b"true" } else { b"false" }),
        Data::Integer(values) => write_integer(values[row], out),
        Data::Decimal(values) => values[row].write(out),
        Data::Timestamp(values) => {
            out.push(b'"');
            write_rfc3339(values[row], out);
            out.push(b'"');
        }
        Data::String(spans) => text(spans[row].of(arena), out),
    }
}

#[inline]
fn text(bytes: &[u8], out: &mut Vec<u8>) {
    // A bit for every byte that needs an escape; short texts are checked faster than searched.
    let plain = bytes.iter().fold(true, |plain, byte| plain & (*byte >= 0x20) & (*byte != b'"') & (*byte != b'\\'));
    if plain {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    } else {
        write_json_string(&String::from_utf8_lossy(bytes), out);
    }
}
