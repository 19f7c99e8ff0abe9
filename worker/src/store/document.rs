//! Result documents, read without losing a digit: values stay the JSON text they arrived as.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A result document as [`engine::output::Row::write_document`] writes it.
#[derive(Debug, Deserialize)]
pub struct Document<'a> {
    /// Name of the table.
    #[serde(borrow)]
    pub table: Cow<'a, str>,
    /// Epoch of the table.
    pub epoch: u32,
    /// Start of the window; RFC 3339 never needs escapes.
    #[serde(default)]
    pub window_start: Option<&'a str>,
    /// End of the window.
    #[serde(default)]
    pub window_end: Option<&'a str>,
    /// Whether the row is final.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Whether the row is gone.
    #[serde(default)]
    pub deleted: bool,
    /// Group columns.
    #[serde(borrow)]
    pub group: Pairs<'a>,
    /// The other columns; empty for a deleted row.
    #[serde(borrow)]
    pub values: Pairs<'a>,
}

impl Document<'_> {
    /// What the row says, for people and for comparing: its columns but the group's, in order.
    #[must_use]
    pub fn says(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.values.0 {
            text.push_str(if text.is_empty() { "" } else { ", " });
            text.push_str(&format!("{name} {}", value.get()));
        }
        text
    }
}

/// The members of a JSON object in the order they were written, values as text.
#[derive(Debug, Default)]
pub struct Pairs<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Pairs<'a> {
    /// The value called `name`, looked for first at `place`, where it normally is.
    #[must_use]
    pub fn get(&self, place: usize, name: &str) -> Option<&'a str> {
        match self.0.get(place) {
            Some((found, value)) if found == name => Some(value.get()),
            _ => self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.get()),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(8));
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            pairs.push((name, map.next_value::<&'de RawValue>()?));
        }
        Ok(Pairs(pairs))
    }
}

/// A key, borrowed unless it carries escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
