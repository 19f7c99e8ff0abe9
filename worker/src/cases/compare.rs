//! What a case expects against what is there.

use std::collections::BTreeMap;

use crds::spec::{Any, TestCase, TestThen};
use engine::{
    decimal::Decimal,
    decode::timestamp,
    output::{Row, SystemTable, schemas},
    plan::Plan,
    value::Value,
};

use super::{diff, outcome::Outcome};

/// A row by the names that people use.
pub(super) type Named = Vec<(String, Value)>;

/// Names of the counters, as the system tables order them.
const STREAM_COUNTS: [&str; 5] = ["read", "accepted", "duplicate", "invalid", "expired"];
const TABLE_COUNTS: [&str; 4] = ["accepted", "filtered", "late", "counted"];

/// What differs, for people.
pub(super) fn check(plan: &Plan, case: &TestCase, outcome: &Outcome) -> Vec<String> {
    case.then.iter().filter_map(|then| check_one(plan, then, outcome)).collect()
}

fn check_one(plan: &Plan, then: &TestThen, outcome: &Outcome) -> Option<String> {
    let mut told = Vec::new();
    let name = then.table.as_ref().or(then.stream.as_ref()).or(then.alert.as_ref())?;
    let (kind, rows) = match (&then.table, &then.alert) {
        (Some(table), _) => ("table", table_rows(plan, outcome, table)),
        (_, Some(alert)) => ("alert", alert_rows(plan, outcome, alert, then)),
        _ => ("stream", Vec::new()),
    };
    let only_counts = then.rows.is_empty() && !then.ledger.is_empty();
    if kind != "stream" && !only_counts {
        told.extend(compare_rows(&then.rows, &rows, then.among_others));
    }
    let (counts, names) = match kind {
        "stream" => (outcome.counts(plan, SystemTable::LedgerStreams, name), &STREAM_COUNTS[..]),
        _ => (outcome.counts(plan, SystemTable::LedgerTables, name), &TABLE_COUNTS[..]),
    };
    for (count, expected) in &then.ledger {
        let found = names.iter().position(|known| known == count).and_then(|at| counts.get(at)).copied().unwrap_or(0);
        if found != i64::try_from(*expected).unwrap_or(i64::MAX) {
            told.push(format!("{count}: expected {expected}, found {found}"));
        }
    }
    (!told.is_empty()).then(|| format!("{kind} {name}\n{}", told.join("\n")))
}

/// Rows of a table of the user's.
pub(super) fn table_rows(plan: &Plan, outcome: &Outcome, name: &str) -> Vec<Named> {
    let Some(table) = plan.tables.iter().position(|table| table.name == name) else { return Vec::new() };
    let schema = &schemas(plan)[table];
    let columns: Vec<&str> = schema.group.iter().chain(&schema.values).map(|column| column.name.as_str()).collect();
    outcome.table(table).map(|row| named(row, &columns)).collect()
}

fn named(row: &Row, columns: &[&str]) -> Named {
    let mut named = Named::new();
    if let Some((start, end)) = row.window {
        named.push(("window_start".into(), Value::Timestamp(start)));
        named.push(("window_end".into(), Value::Timestamp(end)));
    }
    let values = row.group.iter().chain(&row.values).cloned();
    named.extend(columns.iter().map(|name| (*name).to_owned()).zip(values));
    named.push(("final".into(), Value::Boolean(row.is_final)));
    named
}

/// Rows of an alert: window, state, and the group by its columns. One that was withdrawn is gone, unless withdrawn ones are
/// asked for.
fn alert_rows(plan: &Plan, outcome: &Outcome, name: &str, then: &TestThen) -> Vec<Named> {
    let Some(alert) = plan.alerts.iter().find(|alert| alert.name == name) else { return Vec::new() };
    let groups = &plan.tables[alert.table].group_by;
    let asked = then.rows.iter().any(|row| row.get("state").is_some_and(|state| state.0 == "withdrawn"));
    let mut rows = Vec::new();
    for row in outcome.table(SystemTable::Alerts.index(plan)) {
        let (Some(Value::String(of)), Some(Value::String(group))) = (row.group.first(), row.group.get(1)) else {
            continue;
        };
        let is_gone = row.values.first() == Some(&Value::String("withdrawn".into())) && !asked;
        if **of != *name || is_gone {
            continue;
        }
        let mut found = named(row, &["alert", "group", "state", "for_windows", "detail"]);
        found.retain(|(column, _)| !["alert", "group", "detail", "final"].contains(&column.as_str()));
        let values: Vec<serde_json::Value> = serde_json::from_str(group).unwrap_or_default();
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => Value::String(text.as_str().into()),
            serde_json::Value::Null => Value::Null,
            other => Value::String(other.to_string().into()),
        };
        found.extend(groups.iter().map(|group| group.column.name.clone()).zip(values.iter().map(text)));
        rows.push(found);
    }
    rows
}

fn compare_rows(expected: &[BTreeMap<String, Any>], found: &[Named], among_others: bool) -> Vec<String> {
    let fits: Vec<Vec<usize>> = expected
        .iter()
        .map(|row| (0..found.len()).filter(|at| mismatches(row, &found[*at]).is_empty()).collect())
        .collect();
    let partner = pair(&fits, found.len());
    let missing: Vec<&BTreeMap<String, Any>> =
        (0..expected.len()).filter(|at| !partner.contains(&Some(*at))).map(|at| &expected[at]).collect();
    let surplus: Vec<&Named> = (0..found.len()).filter(|at| partner[*at].is_none()).map(|at| &found[at]).collect();
    if missing.is_empty() && (among_others || surplus.is_empty()) {
        return Vec::new();
    }
    diff::rows(&missing, &surplus, among_others)
}

/// The expected row of each row that is there, so that as many as possible have one.
fn pair(fits: &[Vec<usize>], found: usize) -> Vec<Option<usize>> {
    let mut partner: Vec<Option<usize>> = vec![None; found];
    for row in 0..fits.len() {
        let mut seen = vec![false; found];
        augment(row, fits, &mut partner, &mut seen);
    }
    partner
}

/// Finds a place for `row`, moving others to other places that fit them too.
fn augment(row: usize, fits: &[Vec<usize>], partner: &mut [Option<usize>], seen: &mut [bool]) -> bool {
    for at in &fits[row] {
        if std::mem::replace(&mut seen[*at], true) {
            continue;
        }
        if partner[*at].is_none_or(|other| augment(other, fits, partner, seen)) {
            partner[*at] = Some(row);
            return true;
        }
    }
    false
}

/// Columns in which a row is not what is expected.
pub(super) fn mismatches<'a>(expected: &'a BTreeMap<String, Any>, found: &Named) -> Vec<(&'a str, Option<Value>)> {
    let value = |name: &str| found.iter().find(|(column, _)| column == name).map(|(_, value)| value.clone());
    let differs = |(name, expected): (&'a String, &Any)| {
        let found = value(name);
        let same = found.as_ref().is_some_and(|found| is_same(&expected.0, found));
        (!same).then_some((name.as_str(), found))
    };
    expected.iter().filter_map(differs).collect()
}

/// Whether a value is what was written: numbers by their amount, also in quotes; times in any offset.
fn is_same(expected: &serde_json::Value, found: &Value) -> bool {
    use serde_json::Value as Json;
    match (expected, found) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(expected), Value::Boolean(found)) => expected == found,
        (Json::Number(expected), Value::Integer(_) | Value::Decimal(_) | Value::String(_)) => {
            amount(&expected.to_string()).is_some_and(|expected| Some(expected) == amount_of(found))
        }
        (Json::String(expected), Value::String(found)) => **expected == **found,
        (Json::String(expected), Value::Timestamp(found)) => timestamp(expected.as_bytes()) == Some(*found),
        (Json::String(expected), Value::Integer(_) | Value::Decimal(_)) => {
            amount(expected).is_some_and(|expected| Some(expected) == amount_of(found))
        }
        (Json::Array(expected), Value::List(found)) => {
            expected.len() == found.len()
                && expected.iter().zip(found).all(|(expected, found)| is_same(expected, found))
        }
        _ => false,
    }
}

fn amount(text: &str) -> Option<Decimal> {
    Decimal::parse(text.as_bytes())
}

fn amount_of(value: &Value) -> Option<Decimal> {
    match value {
        Value::Decimal(amount) => Some(*amount),
        Value::Integer(number) => amount(&number.to_string()),
        Value::String(text) => amount(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_compared_by_what_they_mean() {
        let check = |expected: serde_json::Value, found: Value, same: bool| {
            assert_eq!(is_same(&expected, &found), same, "{expected} {found:?}");
        };
        let decimal = |text: &str| Value::Decimal(amount(text).unwrap());
        check(json!(10), decimal("10.000"), true);
        check(json!(0.1), decimal("0.1"), true);
        check(json!("12345678901234567.10"), decimal("12345678901234567.1"), true);
        check(json!(1), Value::Integer(2), false);
        check(json!("2025-03-01T10:00:00+01:00"), Value::Timestamp(1_740_819_600_000), true);
        check(json!(null), Value::Null, true);
        check(json!(0), Value::Null, false);
        let list = Value::List([Value::String("p".into()), Value::Integer(2)].into());
        check(json!(["p", 2]), list.clone(), true);
        check(json!(["p"]), list, false);
    }

    #[test]
    fn vague_rows_leave_exact_ones_their_place() {
        let row = |pairs: &[(&str, i64)]| -> BTreeMap<String, Any> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), Any(json!(value)))).collect()
        };
        let found = |a: i64, b: i64| vec![("a".to_owned(), Value::Integer(a)), ("b".to_owned(), Value::Integer(b))];
        let rows = [found(1, 1), found(1, 2)];
        assert!(compare_rows(&[row(&[("a", 1)]), row(&[("a", 1), ("b", 1)])], &rows, false).is_empty());
        assert!(!compare_rows(&[row(&[("a", 1)])], &rows, false).is_empty());
        assert!(compare_rows(&[row(&[("a", 1)])], &rows, true).is_empty());
        assert!(!compare_rows(&[row(&[("a", 2)])], &rows, true).is_empty());
    }
}
