//! Aggregates over the events of one row.

use std::collections::{BTreeMap, BTreeSet};

use engine::plan::{Aggregate, AggregatePlan};

use super::{cell::Cell, evaluate::evaluate, number, streams::Event};

/// Relative error that `approx_percentile` promises is 1 %; a little is left for its rounding.
const PERCENTILE_ERROR_PERCENT: i128 = 2;

/// An argument with what orders it.
type Ordered = (i64, Cell, Cell);

/// Computes one aggregate.
#[must_use]
pub fn aggregate(of: &AggregatePlan, events: &[&Event]) -> Cell {
    let wanted = |event: &&&Event| of.filter.as_ref().is_none_or(|filter| evaluate(filter, &event.cells).is_true());
    let argument = |event: &&Event| match &of.argument {
        None => Cell::Boolean(true),
        Some(argument) => evaluate(argument, &event.cells),
    };
    let mut ordered: Vec<Ordered> = events
        .iter()
        .filter(wanted)
        .map(|event| (event.time, event.id.clone(), argument(event)))
        .filter(|(_, _, value)| !value.is_null())
        .collect();
    ordered.sort();
    let values: Vec<Cell> = ordered.iter().map(|(_, _, value)| value.clone()).collect();
    let distinct = || values.iter().collect::<BTreeSet<_>>();
    let newest_first = || values.iter().rev().cloned();
    match of.function {
        Aggregate::Count => Cell::Integer(values.len() as i64),
        Aggregate::Sum => sum(&values).unwrap_or(Cell::Null),
        Aggregate::Average => average(&values),
        Aggregate::Min => values.iter().min().cloned().unwrap_or(Cell::Null),
        Aggregate::Max => values.iter().max().cloned().unwrap_or(Cell::Null),
        Aggregate::CountDistinct => Cell::Integer(distinct().len() as i64),
        Aggregate::ApproxDistinct => about(distinct().len()),
        Aggregate::ApproxPercentile { quantile_ppm } => percentile(&values, quantile_ppm),
        Aggregate::First => values.first().cloned().unwrap_or(Cell::Null),
        Aggregate::Last => values.last().cloned().unwrap_or(Cell::Null),
        Aggregate::LastN { count } => Cell::List(newest_first().take(count as usize).collect()),
        Aggregate::LastDistinct { count } => {
            let mut seen = BTreeSet::new();
            Cell::List(newest_first().filter(|value| seen.insert(value.clone())).take(count as usize).collect())
        }
        Aggregate::Top { count } => top(&values, count as usize),
        Aggregate::BoolOr => any(&values, values.contains(&Cell::Boolean(true))),
        Aggregate::BoolAnd => any(&values, !values.contains(&Cell::Boolean(false))),
    }
}

fn any(values: &[Cell], truth: bool) -> Cell {
    if values.is_empty() { Cell::Null } else { Cell::Boolean(truth) }
}

fn sum(values: &[Cell]) -> Option<Cell> {
    let mut total: Option<Cell> = None;
    for value in values {
        total = Some(match (total, value) {
            (None, value) => value.clone(),
            (Some(Cell::Integer(a)), Cell::Integer(b)) => Cell::Integer(a + b),
            (Some(Cell::Decimal(a)), Cell::Decimal(b)) => Cell::Decimal(a + b),
            (total, value) => unreachable!("{total:?} + {value:?}"),
        });
    }
    total
}

/// A number in units of 10⁻⁹.
///
/// # Panics
/// On anything but a number.
#[must_use]
pub fn in_units(value: &Cell) -> i128 {
    match value {
        Cell::Integer(number) => i128::from(*number) * number::ONE,
        Cell::Decimal(number) => *number,
        other => unreachable!("not a number: {other:?}"),
    }
}

fn average(values: &[Cell]) -> Cell {
    if values.is_empty() {
        return Cell::Null;
    }
    let total: i128 = values.iter().map(in_units).sum();
    Cell::Decimal(number::divide_half_even(total, values.len() as i128))
}

/// What HyperLogLog may say of few distinct values: it is nearly exact there, and 1.6 % off beyond.
fn about(distinct: usize) -> Cell {
    let slack = 1 + distinct / 12;
    let units = |count: usize| count as i128 * number::ONE;
    Cell::Between(units(distinct.saturating_sub(slack).max(distinct.min(1))), units(distinct + slack))
}

/// Between the values next to the rank, with the error of the sketch.
fn percentile(values: &[Cell], quantile_ppm: u32) -> Cell {
    if values.is_empty() {
        return Cell::Null;
    }
    let mut values: Vec<i128> = values.iter().map(in_units).collect();
    values.sort_unstable();
    let rank = quantile_ppm as usize * (values.len() - 1);
    let (below, above) = (values[rank / 1_000_000], values[rank.div_ceil(1_000_000)]);
    let slack = |value: i128| value.abs() * PERCENTILE_ERROR_PERCENT / 100 + 1;
    Cell::Between(below - slack(below), above + slack(above))
}

fn top(values: &[Cell], count: usize) -> Cell {
    let mut counts: BTreeMap<&Cell, i64> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let mut ranked: Vec<(i64, &Cell)> = counts.into_iter().map(|(value, count)| (-count, value)).collect();
    ranked.sort();
    let pair = |(negative, value): (i64, &Cell)| Cell::List(vec![value.clone(), Cell::Integer(-negative)]);
    Cell::List(ranked.into_iter().take(count).map(pair).collect())
}
