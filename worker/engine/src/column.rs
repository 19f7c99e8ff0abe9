//! Columns of a batch: one vector of values and one of validity for each; strings are spans into the batch's arena.

use crate::{
    decimal::Decimal,
    time::Millis,
    value::{Type, Value},
};

/// A piece of the batch's arena ([`crate::batch::RawBatch::bytes`]); always valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// Returns the bytes in `arena`.
    #[must_use]
    pub fn of(self, arena: &[u8]) -> &[u8] {
        &arena[self.start as usize..(self.start + self.len) as usize]
    }
}

/// The values of a column. Where `valid` is false the value is the type's default and means nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Which rows have a value.
    pub valid: Vec<bool>,
    /// The values, as many as `valid` has.
    pub data: Data,
}

/// The values of a column by type.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Booleans.
    Boolean(Vec<bool>),
    /// Whole numbers.
    Integer(Vec<i64>),
    /// Decimals.
    Decimal(Vec<Decimal>),
    /// Text, as spans of the arena.
    String(Vec<Span>),
    /// Times.
    Timestamp(Vec<Millis>),
}

impl Column {
    /// Makes an empty column. `ty` is not [`Type::List`]: lists exist in results only.
    ///
    /// # Panics
    /// On [`Type::List`].
    #[must_use]
    pub fn new(ty: Type) -> Self {
        let data = match ty {
            Type::Boolean => Data::Boolean(Vec::new()),
            Type::Integer => Data::Integer(Vec::new()),
            Type::Decimal => Data::Decimal(Vec::new()),
            Type::String => Data::String(Vec::new()),
            Type::Timestamp => Data::Timestamp(Vec::new()),
            Type::List => unreachable!("bug: lists exist in results only"),
        };
        Self { valid: Vec::new(), data }
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.valid.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.valid.is_empty()
    }

    /// The type.
    #[must_use]
    pub fn type_of(&self) -> Type {
        match self.data {
            Data::Boolean(_) => Type::Boolean,
            Data::Integer(_) => Type::Integer,
            Data::Decimal(_) => Type::Decimal,
            Data::String(_) => Type::String,
            Data::Timestamp(_) => Type::Timestamp,
        }
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.valid.clear();
        match &mut self.data {
            Data::Boolean(values) => values.clear(),
            Data::Integer(values) => values.clear(),
            Data::Decimal(values) => values.clear(),
            Data::String(values) => values.clear(),
            Data::Timestamp(values) => values.clear(),
        }
    }

    /// Forgets the rows behind the first `rows`.
    pub fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
        match &mut self.data {
            Data::Boolean(values) => values.truncate(rows),
            Data::Integer(values) => values.truncate(rows),
            Data::Decimal(values) => values.truncate(rows),
            Data::String(values) => values.truncate(rows),
            Data::Timestamp(values) => values.truncate(rows),
        }
    }

    /// Appends a null.
    pub fn push_null(&mut self) {
        self.valid.push(false);
        match &mut self.data {
            Data::Boolean(values) => values.push(false),
            Data::Integer(values) => values.push(0),
            Data::Decimal(values) => values.push(Decimal::ZERO),
            Data::String(values) => values.push(Span::default()),
            Data::Timestamp(values) => values.push(0),
        }
    }

    /// Appends `value`, putting text into `arena`. For rows and lookups, not for the per-event path.
    ///
    /// # Panics
    /// If the value is of another type: plans are checked.
    pub fn push_value(&mut self, value: &Value, arena: &mut Vec<u8>) {
        match (&mut self.data, value) {
            (_, Value::Null) => return self.push_null(),
            (Data::Boolean(values), Value::Boolean(value)) => values.push(*value),
            (Data::Integer(values), Value::Integer(value)) => values.push(*value),
            (Data::Decimal(values), Value::Decimal(value)) => values.push(*value),
            (Data::Timestamp(values), Value::Timestamp(value)) => values.push(*value),
            (Data::String(values), Value::String(text)) => values.push(append(text.as_bytes(), arena)),
            (data, value) => unreachable!("bug: {value:?} in a column of {data:?}"),
        }
        self.valid.push(true);
    }

    /// Returns the value of `row`, owned. For rows and reports, not for the per-event path.
    #[must_use]
    pub fn value(&self, row: usize, arena: &[u8]) -> Value {
        if !self.valid[row] {
            return Value::Null;
        }
        match &self.data {
            Data::Boolean(values) => Value::Boolean(values[row]),
            Data::Integer(values) => Value::Integer(values[row]),
            Data::Decimal(values) => Value::Decimal(values[row]),
            Data::Timestamp(values) => Value::Timestamp(values[row]),
            Data::String(values) => {
                let text = std::str::from_utf8(values[row].of(arena)).expect("spans hold UTF-8");
                Value::String(text.into())
            }
        }
    }
}

/// Appends `bytes` to `arena` and returns where they lie.
pub fn append(bytes: &[u8], arena: &mut Vec<u8>) -> Span {
    let start = u32::try_from(arena.len()).expect("drivers bound a batch far below 4 GiB");
    arena.extend_from_slice(bytes);
    Span { start, len: bytes.len() as u32 }
}
