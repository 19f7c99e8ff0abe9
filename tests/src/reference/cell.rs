//! One value of the reference.

use engine::value::Value;

use super::number;

/// A value. The order within a type is the natural one; null comes first; text is ordered by its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell {
    /// Nothing there.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A decimal, in units of 10⁻⁹.
    Decimal(i128),
    /// Text.
    Text(String),
    /// UTC milliseconds.
    Time(i64),
    /// A list, in results only.
    List(Vec<Cell>),
    /// Any integer or decimal (in units of 10⁻⁹) from the first to the second: what an approximation may say.
    Between(i128, i128),
}

impl Cell {
    /// Takes over a value of the engine, as data.
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Boolean(value) => Self::Boolean(*value),
            Value::Integer(value) => Self::Integer(*value),
            Value::Decimal(value) => Self::Decimal(value.0),
            Value::String(text) => Self::Text(text.to_string()),
            Value::Timestamp(at) => Self::Time(*at),
            Value::List(items) => Self::List(items.iter().map(Self::from_value).collect()),
        }
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// Whether this is `true`, as `where` asks.
    #[must_use]
    pub fn is_true(&self) -> bool {
        *self == Self::Boolean(true)
    }

    /// Whether `other`, which the engine said, is what the reference allows.
    #[must_use]
    pub fn allows(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Between(low, high), Self::Decimal(value)) => (low..=high).contains(&value),
            (Self::Between(low, high), Self::Integer(value)) => {
                (*low..=*high).contains(&(i128::from(*value) * number::ONE))
            }
            _ => self == other,
        }
    }

    /// The text of a text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}
