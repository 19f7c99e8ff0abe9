//! `-s path=value`: a field set from the command line, list items by their name.

use super::{Entry, Node, Notes, Position, Value, parse};

/// Sets the value at `path` (`ingest.dataset.dataset.path`) under `spec`; fields on the way are made if missing.
///
/// # Errors
/// A sentence where the path leads into something that is not there.
pub fn set(document: &mut Node, path: &str, value: &str) -> Result<(), String> {
    let path = path.strip_prefix("spec.").unwrap_or(path);
    let keys = keys(path);
    if keys.iter().any(|key| key.is_empty()) {
        return Err(format!("{path} has an empty part between two dots"));
    }
    let place = descend(document, &keys, path)?;
    *place = parse_value(value);
    Ok(())
}

/// The keys between the dots; a key that holds dots itself stands in double quotes.
fn keys(path: &str) -> Vec<String> {
    let mut keys = vec!["spec".to_owned()];
    let mut key = String::new();
    let mut quoted = false;
    for letter in path.chars() {
        match letter {
            '"' => quoted = !quoted,
            '.' if !quoted => keys.push(std::mem::take(&mut key)),
            letter => key.push(letter),
        }
    }
    keys.push(key);
    keys
}

fn parse_value(text: &str) -> Node {
    let mut notes = Notes::default();
    let parsed = parse(text, &mut notes).ok().filter(|documents| documents.len() <= 1 && notes.problems.is_empty());
    let mut node = match parsed {
        Some(documents) => documents.into_iter().next().unwrap_or_else(|| Node::new(Value::Null)),
        None => Node::new(Value::String(text.to_owned())),
    };
    forget_places(&mut node);
    node
}

/// A place on the command line is no place in the file.
fn forget_places(node: &mut Node) {
    node.at = Position::default();
    node.text_at = None;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(forget_places),
        Value::Map(entries) => {
            for entry in entries {
                entry.at = Position::default();
                forget_places(&mut entry.node);
            }
        }
        _ => {}
    }
}

fn descend<'a>(node: &'a mut Node, keys: &[String], whole: &str) -> Result<&'a mut Node, String> {
    let Some((key, rest)) = keys.split_first() else { return Ok(node) };
    if node.value == Value::Null {
        node.value = Value::Map(Vec::new());
    }
    let described = node.describe();
    match &mut node.value {
        Value::Map(entries) => {
            // Keys may hold dots themselves (`config.compression.type`): the longest one that exists counts.
            let (key, rest) = (1..=keys.len())
                .rev()
                .map(|count| (keys[..count].join("."), &keys[count..]))
                .find(|(joined, _)| entries.iter().any(|entry| entry.key == *joined))
                .unwrap_or_else(|| (key.clone(), rest));
            let found = entries.iter().position(|entry| entry.key == key);
            let index = found.unwrap_or_else(|| {
                let node = Node::new(Value::Null);
                entries.push(Entry { key, at: Position::default(), plain: false, node });
                entries.len() - 1
            });
            descend(&mut entries[index].node, rest, whole)
        }
        Value::List(items) => {
            let named = |item: &Node| item.get("name").and_then(Node::as_str) == Some(key.as_str());
            let names = || items.iter().filter_map(|item| item.get("name")?.as_str()).collect::<Vec<_>>().join(", ");
            let index = items.iter().position(named).or_else(|| key.parse().ok().filter(|index| *index < items.len()));
            match index {
                Some(index) => descend(&mut items[index], rest, whole),
                None => Err(format!("{whole} names the item {key}, but the list has only: {}", names())),
            }
        }
        _ => Err(format!("{whole} leads into {described}, which has no fields")),
    }
}
