//! From text to nodes: events of the parser, aliases followed within bounds.

use std::collections::BTreeMap;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StructureStyle, Tag};

use super::{Entry, Node, Notes, Position, TextPlace, Value, YamlProblem};
use crate::limits::{YAML_DEPTH_MAX, YAML_NODES_MAX};

/// Reads all documents of `text`; empty ones are left out. Keys that stand twice are told in `notes`, and the first one
/// counts; what is not YAML ends the reading.
///
/// # Errors
/// Where the text is not YAML or exceeds the bounds.
pub fn parse(text: &str, notes: &mut Notes) -> Result<Vec<Node>, YamlProblem> {
    let mut builder = Builder { text, notes, open: Vec::new(), anchors: BTreeMap::new(), nodes: 0, done: Vec::new() };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| YamlProblem {
            at: position(*error.marker()),
            message: format!("not YAML: {}", error.info()),
        })?;
        builder.event(event, span)?;
    }
    Ok(builder.done)
}

struct Builder<'a> {
    text: &'a str,
    notes: &'a mut Notes,
    /// Collections that have begun, from the outside in.
    open: Vec<Open>,
    /// Anchored nodes and how many nodes each holds.
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    done: Vec<Node>,
}

struct Open {
    at: Position,
    anchor: usize,
    /// Whether it is written in braces.
    flow: bool,
    /// Nodes counted before it began.
    nodes_before: usize,
    /// A map's key that waits for its value.
    key: Option<Node>,
    value: Value,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlProblem> {
        let at = position(span.start);
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                self.count(1, at)?;
                let node = self.scalar(&value, style, tag.as_deref(), span);
                self.anchor(anchor, &node, 1);
                self.close(node)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(at, anchor, false, Value::List(Vec::new())),
            Event::MappingStart(style, anchor, _) => {
                self.begin(at, anchor, style == StructureStyle::Flow, Value::Map(Vec::new()))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut open) = self.open.pop() else { return Ok(()) };
                if let (true, Value::Map(entries)) = (open.flow, &mut open.value) {
                    self.rejoin(entries);
                }
                let node = Node { at: open.at, text_at: None, plain: false, value: open.value };
                self.anchor(open.anchor, &node, self.nodes - open.nodes_before);
                self.close(node)
            }
            Event::Alias(id) => {
                let Some((node, count)) = self.anchors.get(&id).cloned() else {
                    return Err(YamlProblem { at, message: "an alias inside of what it stands for".into() });
                };
                self.count(count, at)?;
                self.close(node)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, at: Position, anchor: usize, flow: bool, value: Value) -> Result<(), YamlProblem> {
        if self.open.len() >= YAML_DEPTH_MAX {
            return Err(YamlProblem { at, message: format!("nested deeper than {YAML_DEPTH_MAX} levels") });
        }
        self.open.push(Open { at, anchor, flow, nodes_before: self.nodes, key: None, value });
        self.count(1, at)
    }

    fn count(&mut self, nodes: usize, at: Position) -> Result<(), YamlProblem> {
        self.nodes += nodes;
        match self.nodes > YAML_NODES_MAX {
            true => Err(YamlProblem { at, message: format!("more than {YAML_NODES_MAX} values, aliases followed") }),
            false => Ok(()),
        }
    }

    fn anchor(&mut self, id: usize, node: &Node, nodes: usize) {
        if id != 0 {
            self.anchors.insert(id, (node.clone(), nodes));
        }
    }

    /// Puts a finished node where it belongs.
    fn close(&mut self, node: Node) -> Result<(), YamlProblem> {
        let Some(open) = self.open.last_mut() else {
            if node.value != Value::Null {
                self.done.push(node);
            }
            return Ok(());
        };
        match &mut open.value {
            Value::Map(entries) => match open.key.take() {
                None => open.key = Some(node),
                Some(key) => insert(entries, &key, node, &mut self.notes.problems)?,
            },
            Value::List(items) => items.push(node),
            _ => {}
        }
        Ok(())
    }

    /// Puts `{when: f(a, b) > 4}` together again: in braces a comma ends a value, and the rest becomes a key without
    /// one. No manifest has such keys, so what was meant is certain; kubectl takes it by the letter, hence the warning.
    fn rejoin(&mut self, entries: &mut Vec<Entry>) {
        let mut at = 0;
        while at < entries.len() {
            let mut text = match &entries[at].node {
                Node { value: Value::String(text), plain: true, .. } if unclosed(text) => text.clone(),
                _ => {
                    at += 1;
                    continue;
                }
            };
            let mut end = at + 1;
            while end < entries.len() && unclosed(&text) && entries[end].plain && entries[end].node.value == Value::Null
            {
                text = format!("{text}, {}", entries[end].key);
                end += 1;
            }
            if !unclosed(&text) {
                let message = "kubectl ends this value at the comma, because it stands in braces".to_owned();
                self.notes.warnings.push(YamlProblem { at: entries[at].node.at, message });
                entries[at].node.value = Value::String(text);
                entries.drain(at + 1..end);
            }
            at += 1;
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Node {
        let at = position(span.start);
        let plain = style == ScalarStyle::Plain;
        let is_text = tag.and_then(Tag::core_suffix) == Some("str");
        let value = if plain && !is_text { resolve(text) } else { Value::String(text.to_owned()) };
        let text_at = span.slice(self.text).and_then(|slice| text_place(slice, text, style, at));
        Node { at, text_at, plain, value }
    }
}

/// Where the characters of `text` stand, which `slice` of the file writes in this style.
fn text_place(slice: &str, text: &str, style: ScalarStyle, at: Position) -> Option<TextPlace> {
    let place =
        |skip: u32, doubled, lines| Some(TextPlace { at: Position { column: at.column + skip, ..at }, doubled, lines });
    let numbered = || (0_u32..).zip(text.chars());
    let those = |wanted: &[char]| numbered().filter(|(_, letter)| wanted.contains(letter)).map(|(at, _)| at).collect();
    match style {
        ScalarStyle::Literal => {
            let ends = numbered().filter(|(_, letter)| *letter == '\n').map(|(at, _)| at + 1);
            place(0, Vec::new(), ends.collect())
        }
        _ if text.contains('\n') || slice.contains('\n') => None,
        ScalarStyle::Plain if slice.starts_with(text) => place(0, Vec::new(), Vec::new()),
        ScalarStyle::SingleQuoted => place(1, those(&['\'']), Vec::new()),
        ScalarStyle::DoubleQuoted => {
            let written = text.replace('\\', "\\\\").replace('"', "\\\"");
            slice[1..].starts_with(&written).then(|| place(1, those(&['"', '\\']), Vec::new()))?
        }
        _ => None,
    }
}

fn insert(
    entries: &mut Vec<Entry>,
    key: &Node,
    node: Node,
    problems: &mut Vec<YamlProblem>,
) -> Result<(), YamlProblem> {
    let name = match &key.value {
        Value::String(text) => text.clone(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Number(_, text) => text.clone(),
        Value::Null => "null".into(),
        Value::List(_) | Value::Map(_) => {
            return Err(YamlProblem { at: key.at, message: "a list or a map as a key".into() });
        }
    };
    if key.plain && name == "<<" {
        return merge(entries, node, key.at);
    }
    if let Some(first) = entries.iter().find(|entry| entry.key == name) {
        let message = format!("the key {name} stands here twice; the first is in line {}", first.at.line);
        problems.push(YamlProblem { at: key.at, message });
        return Ok(());
    }
    entries.push(Entry { key: name, at: key.at, plain: key.plain, node });
    Ok(())
}

/// `<<: *defaults` of YAML 1.1, which kubectl understands: what the map does not say itself comes from there.
fn merge(entries: &mut Vec<Entry>, node: Node, at: Position) -> Result<(), YamlProblem> {
    let Value::Map(defaults) = node.value else {
        return Err(YamlProblem { at, message: "<< merges a map only".into() });
    };
    for entry in defaults {
        if !entries.iter().any(|own| own.key == entry.key) {
            entries.push(entry);
        }
    }
    Ok(())
}

/// Whether more parentheses open than close.
fn unclosed(text: &str) -> bool {
    text.matches('(').count() > text.matches(')').count()
}

/// What a plain scalar means in YAML 1.2's core schema.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Boolean(true),
        "false" | "False" | "FALSE" => return Value::Boolean(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let looks_like_number = digits.starts_with(|first: char| first.is_ascii_digit())
        || (digits.starts_with('.') && digits[1..].starts_with(|second: char| second.is_ascii_digit()));
    if !looks_like_number {
        return Value::String(text.to_owned());
    }
    let based = |prefix: &str, radix| text.strip_prefix(prefix).and_then(|rest| i64::from_str_radix(rest, radix).ok());
    if let Some(value) = text.parse().ok().or_else(|| based("0x", 16)).or_else(|| based("0o", 8)) {
        return Value::Integer(value);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Value::Number(value, text.to_owned()),
        _ => Value::String(text.to_owned()),
    }
}

fn position(marker: Marker) -> Position {
    let bounded = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Position { line: bounded(marker.line()), column: bounded(marker.col()).saturating_add(1) }
}
