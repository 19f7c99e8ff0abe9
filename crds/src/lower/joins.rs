//! Streams made by joining two.

use engine::{
    expr::{Compare, Expr, Logic},
    plan::{ColumnPlan, Input, JoinColumnPlan, JoinPlan, Plan, Side, StreamPlan, TableKind},
    value::Type,
};

use super::{Source, columns};
use crate::{
    expression::{
        ExpressionProblem,
        scope::{Scope, ScopeColumn},
        typed,
    },
    problem::{Report, field, named},
    spec::{Join, PipelineSpec, Stream},
};

/// Lowers all joins; each joins `sources`.
pub(super) fn joins(
    spec: &PipelineSpec,
    streams: &[Option<StreamPlan>],
    sources: &mut Vec<Source>,
    report: &mut Report,
) -> Vec<Option<JoinPlan>> {
    let mut plans = Vec::new();
    let topics_sources = sources.len();
    for stream in &spec.streams {
        let Some(join) = stream.join.as_ref().filter(|_| stream.topics.is_empty()) else { continue };
        let path = named("spec.streams", &stream.name);
        only_join(stream, &path, report);
        let path = field(&path, "join");
        columns::positive(report, &field(&path, "within"), join.within);
        let left = side(&sources[..topics_sources], spec, &join.left, &field(&path, "left"), report);
        let right = side(&sources[..topics_sources], spec, &join.right, &field(&path, "right"), report);
        let (Some(left), Some(right)) = (left, right) else {
            report.lose(&named("spec.streams", &stream.name));
            continue;
        };
        if join.left == join.right {
            report.add(&field(&path, "right"), "a stream cannot be joined with itself");
            report.lose(&named("spec.streams", &stream.name));
            continue;
        }
        let lowering = Lowering { name: &stream.name, join, path: &path, left, right, streams, report };
        let (plan, scope) = lowering.lower();
        sources.push(Source { name: stream.name.clone(), scope, input: Input::Join(plans.len()), timed: true });
        plans.push(plan);
    }
    plans
}

/// What a joined stream must not have: it comes from streams that have it.
fn only_join(stream: &Stream, path: &str, report: &mut Report) {
    let given = [
        ("key", stream.key.is_some()),
        ("eventTime", stream.event_time.is_some()),
        ("id", stream.id.is_some()),
        ("fields", !stream.fields.is_empty()),
        ("rules", !stream.rules.is_empty()),
        ("quality", stream.quality.is_some()),
        ("enrich", !stream.enrich.is_empty()),
        ("bots", stream.bots.is_some()),
        ("derive", !stream.derive.is_empty()),
    ];
    for (name, _) in given.iter().filter(|(_, given)| *given) {
        report.add(&field(path, name), "a joined stream has join alone: say this on the streams that it joins");
    }
}

fn side<'a>(
    sources: &'a [Source],
    spec: &PipelineSpec,
    name: &str,
    path: &str,
    report: &mut Report,
) -> Option<&'a Source> {
    let found = sources.iter().find(|source| source.name == name);
    match found {
        Some(source) if !source.timed => {
            report.add(path, format!("a join needs event time, and stream {name} has no eventTime"));
            None
        }
        None if spec.streams.iter().any(|stream| stream.name == name && stream.join.is_some()) => {
            report.add(path, format!("{name} is a join itself: joins are of streams that read topics"));
            None
        }
        None => {
            columns::unknown(
                report,
                path,
                "stream",
                name,
                "spec.streams",
                sources.iter().map(|source| source.name.as_str()),
            );
            None
        }
        found => found,
    }
}

struct Lowering<'a> {
    name: &'a str,
    join: &'a Join,
    path: &'a str,
    left: &'a Source,
    right: &'a Source,
    streams: &'a [Option<StreamPlan>],
    report: &'a mut Report,
}

impl Lowering<'_> {
    fn lower(mut self) -> (Option<JoinPlan>, Scope) {
        let scope = self.scope();
        let keys = self.keys(&scope);
        let interval = self.interval(&scope);
        let plan = self.plan(&scope, keys, interval);
        (plan, scope)
    }

    /// Left columns by their names, then right ones; both also with their stream's name.
    fn scope(&self) -> Scope {
        let mut scope = Scope { what: format!("stream {}", self.name), ..Scope::default() };
        scope.incomplete = self.left.scope.incomplete || self.right.scope.incomplete;
        for (source, is_right) in [(self.left, false), (self.right, true)] {
            for column in &source.scope.columns {
                let taken = is_right && self.left.scope.get(&column.name).is_some();
                let name = match taken {
                    true => format!("{}_{}", source.name.replace('-', "_"), column.name),
                    false => column.name.clone(),
                };
                let qualified = Some(format!("{}.{}", source.name, column.name));
                let id = scope.columns.len();
                scope.columns.push(ScopeColumn { name, qualified, id, ty: column.ty, flexible: false });
            }
        }
        scope
    }

    /// The left width: columns below it are the left's.
    fn width(&self) -> usize {
        self.left.scope.columns.len()
    }

    fn side_of(&self, expr: &Expr) -> Option<Side> {
        let (mut left, mut right) = (false, false);
        expr.columns(&mut |id| if id < self.width() { left = true } else { right = true });
        match (left, right) {
            (true, false) => Some(Side::Left),
            (false, true) => Some(Side::Right),
            _ => None,
        }
    }

    fn keys(&mut self, scope: &Scope) -> Option<(Expr, Expr)> {
        let path = field(self.path, "match");
        let expr = match typed(&self.join.condition, &mut scope.clone(), Some(Type::Boolean)) {
            Ok(expr) => expr,
            Err(problems) => {
                self.report.expression(&path, problems);
                return None;
            }
        };
        if let Expr::Compare(Compare::Equal, a, b) = expr {
            let width = self.width();
            match (self.side_of(&a), self.side_of(&b)) {
                (Some(Side::Left), Some(Side::Right)) => return Some((*a, shifted(*b, width))),
                (Some(Side::Right), Some(Side::Left)) => return Some((*b, shifted(*a, width))),
                _ => {}
            }
        }
        let problem = self.report.problem(&path, "must compare one value of each side");
        self.report.push(problem.accepts(format!("{}.<column> = {}.<column>", self.join.left, self.join.right)));
        None
    }

    /// The columns of the right side with start and end.
    fn interval(&mut self, scope: &Scope) -> Option<(usize, usize)> {
        let path = field(self.path, "during");
        let expr = match typed(&self.join.during, &mut scope.clone(), Some(Type::Boolean)) {
            Ok(expr) => expr,
            Err(problems) => {
                self.report.expression(&path, problems);
                return None;
            }
        };
        let time = |input| match input {
            Input::Stream(index) => {
                self.streams.get(index)?.as_ref()?.event_time.as_ref().map(|event_time| event_time.column)
            }
            Input::Join(_) => None,
        };
        // Where a side is wrong itself, its time column is not known.
        let (left_time, right_time) = (time(self.left.input)?, time(self.right.input)?);
        let width = self.width();
        if let Some((at, start, end)) = between(&expr)
            && (at, start) == (left_time, right_time + width)
            && end >= width
        {
            return Some((right_time, end - width));
        }
        let name = |source: &Source, id: usize| format!("{}.{}", source.name, source.scope.columns[id].name);
        let accepted = format!(
            "{} between {} and {}.<column>",
            name(self.left, left_time),
            name(self.right, right_time),
            self.right.name
        );
        let message = "must say that the left event time lies between the right event time and an end";
        self.report.expression(
            &path,
            vec![ExpressionProblem {
                message: message.into(),
                accepted: Some(accepted),
                ..ExpressionProblem::default()
            }],
        );
        None
    }

    fn plan(&self, scope: &Scope, keys: Option<(Expr, Expr)>, interval: Option<(usize, usize)>) -> Option<JoinPlan> {
        let index = |source: &Source| match source.input {
            Input::Stream(index) => Some(index),
            Input::Join(_) => None,
        };
        let width = self.width();
        let columns = scope.columns.iter().filter_map(|column| {
            let (side, source) = match column.id < width {
                true => (Side::Left, column.id),
                false => (Side::Right, column.id - width),
            };
            Some(JoinColumnPlan { column: ColumnPlan { name: column.name.clone(), ty: column.ty? }, side, source })
        });
        let (left_key, right_key) = keys?;
        let (start, end) = interval?;
        Some(JoinPlan {
            name: self.name.to_owned(),
            left: index(self.left)?,
            right: index(self.right)?,
            left_key,
            right_key,
            start,
            end,
            within_ms: self.join.within.millis,
            columns: columns.collect(),
        })
    }
}

/// `a between b and c` over plain columns, as it was lowered.
fn between(expr: &Expr) -> Option<(usize, usize, usize)> {
    let Expr::Logic(Logic::And, above, below) = expr else { return None };
    match (above.as_ref(), below.as_ref()) {
        (Expr::Compare(Compare::GreaterOrEqual, at, start), Expr::Compare(Compare::LessOrEqual, same, end)) => {
            match (at.as_ref(), start.as_ref(), same.as_ref(), end.as_ref()) {
                (
                    Expr::Column(at, Type::Timestamp),
                    Expr::Column(start, _),
                    Expr::Column(same, _),
                    Expr::Column(end, _),
                ) if at == same => Some((*at, *start, *end)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn shifted(mut expr: Expr, by: usize) -> Expr {
    renumber(&mut expr, &|id| id - by);
    expr
}

/// Leaves only those columns in each join that some table reads.
pub(super) fn prune(plan: &mut Plan) {
    for (index, join) in plan.joins.iter_mut().enumerate() {
        let mut used = vec![false; join.columns.len()];
        let mut readers: Vec<_> = plan.tables.iter_mut().filter(|table| table.input == Input::Join(index)).collect();
        for table in &mut readers {
            each_input_expr(table, &mut |expr| expr.columns(&mut |id| used[id] = true));
        }
        let mut places = Vec::with_capacity(used.len());
        let mut kept = 0;
        for is_used in &used {
            places.push(kept);
            kept += usize::from(*is_used);
        }
        for table in &mut readers {
            each_input_expr(table, &mut |expr| renumber(expr, &|id| places[id]));
        }
        let mut at = 0;
        join.columns.retain(|_| {
            at += 1;
            used[at - 1]
        });
    }
}

/// Visits every expression of a table that is over its input's columns.
fn each_input_expr(table: &mut engine::plan::TablePlan, visit: &mut dyn FnMut(&mut Expr)) {
    table.filter.iter_mut().for_each(&mut *visit);
    table.group_by.iter_mut().for_each(|group| visit(&mut group.expr));
    match &mut table.kind {
        TableKind::Aggregate(aggregates) => {
            for aggregate in aggregates {
                aggregate.argument.iter_mut().for_each(&mut *visit);
                aggregate.filter.iter_mut().for_each(&mut *visit);
            }
        }
        TableKind::Funnel(funnel) => {
            visit(&mut funnel.by);
            funnel.same_key.iter_mut().for_each(&mut *visit);
            for step in &mut funnel.steps {
                visit(&mut step.when);
                step.undone_by.iter_mut().for_each(&mut *visit);
            }
        }
    }
}

/// Gives every column of `expr` the place that `place` says.
fn renumber(expr: &mut Expr, place: &dyn Fn(usize) -> usize) {
    match expr {
        Expr::Column(id, _) => *id = place(*id),
        Expr::Literal(..) => {}
        Expr::Not(arg)
        | Expr::Negate(arg)
        | Expr::IsNull(arg)
        | Expr::In(arg, _)
        | Expr::Like(arg, _)
        | Expr::Cast(arg, _) => renumber(arg, place),
        Expr::Logic(_, left, right) | Expr::Compare(_, left, right) | Expr::Arithmetic(_, left, right) => {
            renumber(left, place);
            renumber(right, place);
        }
        Expr::Case { branches, otherwise } => {
            for (when, then) in branches {
                renumber(when, place);
                renumber(then, place);
            }
            renumber(otherwise, place);
        }
        Expr::Coalesce(args) | Expr::Call(_, args) => args.iter_mut().for_each(|arg| renumber(arg, place)),
    }
}
