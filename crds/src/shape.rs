//! Checks nodes against the schema that an API server would use, all of them, and leaves out what is wrong.
//!
//! One schema serves both: what `kubectl apply` refuses, `clickstream validate` refuses as well. What is left out is
//! noted, so that later checks do not complain about what refers to it.

use std::str::FromStr;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::{
    problem::{Problem, Report, element, field},
    spec::{DURATION_PATTERN, Duration, SIZE_PATTERN, Size, patterns},
    yaml::{Entry, Node, Position, Value},
};

/// What other tools call it.
const SYNONYMS: [(&str, &str); 14] = [
    ("text", "string"),
    ("varchar", "string"),
    ("int", "integer"),
    ("long", "integer"),
    ("bigint", "integer"),
    ("number", "decimal"),
    ("numeric", "decimal"),
    ("float", "decimal"),
    ("double", "decimal"),
    ("money", "decimal"),
    ("bool", "boolean"),
    ("datetime", "timestamp"),
    ("date", "timestamp"),
    ("time", "timestamp"),
];

/// Checks `node`, which stands at `path`, and returns what is right of it.
pub(crate) fn check(
    report: &mut Report,
    schema: &JSONSchemaProps,
    node: Node,
    path: &str,
    at: Position,
) -> Option<Node> {
    if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
        return Some(node);
    }
    let expected = schema.type_.as_deref().unwrap_or_default();
    let wrong = |report: &mut Report| {
        let article = if expected.starts_with(['i', 'a', 'o']) { "an" } else { "a" };
        let expected = match expected {
            "object" => "map",
            "array" => "list",
            other => other,
        };
        let article = if matches!(expected, "map" | "list") { "a" } else { article };
        let mut problem = Problem::at(at, path, format!("must be {article} {expected}")).found(node.describe());
        if expected == "string" && node.plain {
            problem.accepted = Some("the same in quotes".into());
        }
        report.push(problem);
        None
    };
    match (expected, &node.value) {
        ("object", Value::Map(_)) => object(report, schema, node, path, at),
        ("array", Value::List(_)) => list(report, schema, node, path, at),
        ("string", Value::String(text)) => {
            let problem = string(schema, text);
            keep(report, node, problem, path, at)
        }
        ("boolean", Value::Boolean(_)) => Some(node),
        ("integer", Value::Integer(value)) => {
            let problem = range(schema, *value as f64);
            keep(report, node, problem, path, at)
        }
        ("number", Value::Integer(value)) => {
            let problem = range(schema, *value as f64);
            keep(report, node, problem, path, at)
        }
        ("number", Value::Number(value, _)) => {
            let problem = range(schema, *value);
            keep(report, node, problem, path, at)
        }
        ("", _) => Some(node),
        _ => wrong(report),
    }
}

fn keep(report: &mut Report, node: Node, problem: Option<Problem>, path: &str, at: Position) -> Option<Node> {
    let Some(problem) = problem else { return Some(node) };
    let placed = Problem::at(at, path, problem.message.clone());
    report.push(Problem {
        line: placed.line,
        column: placed.column,
        path: placed.path,
        found: node.describe(),
        ..problem
    });
    None
}

fn object(report: &mut Report, schema: &JSONSchemaProps, node: Node, path: &str, at: Position) -> Option<Node> {
    let Value::Map(entries) = node.value else { return None };
    let mut kept = Vec::with_capacity(entries.len());
    let mut wrong = Vec::new();
    if let Some(most) = schema.max_properties.filter(|most| entries.len() as i64 > *most) {
        report
            .push(Problem::at(at, path, format!("at most {most} entries")).found(format!("{} entries", entries.len())));
    }
    for entry in entries {
        let path = field(path, &entry.key);
        let is_declared = schema.properties.as_ref().is_some_and(|declared| declared.contains_key(&entry.key));
        let Some(schema) = property(schema, &entry.key) else {
            report.push(unknown_field(schema, &entry, &path));
            continue;
        };
        if entry.node.value == Value::Null && schema.x_kubernetes_preserve_unknown_fields != Some(true) {
            // Nothing is the same as not being there, as it is for an API server. A name that the user chose has no meaning
            // without a value: a setting of a topic would look reset, and stay as it is.
            if !is_declared {
                let problem = Problem::at(entry.at, &path, "has no value: give it one, or leave the line out");
                report.push(Problem { accepted: describe(schema), ..problem });
                report.lose(&path);
            }
            continue;
        }
        let at = match &entry.node.value {
            Value::List(_) | Value::Map(_) => entry.at,
            _ => entry.node.at,
        };
        match check(report, schema, entry.node, &path, at) {
            Some(node) => kept.push(Entry { node, ..entry }),
            None => {
                report.lose(&path);
                wrong.push(entry.key);
            }
        }
    }
    let mut whole = true;
    for required in schema.required.iter().flatten() {
        if wrong.contains(required) {
            whole = false;
        } else if !kept.iter().any(|entry| entry.key == *required) {
            whole = false;
            let accepted = property(schema, required).and_then(describe);
            let problem = Problem::at(at, &field(path, required), "is required");
            report.push(Problem { accepted, ..problem });
        }
    }
    whole.then_some(Node { value: Value::Map(kept), ..node })
}

fn property<'a>(schema: &'a JSONSchemaProps, key: &str) -> Option<&'a JSONSchemaProps> {
    let property = schema.properties.as_ref().and_then(|properties| properties.get(key));
    property.or(match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => Some(values),
        _ => None,
    })
}

fn unknown_field(schema: &JSONSchemaProps, entry: &Entry, path: &str) -> Problem {
    let known = schema.properties.iter().flat_map(|properties| properties.keys().map(String::as_str));
    Problem::at(entry.at, path, "unknown field").one_of(&entry.key, known)
}

fn list(report: &mut Report, schema: &JSONSchemaProps, node: Node, path: &str, at: Position) -> Option<Node> {
    let Value::List(items) = node.value else { return None };
    let count = items.len() as i64;
    let too_long = schema.max_items.is_some_and(|most| count > most);
    if too_long || schema.min_items.is_some_and(|least| count < least) {
        let message = match (schema.min_items, schema.max_items) {
            (Some(least), _) if !too_long => format!("at least {least}"),
            (_, most) => format!("at most {}", most.unwrap_or_default()),
        };
        report.push(Problem::at(at, path, format!("must have {message} items")).found(format!("{count} items")));
        return None;
    }
    let Some(JSONSchemaPropsOrArray::Schema(item_schema)) = &schema.items else {
        return Some(Node { value: Value::List(items), ..node });
    };
    let unique = schema.x_kubernetes_list_map_keys.as_ref().is_some_and(|keys| keys.iter().any(|key| key == "name"));
    let mut kept: Vec<Node> = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let path = element(path, &item, index);
        let at = item.at;
        if unique && kept.iter().any(|other| other.get("name").is_some_and(|name| same_text(name, item.get("name")))) {
            report.push(Problem::at(at, &path, "the name is taken by another item of the list"));
            continue;
        }
        match check(report, item_schema, item, &path, at) {
            Some(item) => kept.push(item),
            None => report.lose(&path),
        }
    }
    Some(Node { value: Value::List(kept), ..node })
}

fn same_text(left: &Node, right: Option<&Node>) -> bool {
    left.as_str().is_some() && left.as_str() == right.and_then(Node::as_str)
}

fn string(schema: &JSONSchemaProps, text: &str) -> Option<Problem> {
    let problem = |message: String| Problem { message, ..Problem::default() };
    if let Some(words) = &schema.enum_ {
        let words: Vec<&str> = words.iter().filter_map(|word| word.0.as_str()).collect();
        return (!words.contains(&text)).then(|| {
            let known =
                SYNONYMS.iter().find(|(other, word)| *other == text.to_ascii_lowercase() && words.contains(word));
            let problem = problem("is not one of the accepted words".into()).one_of(text, words.iter().copied());
            Problem { suggestion: known.map(|(_, word)| (*word).to_owned()).or(problem.suggestion.clone()), ..problem }
        });
    }
    let length = text.chars().count() as i64;
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        return Some(problem(format!("must have at most {most} characters, and has {length}")));
    }
    if let Some(least) = schema.min_length.filter(|least| length < *least) {
        let few = format!("must have at least {least} characters, and has {length}");
        return Some(problem(if least == 1 { "must not be empty".into() } else { few }));
    }
    let refused = |accepted: String| Some(problem("is malformed".into()).accepts(accepted));
    match schema.pattern.as_deref() {
        Some(DURATION_PATTERN) => match Duration::from_str(text) {
            Ok(_) => None,
            Err(shape) => {
                let mut problem = problem("is not a duration".into()).accepts(shape.to_string());
                problem.suggestion = nearest_duration(text);
                Some(problem)
            }
        },
        Some(SIZE_PATTERN) => match Size::from_str(text) {
            Ok(_) => None,
            Err(shape) => Some(problem("is not a size".into()).accepts(shape.to_string())),
        },
        Some(pattern) => match patterns::check(pattern, text) {
            Some((true, _)) => None,
            Some((false, words)) => refused(words.into()),
            None => refused(format!("what matches {pattern}")),
        },
        None => None,
    }
}

/// `15 min`, `1 hour`, `90sec`: what people write who know other tools.
fn nearest_duration(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" | "sec" | "secs" | "second" | "seconds" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hr" | "hrs" | "hour" | "hours" => "h",
        "day" | "days" => "d",
        "week" | "weeks" => "w",
        "msec" | "millis" | "milliseconds" => "ms",
        _ => return None,
    };
    (digits > 0).then(|| format!("{number}{unit}"))
}

fn range(schema: &JSONSchemaProps, value: f64) -> Option<Problem> {
    let low = schema.minimum.is_some_and(|least| value < least);
    let high = schema.maximum.is_some_and(|most| value > most);
    let (least, most) = (schema.minimum.unwrap_or(f64::MIN), schema.maximum.unwrap_or(f64::MAX));
    let message = match (schema.minimum, schema.maximum) {
        (Some(_), Some(_)) => format!("must be from {least} to {most}"),
        (Some(_), None) => format!("must be at least {least}"),
        _ => format!("must be at most {most}"),
    };
    (low || high).then(|| Problem { message, ..Problem::default() })
}

/// Says what a missing field would hold.
fn describe(schema: &JSONSchemaProps) -> Option<String> {
    if let Some(words) = &schema.enum_ {
        return Some(words.iter().filter_map(|word| word.0.as_str()).collect::<Vec<_>>().join(", "));
    }
    match (schema.pattern.as_deref(), schema.type_.as_deref()) {
        (Some(DURATION_PATTERN), _) => Some("a duration such as 15m, 30s or 7d".into()),
        (_, Some("object")) => {
            let names = schema.properties.iter().flat_map(|properties| properties.keys().map(String::as_str));
            Some(format!("a map with {}", names.collect::<Vec<_>>().join(", ")))
        }
        (_, Some("array")) => Some("a list".into()),
        (_, Some(ty)) => Some(format!("{} {ty}", if ty == "integer" { "an" } else { "a" })),
        _ => None,
    }
}
