//! Comparisons. Strings compare by bytes.

use std::cmp::Ordering;

use super::{booleans, both_valid};
use crate::{
    column::{Column, Data, Span},
    expr::Compare,
    value::Value,
};

fn holds(op: Compare, ordering: Ordering) -> bool {
    match op {
        Compare::Equal => ordering.is_eq(),
        Compare::NotEqual => ordering.is_ne(),
        Compare::Less => ordering.is_lt(),
        Compare::LessOrEqual => ordering.is_le(),
        Compare::Greater => ordering.is_gt(),
        Compare::GreaterOrEqual => ordering.is_ge(),
    }
}

/// How row `row` of two columns of one type compare.
pub(super) fn rows(left: &Column, right: &Column, row: usize, arena: &[u8]) -> Ordering {
    match (&left.data, &right.data) {
        (Data::Boolean(left), Data::Boolean(right)) => left[row].cmp(&right[row]),
        (Data::Integer(left), Data::Integer(right)) | (Data::Timestamp(left), Data::Timestamp(right)) => {
            left[row].cmp(&right[row])
        }
        (Data::Decimal(left), Data::Decimal(right)) => left[row].cmp(&right[row]),
        (Data::String(left), Data::String(right)) => left[row].of(arena).cmp(right[row].of(arena)),
        (left, right) => unreachable!("bug: {left:?} compared with {right:?}"),
    }
}

pub(super) fn columns(op: Compare, left: &Column, right: &Column, arena: &[u8], out: &mut Column) {
    both_valid(left, right, out);
    let results = booleans(out);
    results.extend((0..left.len()).map(|row| holds(op, rows(left, right, row, arena))));
}

pub(super) fn literal(op: Compare, input: &Column, value: &Value, arena: &[u8], out: &mut Column) {
    out.valid.extend_from_slice(&input.valid);
    let results = booleans(out);
    match (&input.data, value) {
        (Data::String(spans), Value::String(text)) => strings(op, spans, text.as_bytes(), arena, results),
        (Data::Integer(values), Value::Integer(value)) | (Data::Timestamp(values), Value::Timestamp(value)) => {
            against(op, values, value, results);
        }
        (Data::Decimal(values), Value::Decimal(value)) => against(op, values, value, results),
        (Data::Boolean(values), Value::Boolean(value)) => against(op, values, value, results),
        (data, value) => unreachable!("bug: {data:?} compared with {value:?}"),
    }
}

fn against<T: Ord>(op: Compare, values: &[T], value: &T, results: &mut Vec<bool>) {
    match op {
        Compare::Equal => results.extend(values.iter().map(|each| each == value)),
        Compare::NotEqual => results.extend(values.iter().map(|each| each != value)),
        Compare::Less => results.extend(values.iter().map(|each| each < value)),
        Compare::LessOrEqual => results.extend(values.iter().map(|each| each <= value)),
        Compare::Greater => results.extend(values.iter().map(|each| each > value)),
        Compare::GreaterOrEqual => results.extend(values.iter().map(|each| each >= value)),
    }
}

fn strings(op: Compare, spans: &[Span], text: &[u8], arena: &[u8], results: &mut Vec<bool>) {
    match op {
        Compare::Equal => results.extend(spans.iter().map(|span| span.of(arena) == text)),
        Compare::NotEqual => results.extend(spans.iter().map(|span| span.of(arena) != text)),
        _ => results.extend(spans.iter().map(|span| holds(op, span.of(arena).cmp(text)))),
    }
}

pub(super) fn in_list(input: &Column, values: &[Value], arena: &[u8], out: &mut Column) {
    out.valid.extend_from_slice(&input.valid);
    let results = booleans(out);
    match &input.data {
        Data::String(spans) => {
            let texts: Vec<&[u8]> = values.iter().map(|value| text_of(value).as_bytes()).collect();
            results.extend(spans.iter().map(|span| texts.contains(&span.of(arena))));
        }
        _ => results.extend((0..input.len()).map(|row| values.contains(&input.value(row, arena)))),
    }
}

fn text_of(value: &Value) -> &str {
    match value {
        Value::String(text) => text,
        value => unreachable!("bug: {value:?} in a list of strings"),
    }
}
