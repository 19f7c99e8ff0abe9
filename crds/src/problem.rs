//! A user's mistake, told so that it can be put right: where, what was found, what would be accepted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    expression::ExpressionProblem,
    limits::{FOUND_BYTES_MAX, PROBLEMS_MAX},
    yaml::{Node, Position, TextPlace, Value},
};

/// One mistake in a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from one.
    pub line: Option<u32>,
    /// Column in the line, from one, in characters.
    pub column: Option<u32>,
    /// The field: `spec.tables[category_sales].select.total_sales`.
    pub path: String,
    /// What stands there.
    pub found: String,
    /// What is wrong with it.
    pub message: String,
    /// What would be accepted.
    pub accepted: Option<String>,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        match self.path.is_empty() {
            true => write!(f, "{}", self.message)?,
            false => write!(f, "{}: {}", self.path, self.message)?,
        }
        if !self.found.is_empty() {
            write!(f, "\n    found: {}", self.found)?;
        }
        if let Some(accepted) = &self.accepted {
            write!(f, "\n    accepted: {accepted}")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\n    did you mean {suggestion}?")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

impl Problem {
    /// Makes a problem at a place of the file; the default place is none.
    pub(crate) fn at(at: Position, path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into(), ..Self::default() }.placed(at)
    }

    fn placed(mut self, at: Position) -> Self {
        let known = at != Position::default();
        self.line = known.then_some(at.line);
        self.column = known.then_some(at.column);
        self
    }

    pub(crate) fn found(mut self, found: impl Into<String>) -> Self {
        self.found = found.into();
        self
    }

    pub(crate) fn accepts(mut self, accepted: impl Into<String>) -> Self {
        self.accepted = Some(accepted.into());
        self
    }

    /// Says what would be accepted, and which of it is a near miss of `word`.
    pub(crate) fn one_of<'a>(mut self, word: &str, words: impl IntoIterator<Item = &'a str>) -> Self {
        let words: Vec<&str> = words.into_iter().collect();
        self.suggestion = nearest(word, words.iter().copied()).map(str::to_owned);
        self.accepted = match words.is_empty() {
            true => None,
            false => Some(words.join(", ")),
        };
        self
    }
}

/// Collects problems, and knows where each field of the manifest stands.
#[derive(Debug, Default)]
pub(crate) struct Report {
    places: BTreeMap<String, Place>,
    /// Paths of what was left out because it was wrong: what refers to it is not told as well.
    lost: BTreeSet<String>,
    /// What stops the manifest.
    pub problems: Vec<Problem>,
    /// What does not.
    pub warnings: Vec<Problem>,
}

#[derive(Debug)]
struct Place {
    at: Position,
    text_at: Option<TextPlace>,
    found: String,
}

impl Report {
    /// Notes where everything under `node` stands.
    pub fn index(&mut self, node: &Node, path: &str, at: Position) {
        let found = match &node.value {
            Value::List(_) | Value::Map(_) => String::new(),
            _ => node.describe(),
        };
        self.places.insert(path.to_owned(), Place { at, text_at: node.text_at.clone(), found });
        match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    let at = if matches!(entry.node.value, Value::List(_) | Value::Map(_)) {
                        entry.at
                    } else {
                        entry.node.at
                    };
                    self.index(&entry.node, &field(path, &entry.key), at);
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.index(item, &element(path, item, index), item.at);
                }
            }
            _ => {}
        }
    }

    /// Notes that what stood at `path` was left out.
    pub fn lose(&mut self, path: &str) {
        self.lost.insert(path.to_owned());
    }

    /// Whether anything that begins with `prefix` was left out.
    pub fn lost(&self, prefix: &str) -> bool {
        self.lost.range(prefix.to_owned()..).next().is_some_and(|path| path.starts_with(prefix))
    }

    /// What was left out of the list at `path`: the names of items, and whether there were some without a name.
    pub fn lost_items(&self, path: &str) -> (Vec<String>, bool) {
        let mut names = Vec::new();
        let mut unnamed = false;
        for lost in self.lost.range(path.to_owned()..).take_while(|lost| lost.starts_with(path)) {
            let item = lost[path.len()..].strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            match item {
                Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => unnamed = true,
                Some(name) if !name.contains(']') => names.push(name.to_owned()),
                _ => unnamed |= lost.len() == path.len(),
            }
        }
        (names, unnamed)
    }

    /// Makes a problem about the field at `path`, or the nearest field around it that is written.
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        let problem = Problem::at(Position::default(), path, message);
        match self.place(path) {
            Some((place, true)) => problem.placed(place.at).found(place.found.clone()),
            Some((place, false)) => problem.placed(place.at),
            None => problem,
        }
    }

    /// Adds a problem about the field at `path`.
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        self.push(self.problem(path, message));
    }

    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// Adds the problems of an expression; they point into its text where that stands as it is.
    pub fn expression(&mut self, path: &str, problems: Vec<ExpressionProblem>) {
        for found in problems {
            let mut problem = self.problem(path, found.message);
            problem.accepted = found.accepted;
            problem.suggestion = found.suggestion;
            if !found.found.is_empty() {
                problem.found = found.found;
            }
            if let Some((Place { text_at: Some(text_at), .. }, true)) = self.place(path) {
                problem = problem.placed(text_at.of(found.offset));
            }
            self.push(problem);
        }
    }

    fn place(&self, path: &str) -> Option<(&Place, bool)> {
        let mut end = path.len();
        loop {
            if let Some(place) = self.places.get(&path[..end]) {
                return Some((place, end == path.len()));
            }
            end = path[..end].rfind(['.', '['])?;
        }
    }

    /// Returns the problems in the order of the file, none twice.
    pub fn finish(mut self) -> (Vec<Problem>, Vec<Problem>) {
        for list in [&mut self.problems, &mut self.warnings] {
            list.sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
            list.dedup();
        }
        (self.problems, self.warnings)
    }
}

/// The path of a field of a map.
pub(crate) fn field(path: &str, key: &str) -> String {
    match path.is_empty() {
        true => key.to_owned(),
        false => format!("{path}.{key}"),
    }
}

/// The path of an item of a list: by its name, or its number.
pub(crate) fn element(path: &str, item: &Node, index: usize) -> String {
    match item.get("name").and_then(Node::as_str) {
        Some(name) => named(path, name),
        None => format!("{path}[{index}]"),
    }
}

/// The path of an item of a list by its name.
pub(crate) fn named(path: &str, name: &str) -> String {
    format!("{path}[{name}]")
}

/// Quotes text for a message, cut where it is long.
pub(crate) fn quote(text: &str) -> String {
    let mut end = text.len().min(FOUND_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < text.len() { "…" } else { "" };
    let mut quoted = String::new();
    for letter in text[..end].chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            letter if letter.is_control() => quoted.extend(letter.escape_debug()),
            letter => quoted.push(letter),
        }
    }
    format!("\"{quoted}{cut}\"")
}

/// Returns the word nearest to `word`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (word.chars().count() / 3).clamp(1, 4);
    let distances = words.into_iter().map(|candidate| (distance(word, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= bound).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// Number of letters to insert, leave out, replace or swap with their neighbour. Case counts for nothing.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().flat_map(char::to_lowercase).take(64).collect();
    let right: Vec<char> = right.chars().flat_map(char::to_lowercase).take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for i in 0..left.len() {
        let mut row = vec![i + 1];
        for j in 0..right.len() {
            let replaced = above[j] + usize::from(left[i] != right[j]);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && left[i] == right[j - 1] && left[i - 1] == right[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_found_and_far_ones_are_not() {
        let words = ["partitions", "replicationFactor", "retention", "name"];
        let check = |word: &str, want: Option<&str>| assert_eq!(nearest(word, words), want, "{word}");
        check("partition", Some("partitions"));
        check("partitoins", Some("partitions"));
        check("Name", Some("name"));
        check("replication_factor", Some("replicationFactor"));
        check("retension", Some("retention"));
        check("colour", None);
        check("", None);
    }
}
