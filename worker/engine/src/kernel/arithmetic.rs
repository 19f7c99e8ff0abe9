//! Numbers. Overflow and division by zero give null.

use super::both_valid;
use crate::{
    column::{Column, Data},
    decimal::{Decimal, ONE},
    expr::Arithmetic,
};

pub(super) fn negate(input: &Column, out: &mut Column) {
    out.valid.extend_from_slice(&input.valid);
    match (&input.data, &mut out.data) {
        (Data::Integer(values), Data::Integer(results)) => {
            results.extend(values.iter().map(|value| value.wrapping_neg()));
            out.valid.iter_mut().zip(values).for_each(|(valid, value)| *valid &= *value != i64::MIN);
        }
        (Data::Decimal(values), Data::Decimal(results)) => {
            results.extend(values.iter().map(|value| Decimal(-value.0)));
        }
        (data, _) => unreachable!("bug: minus {data:?}"),
    }
}

pub(super) fn absolute(input: &Column, out: &mut Column) {
    out.valid.extend_from_slice(&input.valid);
    match (&input.data, &mut out.data) {
        (Data::Integer(values), Data::Integer(results)) => {
            results.extend(values.iter().map(|value| value.wrapping_abs()));
            out.valid.iter_mut().zip(values).for_each(|(valid, value)| *valid &= *value != i64::MIN);
        }
        (Data::Decimal(values), Data::Decimal(results)) => {
            results.extend(values.iter().map(|value| Decimal(value.0.abs())));
        }
        (data, _) => unreachable!("bug: abs of {data:?}"),
    }
}

pub(super) fn round(input: &Column, digits: &Column, out: &mut Column) {
    both_valid(input, digits, out);
    let (Data::Decimal(values), Data::Integer(digits), Data::Decimal(results)) =
        (&input.data, &digits.data, &mut out.data)
    else {
        unreachable!("bug: round of {:?}", input.type_of())
    };
    let rounded = |(value, digits): (&Decimal, &i64)| value.round((*digits).clamp(0, 9) as u32);
    results.extend(values.iter().zip(digits).map(rounded));
}

/// `floor` and `ceil`: `divide` divides units by one.
pub(super) fn to_integer(input: &Column, out: &mut Column, divide: impl Fn(i128, i128) -> i128) {
    let (Data::Decimal(values), Data::Integer(results)) = (&input.data, &mut out.data) else {
        unreachable!("bug: floor of {:?}", input.type_of())
    };
    for (value, valid) in values.iter().zip(&input.valid) {
        let whole = i64::try_from(divide(value.0, ONE)).ok();
        results.push(whole.unwrap_or_default());
        out.valid.push(*valid && whole.is_some());
    }
}

pub(super) fn binary(op: Arithmetic, left: &Column, right: &Column, out: &mut Column) {
    match (&left.data, &right.data, &mut out.data) {
        (Data::Integer(lefts), Data::Integer(rights), Data::Integer(results)) => {
            let valid = left.valid.iter().zip(&right.valid).map(|(left, right)| *left && *right);
            for ((left, right), valid) in lefts.iter().zip(rights).zip(valid) {
                let result = if valid { integers(op, *left, *right) } else { None };
                results.push(result.unwrap_or_default());
                out.valid.push(result.is_some());
            }
        }
        (Data::Decimal(lefts), Data::Decimal(rights), Data::Decimal(results)) => {
            let valid = left.valid.iter().zip(&right.valid).map(|(left, right)| *left && *right);
            for ((left, right), valid) in lefts.iter().zip(rights).zip(valid) {
                let result = if valid { decimals(op, *left, *right) } else { None };
                results.push(result.unwrap_or_default());
                out.valid.push(result.is_some());
            }
        }
        (left, right, _) => unreachable!("bug: {left:?} {op:?} {right:?}"),
    }
}

fn integers(op: Arithmetic, left: i64, right: i64) -> Option<i64> {
    match op {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide => left.checked_div(right),
        Arithmetic::Remainder => left.checked_rem(right),
    }
}

fn decimals(op: Arithmetic, left: Decimal, right: Decimal) -> Option<Decimal> {
    match op {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_add(Decimal(-right.0)),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide => left.checked_div(right),
        Arithmetic::Remainder => left.checked_rem(right),
    }
}
