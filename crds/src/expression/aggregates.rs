//! Aggregates: what `select` is made of.

use engine::{
    expr::Expr,
    plan::{Aggregate, AggregatePlan},
    value::{Type, Value},
};
use sqlparser::ast;

use super::{
    functions::Call,
    literals,
    typer::{Refused, Result, Typed, Typer},
};

/// Aggregate functions and how they are called.
pub(super) const AGGREGATES: [(&str, &str); 14] = [
    ("approx_distinct", "approx_distinct(x)"),
    ("approx_percentile", "approx_percentile(number, quantile)"),
    ("avg", "avg(number)"),
    ("bool_and", "bool_and(condition)"),
    ("bool_or", "bool_or(condition)"),
    ("count", "count(), count(x), count(distinct x)"),
    ("first", "first(x)"),
    ("last", "last(x)"),
    ("last_distinct", "last_distinct(n, x)"),
    ("last_n", "last_n(n, x)"),
    ("max", "max(x)"),
    ("min", "min(x)"),
    ("sum", "sum(number)"),
    ("top", "top(n, x)"),
];

/// Longest list that an aggregate keeps for a group.
const LIST_MAX: u32 = 1_000;

impl Typer<'_> {
    /// Types an aggregate over the input and registers it; the expression is its result.
    pub(super) fn aggregate(&mut self, call: &Call<'_>) -> Result<Typed> {
        let Some(mut input) = self.names.input() else {
            let message = format!("{} is an aggregate: it is for select only, and not inside of another", call.name);
            return Err(self.refuse(call.tree, message));
        };
        let mut inner = Typer::new(self.text, &mut input);
        let plan = inner.aggregate_plan(call);
        let problems = std::mem::take(&mut inner.problems);
        self.problems.extend(problems);
        Ok(self.names.aggregate(plan?).into())
    }

    fn aggregate_plan(&mut self, call: &Call<'_>) -> Result<AggregatePlan> {
        let filter = call.filter.map(|filter| self.as_type(filter, Type::Boolean)).transpose();
        let (function, argument) = self.function(call)?;
        Ok(AggregatePlan { function, argument, filter: filter? })
    }

    fn function(&mut self, call: &Call<'_>) -> Result<(Aggregate, Option<Expr>)> {
        if call.distinct && call.name != "count" {
            return Err(self.refuse(call.tree, format!("distinct is for count only, not for {}", call.name)));
        }
        let args = call.args.as_slice();
        let one = |function, expr: Expr| Ok((function, Some(expr)));
        match (call.name.as_str(), args) {
            ("count", []) if !call.distinct => Ok((Aggregate::Count, None)),
            ("count", [arg]) if call.distinct => one(Aggregate::CountDistinct, self.value(arg)?),
            ("count", [arg]) => one(Aggregate::Count, self.value(arg)?),
            ("sum", [arg]) => one(Aggregate::Sum, self.number(arg)?),
            ("avg", [arg]) => one(Aggregate::Average, self.decimal(arg)?),
            ("min", [arg]) => one(Aggregate::Min, self.value(arg)?),
            ("max", [arg]) => one(Aggregate::Max, self.value(arg)?),
            ("first", [arg]) => one(Aggregate::First, self.value(arg)?),
            ("last", [arg]) => one(Aggregate::Last, self.value(arg)?),
            ("bool_or", [arg]) => one(Aggregate::BoolOr, self.as_type(arg, Type::Boolean)?),
            ("bool_and", [arg]) => one(Aggregate::BoolAnd, self.as_type(arg, Type::Boolean)?),
            ("approx_distinct", [arg]) => one(Aggregate::ApproxDistinct, self.value(arg)?),
            ("approx_percentile", [arg, quantile]) => {
                let arg = self.decimal(arg);
                let quantile_ppm = self.quantile(quantile)?;
                one(Aggregate::ApproxPercentile { quantile_ppm }, arg?)
            }
            ("top", [count, arg]) => {
                let count = self.constant(count, 1, LIST_MAX);
                let arg = self.value(arg)?;
                one(Aggregate::Top { count: count? }, arg)
            }
            ("last_n", [count, arg]) => {
                let count = self.constant(count, 1, LIST_MAX);
                let arg = self.value(arg)?;
                one(Aggregate::LastN { count: count? }, arg)
            }
            ("last_distinct", [count, arg]) => {
                let count = self.constant(count, 1, LIST_MAX);
                let arg = self.value(arg)?;
                one(Aggregate::LastDistinct { count: count? }, arg)
            }
            _ => Err(self.usage(call)),
        }
    }

    fn usage(&mut self, call: &Call<'_>) -> Refused {
        let usage = AGGREGATES.iter().find(|(name, _)| *name == call.name).map(|(_, usage)| (*usage).to_owned());
        self.refuse_with(call.tree, format!("{} takes other arguments", call.name), usage)
    }

    fn decimal(&mut self, arg: &ast::Expr) -> Result<Expr> {
        let number = self.number(arg)?;
        Ok(if number.type_of() == Type::Integer { literals::to_decimal(number) } else { number })
    }

    /// A value of any type; `null` alone has none.
    fn value(&mut self, arg: &ast::Expr) -> Result<Expr> {
        let typed = self.typed(arg)?;
        match typed.ty {
            Some(_) => Ok(typed.expr),
            None => Err(self.refuse(arg, "an aggregate of null has no type")),
        }
    }

    fn quantile(&mut self, tree: &ast::Expr) -> Result<u32> {
        let quantile = match self.typed(tree)?.expr {
            Expr::Literal(Value::Decimal(value), _) => value.0 / 1_000,
            Expr::Literal(Value::Integer(value), _) => i128::from(value) * 1_000_000,
            _ => -1,
        };
        match u32::try_from(quantile) {
            Ok(ppm @ 0..=1_000_000) => Ok(ppm),
            _ => Err(self.refuse(tree, "the quantile must be a number from 0 to 1, written as it is")),
        }
    }
}
