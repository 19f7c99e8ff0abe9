//! Joins: every left row against every right row.

use std::collections::BTreeSet;

use engine::plan::{JoinPlan, Plan, Side};

use super::{Answer, cell::Cell, evaluate::evaluate, streams::Event};

/// Returns the pairs, and fills the join's ledger and dead letters.
pub fn pairs(plan: &Plan, join: &JoinPlan, streams: &[Vec<Event>], answer: &mut Answer) -> Vec<Event> {
    let mut counts = [0; 4];
    let left = side(plan, join, join.left, Side::Left, streams, &mut counts, answer);
    let right = side(plan, join, join.right, Side::Right, streams, &mut counts, answer);
    answer.tables.insert(join.name.clone(), counts);
    let mut pairs = Vec::new();
    for (left_key, left) in &left {
        for (right_key, right) in &right {
            let (start, end) = bounds(join, right).expect("a right row was judged before");
            if left_key == right_key && (start..=end).contains(&left.time) {
                let cell = |side, at: usize| if side == Side::Left { &left.cells[at] } else { &right.cells[at] };
                let cells = join.columns.iter().map(|column| cell(column.side, column.source).clone()).collect();
                pairs.push(Event { cells, watermark: None, watermark_before: None, ..(*left).clone() });
            }
        }
    }
    pairs
}

/// The rows of one side that are neither filtered nor late, with their keys.
fn side<'a>(
    plan: &Plan,
    join: &JoinPlan,
    stream: usize,
    side: Side,
    streams: &'a [Vec<Event>],
    counts: &mut [u64; 4],
    answer: &mut Answer,
) -> Vec<(Cell, &'a Event)> {
    let mut rows = Vec::new();
    for event in &streams[stream] {
        counts[0] += 1;
        let key = evaluate(if side == Side::Left { &join.left_key } else { &join.right_key }, &event.cells);
        let refused = if key.is_null() || event.dropped {
            counts[1] += 1;
            continue;
        } else if side == Side::Right && bounds(join, event).is_none() {
            counts[1] += 1;
            "longer-than-within"
        } else if event.watermark.is_some_and(|now| event.time < now) {
            counts[2] += 1;
            "late"
        } else {
            counts[3] += 1;
            rows.push((key, event));
            continue;
        };
        let (source, offset) = event.position;
        let letter = (plan.streams[stream].name.clone(), Some(join.name.clone()), source, offset);
        answer.dead_letters.insert(letter, BTreeSet::from([refused.to_owned()]));
    }
    rows
}

/// Start and end of a right row, unless it ends before it starts or is longer than the bound.
fn bounds(join: &JoinPlan, event: &Event) -> Option<(i64, i64)> {
    match (&event.cells[join.start], &event.cells[join.end]) {
        (Cell::Time(start), Cell::Time(end)) if *end >= *start && *end <= *start + join.within_ms => {
            Some((*start, *end))
        }
        _ => None,
    }
}
