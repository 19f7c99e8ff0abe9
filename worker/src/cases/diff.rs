//! Differences between rows, for people: the nearest row beside each that is missing, and what of it differs.

use std::collections::{BTreeMap, BTreeSet};

use crds::spec::Any;
use engine::value::Value;

use super::compare::{Named, mismatches};

/// Rows that are told one by one.
const ROWS_MAX: usize = 20;

/// `-` is expected and missing, `+` is there and not expected, `~` is nearly what is expected.
pub(super) fn rows(missing: &[&BTreeMap<String, Any>], surplus: &[&Named], among_others: bool) -> Vec<String> {
    let mut told = Vec::new();
    let mut used = BTreeSet::new();
    for expected in missing {
        let near = (0..surplus.len()).filter(|at| !used.contains(at));
        let near =
            near.map(|at| (mismatches(expected, surplus[at]), at)).min_by_key(|(differ, at)| (differ.len(), *at));
        match near {
            Some((differ, at)) if differ.len() < expected.len() => {
                used.insert(at);
                told.push(nearly(expected, surplus[at], &differ));
            }
            _ => told.push(format!("  - {}", wanted(expected))),
        }
    }
    if !among_others {
        let others = (0..surplus.len()).filter(|at| !used.contains(at));
        told.extend(others.map(|at| format!("  + {}", shown(surplus[at]))));
    }
    let more = told.len().saturating_sub(ROWS_MAX);
    told.truncate(ROWS_MAX);
    if more > 0 {
        told.push(format!("  … and {more} more"));
    }
    told
}

fn nearly(expected: &BTreeMap<String, Any>, found: &Named, differ: &[(&str, Option<Value>)]) -> String {
    let same = expected.iter().filter(|(name, _)| !differ.iter().any(|(column, _)| column == name));
    let same: Vec<String> = same.map(|(name, value)| pair(name, &value.0.to_string())).collect();
    let columns = || found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let lines = differ.iter().map(|(name, value)| match value {
        Some(value) => format!("      {name}: expected {}, found {}", expected[*name].0, json(value)),
        None => format!("      {name}: expected {}, but the row has only {}", expected[*name].0, columns()),
    });
    format!("  ~ {}\n{}", same.join(" "), lines.collect::<Vec<_>>().join("\n"))
}

fn wanted(row: &BTreeMap<String, Any>) -> String {
    row.iter().map(|(name, value)| pair(name, &value.0.to_string())).collect::<Vec<_>>().join(" ")
}

/// A row on a line.
pub(super) fn shown(row: &Named) -> String {
    row.iter().map(|(name, value)| pair(name, &json(value))).collect::<Vec<_>>().join(" ")
}

fn pair(name: &str, value: &str) -> String {
    format!("{name}={}", value.trim_matches('"'))
}

fn json(value: &Value) -> String {
    let mut out = Vec::new();
    value.write_json(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}
