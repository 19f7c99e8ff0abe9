//! What a run left: the newest row of every key, and the counters.

use std::collections::BTreeMap;

use engine::{
    output::{Output, Row, SystemTable},
    plan::Plan,
    time::Millis,
    value::Value,
};

/// Table, start of the window, group.
pub(super) type RowKey = (usize, Option<Millis>, Vec<Value>);

/// The newest row of every key.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    rows: BTreeMap<RowKey, Row>,
}

impl Outcome {
    /// Takes what a commit brought, in the order of commits.
    pub fn take(&mut self, output: &Output) {
        for row in &output.rows {
            let key = (row.table, row.window.map(|(start, _)| start), row.group.clone());
            if row.deleted { drop(self.rows.remove(&key)) } else { drop(self.rows.insert(key, row.clone())) }
        }
    }

    /// Rows of a table, by window and group.
    pub fn table(&self, table: usize) -> impl Iterator<Item = &Row> {
        self.rows.values().filter(move |row| row.table == table)
    }

    /// Sums of the counters of a stream or table over all partitions.
    pub fn counts(&self, plan: &Plan, table: SystemTable, name: &str) -> Vec<i64> {
        let mut sums = Vec::new();
        let is_its = |row: &&Row| matches!(row.group.first(), Some(Value::String(of)) if **of == *name);
        for row in self.table(table.index(plan)).filter(is_its) {
            sums.resize(row.values.len(), 0);
            for (sum, value) in sums.iter_mut().zip(&row.values) {
                *sum += if let Value::Integer(count) = value { *count } else { 0 };
            }
        }
        sums
    }
}
