//! Kernels against a scalar evaluator that reads one row at a time.

use proptest::prelude::*;

use super::*;
use crate::decimal::Decimal;

/// The columns of every test: two of each type.
const TYPES: [Type; 8] = [
    Type::Boolean,
    Type::Boolean,
    Type::Integer,
    Type::Integer,
    Type::Decimal,
    Type::Decimal,
    Type::String,
    Type::String,
];

fn value(ty: Type) -> BoxedStrategy<Value> {
    let some = match ty {
        Type::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Type::Integer => prop_oneof![(-3_i64..4), any::<i64>(), Just(i64::MIN)].prop_map(Value::Integer).boxed(),
        Type::Decimal => {
            let units = prop_oneof![-3_000_000_000_i128..4_000_000_000, Just(0), any::<i64>().prop_map(i128::from)];
            units.prop_map(|units| Value::Decimal(Decimal(units))).boxed()
        }
        _ => "[abAé%]{0,4}".prop_map(|text| Value::String(text.into())).boxed(),
    };
    prop_oneof![5 => some, 1 => Just(Value::Null)].boxed()
}

fn literal(ty: Type) -> BoxedStrategy<Expr> {
    value(ty).prop_map(move |value| Expr::Literal(value, ty)).boxed()
}

fn leaf(ty: Type) -> BoxedStrategy<Expr> {
    let at = TYPES.iter().position(|each| *each == ty).expect("every type has columns");
    prop_oneof![(at..at + 2).prop_map(move |id| Expr::Column(id, ty)), literal(ty)].boxed()
}

fn pair(ty: Type, depth: u32) -> impl Strategy<Value = (Box<Expr>, Box<Expr>)> {
    (expr(ty, depth), expr(ty, depth)).prop_map(|(left, right)| (Box::new(left), Box::new(right)))
}

fn expr(ty: Type, depth: u32) -> BoxedStrategy<Expr> {
    if depth == 0 {
        return leaf(ty);
    }
    let below = depth - 1;
    let choose = (expr(Type::Boolean, below), expr(ty, below), expr(ty, below)).prop_map(|(when, then, otherwise)| {
        Expr::Case { branches: vec![(when, then)], otherwise: Box::new(otherwise) }
    });
    let several = proptest::collection::vec(expr(ty, below), 1..4);
    let coalesce = several.clone().prop_map(Expr::Coalesce);
    let extreme = (several, any::<bool>())
        .prop_map(|(args, least)| Expr::Call(if least { Function::Least } else { Function::Greatest }, args));
    let null_if = pair(ty, below).prop_map(|(left, right)| Expr::Call(Function::NullIf, vec![*left, *right]));
    let any_type = prop_oneof![leaf(ty), choose, coalesce, extreme, null_if];
    prop_oneof![any_type, of_type(ty, below)].boxed()
}

fn of_type(ty: Type, below: u32) -> BoxedStrategy<Expr> {
    use Arithmetic::{Add, Divide, Multiply, Remainder, Subtract};
    match ty {
        Type::Boolean => boolean(below),
        Type::Integer => {
            let ops = prop::sample::select(vec![Add, Subtract, Multiply, Remainder]);
            let arithmetic = (ops, pair(ty, below)).prop_map(|(op, (left, right))| Expr::Arithmetic(op, left, right));
            let negate = expr(ty, below).prop_map(|arg| Expr::Negate(Box::new(arg)));
            let length = expr(Type::String, below).prop_map(|arg| Expr::Call(Function::Length, vec![arg]));
            let floor = expr(Type::Decimal, below).prop_map(|arg| Expr::Call(Function::Floor, vec![arg]));
            prop_oneof![arithmetic, negate, length, floor].boxed()
        }
        Type::Decimal => {
            let ops = prop::sample::select(vec![Add, Subtract, Multiply, Divide, Remainder]);
            let arithmetic = (ops, pair(ty, below)).prop_map(|(op, (left, right))| Expr::Arithmetic(op, left, right));
            let abs = expr(ty, below).prop_map(|arg| Expr::Call(Function::Abs, vec![arg]));
            let cast = expr(Type::Integer, below).prop_map(|arg| Expr::Cast(Box::new(arg), Type::Decimal));
            prop_oneof![arithmetic, abs, cast].boxed()
        }
        _ => {
            let args = proptest::collection::vec(expr(ty, below), 1..3);
            let concat = args.prop_map(|args| Expr::Call(Function::Concat, args));
            let upper = expr(ty, below).prop_map(|arg| Expr::Call(Function::Upper, vec![arg]));
            let part = (expr(ty, below), -2_i64..6, -1_i64..6).prop_map(|(arg, from, count)| {
                let constant = |value| Expr::Literal(Value::Integer(value), Type::Integer);
                Expr::Call(Function::Substring, vec![arg, constant(from), constant(count)])
            });
            prop_oneof![concat, upper, part].boxed()
        }
    }
}

fn boolean(below: u32) -> BoxedStrategy<Expr> {
    let ty = prop::sample::select(vec![Type::Boolean, Type::Integer, Type::Decimal, Type::String]);
    let op = prop::sample::select(vec![
        Compare::Equal,
        Compare::NotEqual,
        Compare::Less,
        Compare::LessOrEqual,
        Compare::Greater,
        Compare::GreaterOrEqual,
    ]);
    let compare = (ty.clone().prop_flat_map(move |ty| pair(ty, below)), op)
        .prop_map(|((left, right), op)| Expr::Compare(op, left, right));
    let logic = (pair(Type::Boolean, below), any::<bool>())
        .prop_map(|((left, right), and)| Expr::Logic(if and { Logic::And } else { Logic::Or }, left, right));
    let not = expr(Type::Boolean, below).prop_map(|arg| Expr::Not(Box::new(arg)));
    let is_null = ty.clone().prop_flat_map(move |ty| expr(ty, below)).prop_map(|arg| Expr::IsNull(Box::new(arg)));
    let within = ty.prop_flat_map(move |ty| {
        let values = proptest::collection::vec(value(ty).prop_filter("not null", |value| *value != Value::Null), 1..4);
        (expr(ty, below), values)
    });
    let within = within.prop_map(|(arg, values)| Expr::In(Box::new(arg), values));
    let like =
        (expr(Type::String, below), "[ab%_]{0,4}").prop_map(|(arg, pattern)| Expr::Like(Box::new(arg), pattern.into()));
    prop_oneof![compare, logic, not, is_null, within, like].boxed()
}

/// The naive evaluator.
fn scalar(expr: &Expr, row: &[Value]) -> Value {
    let of = |expr: &Expr| scalar(expr, row);
    match expr {
        Expr::Column(id, _) => row[*id].clone(),
        Expr::Literal(value, _) => value.clone(),
        Expr::Not(arg) => truth(&of(arg)).map_or(Value::Null, |value| Value::Boolean(!value)),
        Expr::IsNull(arg) => Value::Boolean(of(arg) == Value::Null),
        Expr::Negate(arg) => match of(arg) {
            Value::Integer(value) => value.checked_neg().map_or(Value::Null, Value::Integer),
            Value::Decimal(value) => Value::Decimal(Decimal(-value.0)),
            _ => Value::Null,
        },
        Expr::Logic(logic, left, right) => three_valued(*logic, truth(&of(left)), truth(&of(right))),
        Expr::Compare(op, left, right) => {
            let (left, right) = (of(left), of(right));
            if left == Value::Null || right == Value::Null {
                return Value::Null;
            }
            Value::Boolean(match op {
                Compare::Equal => left == right,
                Compare::NotEqual => left != right,
                Compare::Less => left < right,
                Compare::LessOrEqual => left <= right,
                Compare::Greater => left > right,
                Compare::GreaterOrEqual => left >= right,
            })
        }
        Expr::Arithmetic(op, left, right) => arithmetic_of(*op, of(left), of(right)),
        Expr::In(arg, values) => match of(arg) {
            Value::Null => Value::Null,
            value => Value::Boolean(values.contains(&value)),
        },
        Expr::Like(arg, pattern) => match of(arg) {
            Value::String(text) => {
                let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
                Value::Boolean(like_slowly(&text, &pattern))
            }
            _ => Value::Null,
        },
        Expr::Case { branches, otherwise } => {
            let hit = branches.iter().find(|(when, _)| of(when) == Value::Boolean(true));
            hit.map_or_else(|| of(otherwise), |(_, then)| of(then))
        }
        Expr::Coalesce(args) => args.iter().map(of).find(|value| *value != Value::Null).unwrap_or_default(),
        Expr::Cast(arg, _) => match of(arg) {
            Value::Integer(value) => Value::Decimal(Decimal::from_int(value)),
            _ => Value::Null,
        },
        Expr::Call(function, args) => call_of(*function, &args.iter().map(of).collect::<Vec<_>>()),
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Boolean(value) => Some(*value),
        _ => None,
    }
}

fn three_valued(logic: Logic, left: Option<bool>, right: Option<bool>) -> Value {
    let decisive = logic == Logic::Or;
    match (left, right) {
        (Some(left), Some(right)) => Value::Boolean(if decisive { left || right } else { left && right }),
        (Some(known), None) | (None, Some(known)) if known == decisive => Value::Boolean(decisive),
        _ => Value::Null,
    }
}

fn arithmetic_of(op: Arithmetic, left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Integer(left), Value::Integer(right)) => {
            let (left, right) = (i128::from(left), i128::from(right));
            let result = match op {
                Arithmetic::Add => Some(left + right),
                Arithmetic::Subtract => Some(left - right),
                Arithmetic::Multiply => Some(left * right),
                Arithmetic::Divide | Arithmetic::Remainder if right == 0 => None,
                Arithmetic::Divide => Some(left / right),
                // The one remainder that a machine cannot take.
                Arithmetic::Remainder if left == i128::from(i64::MIN) && right == -1 => None,
                Arithmetic::Remainder => Some(left % right),
            };
            result.and_then(|value| i64::try_from(value).ok()).map_or(Value::Null, Value::Integer)
        }
        (Value::Decimal(left), Value::Decimal(right)) => {
            let result = match op {
                Arithmetic::Add => left.checked_add(right),
                Arithmetic::Subtract => left.checked_add(Decimal(-right.0)),
                Arithmetic::Multiply => left.checked_mul(right),
                Arithmetic::Divide => left.checked_div(right),
                Arithmetic::Remainder => left.checked_rem(right),
            };
            result.map_or(Value::Null, Value::Decimal)
        }
        _ => Value::Null,
    }
}

fn like_slowly(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skip| like_slowly(&text[skip..], rest)),
        Some((letter, rest)) => text
            .split_first()
            .is_some_and(|(first, behind)| (*letter == '_' || letter == first) && like_slowly(behind, rest)),
    }
}

fn call_of(function: Function, args: &[Value]) -> Value {
    let present = || args.iter().filter(|value| **value != Value::Null);
    match (function, args) {
        (Function::Least, _) => present().min().cloned().unwrap_or_default(),
        (Function::Greatest, _) => present().max().cloned().unwrap_or_default(),
        (Function::NullIf, [value, unwanted]) if value == unwanted => Value::Null,
        (Function::NullIf, [value, _]) => value.clone(),
        (Function::Concat, _) => {
            let text = |value: &Value| if let Value::String(text) = value { text.to_string() } else { String::new() };
            Value::String(args.iter().map(text).collect::<String>().into())
        }
        (Function::Length, [Value::String(text)]) => Value::Integer(text.chars().count() as i64),
        (Function::Upper, [Value::String(text)]) => Value::String(text.to_uppercase().into()),
        (Function::Substring, [Value::String(text), Value::Integer(from), Value::Integer(count)]) => {
            let kept = (1_i64..).zip(text.chars()).filter(|(at, _)| at >= from && *at < from + count.max(&0));
            Value::String(kept.map(|(_, letter)| letter).collect::<String>().into())
        }
        (Function::Abs, [Value::Decimal(value)]) => Value::Decimal(Decimal(value.0.abs())),
        (Function::Floor, [Value::Decimal(value)]) => {
            let whole = value.0.div_euclid(crate::decimal::ONE);
            i64::try_from(whole).map_or(Value::Null, Value::Integer)
        }
        _ => Value::Null,
    }
}

fn table() -> impl Strategy<Value = Vec<Vec<Value>>> {
    proptest::collection::vec(TYPES.map(value).to_vec(), 1..6)
}

proptest! {
    #[test]
    fn kernels_agree_with_the_scalar_evaluator(
        (expr, rows) in (prop::sample::select(vec![Type::Boolean, Type::Integer, Type::Decimal, Type::String])
            .prop_flat_map(|ty| expr(ty, 3)), table()),
    ) {
        let mut arena = Vec::new();
        let mut columns: Vec<Column> = TYPES.iter().map(|ty| Column::new(*ty)).collect();
        for row in &rows {
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push_value(value, &mut arena));
        }
        let mut program = Program::compile(&expr);
        for _warm in 0..2 {
            let result = program.eval(&columns, rows.len(), &mut arena);
            for (at, row) in rows.iter().enumerate() {
                prop_assert_eq!(result.value(at, &arena), scalar(&expr, row), "row {} of {:?}", at, expr);
            }
        }
    }
}
