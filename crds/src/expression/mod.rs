//! SQL expressions: text in, typed trees of the engine out, or every problem with its place in the text.
//!
//! `sqlparser` reads the text; what it accepts and we do not mean is refused here by name. Types are strict, with these
//! conveniences: an integer beside a decimal becomes a decimal, `/` is always of decimals, a text constant beside a
//! timestamp is read as a time, the difference of two timestamps is a number of seconds, `null` fits everywhere.

mod aggregates;
mod functions;
mod literals;
mod operators;
mod position;
pub(crate) mod scope;
mod special;
mod typer;

use engine::{expr::Expr, plan::ColumnPlan, value::Type};
use sqlparser::{ast, dialect::GenericDialect, parser::Parser, tokenizer::Token};

pub(crate) use self::literals::timestamp;

use self::{
    scope::{Names, Scope},
    typer::Typer,
};
use crate::limits::{EXPRESSION_DEPTH_MAX, EXPRESSION_NODES_MAX};

/// A mistake in an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpressionProblem {
    /// Where in the text, in characters from zero.
    pub offset: u32,
    /// What is wrong.
    pub message: String,
    /// What stands there, if that says more than the text itself.
    pub found: String,
    /// What would be accepted.
    pub accepted: Option<String>,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

/// Reads an expression over `columns`; a column's place in the list is its [`engine::expr::ColumnId`]. A column whose
/// name holds a dot is written as it is (`products.price`).
///
/// # Errors
/// Every problem of the text.
pub fn parse(text: &str, columns: &[ColumnPlan]) -> Result<Expr, Vec<ExpressionProblem>> {
    let mut scope = Scope::of(columns);
    typed(text, &mut scope, None)
}

/// Like [`parse`], and the result must be of type `ty`; an integer may become a decimal.
///
/// # Errors
/// Every problem of the text.
pub fn parse_as(text: &str, columns: &[ColumnPlan], ty: Type) -> Result<Expr, Vec<ExpressionProblem>> {
    let mut scope = Scope::of(columns);
    typed(text, &mut scope, Some(ty))
}

/// Reads and types `text`. An empty list of problems means: refused because of a problem told elsewhere.
pub(crate) fn typed(text: &str, names: &mut dyn Names, ty: Option<Type>) -> Result<Expr, Vec<ExpressionProblem>> {
    let tree = read(text).map_err(|problem| vec![problem])?;
    let mut typer = Typer::new(text, names);
    let result = typer.top(&tree, ty);
    let mut problems = typer.problems;
    match result {
        Ok(expr) if problems.is_empty() => match nodes(&expr) {
            0..=EXPRESSION_NODES_MAX => Ok(expr),
            count => {
                let message = format!("too large: {count} parts after columns are put in their place");
                Err(vec![ExpressionProblem { message, ..ExpressionProblem::default() }])
            }
        },
        _ => {
            problems.dedup();
            Err(problems)
        }
    }
}

/// Reads `text` without typing it.
pub(crate) fn read(text: &str) -> Result<ast::Expr, ExpressionProblem> {
    let dialect = GenericDialect {};
    let parser = Parser::new(&dialect).with_recursion_limit(EXPRESSION_DEPTH_MAX);
    let refused = |error| position::of_error(text, &error);
    let mut parser = parser.try_with_sql(text).map_err(refused)?;
    let tree = parser.parse_expr().map_err(refused)?;
    let rest = parser.peek_token();
    match rest.token {
        Token::EOF => Ok(tree),
        token => Err(ExpressionProblem {
            offset: position::offset(text, rest.span.start),
            message: format!("the expression ends before {}", crate::problem::quote(&token.to_string())),
            ..ExpressionProblem::default()
        }),
    }
}

fn nodes(expr: &Expr) -> usize {
    let all = |args: &[Expr]| args.iter().map(nodes).sum::<usize>();
    1 + match expr {
        Expr::Column(..) | Expr::Literal(..) => 0,
        Expr::Not(arg) | Expr::Negate(arg) | Expr::IsNull(arg) | Expr::Like(arg, _) | Expr::Cast(arg, _) => nodes(arg),
        Expr::In(arg, values) => nodes(arg) + values.len(),
        Expr::Logic(_, left, right) | Expr::Compare(_, left, right) | Expr::Arithmetic(_, left, right) => {
            nodes(left) + nodes(right)
        }
        Expr::Case { branches, otherwise } => {
            nodes(otherwise) + branches.iter().map(|(when, then)| nodes(when) + nodes(then)).sum::<usize>()
        }
        Expr::Coalesce(args) | Expr::Call(_, args) => all(args),
    }
}
