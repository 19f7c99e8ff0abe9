//! Three-valued logic and choosing among values.

use std::cmp::Ordering;

use super::{as_booleans, booleans, compare, push_from};
use crate::{column::Column, expr::Logic};

/// `and`: false wins over null; `or`: true wins over null.
pub(super) fn logic(logic: Logic, left: &Column, right: &Column, out: &mut Column) {
    let decisive = logic == Logic::Or;
    let rows = left.valid.len();
    let (lefts, rights) = (as_booleans(left), as_booleans(right));
    for row in 0..rows {
        let decided = (left.valid[row] && lefts[row] == decisive) || (right.valid[row] && rights[row] == decisive);
        out.valid.push(decided || (left.valid[row] && right.valid[row]));
    }
    let results = booleans(out);
    results.extend((0..rows).map(|row| {
        let decided = (left.valid[row] && lefts[row] == decisive) || (right.valid[row] && rights[row] == decisive);
        if decided { decisive } else { !decisive }
    }));
}

/// Inputs: when, then, when, then, …, otherwise.
pub(super) fn case(inputs: &[&Column], rows: usize, out: &mut Column) {
    let (otherwise, pairs) = inputs.split_last().expect("a case has an otherwise");
    for row in 0..rows {
        let hit = pairs.chunks_exact(2).find(|pair| pair[0].valid[row] && as_booleans(pair[0])[row]);
        push_from(out, hit.map_or(*otherwise, |pair| pair[1]), row);
    }
}

pub(super) fn coalesce(inputs: &[&Column], rows: usize, out: &mut Column) {
    let last = inputs.last().expect("coalesce has arguments");
    for row in 0..rows {
        let first = inputs.iter().find(|input| input.valid[row]).unwrap_or(last);
        push_from(out, first, row);
    }
}

/// `least` and `greatest`: nulls are skipped.
pub(super) fn extreme(inputs: &[&Column], rows: usize, arena: &[u8], out: &mut Column, wanted: Ordering) {
    for row in 0..rows {
        let mut best = inputs[0];
        for input in &inputs[1..] {
            let better = input.valid[row] && (!best.valid[row] || cross(input, best, row, arena) == wanted);
            if better {
                best = input;
            }
        }
        push_from(out, best, row);
    }
}

fn cross(left: &Column, right: &Column, row: usize, arena: &[u8]) -> Ordering {
    compare::rows(left, right, row, arena)
}

pub(super) fn null_if(inputs: &[&Column], rows: usize, arena: &[u8], out: &mut Column) {
    let (value, unwanted) = (inputs[0], inputs[1]);
    for row in 0..rows {
        push_from(out, value, row);
        let equal = value.valid[row] && unwanted.valid[row] && cross(value, unwanted, row, arena).is_eq();
        out.valid[row] &= !equal;
    }
}
