//! Calls of scalar functions by name.

use engine::{
    expr::{Expr, Function},
    value::{Type, Value},
};
use sqlparser::ast;

use super::{
    aggregates::AGGREGATES,
    position,
    scope::Resolved,
    typer::{Refused, Result, Typed, Typer},
};
use crate::{expression::ExpressionProblem, problem::nearest};

/// Scalar functions and how they are called.
const SCALARS: [(&str, &str); 25] = [
    ("abs", "abs(number)"),
    ("ceil", "ceil(number)"),
    ("char_length", "char_length(string)"),
    ("coalesce", "coalesce(a, b, …)"),
    ("concat", "concat(string, …)"),
    ("contains", "contains(string, part)"),
    ("date_trunc", "date_trunc('minute', timestamp)"),
    ("ends_with", "ends_with(string, suffix)"),
    ("extract", "extract(hour from timestamp)"),
    ("floor", "floor(number)"),
    ("greatest", "greatest(a, b, …)"),
    ("ifnull", "ifnull(a, b)"),
    ("least", "least(a, b, …)"),
    ("length", "length(string)"),
    ("lower", "lower(string)"),
    ("nullif", "nullif(a, b)"),
    ("round", "round(number, digits)"),
    ("split_part", "split_part(string, separator, n)"),
    ("starts_with", "starts_with(string, prefix)"),
    ("substr", "substr(string, from, count)"),
    ("substring", "substring(string, from, count)"),
    ("trim", "trim(string)"),
    ("upper", "upper(string)"),
    ("zscore", "zscore(column, windows), in alerts"),
    ("cast", "cast(x as type)"),
];

/// A call, taken apart.
pub(super) struct Call<'a> {
    pub name: String,
    pub args: Vec<&'a ast::Expr>,
    pub distinct: bool,
    pub filter: Option<&'a ast::Expr>,
    pub tree: &'a ast::Expr,
}

impl Typer<'_> {
    pub(super) fn call(&mut self, function: &ast::Function, tree: &ast::Expr) -> Result<Typed> {
        let name = function.name.to_string();
        let asks_the_clock = name.to_ascii_lowercase().starts_with("current_");
        if matches!(function.args, ast::FunctionArguments::None) && !asks_the_clock {
            // SQL knows a few functions without parentheses, `user` among them; here these are columns.
            return self.column(&[&name], tree);
        }
        let call = self.take_apart(function, tree)?;
        if AGGREGATES.iter().any(|(name, _)| *name == call.name) {
            return self.aggregate(&call);
        }
        if call.distinct || call.filter.is_some() {
            return Err(self.refuse(tree, format!("{} is no aggregate: it has no distinct and no filter", call.name)));
        }
        if call.name == "zscore" {
            return self.zscore(&call);
        }
        self.scalar(&call)
    }

    fn take_apart<'b>(&mut self, function: &'b ast::Function, tree: &'b ast::Expr) -> Result<Call<'b>> {
        let name = function.name.to_string().to_ascii_lowercase();
        let plain = function.over.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none()
            && matches!(function.parameters, ast::FunctionArguments::None);
        let ast::FunctionArguments::List(list) = &function.args else {
            return Err(match name.as_str() {
                "current_timestamp" | "current_date" | "current_time" => self.refuse(tree, NO_CLOCK),
                _ => self.refuse(tree, format!("{name} needs its arguments in parentheses")),
            });
        };
        if !plain || !list.clauses.is_empty() {
            return Err(self.refuse(tree, format!("{name} takes arguments and a filter only; over, within group and order by are not part of the language")));
        }
        let mut args = Vec::new();
        for arg in &list.args {
            match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(arg)) => args.push(arg),
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard)
                    if name == "count" && list.args.len() == 1 => {}
                other => return Err(self.refuse(tree, format!("{other} is no argument"))),
            }
        }
        let distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
        Ok(Call { name, args, distinct, filter: function.filter.as_deref(), tree })
    }

    fn scalar(&mut self, call: &Call<'_>) -> Result<Typed> {
        let text = |function| (function, Type::String);
        let function = match (call.name.as_str(), call.args.len()) {
            ("abs", 1) => return Ok(Expr::Call(Function::Abs, vec![self.number(call.args[0])?]).into()),
            ("round", 1 | 2) => return self.round(call),
            ("floor", 1) => (Function::Floor, Type::Decimal),
            ("ceil" | "ceiling", 1) => (Function::Ceil, Type::Decimal),
            ("least", 1..) => return self.alike(call, Some(Function::Least)),
            ("greatest", 1..) => return self.alike(call, Some(Function::Greatest)),
            ("nullif", 2) => return self.alike(call, Some(Function::NullIf)),
            ("coalesce", 1..) | ("ifnull", 2) => return self.alike(call, None),
            ("lower", 1) => text(Function::Lower),
            ("upper", 1) => text(Function::Upper),
            ("trim", 1) => text(Function::Trim),
            ("length" | "char_length" | "character_length", 1) => text(Function::Length),
            ("concat", 1..) => text(Function::Concat),
            ("starts_with", 2) => text(Function::StartsWith),
            ("ends_with", 2) => text(Function::EndsWith),
            ("contains", 2) => text(Function::Contains),
            ("substring" | "substr", 2 | 3) => {
                return self.substring(call.args[0], call.args.get(1).copied(), call.args.get(2).copied(), call.tree);
            }
            ("split_part", 3) => return self.split_part(call),
            ("date_trunc", 2) => return self.date_trunc(call.args[0], call.args[1]),
            _ => return Err(self.unknown(call)),
        };
        let (function, ty) = function;
        let args: Vec<Result<Expr>> = call.args.iter().map(|arg| self.as_type(arg, ty)).collect();
        Ok(Expr::Call(function, args.into_iter().collect::<Result<_>>()?).into())
    }

    fn unknown(&mut self, call: &Call<'_>) -> Refused {
        let known = SCALARS.iter().find(|(name, _)| *name == call.name);
        if let Some((_, usage)) = known {
            let message = format!("{} takes other arguments", call.name);
            return self.refuse_with(call.tree, message, Some((*usage).to_owned()));
        }
        if matches!(call.name.as_str(), "now" | "random" | "rand" | "uuid" | "gen_random_uuid") {
            return self.refuse(call.tree, NO_CLOCK);
        }
        let mut names: Vec<&str> = SCALARS.iter().map(|(name, _)| *name).collect();
        if self.names.input().is_some() {
            names.extend(AGGREGATES.iter().map(|(name, _)| *name));
        }
        names.sort_unstable();
        self.problems.push(ExpressionProblem {
            offset: position::start(self.text, call.tree),
            message: format!("unknown function {}", call.name),
            found: call.name.clone(),
            suggestion: nearest(&call.name, names.iter().copied()).map(str::to_owned),
            accepted: Some(names.join(", ")),
        });
        Refused
    }

    /// Functions over values of one type.
    fn alike(&mut self, call: &Call<'_>, function: Option<Function>) -> Result<Typed> {
        let typed: Vec<Result<Typed>> = call.args.iter().map(|arg| self.typed(arg)).collect();
        let typed: Vec<Typed> = typed.into_iter().collect::<Result<_>>()?;
        if typed.iter().all(|typed| typed.ty.is_none()) {
            return Err(self.refuse(call.tree, "every argument is null"));
        }
        if let Some(at) = typed.iter().position(|typed| typed.ty == Some(Type::List)) {
            return Err(self.refuse(call.args[at], "a list can only be shown, not computed with"));
        }
        let args = self.unify(typed.into_iter().zip(call.args.iter().copied()).collect())?;
        Ok(match function {
            Some(function) => Expr::Call(function, args),
            None => Expr::Coalesce(args),
        }
        .into())
    }

    fn round(&mut self, call: &Call<'_>) -> Result<Typed> {
        let value = self.as_type(call.args[0], Type::Decimal);
        let digits = match call.args.get(1) {
            Some(digits) => self.constant(digits, 0, 9)?,
            None => 0,
        };
        let digits = Expr::Literal(Value::Integer(i64::from(digits)), Type::Integer);
        Ok(Expr::Call(Function::Round, vec![value?, digits]).into())
    }

    fn split_part(&mut self, call: &Call<'_>) -> Result<Typed> {
        let text = self.as_type(call.args[0], Type::String);
        let separator = self.as_type(call.args[1], Type::String);
        let number = self.as_type(call.args[2], Type::Integer);
        Ok(Expr::Call(Function::SplitPart, vec![text?, separator?, number?]).into())
    }

    /// A whole number written into the expression.
    pub(super) fn constant(&mut self, tree: &ast::Expr, least: u32, most: u32) -> Result<u32> {
        match self.typed(tree)?.expr {
            Expr::Literal(Value::Integer(value), _) if (i64::from(least)..=i64::from(most)).contains(&value) => {
                Ok(value as u32)
            }
            _ => Err(self.refuse(tree, format!("must be a whole number from {least} to {most}, written as it is"))),
        }
    }

    fn zscore(&mut self, call: &Call<'_>) -> Result<Typed> {
        let [ast::Expr::Identifier(column), windows] = call.args.as_slice() else {
            return Err(self.refuse_with(
                call.tree,
                "zscore takes a column and a number of windows",
                Some("zscore(column, 30)".to_owned()),
            ));
        };
        let windows = self.constant(windows, 2, engine::limits::ZSCORE_WINDOWS_MAX)?;
        match self.names.zscore(&column.value, windows) {
            Some(Resolved::Expr(expr) | Resolved::Flexible(expr)) => Ok(expr.into()),
            Some(Resolved::Wrong(message)) => Err(self.refuse(call.args[0], message)),
            Some(Resolved::Silent) => Err(Refused),
            Some(Resolved::Unknown(names)) => {
                let suggestion = nearest(&column.value, names.iter().map(String::as_str)).map(str::to_owned);
                self.problems.push(ExpressionProblem {
                    offset: position::start(self.text, call.args[0]),
                    message: format!("unknown column {}", column.value),
                    found: column.value.clone(),
                    accepted: Some(names.join(", ")),
                    suggestion,
                });
                Err(Refused)
            }
            None => Err(self.refuse(call.tree, "zscore compares windows of a table: it is for alerts only")),
        }
    }
}

const NO_CLOCK: &str =
    "an expression sees the event only, no clock and no chance: the same events must give the same tables";
