//! `select`: aggregates, and expressions over them, over group columns and over other outputs.

use engine::{
    expr::Expr,
    plan::{AggregatePlan, ColumnPlan, GroupPlan, OutputPlan},
};

use super::columns::RESERVED;
use crate::{
    expression::{
        scope::{Names, Resolved, Scope},
        typed,
    },
    problem::{Problem, Report, field},
    spec::{Table, patterns},
};

/// The lowered select.
pub(super) struct Selected {
    /// What is aggregated; equal aggregates are one.
    pub aggregates: Vec<AggregatePlan>,
    /// The columns, in the written order.
    pub outputs: Vec<OutputPlan>,
}

/// Lowers `select` of a table that reads `input`.
pub(super) fn select(
    table: &Table,
    group: &[GroupPlan],
    input: &Scope,
    path: &str,
    report: &mut Report,
) -> Option<Selected> {
    let path = field(path, "select");
    names(table, group, &path, report);
    let mut select = Select {
        table,
        group,
        input,
        aggregates: Vec::new(),
        states: table.select.iter().map(|_| State::Waiting).collect(),
        path: &path,
        report,
    };
    let mut outputs = Vec::new();
    for index in 0..table.select.len() {
        if let Some(expr) = select.output(index) {
            let name = table.select.0[index].0.clone();
            outputs.push(OutputPlan { column: ColumnPlan { name, ty: expr.type_of() }, expr });
        }
    }
    let whole = outputs.len() == table.select.len();
    whole.then_some(Selected { aggregates: select.aggregates, outputs })
}

/// Output names are columns in databases, where case counts for nothing.
fn names(table: &Table, group: &[GroupPlan], path: &str, report: &mut Report) {
    for (index, (name, _)) in table.select.iter().enumerate() {
        let path = field(path, name);
        let place = |message: &str| Problem {
            message: message.to_owned(),
            found: name.to_owned(),
            ..report.problem(&path, "")
        };
        let before = table.select.iter().take(index).map(|(name, _)| name);
        let taken = before.chain(group.iter().map(|group| group.column.name.as_str()));
        let problem = match patterns::check(patterns::COLUMN_NAME, name) {
            Some((false, words)) => Some(place("is no name for a column").accepts(words)),
            _ if name.len() > 63 => Some(place("a column's name has at most 63 characters")),
            _ if RESERVED.contains(&name) => Some(place("every table has a column of this name already")),
            _ if taken.into_iter().any(|other| other.eq_ignore_ascii_case(name)) => Some(place(
                "the table has another column of this name (upper and lower case are the same in databases)",
            )),
            _ => None,
        };
        problem.into_iter().for_each(|problem| report.push(problem));
    }
}

enum State {
    Waiting,
    /// Its own expression is being typed: whoever needs it now goes in a circle.
    Busy,
    Done(Expr),
    Failed,
}

struct Select<'a> {
    table: &'a Table,
    group: &'a [GroupPlan],
    input: &'a Scope,
    aggregates: Vec<AggregatePlan>,
    states: Vec<State>,
    path: &'a str,
    report: &'a mut Report,
}

impl Select<'_> {
    /// The expression of an output over the result columns.
    fn output(&mut self, index: usize) -> Option<Expr> {
        match &self.states[index] {
            State::Done(expr) => return Some(expr.clone()),
            State::Failed | State::Busy => return None,
            State::Waiting => {}
        }
        self.states[index] = State::Busy;
        let (name, text) = &self.table.select.0[index];
        match typed(text, self, None) {
            Ok(expr) => {
                self.states[index] = State::Done(expr.clone());
                Some(expr)
            }
            Err(problems) => {
                self.states[index] = State::Failed;
                self.report.expression(&field(self.path, name), problems);
                None
            }
        }
    }
}

impl Names for Select<'_> {
    fn column(&mut self, parts: &[&str]) -> Resolved {
        let name = parts.join(".");
        if let Some(id) = self.group.iter().position(|group| group.column.name == name) {
            return Resolved::Expr(Expr::Column(id, self.group[id].column.ty));
        }
        if let Some(index) = self.table.select.iter().position(|(output, _)| output == name) {
            if matches!(self.states[index], State::Busy) {
                return Resolved::Wrong(format!("{name} would need itself"));
            }
            return self.output(index).map_or(Resolved::Silent, Resolved::Expr);
        }
        if self.table.group_by.contains(&name) || self.report.lost(&field(self.path, &name)) {
            return Resolved::Silent;
        }
        if self.input.get(&name).is_some() {
            return Resolved::Wrong(format!(
                "{name} has many values in a group: put it into an aggregate, such as last({name}), or into groupBy"
            ));
        }
        if self.input.incomplete {
            return Resolved::Silent;
        }
        let groups = self.group.iter().map(|group| group.column.name.clone());
        let outputs = self.table.select.iter().map(|(output, _)| output.to_owned());
        Resolved::Unknown(groups.chain(outputs).collect())
    }

    fn what(&self) -> String {
        format!("table {}", self.table.name)
    }

    fn input(&self) -> Option<Scope> {
        Some(self.input.clone())
    }

    fn aggregate(&mut self, plan: AggregatePlan) -> Expr {
        let ty = plan.type_of();
        let index = self.aggregates.iter().position(|known| *known == plan).unwrap_or_else(|| {
            self.aggregates.push(plan);
            self.aggregates.len() - 1
        });
        Expr::Column(self.group.len() + index, ty)
    }
}
