//! Constants.

use engine::{
    decimal::Decimal,
    expr::Expr,
    time::Millis,
    value::{Type, Value},
};
use sqlparser::ast;

/// The constant that `value` says; `None` for `null`.
pub(super) fn of(value: &ast::Value) -> Result<Option<Expr>, String> {
    match value {
        ast::Value::Number(text, false) => number(text).map(Some),
        ast::Value::SingleQuotedString(text) => {
            Ok(Some(Expr::Literal(Value::String(text.as_str().into()), Type::String)))
        }
        ast::Value::Boolean(value) => Ok(Some(Expr::Literal(Value::Boolean(*value), Type::Boolean))),
        ast::Value::Null => Ok(None),
        other => Err(format!("{} is no constant of the language", crate::problem::quote(&other.to_string()))),
    }
}

fn number(text: &str) -> Result<Expr, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(value) = text.parse()
    {
        return Ok(Expr::Literal(Value::Integer(value), Type::Integer));
    }
    let padded = if text.starts_with('.') { format!("0{text}") } else { text.to_owned() };
    let padded = if padded.ends_with('.') { format!("{padded}0") } else { padded };
    match Decimal::parse(padded.as_bytes()) {
        Some(value) => Ok(Expr::Literal(Value::Decimal(value), Type::Decimal)),
        None => Err(format!("{text} does not fit a decimal of 38 digits")),
    }
}

/// Makes an integer expression a decimal one; constants at once.
pub(super) fn to_decimal(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(Value::Integer(value), _) => {
            Expr::Literal(Value::Decimal(Decimal::from_int(value)), Type::Decimal)
        }
        other => Expr::Cast(Box::new(other), Type::Decimal),
    }
}

/// Reads a text constant as a time.
pub(super) fn to_timestamp(expr: &Expr) -> Option<Expr> {
    let Expr::Literal(Value::String(text), _) = expr else { return None };
    timestamp(text).map(|at| Expr::Literal(Value::Timestamp(at), Type::Timestamp))
}

/// Reads a time as events hold it, or a date alone.
pub(crate) fn timestamp(text: &str) -> Option<Millis> {
    let text = text.trim();
    let dated = if text.len() == 10 { format!("{text}T00:00") } else { text.to_owned() };
    engine::decode::timestamp(dated.as_bytes())
}
