//! Operators: arithmetic, comparison, logic, `in`, `between`, `like`, `case`.

use engine::{
    expr::{Arithmetic, Compare, Expr, Function, Logic},
    value::{Type, Value},
};
use sqlparser::ast::{self, BinaryOperator as B, UnaryOperator as U};

use super::typer::{Refused, Result, Typed, Typer, join};

impl Typer<'_> {
    pub(super) fn binary(&mut self, left: &ast::Expr, op: &B, right: &ast::Expr, tree: &ast::Expr) -> Result<Typed> {
        match op {
            B::Plus => self.arithmetic(Arithmetic::Add, left, right),
            B::Minus => self.arithmetic(Arithmetic::Subtract, left, right),
            B::Multiply => self.arithmetic(Arithmetic::Multiply, left, right),
            B::Divide => self.arithmetic(Arithmetic::Divide, left, right),
            B::Modulo => self.arithmetic(Arithmetic::Remainder, left, right),
            B::Eq => self.compare(Compare::Equal, left, right),
            B::NotEq => self.compare(Compare::NotEqual, left, right),
            B::Lt => self.compare(Compare::Less, left, right),
            B::LtEq => self.compare(Compare::LessOrEqual, left, right),
            B::Gt => self.compare(Compare::Greater, left, right),
            B::GtEq => self.compare(Compare::GreaterOrEqual, left, right),
            B::And => self.logic(Logic::And, left, right),
            B::Or => self.logic(Logic::Or, left, right),
            B::StringConcat => self.concatenation(left, right),
            other => Err(self.refuse(tree, format!("the operator {other} is not part of the language"))),
        }
    }

    pub(super) fn unary(&mut self, op: U, arg: &ast::Expr, tree: &ast::Expr) -> Result<Typed> {
        match op {
            U::Not => Ok(Expr::Not(Box::new(self.as_type(arg, Type::Boolean)?)).into()),
            U::Plus => self.number(arg).map(Typed::from),
            U::Minus => Ok(match self.number(arg)? {
                Expr::Literal(Value::Integer(value), ty) => Expr::Literal(Value::Integer(-value), ty),
                Expr::Literal(Value::Decimal(value), ty) => {
                    Expr::Literal(Value::Decimal(engine::decimal::Decimal(-value.0)), ty)
                }
                other => Expr::Negate(Box::new(other)),
            }
            .into()),
            other => Err(self.refuse(tree, format!("the operator {other} is not part of the language"))),
        }
    }

    /// Types `tree` as an integer or a decimal.
    pub(super) fn number(&mut self, tree: &ast::Expr) -> Result<Expr> {
        let typed = self.typed(tree)?;
        match typed.ty {
            Some(Type::Integer | Type::Decimal) => Ok(typed.expr),
            _ => self.coerce(typed, Type::Decimal, tree),
        }
    }

    fn arithmetic(&mut self, op: Arithmetic, left: &ast::Expr, right: &ast::Expr) -> Result<Typed> {
        let (a, b) = self.both(left, right)?;
        if (a.ty, b.ty) == (Some(Type::Timestamp), Some(Type::Timestamp)) && op == Arithmetic::Subtract {
            return Ok(Expr::Call(Function::SecondsBetween, vec![a.expr, b.expr]).into());
        }
        let whole = |typed: &Typed| matches!(typed.ty, Some(Type::Integer));
        let ty = match op != Arithmetic::Divide && whole(&a) && whole(&b) {
            true => Type::Integer,
            false => Type::Decimal,
        };
        let (a, b) = (self.coerce(a, ty, left), self.coerce(b, ty, right));
        Ok(Expr::Arithmetic(op, Box::new(a?), Box::new(b?)).into())
    }

    fn compare(&mut self, op: Compare, left: &ast::Expr, right: &ast::Expr) -> Result<Typed> {
        let (a, b) = self.both(left, right)?;
        Ok(self.comparison(op, (a, left), (b, right))?.into())
    }

    fn comparison(&mut self, op: Compare, left: (Typed, &ast::Expr), right: (Typed, &ast::Expr)) -> Result<Expr> {
        for (typed, tree) in [&left, &right] {
            if typed.ty == Some(Type::List) {
                return Err(self.refuse(tree, "a list can only be shown, not compared"));
            }
            if typed.ty.is_none() {
                let accepted = Some("is null, is not null".to_owned());
                return Err(self.refuse_with(tree, "a comparison with null is never true", accepted));
            }
        }
        let mut sides = self.unify(vec![left, right])?.into_iter();
        match (sides.next(), sides.next()) {
            (Some(left), Some(right)) => Ok(Expr::Compare(op, Box::new(left), Box::new(right))),
            _ => Err(Refused),
        }
    }

    fn logic(&mut self, op: Logic, left: &ast::Expr, right: &ast::Expr) -> Result<Typed> {
        let (left, right) = (self.as_type(left, Type::Boolean), self.as_type(right, Type::Boolean));
        Ok(Expr::Logic(op, Box::new(left?), Box::new(right?)).into())
    }

    /// `a || b` is null where either is; the engine's `concat` skips nulls.
    fn concatenation(&mut self, left: &ast::Expr, right: &ast::Expr) -> Result<Typed> {
        let (left, right) = (self.as_type(left, Type::String), self.as_type(right, Type::String));
        let args = vec![left?, right?];
        let nulls = args.iter().filter(|arg| !matches!(arg, Expr::Literal(value, _) if *value != Value::Null));
        let any_null = join(Logic::Or, nulls.map(|arg| Expr::IsNull(Box::new(arg.clone()))));
        let whole = Expr::Call(Function::Concat, args);
        Ok(match any_null {
            Some(any_null) => Expr::Case {
                branches: vec![(any_null, Expr::Literal(Value::Null, Type::String))],
                otherwise: Box::new(whole),
            },
            None => whole,
        }
        .into())
    }

    pub(super) fn in_list(&mut self, arg: &ast::Expr, list: &[ast::Expr], negated: bool) -> Result<Typed> {
        let subject = self.typed(arg)?;
        let mut items = vec![(subject, arg)];
        for item in list {
            let typed = self.typed(item)?;
            if typed.ty.is_none() || !matches!(typed.expr, Expr::Literal(..)) {
                return Err(self.refuse(item, "a list after in holds constants, none of them null"));
            }
            items.push((typed, item));
        }
        // A list of decimals makes an integer subject a decimal, a timestamp subject makes texts times.
        let mut all = self.unify(items)?.into_iter();
        let subject = all.next().ok_or(Refused)?;
        let values = all.filter_map(|item| match item {
            Expr::Literal(value, _) => Some(value),
            _ => None,
        });
        let found = Expr::In(Box::new(subject), values.collect());
        Ok(if negated { Expr::Not(Box::new(found)) } else { found }.into())
    }

    pub(super) fn between(
        &mut self,
        arg: &ast::Expr,
        negated: bool,
        low: &ast::Expr,
        high: &ast::Expr,
    ) -> Result<Typed> {
        let subject = self.typed(arg)?;
        let (from, to) = self.both(low, high)?;
        let above = self.comparison(Compare::GreaterOrEqual, (subject.clone(), arg), (from, low));
        let below = self.comparison(Compare::LessOrEqual, (subject, arg), (to, high));
        let inside = Expr::Logic(Logic::And, Box::new(above?), Box::new(below?));
        Ok(if negated { Expr::Not(Box::new(inside)) } else { inside }.into())
    }

    pub(super) fn like(
        &mut self,
        arg: &ast::Expr,
        pattern: &ast::Expr,
        negated: bool,
        any_case: bool,
    ) -> Result<Typed> {
        let (subject, pattern_value) = (self.as_type(arg, Type::String), self.as_type(pattern, Type::String));
        let Expr::Literal(Value::String(text), _) = pattern_value? else {
            return Err(self.refuse(pattern, "the pattern of like is a text constant"));
        };
        let subject = Box::new(subject?);
        let matches = match any_case {
            true => Expr::Like(Box::new(Expr::Call(Function::Lower, vec![*subject])), text.to_lowercase().into()),
            false => Expr::Like(subject, text),
        };
        Ok(if negated { Expr::Not(Box::new(matches)) } else { matches }.into())
    }

    pub(super) fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
        tree: &ast::Expr,
    ) -> Result<Typed> {
        let subject = operand.map(|operand| self.typed(operand)).transpose()?;
        let mut whens = Vec::new();
        let mut results = Vec::new();
        for branch in conditions {
            let when = match (&subject, operand) {
                (Some(subject), Some(operand)) => {
                    let value = self.typed(&branch.condition)?;
                    self.comparison(Compare::Equal, (subject.clone(), operand), (value, &branch.condition))
                }
                _ => self.as_type(&branch.condition, Type::Boolean),
            };
            let then = self.typed(&branch.result);
            whens.push(when?);
            results.push((then?, &branch.result));
        }
        match otherwise {
            Some(otherwise) => results.push((self.typed(otherwise)?, otherwise)),
            None => {
                let null = Expr::Literal(Value::Null, Type::String);
                results.push((Typed { expr: null, ty: None, flexible: false }, tree));
            }
        }
        if results.iter().all(|(typed, _)| typed.ty.is_none()) {
            return Err(self.refuse(tree, "every branch is null"));
        }
        let mut results = self.unify(results)?;
        let otherwise = Box::new(results.pop().ok_or(Refused)?);
        Ok(Expr::Case { branches: whens.into_iter().zip(results).collect(), otherwise }.into())
    }
}
