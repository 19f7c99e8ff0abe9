//! Alerts: conditions on the final rows of a table. The state of one alert on one shuffle partition.
//!
//! Each (group, window) has its own answer, raised or not, and it is a function of the group's rows: the row itself,
//! the run of windows before it (`for`), the numbers before it (`zscore`). A row is judged when it becomes final and
//! again when it is corrected; later windows that reach back to it are then judged again too, and every answer that
//! changed is emitted. History is kept as far as any answer can reach.
//!
//! Rows of sessions and of tables without windows (a group's latest row) are judged by themselves: nothing there is
//! "the window before", and the language has neither `for` nor `zscore` for them.

mod history;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::history::{Group, Reach};
use crate::{
    plan::Plan,
    time::Millis,
    value::{Type, Value},
};

/// An answer that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertChange<'a> {
    /// The window, if the table has windows.
    pub window: Option<(Millis, Millis)>,
    /// Raised, or else withdrawn.
    pub raised: bool,
    /// The output columns and z-scores it was judged by, by name; empty where the row is gone.
    pub detail: Vec<(&'a str, Value)>,
}

/// The state of one alert on one shuffle partition.
#[derive(Clone, Debug)]
pub struct AlertState {
    reach: Reach,
    /// Names of output columns, then of z-scores.
    names: Vec<String>,
    /// Types of output columns.
    types: Vec<Type>,
    groups: BTreeMap<Box<[u8]>, Group>,
    /// Division of time in which they were last gone through.
    pruned: i64,
    /// The alert columns of the row being judged.
    columns: Vec<Value>,
}

impl AlertState {
    /// Makes the state before the first row. `alert` is an index into [`Plan::alerts`].
    #[must_use]
    pub fn new(plan: &Plan, alert: usize) -> Self {
        let alert = &plan.alerts[alert];
        let table = &plan.tables[alert.table];
        let outputs = || table.outputs.iter().map(|output| &output.column);
        let score = |score: &crate::plan::ZScorePlan| {
            format!("zscore({}, {})", table.outputs[score.output].column.name, score.windows)
        };
        Self {
            reach: Reach::new(alert, table),
            names: outputs().map(|column| column.name.clone()).chain(alert.zscores.iter().map(score)).collect(),
            types: outputs().map(|column| column.ty).collect(),
            groups: BTreeMap::new(),
            pruned: i64::MIN,
            columns: Vec::new(),
        }
    }

    /// Judges a row that became final or was corrected, and later windows that it changes. `when` is the condition
    /// over the alert columns; a group's rows come in window order, corrections as they happen.
    pub fn judge(
        &mut self,
        group: &[Value],
        group_key: &[u8],
        window: Option<(Millis, Millis)>,
        outputs: &[Value],
        when: &mut impl FnMut(&[Value]) -> bool,
        emit: &mut impl FnMut(AlertChange<'_>),
    ) {
        let history = match self.groups.get_mut(group_key) {
            Some(history) => history,
            None => self.groups.entry(group_key.into()).or_default(),
        };
        let from = history.put(window.unwrap_or((0, 0)), outputs);
        self.judge_from(group, group_key, from, when, emit);
    }

    /// Takes back the row of a window that is gone, such as a session that was merged into another.
    pub fn remove(
        &mut self,
        group: &[Value],
        group_key: &[u8],
        window: Option<(Millis, Millis)>,
        when: &mut impl FnMut(&[Value]) -> bool,
        emit: &mut impl FnMut(AlertChange<'_>),
    ) {
        let Some(history) = self.groups.get_mut(group_key) else { return };
        let Some((at, was_raised)) = history.take(window.unwrap_or((0, 0)).0) else { return };
        if was_raised {
            emit(AlertChange { window, raised: false, detail: Vec::new() });
        }
        self.judge_from(group, group_key, at, when, emit);
    }

    /// Lets go of rows that no window still open to correction reaches back to. To be called once the rows that the
    /// watermark made final have been judged. Groups are gone through only now and then: an eighth of what has to be
    /// kept anyway is kept in addition.
    pub fn advance(&mut self, watermark: Millis) {
        let division = watermark.div_euclid((self.reach.kept_ms() / 8).max(1));
        if !self.reach.is_windowed || division <= self.pruned {
            return;
        }
        self.pruned = division;
        let reach = &self.reach;
        self.groups.retain(|_, group| {
            group.prune(reach, watermark);
            !group.rows.is_empty()
        });
    }

    /// The number of groups with history.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Judges the rows of a group from place `from` on.
    fn judge_from(
        &mut self,
        group: &[Value],
        group_key: &[u8],
        from: usize,
        when: &mut impl FnMut(&[Value]) -> bool,
        emit: &mut impl FnMut(AlertChange<'_>),
    ) {
        let Some(history) = self.groups.get_mut(group_key) else { return };
        for at in from..history.rows.len() {
            self.columns.clear();
            self.columns.extend_from_slice(group);
            self.columns.extend_from_slice(&history.rows[at].outputs);
            let scores = self.reach.scores.iter().map(|score| history.score(&self.reach, score, at));
            self.columns.extend(scores.map(|score| score.map_or(Value::Null, Value::Decimal)));
            let Some(raised) = history.answer(&self.reach, at, when(&self.columns)) else { continue };
            let window = self.reach.is_windowed.then_some(history.rows[at].window);
            let values = self.columns[group.len()..].iter().cloned();
            emit(AlertChange { window, raised, detail: self.names.iter().map(String::as_str).zip(values).collect() });
        }
        if !self.reach.is_windowed && history.rows.iter().all(|row| !row.raised) {
            self.groups.remove(group_key);
        }
    }
}
