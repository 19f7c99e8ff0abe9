//! Expressions over one row at a time, with SQL's nulls.

use engine::expr::{Arithmetic, Compare, Expr, Function, Logic, TimeUnit};
use engine::value::Type;

use super::{cell::Cell, number, text};

/// Evaluates an expression over a row.
#[must_use]
pub fn evaluate(expr: &Expr, row: &[Cell]) -> Cell {
    let value = |expr: &Expr| evaluate(expr, row);
    match expr {
        Expr::Column(at, _) => row[*at].clone(),
        Expr::Literal(literal, _) => Cell::from_value(literal),
        Expr::Not(arg) => match value(arg) {
            Cell::Boolean(truth) => Cell::Boolean(!truth),
            _ => Cell::Null,
        },
        Expr::Negate(arg) => match value(arg) {
            Cell::Integer(number) => number.checked_neg().map_or(Cell::Null, Cell::Integer),
            Cell::Decimal(number) => Cell::Decimal(-number),
            _ => Cell::Null,
        },
        Expr::IsNull(arg) => Cell::Boolean(value(arg).is_null()),
        Expr::Logic(operator, left, right) => logic(*operator, &value(left), &value(right)),
        Expr::Compare(operator, left, right) => compare(*operator, &value(left), &value(right)),
        Expr::Arithmetic(operator, left, right) => arithmetic(*operator, &value(left), &value(right)),
        Expr::In(arg, list) => match value(arg) {
            Cell::Null => Cell::Null,
            found => Cell::Boolean(list.iter().any(|item| Cell::from_value(item) == found)),
        },
        Expr::Like(arg, pattern) => match value(arg) {
            Cell::Text(found) => Cell::Boolean(text::like(&chars(&found), &chars(pattern))),
            _ => Cell::Null,
        },
        Expr::Case { branches, otherwise } => {
            let branch = branches.iter().find(|(when, _)| value(when).is_true());
            branch.map_or_else(|| value(otherwise), |(_, then)| value(then))
        }
        Expr::Coalesce(args) => args.iter().map(value).find(|cell| !cell.is_null()).unwrap_or(Cell::Null),
        Expr::Cast(arg, ty) => cast(&value(arg), *ty),
        Expr::Call(function, args) => call(*function, &args.iter().map(value).collect::<Vec<_>>()),
    }
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn logic(operator: Logic, left: &Cell, right: &Cell) -> Cell {
    // The value that decides alone: false for `and`, true for `or`.
    let decides = Cell::Boolean(operator == Logic::Or);
    if *left == decides || *right == decides {
        return decides;
    }
    if left.is_null() || right.is_null() { Cell::Null } else { Cell::Boolean(operator == Logic::And) }
}

fn compare(operator: Compare, left: &Cell, right: &Cell) -> Cell {
    if left.is_null() || right.is_null() {
        return Cell::Null;
    }
    Cell::Boolean(match operator {
        Compare::Equal => left == right,
        Compare::NotEqual => left != right,
        Compare::Less => left < right,
        Compare::LessOrEqual => left <= right,
        Compare::Greater => left > right,
        Compare::GreaterOrEqual => left >= right,
    })
}

fn arithmetic(operator: Arithmetic, left: &Cell, right: &Cell) -> Cell {
    match (left, right) {
        (Cell::Integer(a), Cell::Integer(b)) => {
            let result = match operator {
                Arithmetic::Add => a.checked_add(*b),
                Arithmetic::Subtract => a.checked_sub(*b),
                Arithmetic::Multiply => a.checked_mul(*b),
                Arithmetic::Divide => unreachable!("division is always of decimals"),
                Arithmetic::Remainder => a.checked_rem(*b),
            };
            result.map_or(Cell::Null, Cell::Integer)
        }
        (Cell::Decimal(a), Cell::Decimal(b)) => {
            let result = match operator {
                Arithmetic::Add => a.checked_add(*b),
                Arithmetic::Subtract => a.checked_sub(*b),
                Arithmetic::Multiply => number::multiply(*a, *b),
                Arithmetic::Divide => number::divide(*a, *b),
                Arithmetic::Remainder => a.checked_rem(*b),
            };
            result.map_or(Cell::Null, Cell::Decimal)
        }
        _ => Cell::Null,
    }
}

fn cast(value: &Cell, ty: Type) -> Cell {
    let cast = match (value, ty) {
        (Cell::Integer(number), Type::Decimal) => Some(Cell::Decimal(i128::from(*number) * number::ONE)),
        (Cell::Decimal(number), Type::Integer) => i64::try_from(number / number::ONE).ok().map(Cell::Integer),
        (Cell::Text(text), Type::Integer) => text.parse().ok().map(Cell::Integer),
        (Cell::Text(text), Type::Decimal) => number::parse(text).map(Cell::Decimal),
        (Cell::Text(text), Type::Timestamp) => text::parse_time(text).map(Cell::Time),
        (Cell::Text(text), Type::Boolean) => text.parse().ok().map(Cell::Boolean),
        (Cell::Integer(number), Type::String) => Some(Cell::Text(number.to_string())),
        (Cell::Boolean(truth), Type::String) => Some(Cell::Text(truth.to_string())),
        (Cell::Boolean(truth), Type::Integer) => Some(Cell::Integer(i64::from(*truth))),
        (value, _) => Some(value.clone()),
    };
    cast.unwrap_or(Cell::Null)
}

fn call(function: Function, args: &[Cell]) -> Cell {
    let null_propagates =
        !matches!(function, Function::Least | Function::Greatest | Function::Concat | Function::NullIf);
    if null_propagates && args.iter().any(Cell::is_null) {
        return Cell::Null;
    }
    let present = args.iter().filter(|arg| !arg.is_null());
    match (function, args) {
        (Function::Least, _) => present.min().cloned().unwrap_or(Cell::Null),
        (Function::Greatest, _) => present.max().cloned().unwrap_or(Cell::Null),
        (Function::Concat, _) => Cell::Text(present.filter_map(Cell::text).collect()),
        (Function::NullIf, [a, b]) => {
            if a == b {
                Cell::Null
            } else {
                a.clone()
            }
        }
        (Function::Abs, [Cell::Integer(a)]) => a.checked_abs().map_or(Cell::Null, Cell::Integer),
        (Function::Abs, [Cell::Decimal(a)]) => Cell::Decimal(a.abs()),
        (Function::Round, [Cell::Decimal(a), Cell::Integer(digits)]) => Cell::Decimal(round(*a, *digits)),
        (Function::Round, [Cell::Decimal(a)]) => Cell::Decimal(round(*a, 0)),
        (Function::Floor, [Cell::Decimal(a)]) => whole(a.div_euclid(number::ONE)),
        (Function::Ceil, [Cell::Decimal(a)]) => whole(-(-a).div_euclid(number::ONE)),
        (Function::Extract(unit), [Cell::Time(at)]) => Cell::Integer(extract(unit, *at)),
        (Function::DateTrunc(unit), [Cell::Time(at)]) => Cell::Time(truncate(unit, *at)),
        (Function::SecondsBetween, [Cell::Time(a), Cell::Time(b)]) => {
            Cell::Decimal((i128::from(*a) - i128::from(*b)) * (number::ONE / 1_000))
        }
        _ => call_text(function, args),
    }
}

fn call_text(function: Function, args: &[Cell]) -> Cell {
    match (function, args) {
        (Function::Lower, [Cell::Text(a)]) => Cell::Text(a.to_lowercase()),
        (Function::Upper, [Cell::Text(a)]) => Cell::Text(a.to_uppercase()),
        (Function::Trim, [Cell::Text(a)]) => Cell::Text(a.trim().to_owned()),
        (Function::Length, [Cell::Text(a)]) => Cell::Integer(a.chars().count() as i64),
        (Function::StartsWith, [Cell::Text(a), Cell::Text(b)]) => Cell::Boolean(a.starts_with(b)),
        (Function::EndsWith, [Cell::Text(a), Cell::Text(b)]) => Cell::Boolean(a.ends_with(b)),
        (Function::Contains, [Cell::Text(a), Cell::Text(b)]) => Cell::Boolean(a.contains(b)),
        (Function::Substring, [Cell::Text(a), Cell::Integer(from), Cell::Integer(count)]) => {
            let end = from.saturating_add(*count);
            let inside = |at: usize| (*from..end).contains(&(at as i64 + 1));
            Cell::Text(a.chars().enumerate().filter(|(at, _)| inside(*at)).map(|(_, letter)| letter).collect())
        }
        (Function::Substring, [Cell::Text(a), Cell::Integer(from)]) => {
            Cell::Text(a.chars().skip((from - 1).max(0) as usize).collect())
        }
        (Function::SplitPart, [Cell::Text(a), Cell::Text(separator), Cell::Integer(n)]) => {
            let part = usize::try_from(n - 1).ok().and_then(|n| a.split(separator.as_str()).nth(n));
            part.map_or(Cell::Null, |part| Cell::Text(part.to_owned()))
        }
        (function, args) => unreachable!("{function:?} over {args:?}"),
    }
}

fn round(value: i128, digits: i64) -> i128 {
    if digits >= 9 {
        return value;
    }
    let unit = 10_i128.pow(9 - digits.max(0) as u32);
    number::divide_half_even(value, unit) * unit
}

fn whole(value: i128) -> Cell {
    i64::try_from(value).map_or(Cell::Null, Cell::Integer)
}

fn extract(unit: TimeUnit, at: i64) -> i64 {
    let day = at.div_euclid(86_400_000);
    let (year, month, of_month) = text::date(day);
    match unit {
        TimeUnit::Second => at.div_euclid(1_000).rem_euclid(60),
        TimeUnit::Minute => at.div_euclid(60_000).rem_euclid(60),
        TimeUnit::Hour => at.div_euclid(3_600_000).rem_euclid(24),
        TimeUnit::Day => of_month,
        // 1970-01-01 was a Thursday.
        TimeUnit::DayOfWeek => (day + 4).rem_euclid(7),
        TimeUnit::Month => month,
        TimeUnit::Year => year,
    }
}

fn truncate(unit: TimeUnit, at: i64) -> i64 {
    let day = at.div_euclid(86_400_000);
    let (year, month, _) = text::date(day);
    let down = |size: i64| at.div_euclid(size) * size;
    match unit {
        TimeUnit::Second => down(1_000),
        TimeUnit::Minute => down(60_000),
        TimeUnit::Hour => down(3_600_000),
        TimeUnit::Day => down(86_400_000),
        TimeUnit::DayOfWeek => (day - (day + 4).rem_euclid(7)) * 86_400_000,
        TimeUnit::Month => text::days(year, month, 1) * 86_400_000,
        TimeUnit::Year => text::days(year, 1, 1) * 86_400_000,
    }
}
