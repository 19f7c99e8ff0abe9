//! From the parser's tree to a typed one.

use engine::{
    expr::{Expr, Logic},
    value::{Type, Value},
};
use sqlparser::ast;

use super::{
    ExpressionProblem, literals, position,
    scope::{Names, Resolved},
};
use crate::problem::{nearest, quote};

/// Depth of the tree that is typed. Chains (`a or b or …`) are as deep as they are long; the engine recurses over them.
const DEPTH_MAX: usize = 200;

/// Refused; the problem was told.
#[derive(Debug)]
pub(super) struct Refused;

/// A typed expression that may still adapt: `null` to any type, a flexible string to a number.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub expr: Expr,
    /// `None` for `null`.
    pub ty: Option<Type>,
    pub flexible: bool,
}

impl From<Expr> for Typed {
    fn from(expr: Expr) -> Self {
        let ty = Some(expr.type_of());
        Self { expr, ty, flexible: false }
    }
}

pub(super) type Result<T> = std::result::Result<T, Refused>;

/// Types one expression, collecting problems.
pub(super) struct Typer<'a> {
    pub text: &'a str,
    pub names: &'a mut dyn Names,
    pub problems: Vec<ExpressionProblem>,
    depth: usize,
}

impl<'a> Typer<'a> {
    pub fn new(text: &'a str, names: &'a mut dyn Names) -> Self {
        Self { text, names, problems: Vec::new(), depth: 0 }
    }

    /// Types the whole expression, as `ty` if one is wanted.
    pub fn top(&mut self, tree: &ast::Expr, ty: Option<Type>) -> Result<Expr> {
        let typed = self.typed(tree)?;
        match ty {
            Some(ty) => self.coerce(typed, ty, tree),
            None => Ok(typed.expr),
        }
    }

    /// Types `tree` as it is.
    pub fn typed(&mut self, tree: &ast::Expr) -> Result<Typed> {
        self.depth += 1;
        let result = match self.depth > DEPTH_MAX {
            true => Err(self.refuse(tree, format!("nested deeper than {DEPTH_MAX} levels"))),
            false => self.node(tree),
        };
        self.depth -= 1;
        result
    }

    fn node(&mut self, tree: &ast::Expr) -> Result<Typed> {
        use ast::Expr as E;
        match tree {
            E::Identifier(name) => self.column(&[name.value.as_str()], tree),
            E::CompoundIdentifier(names) => {
                let parts: Vec<&str> = names.iter().map(|name| name.value.as_str()).collect();
                self.column(&parts, tree)
            }
            E::Value(value) => self.literal(&value.value, tree),
            E::Nested(inner) => self.typed(inner),
            E::BinaryOp { left, op, right } => self.binary(left, op, right, tree),
            E::UnaryOp { op, expr } => self.unary(*op, expr, tree),
            E::IsNull(inner) => Ok(self.is_null(inner)?.into()),
            E::IsNotNull(inner) => Ok(Expr::Not(Box::new(self.is_null(inner)?)).into()),
            E::IsTrue(inner) => self.is_boolean(inner, true, false),
            E::IsNotTrue(inner) => self.is_boolean(inner, true, true),
            E::IsFalse(inner) => self.is_boolean(inner, false, false),
            E::IsNotFalse(inner) => self.is_boolean(inner, false, true),
            E::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            E::Between { expr, negated, low, high } => self.between(expr, *negated, low, high),
            E::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, false)
            }
            E::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, true)
            }
            E::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), tree)
            }
            E::Cast { expr, data_type, .. } => self.cast(expr, data_type, tree),
            E::TypedString(typed) => self.typed_string(typed, tree),
            E::Extract { field, expr, .. } => self.extract(field, expr, tree),
            E::Floor { expr, field } => self.rounded("floor", expr, field, tree),
            E::Ceil { expr, field } => self.rounded("ceil", expr, field, tree),
            E::Substring { expr, substring_from, substring_for, .. } => {
                self.substring(expr, substring_from.as_deref(), substring_for.as_deref(), tree)
            }
            E::Trim { trim_where: None, trim_what: None, expr, trim_characters: None } => self.trim(expr),
            E::Function(call) => self.call(call, tree),
            other => Err(self.refuse(tree, format!("{} is not part of the language", quote(&other.to_string())))),
        }
    }

    pub(super) fn column(&mut self, parts: &[&str], tree: &ast::Expr) -> Result<Typed> {
        let name = parts.join(".");
        match self.names.column(parts) {
            Resolved::Expr(expr) => Ok(expr.into()),
            Resolved::Flexible(expr) => Ok(Typed { flexible: true, ..expr.into() }),
            Resolved::Silent => Err(Refused),
            Resolved::Wrong(message) => Err(self.refuse(tree, message)),
            Resolved::Unknown(names) => {
                let what = self.names.what();
                let place = if what.is_empty() { String::new() } else { format!(" in {what}") };
                let mut suggestion = nearest(&name, names.iter().map(String::as_str)).map(str::to_owned);
                if matches!(tree, ast::Expr::Identifier(ident) if ident.quote_style == Some('"')) {
                    suggestion = Some(format!("'{name}' (text is written in single quotes)"));
                }
                let problem = ExpressionProblem {
                    offset: position::start(self.text, tree),
                    message: format!("unknown column {name}{place}"),
                    found: name,
                    accepted: (!names.is_empty()).then(|| names.join(", ")),
                    suggestion,
                };
                self.problems.push(problem);
                Err(Refused)
            }
        }
    }

    /// Notes a problem at `tree`.
    pub fn refuse(&mut self, tree: &ast::Expr, message: impl Into<String>) -> Refused {
        self.refuse_with(tree, message, None)
    }

    /// Notes a problem at `tree`, and what would be accepted.
    pub fn refuse_with(&mut self, tree: &ast::Expr, message: impl Into<String>, accepted: Option<String>) -> Refused {
        let offset = position::start(self.text, tree);
        let message = message.into();
        self.problems.push(ExpressionProblem { offset, message, accepted, ..ExpressionProblem::default() });
        Refused
    }

    /// Types `tree` as `ty`.
    pub fn as_type(&mut self, tree: &ast::Expr, ty: Type) -> Result<Expr> {
        let typed = self.typed(tree)?;
        self.coerce(typed, ty, tree)
    }

    /// Makes `typed` a `ty` where that loses nothing.
    pub fn coerce(&mut self, typed: Typed, ty: Type, tree: &ast::Expr) -> Result<Expr> {
        let Typed { expr, ty: from, flexible } = typed;
        match (from, ty) {
            (None, _) => Ok(Expr::Literal(Value::Null, ty)),
            (Some(from), _) if from == ty => Ok(expr),
            (Some(Type::Integer), Type::Decimal) => Ok(literals::to_decimal(expr)),
            (Some(Type::String), Type::Timestamp) if matches!(expr, Expr::Literal(Value::String(_), _)) => {
                literals::to_timestamp(&expr).ok_or_else(|| {
                    let accepted = "an RFC 3339 time such as '2025-01-31T12:00:00Z'".to_owned();
                    self.refuse_with(tree, "is compared with a timestamp, but is no time", Some(accepted))
                })
            }
            (Some(Type::String), Type::Decimal | Type::Integer) if flexible => Ok(Expr::Cast(Box::new(expr), ty)),
            (Some(Type::List), _) => Err(self.refuse(tree, "a list can only be shown, not computed with")),
            (Some(from), _) => {
                let accepted = match (from, ty) {
                    (Type::List, _) | (_, Type::List) => None,
                    (_, Type::Boolean) => Some("a condition".to_owned()),
                    _ => Some(format!("cast(… as {})", ty.name())),
                };
                let message = format!("must be a {}, and is a {}", ty.name(), from.name());
                Err(self.refuse_with(tree, articles(&message), accepted))
            }
        }
    }

    /// Types both sides; problems of both are told.
    pub fn both(&mut self, left: &ast::Expr, right: &ast::Expr) -> Result<(Typed, Typed)> {
        let (left, right) = (self.typed(left), self.typed(right));
        Ok((left?, right?))
    }

    /// Brings all to one type, that of the first that has one; integers become decimals beside decimals.
    pub fn unify(&mut self, items: Vec<(Typed, &ast::Expr)>) -> Result<Vec<Expr>> {
        let types = || items.iter().filter(|(typed, _)| !typed.flexible).filter_map(|(typed, _)| typed.ty);
        let constant = |typed: &Typed| matches!(typed.expr, Expr::Literal(Value::String(_), _));
        let timestamp = types().any(|ty| ty == Type::Timestamp)
            && items.iter().all(|(typed, _)| typed.ty != Some(Type::String) || constant(typed));
        let ty = match types().next() {
            Some(Type::Integer) if types().any(|ty| ty == Type::Decimal) => Type::Decimal,
            Some(Type::String) if timestamp => Type::Timestamp,
            Some(ty) => ty,
            None => items.iter().find_map(|(typed, _)| typed.ty).unwrap_or(Type::String),
        };
        let all: Vec<Result<Expr>> = items.into_iter().map(|(typed, tree)| self.coerce(typed, ty, tree)).collect();
        all.into_iter().collect()
    }

    fn is_null(&mut self, inner: &ast::Expr) -> Result<Expr> {
        let typed = self.typed(inner)?;
        match typed.ty {
            Some(Type::List) => Err(self.refuse(inner, "a list is never null")),
            _ => Ok(Expr::IsNull(Box::new(typed.expr))),
        }
    }

    /// `x is true` and its kin: never null.
    fn is_boolean(&mut self, inner: &ast::Expr, value: bool, negated: bool) -> Result<Typed> {
        let condition = self.as_type(inner, Type::Boolean)?;
        let condition = if value { condition } else { Expr::Not(Box::new(condition)) };
        let otherwise = Expr::Literal(Value::Boolean(false), Type::Boolean);
        let holds = Expr::Coalesce(vec![condition, otherwise]);
        Ok(if negated { Expr::Not(Box::new(holds)) } else { holds }.into())
    }

    fn literal(&mut self, value: &ast::Value, tree: &ast::Expr) -> Result<Typed> {
        match literals::of(value) {
            Ok(Some(expr)) => Ok(expr.into()),
            Ok(None) => Ok(Typed { expr: Expr::Literal(Value::Null, Type::String), ty: None, flexible: false }),
            Err(message) => Err(self.refuse(tree, message)),
        }
    }
}

/// Joins conditions with `or`, or `and`.
pub(super) fn join(logic: Logic, parts: impl IntoIterator<Item = Expr>) -> Option<Expr> {
    parts.into_iter().reduce(|left, right| Expr::Logic(logic, Box::new(left), Box::new(right)))
}

/// `a integer` is not English.
pub(super) fn articles(message: &str) -> String {
    message.replace("a integer", "an integer")
}
