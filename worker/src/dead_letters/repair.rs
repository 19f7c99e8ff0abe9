//! Repairs: expressions of the manifest's language over the fields of a record that was refused.
//!
//! An expression sees each field of the stream with its declared type, null where the record has nothing that fits, and
//! under `raw.` the text that stands there, whatever it is: `price=coalesce(price, cast(trim(raw.price) as decimal))`.

use std::collections::BTreeSet;

use crds::expression::{self, ExpressionProblem};
use engine::{
    column::Column,
    kernel::Program,
    plan::{ColumnPlan, StreamPlan},
    value::{Type, Value},
};
use serde_json::value::RawValue;

use super::judge::FieldReader;
use crate::store::Pairs;

/// How the records of one stream are repaired.
pub(super) struct Repair {
    json: Option<String>,
    sets: Vec<Set>,
    fields: Vec<(FieldReader, Type)>,
    /// Where the text of each `raw.` column stands.
    raw: Vec<Vec<String>>,
}

struct Set {
    path: Vec<String>,
    program: Program,
}

impl Repair {
    /// Reads the repairs of `stream`; `keys` are first-level keys that records have besides the declared ones.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn new(
        stream: &StreamPlan,
        sets: &[String],
        json: Option<&str>,
        keys: &BTreeSet<String>,
    ) -> Result<Self, String> {
        let mut columns: Vec<ColumnPlan> = stream.columns[..stream.fields.len()].to_vec();
        let mut raw: Vec<Vec<String>> = Vec::new();
        for field in &stream.fields {
            columns.push(ColumnPlan { name: format!("raw.{}", field.name), ty: Type::String });
            raw.push(field.path.clone());
        }
        for key in keys.iter().filter(|key| !stream.fields.iter().any(|field| field.name == **key)) {
            columns.push(ColumnPlan { name: format!("raw.{key}"), ty: Type::String });
            raw.push(vec![key.clone()]);
        }
        if let Some(text) = json {
            let problem = serde_json::from_str::<Pairs<'_>>(text).err();
            problem.map_or(Ok(()), |problem| Err(format!("the replacement is no JSON object: {problem}")))?;
        }
        let readers = (0..stream.fields.len()).map(|at| (FieldReader::new(stream, at), stream.fields[at].ty));
        Ok(Self {
            json: json.map(str::to_owned),
            sets: sets.iter().map(|set| Set::parse(stream, set, &columns)).collect::<Result<_, _>>()?,
            fields: readers.collect(),
            raw,
        })
    }

    /// Repairs a record.
    ///
    /// # Errors
    /// Why it cannot be, for people.
    pub fn apply(&mut self, record: &[u8]) -> Result<String, String> {
        let given = self.json.clone();
        let mut text = match given.map_or_else(|| std::str::from_utf8(record).map(str::to_owned), Ok) {
            Ok(text) if serde_json::from_str::<Pairs<'_>>(&text).is_ok() => text,
            _ => return Err("the record is no JSON object: give a whole one in its place".into()),
        };
        let (columns, mut arena) = self.columns(&text);
        for set in &mut self.sets {
            let value = set.program.eval(&columns, 1, &mut arena).value(0, &arena);
            let mut json = Vec::new();
            value.write_json(&mut json);
            text = put(&text, &set.path, &String::from_utf8_lossy(&json));
        }
        Ok(text)
    }

    /// One row with everything that an expression may name.
    fn columns(&mut self, record: &str) -> (Vec<Column>, Vec<u8>) {
        let mut arena = Vec::new();
        let mut columns = Vec::new();
        for (reader, ty) in &mut self.fields {
            columns.push(one(*ty, &reader.read(record.as_bytes()), &mut arena));
        }
        for path in &self.raw {
            let text = find(record, path).map_or(Value::Null, |text| Value::String(text.into()));
            columns.push(one(Type::String, &text, &mut arena));
        }
        (columns, arena)
    }
}

fn one(ty: Type, value: &Value, arena: &mut Vec<u8>) -> Column {
    let mut column = Column::new(ty);
    column.push_value(value, arena);
    column
}

impl Set {
    fn parse(stream: &StreamPlan, set: &str, columns: &[ColumnPlan]) -> Result<Self, String> {
        let (name, text) = set.split_once('=').ok_or_else(|| format!("set {set}: expected field=expression"))?;
        let (name, text) = (name.trim(), text.trim());
        let field = stream.fields.iter().find(|field| field.name == name).ok_or_else(|| {
            let names: Vec<&str> = stream.fields.iter().map(|field| field.name.as_str()).collect();
            format!("set {name}: stream {} has no such field; it has {}", stream.name, names.join(", "))
        })?;
        let parsed = expression::parse(text, columns);
        let parsed = parsed.map_err(|problems| {
            problems.iter().map(|problem| pointed(name, text, problem)).collect::<Vec<_>>().join("\n")
        })?;
        Ok(Self { path: field.path.clone(), program: Program::compile(&parsed) })
    }
}

/// A problem with a caret under its place.
fn pointed(name: &str, text: &str, problem: &ExpressionProblem) -> String {
    let label = format!("  {name} = ");
    let indent = label.chars().count() + problem.offset as usize;
    let mut told = format!("set {name}: {}\n{label}{text}\n{}^", problem.message, " ".repeat(indent));
    if let Some(accepted) = &problem.accepted {
        told.push_str(&format!("\n  accepted: {accepted}"));
    }
    if let Some(suggestion) = &problem.suggestion {
        told.push_str(&format!("\n  did you mean {suggestion}?"));
    }
    told
}

/// The text at `path`: strings without quotes, everything else as it is written.
fn find(object: &str, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let members: Pairs<'_> = serde_json::from_str(object).ok()?;
    let value = member(&members, first)?.get();
    match (rest.is_empty(), value) {
        (false, _) => find(value, rest),
        (true, "null") => None,
        (true, _) if value.starts_with('"') => serde_json::from_str(value).ok(),
        (true, _) => Some(value.to_owned()),
    }
}

/// Of several members with one name the last counts.
fn member<'a>(members: &Pairs<'a>, name: &str) -> Option<&'a RawValue> {
    members.0.iter().rev().find(|(found, _)| found == name).map(|(_, value)| *value)
}

/// The object with the JSON `value` at `path`; what stood in the way is replaced.
fn put(object: &str, path: &[String], value: &str) -> String {
    let Some((first, rest)) = path.split_first() else { return value.to_owned() };
    let members: Pairs<'_> = serde_json::from_str(object).unwrap_or_default();
    let inner = member(&members, first).map_or("{}", RawValue::get);
    let value = put(inner, rest, value);
    let mut parts = Vec::new();
    let mut is_there = false;
    for (name, found) in &members.0 {
        let kept = if name != first { Some(found.get()) } else { (!is_there).then_some(value.as_str()) };
        is_there |= name == first;
        parts.extend(kept.map(|kept| format!("{}:{kept}", quoted(name))));
    }
    parts.extend((!is_there).then(|| format!("{}:{value}", quoted(first))));
    format!("{{{}}}", parts.join(","))
}

fn quoted(name: &str) -> String {
    let mut out = Vec::new();
    engine::value::write_json_string(name, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The keys of a record's first level, if it is an object.
pub(super) fn keys(record: &[u8]) -> Vec<String> {
    let members: Pairs<'_> = serde_json::from_slice(record).unwrap_or_default();
    members.0.into_iter().map(|(name, _)| name.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_put_where_they_belong() {
        let check = |object: &str, path: &str, value: &str, expected: &str| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            assert_eq!(put(object, &path, value), expected, "{object}");
        };
        check(r#"{"a":1,"price":12345678901234567.10}"#, "a", "2", r#"{"a":2,"price":12345678901234567.10}"#);
        check(r#"{"a":1,"b":2,"a":3}"#, "a", "4", r#"{"a":4,"b":2}"#);
        check("{}", "client.agent", "\"x\"", r#"{"client":{"agent":"x"}}"#);
        check(r#"{"client":{"ip":"::1"}}"#, "client.agent", "null", r#"{"client":{"ip":"::1","agent":null}}"#);
        check(r#"{"client":7}"#, "client.agent", "1", r#"{"client":{"agent":1}}"#);
    }

    #[test]
    fn text_is_found_as_it_is_written() {
        let check = |path: &str, expected: Option<&str>| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            let record = r#"{"price":"1,50","n":1.50,"o":{"x":[1]},"z":null,"price":"2,50"}"#;
            assert_eq!(find(record, &path).as_deref(), expected);
        };
        check("price", Some("2,50"));
        check("n", Some("1.50"));
        check("o.x", Some("[1]"));
        check("z", None);
        check("o.y", None);
    }
}
