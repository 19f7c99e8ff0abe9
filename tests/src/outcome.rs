//! What came out of the engine, and whether it is what the reference says.

use std::collections::{BTreeMap, BTreeSet};

use engine::{
    output::{DeadLetter, Output, Row, Source, SystemTable},
    plan::{Plan, TableKind, Window},
    value::Value,
};

use crate::reference::{Answer, LetterKey, RowKey, RowValue, cell::Cell};

/// Differences that are shown; the others are counted.
const SHOWN_MAX: usize = 6;

/// The latest version of every row, and everything else that left.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Rows by table, start of window, group.
    pub rows: BTreeMap<(usize, Option<i64>, Vec<Value>), Row>,
    /// Dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Positions of accepted events that left as silver.
    pub silver: Vec<(usize, Source, u64)>,
    /// Promises broken on the way: a final row that was not final any more.
    pub broken: Vec<String>,
}

impl Outcome {
    /// Takes what a commit brought, in the order of commits.
    pub fn take(&mut self, plan: &Plan, output: &Output) {
        output.rows.iter().for_each(|row| self.take_row(plan, row));
        self.dead_letters.extend(output.dead_letters.iter().cloned());
        self.silver.extend(output.silver.iter().map(|event| (event.stream, event.source, event.offset)));
    }

    fn take_row(&mut self, plan: &Plan, row: &Row) {
        let key = (row.table, row.window.map(|(start, _)| start), row.group.clone());
        if let Some(table) = plan.tables.get(row.table) {
            let was_final = self.rows.get(&key).is_some_and(|before| before.is_final);
            // A late event may merge sessions, or undo the step by which an entity was in a funnel's row.
            let may_go = matches!(table.window, Window::Session { .. }) || matches!(table.kind, TableKind::Funnel(_));
            if was_final && !may_go && (row.deleted || !row.is_final) {
                self.broken.push(format!("a final row was taken back: {row:?}"));
            }
        }
        if row.deleted { drop(self.rows.remove(&key)) } else { drop(self.rows.insert(key, row.clone())) }
    }

    /// Rows of the user's tables as the reference writes them.
    #[must_use]
    pub fn tables(&self, plan: &Plan) -> BTreeMap<RowKey, RowValue> {
        let cells = |values: &[Value]| values.iter().map(Cell::from_value).collect::<Vec<_>>();
        let user = self.rows.values().filter(|row| row.table < plan.tables.len());
        user.map(|row| {
            let name = plan.tables[row.table].name.clone();
            let key = (name, row.window.map(|(start, _)| start), cells(&row.group));
            (key, (row.window.map(|(_, end)| end), cells(&row.values)))
        })
        .collect()
    }

    /// Sums of the counters of a system table by its first group column and what `part` makes of the second.
    fn sums<K: Ord>(&self, plan: &Plan, table: SystemTable, part: impl Fn(&str, &str) -> K) -> BTreeMap<K, Vec<u64>> {
        let mut sums: BTreeMap<K, Vec<u64>> = BTreeMap::new();
        for row in self.rows.values().filter(|row| row.table == table.index(plan)) {
            let text = |at: usize| match &row.group[at] {
                Value::String(text) => text.to_string(),
                other => format!("{other:?}"),
            };
            let sum = sums.entry(part(&text(0), &text(1))).or_insert_with(|| vec![0; row.values.len()]);
            for (sum, value) in sum.iter_mut().zip(&row.values) {
                *sum += if let Value::Integer(count) = value { count.cast_unsigned() } else { 0 };
            }
        }
        sums
    }

    /// Events that the ledgers cannot account for.
    #[must_use]
    pub fn unaccounted(&self, plan: &Plan) -> i64 {
        let streams = self.sums(plan, SystemTable::LedgerStreams, |_, _| ());
        let tables = self.sums(plan, SystemTable::LedgerTables, |table, _| table.to_owned());
        let missing = |sum: &Vec<u64>| sum[0].cast_signed() - sum[1..].iter().sum::<u64>().cast_signed();
        streams.values().chain(tables.values()).map(|sum| missing(sum).abs()).sum()
    }

    /// Raised alerts: alert, window, group as JSON.
    #[must_use]
    pub fn alerts(&self, plan: &Plan) -> BTreeSet<(String, Option<i64>, String)> {
        let at = SystemTable::Alerts.index(plan);
        let raised = |row: &&Row| row.table == at && row.values[0] == Value::String("raised".into());
        let text =
            |value: &Value| if let Value::String(text) = value { text.to_string() } else { format!("{value:?}") };
        let alert = |row: &Row| (text(&row.group[0]), row.window.map(|(start, _)| start), text(&row.group[1]));
        self.rows.values().filter(raised).map(alert).collect()
    }
}

/// What is compared besides the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Rows, ledgers, dead letters, alerts.
    Everything,
    /// Rows, alerts and that nothing is unaccounted: another layout moves records between source partitions.
    Tables,
}

/// Compares the outcome with the answer.
///
/// # Errors
/// With what differs, for people.
pub fn compare(plan: &Plan, answer: &Answer, outcome: &Outcome, strictness: Strictness) -> Result<(), String> {
    let mut different = Vec::new();
    different.extend(outcome.broken.iter().cloned());
    compare_rows(answer, &outcome.tables(plan), &mut different);
    compare_alerts(plan, answer, outcome, &mut different);
    match outcome.unaccounted(plan) {
        0 => {}
        count => different.push(format!("{count} events are unaccounted for")),
    }
    for row in outcome.rows.values() {
        if plan.tables.get(row.table).is_some_and(|table| table.window != Window::None) && !row.is_final {
            different.push(format!("not final although every source has ended: {row:?}"));
        }
    }
    if strictness == Strictness::Everything {
        compare_ledgers(plan, answer, outcome, &mut different);
        compare_dead_letters(plan, answer, outcome, &mut different);
    }
    if different.is_empty() {
        return Ok(());
    }
    let more = different.len().saturating_sub(SHOWN_MAX);
    different.truncate(SHOWN_MAX);
    Err(format!("{}\n({more} more)", different.join("\n")))
}

fn compare_rows(answer: &Answer, rows: &BTreeMap<RowKey, RowValue>, different: &mut Vec<String>) {
    for (key, expected) in &answer.rows {
        let Some(found) = rows.get(key) else {
            different.push(format!("row missing: {key:?} {expected:?}"));
            continue;
        };
        let same = found.0 == expected.0
            && found.1.len() == expected.1.len()
            && expected.1.iter().zip(&found.1).all(|(expected, found)| expected.allows(found));
        if !same {
            different.push(format!("row differs: {key:?}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    let surplus = rows.iter().filter(|(key, _)| !answer.rows.contains_key(key));
    different.extend(surplus.map(|(key, found)| format!("row that should not be: {key:?} {found:?}")));
}

fn compare_alerts(plan: &Plan, answer: &Answer, outcome: &Outcome, different: &mut Vec<String>) {
    let expected: BTreeSet<_> =
        answer.alerts.iter().map(|(alert, start, group)| (alert.clone(), *start, json(group))).collect();
    let found = outcome.alerts(plan);
    different.extend(expected.difference(&found).map(|alert| format!("alert missing: {alert:?}")));
    different.extend(found.difference(&expected).map(|alert| format!("alert that should not be: {alert:?}")));
}

/// A group as a JSON list of texts, numbers, booleans and nulls; nothing else groups a table with alerts in tests.
fn json(group: &[Cell]) -> String {
    let value = |cell: &Cell| match cell {
        Cell::Null => serde_json::Value::Null,
        Cell::Boolean(truth) => (*truth).into(),
        Cell::Integer(number) => (*number).into(),
        Cell::Text(text) => text.as_str().into(),
        other => unreachable!("no alert is grouped by {other:?}"),
    };
    serde_json::Value::Array(group.iter().map(value).collect()).to_string()
}

fn compare_ledgers(plan: &Plan, answer: &Answer, outcome: &Outcome, different: &mut Vec<String>) {
    let mut expected: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    for ((stream, source), counts) in &answer.streams {
        let [read, accepted, duplicate, invalid] = *counts;
        expected.insert((stream.clone(), source.name(plan)), vec![read, accepted, duplicate, invalid, 0]);
    }
    let mut found = outcome.sums(plan, SystemTable::LedgerStreams, |a, b| (a.to_owned(), b.to_owned()));
    // A partition without a record may say nothing.
    expected.retain(|_, counts| counts[0] > 0);
    found.retain(|_, counts| counts[0] > 0);
    if expected != found {
        different.push(format!("ledger of streams\n  expected {expected:?}\n  found    {found:?}"));
    }
    let mut expected: BTreeMap<_, _> =
        answer.tables.iter().map(|(table, counts)| (table.clone(), counts.to_vec())).collect();
    let mut found = outcome.sums(plan, SystemTable::LedgerTables, |table, _| table.to_owned());
    expected.retain(|_, counts| counts[0] > 0);
    found.retain(|_, counts| counts[0] > 0);
    if expected != found {
        different.push(format!("ledger of tables\n  expected {expected:?}\n  found    {found:?}"));
    }
}

fn compare_dead_letters(plan: &Plan, answer: &Answer, outcome: &Outcome, different: &mut Vec<String>) {
    let mut found: BTreeMap<LetterKey, &DeadLetter> = BTreeMap::new();
    for letter in &outcome.dead_letters {
        let stream = plan.streams[letter.stream].name.clone();
        if found.insert((stream, letter.table.clone(), letter.source, letter.offset), letter).is_some() {
            different.push(format!("dead letter twice: {letter:?}"));
        }
    }
    for (key, reasons) in &answer.dead_letters {
        match found.remove(key) {
            None => different.push(format!("dead letter missing: {key:?} {reasons:?}")),
            Some(letter) if !reasons.contains(&letter.reason) => {
                let text = String::from_utf8_lossy(&letter.bytes);
                different.push(format!("reason {:?}, expected {reasons:?}: {text}", letter.reason));
            }
            Some(_) => {}
        }
    }
    different.extend(found.values().map(|letter| {
        let text = String::from_utf8_lossy(&letter.bytes);
        format!("dead letter that should not be: {:?} {:?} {} {text}", letter.table, letter.reason, letter.detail)
    }));
}
