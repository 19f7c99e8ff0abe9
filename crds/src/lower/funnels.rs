//! Funnels.

use engine::{
    expr::Expr,
    plan::{ColumnPlan, FunnelPlan, FunnelStepPlan, GroupPlan, OutputPlan, Window},
    value::Type,
};

use super::columns::{self, RESERVED};
use crate::{
    expression::{scope::Scope, typed},
    problem::{Report, field},
    spec::{Duration, Funnel, FunnelStep, Table},
};

/// How long an entity without events is remembered where there is no window and nothing else is said.
const FORGET_AFTER: Duration = Duration::seconds(30 * 86_400);

/// Lowers the funnel of a table.
pub(super) fn funnel(
    table: &Table,
    funnel: &Funnel,
    window: Window,
    input: &Scope,
    path: &str,
    report: &mut Report,
) -> Option<FunnelPlan> {
    if matches!(window, Window::Hopping { .. } | Window::Session { .. }) {
        let problem = report.problem(&field(path, "window"), "a funnel has a tumbling window or none");
        report.push(problem.accepts("{tumbling: 1h}"));
    }
    let path = field(path, "funnel");
    columns::positive(report, &field(&path, "within"), funnel.within);
    if funnel.steps.len() < 2 && !report.lost(&field(&path, "steps")) {
        let problem = report.problem(&field(&path, "steps"), "a funnel has from 2 to 16 steps");
        report.push(problem.found(format!("{} step", funnel.steps.len())));
    }
    let by = column(report, &field(&path, "by"), input, &funnel.by);
    let same_key = funnel.same_key.as_ref().map(|name| column(report, &field(&path, "sameKey"), input, name));
    let steps: Vec<Option<FunnelStepPlan>> = funnel
        .steps
        .iter()
        .enumerate()
        .map(|(at, _)| step(funnel, at, input, &field(&path, "steps"), report))
        .collect();
    Some(FunnelPlan {
        by: by?,
        within_ms: funnel.within.millis,
        same_key: match same_key {
            None => None,
            Some(found) => Some(found?),
        },
        steps: steps.into_iter().collect::<Option<_>>()?,
        forget_after_ms: table.keep_for.unwrap_or(FORGET_AFTER).millis,
    })
}

fn column(report: &mut Report, path: &str, input: &Scope, name: &str) -> Option<Expr> {
    let id = columns::find(report, path, input, name, None)?;
    Some(Expr::Column(id, input.columns[id].ty?))
}

fn step(funnel: &Funnel, at: usize, input: &Scope, path: &str, report: &mut Report) -> Option<FunnelStepPlan> {
    let FunnelStep { name, filter, undone_by } = &funnel.steps[at];
    let path = crate::problem::named(path, name);
    let taken = funnel.steps[..at].iter().any(|other| other.name.eq_ignore_ascii_case(name));
    if taken || RESERVED.contains(&name.as_str()) || matches!(name.as_str(), "conversion" | "seconds_to_convert") {
        report.add(&field(&path, "name"), "the table has another column of this name");
    }
    let mut condition = |part: &str, text: &str| {
        let result = typed(text, &mut input.clone(), Some(Type::Boolean));
        result.map_err(|problems| report.expression(&field(&path, part), problems)).ok()
    };
    let when = condition("where", filter);
    let undone_by = undone_by.as_ref().map(|text| condition("undoneBy", text));
    Some(FunnelStepPlan {
        name: name.clone(),
        when: when?,
        undone_by: match undone_by {
            None => None,
            Some(found) => Some(found?),
        },
    })
}

/// The columns of a funnel's rows.
pub(super) fn outputs(funnel: &Funnel, group: &[GroupPlan]) -> Vec<OutputPlan> {
    let steps = funnel.steps.iter().map(|step| (step.name.as_str(), Type::Integer));
    let rest = [("conversion", Type::Decimal), ("seconds_to_convert", Type::Decimal)];
    let columns = steps.chain(rest).enumerate();
    columns
        .map(|(at, (name, ty))| OutputPlan {
            column: ColumnPlan { name: name.to_owned(), ty },
            expr: Expr::Column(group.len() + at, ty),
        })
        .collect()
}
