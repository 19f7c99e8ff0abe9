//! Fills columns of synthetic events: plain loops over rows.

use engine::{
    column::{Column, Data, Span, append},
    value::write_integer,
};

use super::{
    field::{Field, Piece},
    random::mix,
};

/// Fills `draws` with the random number of each row: by its number, or by the value that decides.
pub(super) fn random_numbers(
    field: &Field,
    columns: &[Column],
    arena: &[u8],
    n: u64,
    rows: usize,
    draws: &mut Vec<u64>,
) {
    draws.clear();
    match field.fixed_per {
        None => draws.extend((n..n + rows as u64).map(|n| field.random.at(n))),
        Some(column) => draws.extend((0..rows).map(|row| match &columns[column].data {
            Data::String(spans) => field.random.of(spans[row].of(arena)),
            Data::Integer(values) => field.random.of(&values[row].to_le_bytes()),
            Data::Decimal(values) => field.random.of(&values[row].0.to_le_bytes()),
            Data::Timestamp(values) => field.random.of(&values[row].to_le_bytes()),
            Data::Boolean(values) => field.random.of(&[u8::from(values[row])]),
        })),
    }
}

/// Appends values to a column, all of them valid.
pub(super) fn put<T>(
    column: &mut Column,
    values: impl Iterator<Item = T>,
    of: impl Fn(&mut Data) -> Option<&mut Vec<T>>,
) {
    let of = of(&mut column.data).expect("bug: a generator's column is not of its type");
    of.extend(values);
    let rows = of.len();
    column.valid.resize(rows, true);
}

/// Appends the text that `write` makes of each of `items`.
pub(super) fn texts<T>(column: &mut Column, items: &[T], arena: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    let spans = items.iter().map(|item| {
        let start = arena.len();
        write(item, arena);
        Span { start: start as u32, len: (arena.len() - start) as u32 }
    });
    put(column, spans, |data| if let Data::String(values) = data { Some(values) } else { None });
}

/// Appends the rows of `from` that `rows` names.
pub(super) fn gather(from: &Column, rows: impl Iterator<Item = u32> + Clone, into: &mut Column) {
    fn copy<T: Copy>(from: &[T], rows: impl Iterator<Item = u32>, into: &mut Vec<T>) {
        into.extend(rows.map(|row| from[row as usize]));
    }
    into.valid.extend(rows.clone().map(|row| from.valid[row as usize]));
    match (&from.data, &mut into.data) {
        (Data::Boolean(from), Data::Boolean(into)) => copy(from, rows, into),
        (Data::Integer(from), Data::Integer(into)) => copy(from, rows, into),
        (Data::Decimal(from), Data::Decimal(into)) => copy(from, rows, into),
        (Data::String(from), Data::String(into)) => copy(from, rows, into),
        (Data::Timestamp(from), Data::Timestamp(into)) => copy(from, rows, into),
        _ => unreachable!("bug: a generator's column is not of its type"),
    }
}

/// Appends the template's text of each row.
pub(super) fn template(pieces: &[Piece], columns: &[Column], rows: usize, arena: &mut Vec<u8>, into: &mut Column) {
    let mut text = Vec::new();
    let rows: Vec<usize> = (0..rows).collect();
    let mut spans = Vec::with_capacity(rows.len());
    for row in rows {
        text.clear();
        for piece in pieces {
            match piece {
                Piece::Text(piece) => text.extend_from_slice(piece.as_bytes()),
                Piece::Column(column) => write_plain(&columns[*column], row, arena, &mut text),
            }
        }
        spans.push(append(&text, arena));
    }
    put(into, spans.into_iter(), |data| if let Data::String(values) = data { Some(values) } else { None });
}

/// Writes a value as text: what JSON would show, without quotes.
pub(super) fn write_plain(column: &Column, row: usize, arena: &[u8], out: &mut Vec<u8>) {
    if !column.valid[row] {
        return;
    }
    match &column.data {
        Data::Boolean(values) => out.extend_from_slice(if values[row] { b"true" } else { b"false" }),
        Data::Integer(values) => write_integer(values[row], out),
        Data::Decimal(values) => values[row].write(out),
        Data::String(values) => out.extend_from_slice(values[row].of(arena)),
        Data::Timestamp(values) => engine::time::write_rfc3339(values[row], out),
    }
}

/// Writes a version 4 UUID; other draws, other UUIDs.
pub(super) fn write_uuid(draw: u64, out: &mut Vec<u8>) {
    let high = (draw & !0xf000) | 0x4000;
    let low = (mix(draw ^ 0x5555_5555_5555_5555) & !(3 << 62)) | (2 << 62);
    let bits = (u128::from(high) << 64) | u128::from(low);
    for digit in 0..32 {
        if matches!(digit, 8 | 12 | 16 | 20) {
            out.push(b'-');
        }
        out.push(b"0123456789abcdef"[(bits >> (124 - 4 * digit)) as usize & 15]);
    }
}
