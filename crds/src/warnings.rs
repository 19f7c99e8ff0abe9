//! What is accepted but probably not meant.

use crate::{
    problem::{Problem, Report, element, field},
    yaml::{Node, Position, Value},
};

/// Words that YAML 1.1 reads as booleans and YAML 1.2 does not. `kubectl` reads YAML 1.1.
const WORDS: [&str; 8] = ["on", "off", "yes", "no", "y", "n", "On", "Off"];

fn is_word(text: &str) -> bool {
    WORDS.contains(&text) || WORDS.iter().any(|word| text.eq_ignore_ascii_case(word) && text.len() <= 3)
}

/// Warns of plain words that kubectl would turn into booleans.
pub(crate) fn of_words(document: &Node, report: &mut Report) {
    visit(document, "", report);
}

fn visit(node: &Node, path: &str, report: &mut Report) {
    match &node.value {
        Value::String(text) if node.plain && is_word(text) => warn(report, node.at, path, text),
        Value::Map(entries) => {
            for entry in entries {
                let path = field(path, &entry.key);
                if entry.plain && is_word(&entry.key) {
                    warn(report, entry.at, &path, &entry.key);
                }
                visit(&entry.node, &path, report);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                visit(item, &element(path, item, index), report);
            }
        }
        _ => {}
    }
}

fn warn(report: &mut Report, at: Position, path: &str, text: &str) {
    let problem = Problem::at(at, path, "kubectl reads this word as a boolean").found(text);
    report.warnings.push(problem.accepts(format!("\"{text}\", in quotes")));
}
