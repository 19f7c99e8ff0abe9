//! Text. Positions count characters; the results lie in the arena.

use super::booleans;
use crate::{
    column::{Column, Data, Span, append},
    expr::Function,
};

/// A `like` pattern: `%` any characters, `_` one character.
#[derive(Debug)]
pub(super) struct Pattern(Vec<char>);

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        Self(pattern.chars().collect())
    }

    /// Matches greedily and goes back to the last `%`: linear for every pattern people write.
    fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut wanted) = (0, 0);
        let mut retry = None;
        while at < text.len() {
            match self.0.get(wanted) {
                Some('%') => {
                    retry = Some((at, wanted + 1));
                    wanted += 1;
                }
                Some(letter) if *letter == '_' || *letter == text[at] => {
                    at += 1;
                    wanted += 1;
                }
                _ => match retry {
                    Some((from, behind)) => {
                        retry = Some((from + 1, behind));
                        at = from + 1;
                        wanted = behind;
                    }
                    None => return false,
                },
            }
        }
        self.0[wanted..].iter().all(|letter| *letter == '%')
    }
}

pub(super) fn like(input: &Column, pattern: &Pattern, arena: &[u8], out: &mut Column) {
    out.valid.extend_from_slice(&input.valid);
    booleans(out).extend(spans(input).iter().map(|span| pattern.matches(text(*span, arena))));
}

pub(super) fn call(function: Function, inputs: &[&Column], rows: usize, arena: &mut Vec<u8>, out: &mut Column) {
    for row in 0..rows {
        let present = function == Function::Concat || inputs.iter().all(|input| input.valid[row]);
        if !present {
            out.push_null();
            continue;
        }
        match function {
            Function::Concat => {
                let start = arena.len();
                for input in inputs.iter().filter(|input| input.valid[row]) {
                    let span = spans(input)[row];
                    arena.extend_from_within(span.start as usize..(span.start + span.len) as usize);
                }
                push_span(out, Some(Span { start: start as u32, len: (arena.len() - start) as u32 }));
            }
            Function::Length => push_integer(out, first(inputs, row, arena).chars().count() as i64),
            Function::StartsWith => {
                push_boolean(out, first(inputs, row, arena).starts_with(second(inputs, row, arena)))
            }
            Function::EndsWith => push_boolean(out, first(inputs, row, arena).ends_with(second(inputs, row, arena))),
            Function::Contains => push_boolean(out, first(inputs, row, arena).contains(second(inputs, row, arena))),
            Function::Lower => make(out, first(inputs, row, arena).to_lowercase(), arena),
            Function::Upper => make(out, first(inputs, row, arena).to_uppercase(), arena),
            Function::Trim => {
                let whole = spans(inputs[0])[row];
                let kept = text(whole, arena).trim_start();
                let start = whole.start + whole.len - kept.len() as u32;
                push_span(out, Some(Span { start, len: kept.trim_end().len() as u32 }));
            }
            Function::Substring => {
                let from = integer(inputs[1], row);
                let count = inputs.get(2).map_or(i64::MAX, |count| integer(count, row));
                push_span(out, Some(substring(spans(inputs[0])[row], from, count, arena)));
            }
            Function::SplitPart => {
                let span =
                    split_part(spans(inputs[0])[row], second(inputs, row, arena), integer(inputs[2], row), arena);
                push_span(out, span);
            }
            function => unreachable!("bug: {function:?} is no function of text"),
        }
    }
}

/// SQL's: characters `from` to `from + count`, one-based, cut to the text.
fn substring(span: Span, from: i64, count: i64, arena: &[u8]) -> Span {
    let whole = text(span, arena);
    let end = from.saturating_add(count.max(0)).max(1);
    let skip = (from.max(1) - 1) as usize;
    let take = (end - 1) as usize;
    let byte_at = |chars: usize| whole.char_indices().nth(chars).map_or(whole.len(), |(at, _)| at);
    let (start, end) = (byte_at(skip), byte_at(take));
    let end = end.max(start);
    Span { start: span.start + start as u32, len: (end - start) as u32 }
}

fn split_part(span: Span, separator: &str, n: i64, arena: &[u8]) -> Option<Span> {
    let whole = text(span, arena);
    let at = usize::try_from(n.checked_sub(1)?).ok()?;
    let part = if separator.is_empty() { Some(whole).filter(|_| at == 0) } else { whole.split(separator).nth(at) }?;
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    Some(Span { start: span.start + start as u32, len: part.len() as u32 })
}

fn spans(column: &Column) -> &[Span] {
    match &column.data {
        Data::String(spans) => spans,
        data => unreachable!("bug: {data:?} where text was planned"),
    }
}

fn text(span: Span, arena: &[u8]) -> &str {
    std::str::from_utf8(span.of(arena)).expect("spans hold UTF-8")
}

fn first<'a>(inputs: &[&Column], row: usize, arena: &'a [u8]) -> &'a str {
    text(spans(inputs[0])[row], arena)
}

fn second<'a>(inputs: &[&Column], row: usize, arena: &'a [u8]) -> &'a str {
    text(spans(inputs[1])[row], arena)
}

fn integer(column: &Column, row: usize) -> i64 {
    match &column.data {
        Data::Integer(values) => values[row],
        data => unreachable!("bug: {data:?} where an integer was planned"),
    }
}

fn make(out: &mut Column, made: String, arena: &mut Vec<u8>) {
    let span = append(made.as_bytes(), arena);
    push_span(out, Some(span));
}

fn push_span(out: &mut Column, span: Option<Span>) {
    if let Data::String(spans) = &mut out.data {
        spans.push(span.unwrap_or_default());
        out.valid.push(span.is_some());
    }
}

fn push_integer(out: &mut Column, value: i64) {
    if let Data::Integer(values) = &mut out.data {
        values.push(value);
        out.valid.push(true);
    }
}

fn push_boolean(out: &mut Column, value: bool) {
    if let Data::Boolean(values) = &mut out.data {
        values.push(value);
        out.valid.push(true);
    }
}
