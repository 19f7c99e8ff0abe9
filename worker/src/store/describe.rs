//! What a table looks like, told once: to the store's layout, the API, `query` and the page.

use std::collections::BTreeSet;

use engine::{
    expr::Expr,
    output,
    plan::{Aggregate, Plan, TableKind as PlanKind, TablePlan, Window},
    value::Type,
};
use serde::{Deserialize, Serialize};

/// A table as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableInfo {
    /// Name.
    pub name: String,
    /// Raised when the definition changes; one epoch is shown at a time.
    pub epoch: u32,
    /// What it holds.
    pub kind: TableKind,
    /// Its window; `None` for running totals.
    pub window: Option<WindowInfo>,
    /// Names of a funnel's steps, which are also columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// All columns in order: window, group, values, then `final` and `version`.
    pub columns: Vec<ColumnInfo>,
}

/// What a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// Aggregates per window and group.
    Aggregate,
    /// Steps of a funnel.
    Funnel,
    /// The pipeline's own accounts.
    System,
}

/// A window, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum WindowInfo {
    /// One after the other.
    Tumbling {
        /// Length.
        size_ms: i64,
    },
    /// Overlapping.
    Hopping {
        /// Length.
        size_ms: i64,
        /// Distance between starts.
        every_ms: i64,
    },
    /// As long as events follow each other.
    Session {
        /// The pause that ends it.
        gap_ms: i64,
    },
    /// A window of the pipeline's own tables.
    System,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnInfo {
    /// Name in SQL and in answers, unique within the table without regard to case.
    pub name: String,
    /// Type, as a manifest writes it.
    #[serde(rename = "type")]
    pub ty: String,
    /// What part it plays.
    pub role: Role,
    /// Whether values of different rows may be added up: counts and sums.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub additive: bool,
}

/// The part that a column plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Start or end of the window.
    Window,
    /// Part of the key.
    Group,
    /// A result.
    Value,
    /// `final` and `version`.
    State,
}

impl TableInfo {
    /// Columns that play the given part, in order.
    pub fn of_role(&self, role: Role) -> impl Iterator<Item = &ColumnInfo> {
        self.columns.iter().filter(move |column| column.role == role)
    }

    /// Whether window starts may carry milliseconds, so that text order is not time order within a second.
    #[must_use]
    pub fn has_fractional_windows(&self) -> bool {
        match self.window {
            None | Some(WindowInfo::System) => false,
            Some(WindowInfo::Session { .. }) => true,
            Some(WindowInfo::Tumbling { size_ms }) => size_ms % 1_000 != 0,
            Some(WindowInfo::Hopping { size_ms, every_ms }) => size_ms % 1_000 != 0 || every_ms % 1_000 != 0,
        }
    }
}

/// Describes every table of the plan and the system tables, in the order of [`output::schemas`].
#[must_use]
pub fn describe(plan: &Plan) -> Vec<TableInfo> {
    let schemas = output::schemas(plan);
    schemas.iter().enumerate().map(|(at, schema)| describe_table(schema, plan.tables.get(at))).collect()
}

fn describe_table(schema: &output::TableSchema, plan: Option<&TablePlan>) -> TableInfo {
    let (kind, steps) = match plan.map(|table| &table.kind) {
        None => (TableKind::System, vec![]),
        Some(PlanKind::Aggregate(_)) => (TableKind::Aggregate, vec![]),
        Some(PlanKind::Funnel(funnel)) => {
            (TableKind::Funnel, funnel.steps.iter().map(|step| step.name.clone()).collect())
        }
    };
    let window = match plan {
        Some(table) => window_info(table.window),
        None => schema.windowed.then_some(WindowInfo::System),
    };
    TableInfo { name: schema.name.clone(), epoch: schema.epoch, kind, window, steps, columns: columns(schema, plan) }
}

fn window_info(window: Window) -> Option<WindowInfo> {
    match window {
        Window::None => None,
        Window::Tumbling { size_ms } => Some(WindowInfo::Tumbling { size_ms }),
        Window::Hopping { size_ms, every_ms } => Some(WindowInfo::Hopping { size_ms, every_ms }),
        Window::Session { gap_ms } => Some(WindowInfo::Session { gap_ms }),
    }
}

fn columns(schema: &output::TableSchema, plan: Option<&TablePlan>) -> Vec<ColumnInfo> {
    let mut taken: BTreeSet<String> = ["_key", "_exact", "final", "version"].map(Into::into).into();
    let mut columns = Vec::new();
    let mut add = |name: &str, ty: Type, role: Role, additive: bool| {
        columns.push(ColumnInfo { name: unique(name, &mut taken), ty: ty.name().into(), role, additive });
    };
    if schema.windowed {
        add("window_start", Type::Timestamp, Role::Window, false);
        add("window_end", Type::Timestamp, Role::Window, false);
    }
    for column in &schema.group {
        add(&column.name, column.ty, Role::Group, false);
    }
    for (at, column) in schema.values.iter().enumerate() {
        let additive = match plan {
            Some(table) => is_additive(table, at),
            None => column.ty == Type::Integer,
        };
        add(&column.name, column.ty, Role::Value, additive);
    }
    let state = |name: &str, ty: Type| ColumnInfo {
        name: name.into(),
        ty: ty.name().into(),
        role: Role::State,
        additive: false,
    };
    columns.extend([state("final", Type::Boolean), state("version", Type::Integer)]);
    columns
}

/// Makes a name unique without regard to case, as SQLite compares them, by appending a number.
fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut chosen = name.to_owned();
    let mut number = 2;
    while !taken.insert(chosen.to_lowercase()) {
        chosen = format!("{name}_{number}");
        number += 1;
    }
    chosen
}

/// Counts and sums add up over groups and windows; distinct counts, averages and ratios do not.
fn is_additive(table: &TablePlan, output: usize) -> bool {
    let Expr::Column(column, _) = table.outputs[output].expr else { return false };
    let Some(place) = column.checked_sub(table.group_by.len()) else { return false };
    match &table.kind {
        PlanKind::Funnel(funnel) => place < funnel.steps.len(),
        PlanKind::Aggregate(aggregates) => {
            aggregates.get(place).is_some_and(|it| matches!(it.function, Aggregate::Count | Aggregate::Sum))
        }
    }
}
