//! Result tables.

use engine::{
    expr::Expr,
    plan::{Aggregate, ColumnPlan, Emit, GroupPlan, TableKind, TablePlan, Window},
    value::Type,
};

use super::{
    Source,
    columns::{self, RESERVED},
    funnels, select, windows,
};
use crate::{
    expression::{scope::Scope, typed},
    problem::{Report, field, named},
    spec::{PipelineSpec, Table},
};

/// Lowers a table.
pub(super) fn table(table: &Table, spec: &PipelineSpec, sources: &[Source], report: &mut Report) -> Option<TablePlan> {
    let path = named("spec.tables", &table.name);
    let before = report.problems.len();
    let window = windows::window(table, &path, report);
    windows::bound(table, &path, report);
    let Some(source) = sources.iter().find(|source| source.name == table.from) else {
        let names = spec.streams.iter().map(|stream| stream.name.as_str());
        if !spec.streams.iter().any(|stream| stream.name == table.from) {
            columns::unknown(report, &field(&path, "from"), "stream", &table.from, "spec.streams", names);
        }
        return None;
    };
    let input = &source.scope;
    let filter = table.filter.as_ref().map(|text| {
        let result = typed(text, &mut input.clone(), Some(Type::Boolean));
        result.map_err(|problems| report.expression(&field(&path, "where"), problems)).ok()
    });
    let group_by = group_by(table, input, &path, report);
    let (kind, outputs) = kind(table, window, &group_by, input, &path, report)?;
    time(table, source, &kind, &path, report);
    let windowed = window != Window::None;
    let is_funnel = matches!(kind, TableKind::Funnel(_));
    let plan = TablePlan {
        name: table.name.clone(),
        epoch: 1,
        fingerprint: 0,
        input: source.input,
        filter: match filter {
            None => None,
            Some(found) => Some(found?),
        },
        window,
        lateness_ms: table.window.as_ref().map_or(0, |window| window.allowed_lateness.millis),
        group_by,
        kind,
        outputs,
        keep_for_ms: table.keep_for.filter(|_| !windowed && !is_funnel).map(|keep_for| keep_for.millis),
        max_groups: table.max_groups.filter(|_| !windowed),
        emit: Emit { every_ms: (!table.emit.final_only).then_some(table.emit.every.millis) },
    };
    (before == report.problems.len()).then_some(plan)
}

fn group_by(table: &Table, input: &Scope, path: &str, report: &mut Report) -> Vec<GroupPlan> {
    let mut groups: Vec<GroupPlan> = Vec::new();
    for (at, name) in table.group_by.iter().enumerate() {
        let path = format!("{path}.groupBy[{at}]");
        let Some(id) = columns::find(report, &path, input, name, None) else { continue };
        let column = &input.columns[id];
        if groups.iter().any(|group| group.column.name.eq_ignore_ascii_case(&column.name)) {
            report.add(&path, "is grouped by already");
        } else if RESERVED.contains(&column.name.as_str()) {
            report.add(&path, "every table has a column of this name already: derive one of another name");
        } else if let Some(ty) = column.ty {
            let column = ColumnPlan { name: column.name.clone(), ty };
            groups.push(GroupPlan { column, expr: Expr::Column(id, ty) });
        }
    }
    groups
}

type Kind = (TableKind, Vec<engine::plan::OutputPlan>);

fn kind(
    table: &Table,
    window: Window,
    group: &[GroupPlan],
    input: &Scope,
    path: &str,
    report: &mut Report,
) -> Option<Kind> {
    match (table.select.is_empty(), &table.funnel) {
        (false, None) => {
            let selected = select::select(table, group, input, path, report)?;
            Some((TableKind::Aggregate(selected.aggregates), selected.outputs))
        }
        (true, Some(funnel)) => {
            let outputs = funnels::outputs(funnel, group);
            for output in &outputs {
                if group.iter().any(|group| group.column.name.eq_ignore_ascii_case(&output.column.name)) {
                    let message = format!("the funnel has a column {} of its own", output.column.name);
                    report.add(&field(path, "groupBy"), message);
                }
            }
            let plan = funnels::funnel(table, funnel, window, input, path, report)?;
            Some((TableKind::Funnel(plan), outputs))
        }
        (false, Some(_)) => {
            report.add(&field(path, "funnel"), "a table has either select or funnel, not both");
            None
        }
        (true, None) => {
            if !report.lost(&field(path, "select")) && !report.lost(&field(path, "funnel")) {
                let problem =
                    report.problem(&field(path, "select"), "a table has either select or funnel, and this one neither");
                report.push(problem.accepts("select: {events: count()}"));
            }
            None
        }
    }
}

/// Complains where the table needs event time and the stream has none.
fn time(table: &Table, source: &Source, kind: &TableKind, path: &str, report: &mut Report) {
    if source.timed {
        return;
    }
    let ordered = |function| {
        use Aggregate::{First, Last, LastDistinct, LastN};
        matches!(function, First | Last | LastN { .. } | LastDistinct { .. })
    };
    let (part, why) = match kind {
        _ if table.window.is_some() => ("window", "windows divide event time"),
        TableKind::Funnel(_) => ("funnel", "the steps of a funnel are ordered by event time"),
        _ if table.keep_for.is_some() => ("keepFor", "a group is forgotten by event time"),
        _ if table.max_groups.is_some() => ("maxGroups", "the group longest without events goes first"),
        TableKind::Aggregate(all) if all.iter().any(|aggregate| ordered(aggregate.function)) => {
            ("select", "first and last are so by event time")
        }
        TableKind::Aggregate(_) => return,
    };
    let problem =
        report.problem(&field(path, part), format!("needs event time, and stream {} has none: {why}", source.name));
    report.push(problem.accepts(format!(
        "eventTime: {{field: <a timestamp field>, outOfOrderness: 1m}} in spec.streams[{}]",
        source.name
    )));
}

/// The columns of a table as people see them.
pub(super) fn scope(plan: &TablePlan) -> Scope {
    let mut scope = Scope { what: format!("table {}", plan.name), ..Scope::default() };
    let groups = plan.group_by.iter().map(|group| &group.column);
    for column in groups.chain(plan.outputs.iter().map(|output| &output.column)) {
        scope.push(&column.name, Some(column.ty));
    }
    if plan.window != Window::None {
        scope.push("window_start", Some(Type::Timestamp));
        scope.push("window_end", Some(Type::Timestamp));
    }
    scope.push("final", Some(Type::Boolean));
    scope
}
