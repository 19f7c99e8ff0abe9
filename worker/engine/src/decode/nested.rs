//! The general scanner: any JSON object, by `serde_json`. Slower, and the judge of what is valid.

use std::{borrow::Cow, fmt};

use serde_json::value::RawValue;

use super::{Found, Refusal};
use crate::{
    column::{Span, append},
    limits::JSON_DEPTH_MAX,
    plan::FieldPlan,
};

/// A scanner for records of any shape of one stream.
#[derive(Debug)]
pub(super) struct NestedScanner {
    tree: Tree,
}

/// Which keys lead to which fields.
#[derive(Debug, Default)]
struct Tree {
    field: Option<usize>,
    children: Vec<(String, Tree)>,
}

impl Tree {
    fn insert(&mut self, path: &[String], field: usize) {
        let Some((key, rest)) = path.split_first() else {
            self.field = Some(field);
            return;
        };
        let at = self.children.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
            self.children.push((key.clone(), Self::default()));
            self.children.len() - 1
        });
        self.children[at].1.insert(rest, field);
    }

    fn child(&self, key: &str) -> Option<&Self> {
        self.children.iter().find(|(name, _)| name == key).map(|(_, child)| child)
    }

    /// Of duplicate keys the last wins: what the earlier one gave is forgotten.
    fn forget(&self, found: &mut [Found]) {
        if let Some(field) = self.field {
            found[field] = Found::Absent;
        }
        self.children.iter().for_each(|(_, child)| child.forget(found));
    }
}

/// One value that leads to a field: where its text lies, or the text itself where it had to be made.
enum Piece {
    Found(Found),
    Made(String),
}

impl NestedScanner {
    pub(super) fn new(fields: &[FieldPlan]) -> Self {
        let mut tree = Tree::default();
        fields.iter().enumerate().for_each(|(at, field)| tree.insert(&field.path, at));
        Self { tree }
    }

    /// Scans the record at `span`, which is UTF-8. Strings with escapes are appended to `arena`.
    pub(super) fn scan(&self, span: Span, arena: &mut Vec<u8>, found: &mut [Found]) -> Result<(), Refusal> {
        let mut made = Vec::new();
        {
            let text = std::str::from_utf8(span.of(arena)).expect("checked by the caller");
            check_depth(text)?;
            let mut found_piece = |field: usize, piece: Piece, found: &mut [Found]| match piece {
                Piece::Found(piece) => found[field] = piece,
                Piece::Made(text) => {
                    // A placeholder until the arena is free; a later duplicate overwrites both.
                    found[field] = Found::Composite;
                    made.retain(|(other, _)| *other != field);
                    made.push((field, text));
                }
            };
            let origin = Origin { text, base: span.start };
            let mut reader = serde_json::Deserializer::from_str(text);
            let visitor = Members { tree: &self.tree, origin, found, found_piece: &mut found_piece };
            let read = serde::de::Deserializer::deserialize_map(&mut reader, visitor).and_then(|()| reader.end());
            read.map_err(|error| refusal(text, &error))?;
        }
        for (field, text) in made {
            if found[field] == Found::Composite {
                found[field] = Found::String(append(text.as_bytes(), arena));
            }
        }
        Ok(())
    }
}

fn refusal(text: &str, error: &serde_json::Error) -> Refusal {
    let is_object = text.trim_start_matches([' ', '\n', '\r', '\t']).starts_with('{');
    let is_other_json = !is_object && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_other_json {
        return ("not-an-object", "the record is JSON, but not an object".to_owned());
    }
    ("not-json", error.to_string())
}

/// Depth of brackets outside strings; the parser below would follow any depth of what it skips.
fn check_depth(text: &str) -> Result<(), Refusal> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(("too-deep", format!("more than {JSON_DEPTH_MAX} levels")));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Where borrowed text lies.
#[derive(Clone, Copy)]
struct Origin<'a> {
    text: &'a str,
    base: u32,
}

impl Origin<'_> {
    fn span(&self, part: &str) -> Span {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        Span { start: self.base + start as u32, len: part.len() as u32 }
    }
}

struct Members<'a, 'f, F> {
    tree: &'a Tree,
    origin: Origin<'a>,
    found: &'f mut [Found],
    found_piece: &'f mut F,
}

impl<'de, F: FnMut(usize, Piece, &mut [Found])> serde::de::Visitor<'de> for Members<'de, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            let Some(child) = self.tree.child(&key.0) else { continue };
            child.forget(self.found);
            let text = value.get();
            if let Some(field) = child.field {
                let piece = piece(text, self.origin).map_err(serde::de::Error::custom)?;
                (self.found_piece)(field, piece, self.found);
            }
            if !child.children.is_empty() && text.starts_with('{') {
                let visitor = Members {
                    tree: child,
                    origin: self.origin,
                    found: &mut *self.found,
                    found_piece: &mut *self.found_piece,
                };
                let mut reader = serde_json::Deserializer::from_str(text);
                serde::de::Deserializer::deserialize_map(&mut reader, visitor).map_err(serde::de::Error::custom)?;
            }
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> serde::de::Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

fn piece(text: &str, origin: Origin<'_>) -> Result<Piece, serde_json::Error> {
    Ok(match text.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<Key<'_>>(text)?.0 {
            Cow::Borrowed(inner) => Piece::Found(Found::String(origin.span(inner))),
            Cow::Owned(made) => Piece::Made(made),
        },
        Some(b't') => Piece::Found(Found::Boolean(true)),
        Some(b'f') => Piece::Found(Found::Boolean(false)),
        Some(b'n') => Piece::Found(Found::Null),
        Some(b'{' | b'[') => Piece::Found(Found::Composite),
        _ => Piece::Found(Found::Number(origin.span(text))),
    })
}
