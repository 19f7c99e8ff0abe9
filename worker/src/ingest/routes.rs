//! Which topic an event goes to.

use engine::{
    column::{Column, append},
    decimal::Decimal,
    value::{Type, Value},
};

use super::{dataset::time, expressions::Expression, json};

/// The routes of an ingester, in order. An event goes where the first condition that is true says, and where none is, to the
/// last: no event is without a topic.
#[derive(Debug, Default)]
pub struct Routes {
    /// Conditions, each for the topic of its index; the topic behind them is for the rest.
    pub whens: Vec<Expression>,
    /// The fields the conditions know, with their places in the object; only those they read are looked for.
    pub fields: Vec<(Vec<String>, Type)>,
}

/// Topics of events, as indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// There is one topic.
    One,
    /// By event.
    Each(Vec<usize>),
}

impl Targets {
    /// The topic of the event `at`.
    #[must_use]
    pub fn of(&self, at: usize) -> usize {
        match self {
            Self::One => 0,
            Self::Each(targets) => targets[at],
        }
    }
}

impl Routes {
    /// Decides where `payloads` go.
    pub fn targets<'a>(&mut self, payloads: impl Iterator<Item = &'a [u8]> + Clone) -> Targets {
        if self.whens.is_empty() {
            return Targets::One;
        }
        let mut read = vec![false; self.fields.len()];
        self.whens.iter().for_each(|when| when.reads(&mut |column| read[column] = true));
        let mut arena = Vec::new();
        let mut fill = |((path, ty), read): (&(Vec<String>, Type), &bool)| {
            let mut column = Column::new(*ty);
            for payload in payloads.clone() {
                let value = if *read { json::find(payload, path) } else { None };
                push(value, *ty, &mut column, &mut arena);
            }
            column
        };
        let columns: Vec<Column> = self.fields.iter().zip(&read).map(&mut fill).collect();
        let rows = payloads.count();
        let mut targets = vec![self.whens.len(); rows];
        for (target, when) in self.whens.iter_mut().enumerate().rev() {
            let holds = when.holds(&columns, rows, &mut arena);
            holds.iter().zip(&mut targets).filter(|(holds, _)| **holds).for_each(|(_, to)| *to = target);
        }
        Targets::Each(targets)
    }
}

/// Appends a value as the decoder would see it; what it would refuse is null here, and is refused there.
fn push(value: Option<&[u8]>, ty: Type, column: &mut Column, arena: &mut Vec<u8>) {
    let Some(value) = value else { return column.push_null() };
    let read = || match ty {
        Type::Boolean => serde_json::from_slice(value).ok().map(Value::Boolean),
        Type::Integer => serde_json::from_slice(value).ok().map(Value::Integer),
        Type::Decimal => json::key(value).and_then(|text| Decimal::parse(&text)).map(Value::Decimal),
        Type::Timestamp => time(value).map(Value::Timestamp),
        Type::String | Type::List => None,
    };
    if ty == Type::String {
        let text = if value.first() == Some(&b'"') { json::text(value) } else { None };
        return match text.filter(|text| std::str::from_utf8(text).is_ok()) {
            Some(text) => {
                let span = append(&text, arena);
                column.valid.push(true);
                if let engine::column::Data::String(spans) = &mut column.data {
                    spans.push(span);
                }
            }
            None => column.push_null(),
        };
    }
    match read() {
        Some(value) => column.push_value(&value, arena),
        None => column.push_null(),
    }
}
