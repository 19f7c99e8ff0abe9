//! Alerts in MERGE: rows of a table are judged where they are made; every group lives on one partition.
//!
//! They are judged message by message, whenever they leave: what was said of a row must not depend on when a flush came, or
//! a task that is recovered between two flushes would not know what was raised, and never withdraw it.

use crate::{
    alert::{AlertChange, AlertState},
    codec::{Corrupt, Reader, put_value},
    column::Column,
    kernel::Program,
    output::{Row, SystemTable},
    plan::{AlertPlan, Plan, Window},
    time::{BEGINNING_OF_TIME, Millis},
    value::{Type, Value, write_json_string},
};

struct Watching {
    table: usize,
    windowed: bool,
    state: AlertState,
    condition: Condition,
    watermark: Millis,
}

/// The condition of an alert over one row.
struct Condition {
    when: Program,
    columns: Vec<Column>,
    arena: Vec<u8>,
}

impl Condition {
    fn new(plan: &Plan, alert: &AlertPlan) -> Self {
        let table = &plan.tables[alert.table];
        let groups = table.group_by.iter().map(|group| group.column.ty);
        let outputs = table.outputs.iter().map(|output| output.column.ty);
        let scores = alert.zscores.iter().map(|_| Type::Decimal);
        // No expression reads a list; its column only keeps the places of the others.
        let scalar = |ty| if ty == Type::List { Type::Boolean } else { ty };
        Self {
            when: Program::compile(&alert.when),
            columns: groups.chain(outputs).chain(scores).map(|ty| Column::new(scalar(ty))).collect(),
            arena: Vec::new(),
        }
    }

    fn holds(&mut self, values: &[Value]) -> bool {
        self.arena.clear();
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.clear();
            let value = if matches!(value, Value::List(_)) { &Value::Null } else { value };
            column.push_value(value, &mut self.arena);
        }
        self.when.eval_mask(&self.columns, 1, &mut self.arena)[0]
    }
}

/// All alerts of the plan.
pub(super) struct Alerts(Vec<Watching>);

impl Alerts {
    pub(super) fn new(plan: &Plan) -> Self {
        let watch = |(at, alert): (usize, &AlertPlan)| Watching {
            table: alert.table,
            windowed: plan.tables[alert.table].window != Window::None,
            state: AlertState::new(plan, at),
            condition: Condition::new(plan, alert),
            watermark: BEGINNING_OF_TIME,
        };
        Self(plan.alerts.iter().enumerate().map(watch).collect())
    }

    /// Whether any alert watches a table.
    pub(super) fn watch(plan: &Plan, table: usize) -> bool {
        plan.alerts.iter().any(|alert| alert.table == table)
    }

    /// Judges rows of `table` and returns what the alerts say: of windows once they are final, of running totals always.
    /// What was judged before and is the same says nothing.
    pub(super) fn judge(&mut self, plan: &Plan, table: usize, rows: &[Row]) -> Vec<Row> {
        let mut changes = Vec::new();
        for (alert, watching) in self.0.iter_mut().enumerate().filter(|(_, watching)| watching.table == table) {
            for row in rows {
                if watching.windowed && !row.is_final && !row.deleted {
                    continue;
                }
                let mut key = Vec::new();
                row.group.iter().for_each(|value| put_value(value, &mut key));
                let Watching { state, condition, .. } = watching;
                let mut when = |values: &[Value]| condition.holds(values);
                let mut emit = |change: AlertChange<'_>| changes.push(change_row(plan, alert, &row.group, &change));
                if row.deleted {
                    state.remove(&row.group, &key, row.window, &mut when, &mut emit);
                } else {
                    state.judge(&row.group, &key, row.window, &row.values, &mut when, &mut emit);
                }
            }
        }
        changes
    }

    /// Forgets history that nothing can ask for any more.
    pub(super) fn advance(&mut self, watermark: impl Fn(usize) -> Millis) {
        for watching in &mut self.0 {
            let now = watermark(watching.table);
            if now > watching.watermark {
                watching.watermark = now;
                watching.state.advance(now);
            }
        }
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|watching| watching.state.snapshot(out));
    }

    pub(super) fn restore(&mut self, plan: &Plan, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        for (at, watching) in self.0.iter_mut().enumerate() {
            watching.state = AlertState::restore(plan, at, reader)?;
        }
        Ok(())
    }
}

fn change_row(plan: &Plan, alert: usize, group: &[Value], change: &AlertChange<'_>) -> Row {
    let mut group_json = Vec::new();
    Value::List(group.into()).write_json(&mut group_json);
    let mut detail = vec![b'{'];
    for (at, (name, value)) in change.detail.iter().enumerate() {
        if at > 0 {
            detail.push(b',');
        }
        write_json_string(name, &mut detail);
        detail.push(b':');
        value.write_json(&mut detail);
    }
    detail.push(b'}');
    let text = |bytes: Vec<u8>| Value::String(String::from_utf8(bytes).expect("JSON is UTF-8").into());
    let state = if change.raised { "raised" } else { "withdrawn" };
    Row {
        table: SystemTable::Alerts.index(plan),
        window: change.window,
        group: vec![Value::String(plan.alerts[alert].name.as_str().into()), text(group_json)],
        values: vec![
            Value::String(state.into()),
            Value::Integer(i64::from(plan.alerts[alert].for_windows)),
            text(detail),
        ],
        is_final: false,
        deleted: false,
    }
}
