//! Alerts.

use engine::{
    expr::Expr,
    plan::{Aggregate, AlertPlan, TableKind, TablePlan, Window, ZScorePlan},
    value::Type,
};

use super::columns;
use crate::{
    expression::{
        scope::{Names, Resolved, Scope},
        typed,
    },
    problem::{Report, field, named},
    spec::PipelineSpec,
};

/// Lowers all alerts.
pub(super) fn alerts(spec: &PipelineSpec, tables: &[Option<TablePlan>], report: &mut Report) -> Vec<AlertPlan> {
    let mut plans = Vec::new();
    for alert in &spec.alerts {
        let path = named("spec.alerts", &alert.name);
        let Some(index) = spec.tables.iter().position(|table| table.name == alert.table) else {
            let names = spec.tables.iter().map(|table| table.name.as_str());
            columns::unknown(report, &field(&path, "table"), "table", &alert.table, "spec.tables", names);
            continue;
        };
        // A table that is wrong itself has no columns to judge.
        let Some(table) = &tables[index] else { continue };
        let divided = matches!(table.window, Window::Tumbling { .. } | Window::Hopping { .. });
        if alert.for_windows > 1 && !divided {
            let problem = report.problem(&field(&path, "for"), "consecutive windows need a tumbling or hopping window");
            report.push(problem.accepts("1"));
        }
        let mut names = AlertNames { scope: scope(table), table, divided, zscores: Vec::new() };
        match typed(&alert.when, &mut names, Some(Type::Boolean)) {
            Ok(when) => plans.push(AlertPlan {
                name: alert.name.clone(),
                table: index,
                when,
                zscores: names.zscores,
                for_windows: alert.for_windows,
            }),
            Err(problems) => report.expression(&field(&path, "when"), problems),
        }
    }
    plans
}

/// Group columns, then outputs.
fn scope(table: &TablePlan) -> Scope {
    let mut scope = Scope { what: format!("table {}", table.name), ..Scope::default() };
    let groups = table.group_by.iter().map(|group| &group.column);
    for column in groups.chain(table.outputs.iter().map(|output| &output.column)) {
        scope.push(&column.name, Some(column.ty));
    }
    scope
}

struct AlertNames<'a> {
    scope: Scope,
    table: &'a TablePlan,
    divided: bool,
    zscores: Vec<ZScorePlan>,
}

impl Names for AlertNames<'_> {
    fn column(&mut self, parts: &[&str]) -> Resolved {
        self.scope.column(parts)
    }

    fn what(&self) -> String {
        self.scope.what.clone()
    }

    fn zscore(&mut self, column: &str, windows: u32) -> Option<Resolved> {
        if !self.divided {
            return Some(Resolved::Wrong("zscore compares windows: the table needs a tumbling or hopping one".into()));
        }
        let outputs = &self.table.outputs;
        let Some(output) = outputs.iter().position(|output| output.column.name == column) else {
            return Some(Resolved::Unknown(outputs.iter().map(|output| output.column.name.clone()).collect()));
        };
        if !matches!(outputs[output].column.ty, Type::Integer | Type::Decimal) {
            return Some(Resolved::Wrong(format!(
                "zscore is of a number, and {column} is a {}",
                outputs[output].column.ty.name()
            )));
        }
        let plan = ZScorePlan { output, windows, missing_is_zero: is_count(self.table, &outputs[output].expr) };
        let index = self.zscores.iter().position(|known| *known == plan).unwrap_or_else(|| {
            self.zscores.push(plan);
            self.zscores.len() - 1
        });
        Some(Resolved::Expr(Expr::Column(self.scope.columns.len() + index, Type::Decimal)))
    }
}

/// Whether the output is a plain count, for which no row means zero.
fn is_count(table: &TablePlan, expr: &Expr) -> bool {
    let Expr::Column(id, _) = expr else { return false };
    let Some(result) = id.checked_sub(table.group_by.len()) else { return false };
    match &table.kind {
        TableKind::Aggregate(aggregates) => {
            use Aggregate::{ApproxDistinct, Count, CountDistinct};
            aggregates.get(result).is_some_and(|plan| matches!(plan.function, Count | CountDistinct | ApproxDistinct))
        }
        TableKind::Funnel(funnel) => result < funnel.steps.len(),
    }
}
