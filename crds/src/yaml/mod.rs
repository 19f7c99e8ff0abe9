//! YAML as a tree of nodes that know where they stand.
//!
//! A tree rather than serde's stream, because every problem is wanted, not the first one, and each with its line and
//! column. Scalars follow YAML 1.2's core schema, which is JSON's; what YAML 1.1 (and so kubectl) would read otherwise
//! is warned about in [`crate::warnings`].

mod build;
mod de;
pub mod overrides;

pub use build::parse;

/// A place in the text; line zero is a value that came from the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from one.
    pub line: u32,
    /// Column, from one, in characters.
    pub column: u32,
}

/// Where the characters of a scalar stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPlace {
    /// The first character.
    pub at: Position,
    /// Characters that are written as two, ascending.
    pub doubled: Vec<u32>,
    /// First characters of the lines behind the first, which begin in the same column.
    pub lines: Vec<u32>,
}

impl TextPlace {
    /// Where a character of the scalar stands.
    #[must_use]
    pub fn of(&self, character: u32) -> Position {
        let line = self.lines.partition_point(|start| *start <= character);
        let start = if line == 0 { 0 } else { self.lines[line - 1] };
        let doubled = self.doubled.partition_point(|place| *place < character);
        let more = |count: usize| u32::try_from(count).unwrap_or(0);
        Position { line: self.at.line + more(line), column: self.at.column + (character - start) + more(doubled) }
    }
}

/// A node with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: Position,
    /// Where the characters of a scalar stand, unless it is folded or escaped beyond quotes.
    pub text_at: Option<TextPlace>,
    /// Whether it is a plain scalar, without quotes.
    pub plain: bool,
    /// The value.
    pub value: Value,
}

/// The value of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number of 64 bits.
    Integer(i64),
    /// Any other number, and as it was written.
    Number(f64, String),
    /// Text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the written order; no key twice.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub at: Position,
    /// Whether the key is a plain scalar.
    pub plain: bool,
    /// The value.
    pub node: Node,
}

/// Text that is not YAML, or more of it than anybody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlProblem {
    /// Where.
    pub at: Position,
    /// What is wrong.
    pub message: String,
}

/// What is wrong or strange about a text that can be read all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// What is wrong.
    pub problems: Vec<YamlProblem>,
    /// What is strange.
    pub warnings: Vec<YamlProblem>,
}

impl Node {
    /// Makes a node without a place.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self { at: Position::default(), text_at: None, plain: false, value }
    }

    /// Returns the value under `key` of a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// Returns the text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Says what it is, for people: `the integer 5`.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Boolean(value) => format!("the boolean {value}"),
            Value::Integer(value) => format!("the integer {value}"),
            Value::Number(_, text) => format!("the number {text}"),
            Value::String(text) => crate::problem::quote(text),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(entries) => format!("a map of {}", entries.len()),
        }
    }
}
