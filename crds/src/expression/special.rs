//! Forms with a syntax of their own: `cast`, `extract`, `floor`, `ceil`, `substring`, `trim`, `timestamp '…'`.

use engine::{
    expr::{Expr, Function, TimeUnit},
    value::{Type, Value},
};
use sqlparser::ast::{self, DataType as D, DateTimeField as F};

use super::{
    literals,
    typer::{Result, Typed, Typer, articles},
};

const UNITS: &str = "second, minute, hour, day, dow, month, year";

impl Typer<'_> {
    pub(super) fn cast(&mut self, arg: &ast::Expr, data_type: &D, tree: &ast::Expr) -> Result<Typed> {
        let typed = self.typed(arg)?;
        let Some(ty) = type_of(data_type) else {
            let accepted = Some("string, integer, decimal, boolean, timestamp".to_owned());
            return Err(self.refuse_with(tree, format!("unknown type {data_type}"), accepted));
        };
        match typed.ty {
            None => Ok(Expr::Literal(Value::Null, ty).into()),
            Some(from) if from == ty => Ok(typed.expr.into()),
            Some(from) if !castable(from, ty) => {
                let message = format!("a {} cannot become a {}", from.name(), ty.name());
                Err(self.refuse(tree, articles(&message)))
            }
            Some(_) => Ok(Expr::Cast(Box::new(typed.expr), ty).into()),
        }
    }

    pub(super) fn typed_string(&mut self, typed: &ast::TypedString, tree: &ast::Expr) -> Result<Typed> {
        let text = match (&typed.data_type, &typed.value.value) {
            (
                D::Timestamp(..) | D::TimestampNtz(..) | D::Datetime(_) | D::Date,
                ast::Value::SingleQuotedString(text),
            ) => text,
            _ => return Err(self.refuse(tree, format!("unknown constant {tree}"))),
        };
        match literals::timestamp(text) {
            Some(at) => Ok(Expr::Literal(Value::Timestamp(at), Type::Timestamp).into()),
            None => {
                let accepted = Some("an RFC 3339 time such as '2025-01-31T12:00:00Z'".to_owned());
                Err(self.refuse_with(tree, format!("{} is no time", crate::problem::quote(text)), accepted))
            }
        }
    }

    pub(super) fn extract(&mut self, field: &F, arg: &ast::Expr, tree: &ast::Expr) -> Result<Typed> {
        let at = self.as_type(arg, Type::Timestamp)?;
        match unit_of(&field.to_string()) {
            Some(unit) => Ok(Expr::Call(Function::Extract(unit), vec![at]).into()),
            None => Err(self.refuse_with(tree, format!("unknown unit of time {field}"), Some(UNITS.to_owned()))),
        }
    }

    pub(super) fn date_trunc(&mut self, unit: &ast::Expr, arg: &ast::Expr) -> Result<Typed> {
        let at = self.as_type(arg, Type::Timestamp);
        let name = match self.as_type(unit, Type::String)? {
            Expr::Literal(Value::String(name), _) => name,
            _ => return Err(self.refuse(unit, "the unit of date_trunc is a text constant")),
        };
        match unit_of(&name).filter(|unit| *unit != TimeUnit::DayOfWeek) {
            Some(unit) => Ok(Expr::Call(Function::DateTrunc(unit), vec![at?]).into()),
            None => {
                let accepted = Some("second, minute, hour, day, month, year".to_owned());
                Err(self.refuse_with(unit, format!("unknown unit of time {name}"), accepted))
            }
        }
    }

    pub(super) fn rounded(
        &mut self,
        name: &str,
        arg: &ast::Expr,
        field: &ast::CeilFloorKind,
        tree: &ast::Expr,
    ) -> Result<Typed> {
        if !matches!(field, ast::CeilFloorKind::DateTimeField(F::NoDateTime)) {
            return Err(self.refuse(tree, format!("{name} takes one number")));
        }
        let function = if name == "floor" { Function::Floor } else { Function::Ceil };
        Ok(Expr::Call(function, vec![self.as_type(arg, Type::Decimal)?]).into())
    }

    pub(super) fn substring(
        &mut self,
        arg: &ast::Expr,
        from: Option<&ast::Expr>,
        count: Option<&ast::Expr>,
        tree: &ast::Expr,
    ) -> Result<Typed> {
        let text = self.as_type(arg, Type::String);
        let (Some(from), count) = (from, count) else {
            return Err(self.refuse(tree, "substring takes a text, a start from 1, and a count"));
        };
        let from = self.as_type(from, Type::Integer);
        let count = match count {
            Some(count) => self.as_type(count, Type::Integer)?,
            None => Expr::Literal(Value::Integer(i64::from(i32::MAX)), Type::Integer),
        };
        Ok(Expr::Call(Function::Substring, vec![text?, from?, count]).into())
    }

    pub(super) fn trim(&mut self, arg: &ast::Expr) -> Result<Typed> {
        Ok(Expr::Call(Function::Trim, vec![self.as_type(arg, Type::String)?]).into())
    }
}

fn unit_of(name: &str) -> Option<TimeUnit> {
    Some(match name.to_ascii_lowercase().as_str() {
        "second" => TimeUnit::Second,
        "minute" => TimeUnit::Minute,
        "hour" => TimeUnit::Hour,
        "day" => TimeUnit::Day,
        "dow" | "dayofweek" => TimeUnit::DayOfWeek,
        "month" => TimeUnit::Month,
        "year" => TimeUnit::Year,
        _ => return None,
    })
}

fn type_of(data_type: &D) -> Option<Type> {
    let name = data_type.to_string().to_ascii_lowercase();
    let name = name.split(['(', ' ']).next().unwrap_or_default();
    Some(match name {
        "string" | "text" | "varchar" | "char" | "character" => Type::String,
        "integer" | "int" | "bigint" | "smallint" | "int8" | "int64" => Type::Integer,
        "decimal" | "numeric" | "double" | "float" | "real" => Type::Decimal,
        "boolean" | "bool" => Type::Boolean,
        "timestamp" | "timestamptz" | "datetime" => Type::Timestamp,
        _ => return None,
    })
}

/// Everything has a text; text may hold anything; numbers become each other; a boolean is 0 or 1.
fn castable(from: Type, to: Type) -> bool {
    use Type::{Boolean, Decimal, Integer, List, String, Timestamp};
    match (from, to) {
        (List, _) | (_, List) => false,
        (String, _) | (_, String) | (Integer, Decimal) | (Decimal, Integer) => true,
        (Boolean, Integer) | (Timestamp, Integer) | (Integer, Timestamp) => true,
        _ => false,
    }
}
