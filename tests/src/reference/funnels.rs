//! Funnels: every start simulated on its own.

use std::collections::BTreeMap;

use engine::plan::{FunnelPlan, TablePlan, Window};

use super::{
    cell::Cell,
    evaluate::evaluate,
    number,
    streams::Event,
    tables::{Bounds, windows},
};

/// One event as the funnel sees it.
struct Seen<'a> {
    event: &'a Event,
    same_key: Cell,
    reached: Vec<bool>,
    undone: Vec<bool>,
}

/// How far a passage came.
struct Passage {
    depth: usize,
    took_ms: Option<i64>,
    bounds: Bounds,
    group: Vec<Cell>,
}

/// The result columns of every row: a count for each step, conversion, seconds to convert.
pub fn results(table: &TablePlan, funnel: &FunnelPlan, events: &[&Event]) -> BTreeMap<(Bounds, Vec<Cell>), Vec<Cell>> {
    let mut entities: BTreeMap<Cell, Vec<Seen<'_>>> = BTreeMap::new();
    for event in events {
        entities.entry(evaluate(&funnel.by, &event.cells)).or_default().push(see(funnel, event));
    }
    let mut best: Vec<Passage> = Vec::new();
    for seen in entities.values_mut() {
        seen.sort_by(|a, b| key(a).cmp(&key(b)));
        best.extend(best_of_entity(table, funnel, seen));
    }
    let mut rows: BTreeMap<(Bounds, Vec<Cell>), Vec<&Passage>> = BTreeMap::new();
    for passage in &best {
        rows.entry((passage.bounds, passage.group.clone())).or_default().push(passage);
    }
    rows.into_iter().map(|(key, passages)| (key, columns(funnel, &passages))).collect()
}

/// The order of events: time, id, steps matched and undone as numbers with bit k for step k, the shared value. Events
/// that are equal in all of these and differ in their group do not come up in tests.
fn key<'a>(seen: &'a Seen<'_>) -> (i64, &'a Cell, u64, u64, &'a Cell) {
    let number = |bits: &[bool]| bits.iter().rev().fold(0, |number, bit| number * 2 + u64::from(*bit));
    (seen.event.time, &seen.event.id, number(&seen.reached), number(&seen.undone), &seen.same_key)
}

/// Whether an event matches no step and undoes none, or belongs to nobody, or shares nothing where it must.
pub fn plays_no_part(funnel: &FunnelPlan, event: &Event) -> bool {
    let seen = see(funnel, event);
    let idle = !seen.reached.contains(&true) && !seen.undone.contains(&true);
    let shares_nothing = funnel.same_key.is_some() && seen.same_key.is_null();
    idle || shares_nothing || evaluate(&funnel.by, &event.cells).is_null()
}

fn see<'a>(funnel: &FunnelPlan, event: &'a Event) -> Seen<'a> {
    let holds = |expr| evaluate(expr, &event.cells).is_true();
    Seen {
        event,
        same_key: funnel.same_key.as_ref().map_or(Cell::Null, |key| evaluate(key, &event.cells)),
        reached: funnel.steps.iter().map(|step| holds(&step.when)).collect(),
        undone: funnel.steps.iter().map(|step| step.undone_by.as_ref().is_some_and(holds)).collect(),
    }
}

/// For each window the deepest passage, of equals the latest.
fn best_of_entity(table: &TablePlan, funnel: &FunnelPlan, seen: &[Seen<'_>]) -> Vec<Passage> {
    let mut best: BTreeMap<(i64, Bounds), Passage> = BTreeMap::new();
    let mut life = 0;
    for at in 0..seen.len() {
        let time = seen[at].event.time;
        if at > 0 && table.window == Window::None && time - seen[at - 1].event.time > funnel.forget_after_ms {
            life = time;
        }
        if !seen[at].reached[0] {
            continue;
        }
        let passage = follow(table, funnel, &seen[at..]);
        let key = (life, passage.bounds);
        let is_better = best.get(&key).is_none_or(|other| passage.depth >= other.depth);
        if passage.depth > 0 && is_better {
            best.insert(key, passage);
        }
    }
    best.into_values().collect()
}

/// Follows the passage that starts at the first event.
fn follow(table: &TablePlan, funnel: &FunnelPlan, seen: &[Seen<'_>]) -> Passage {
    let start = &seen[0];
    let mut stands = vec![false; funnel.steps.len()];
    stands[0] = true;
    let mut took_ms = None;
    let mut before = start.event.time;
    for next in &seen[1..] {
        let after = next.event.time - start.event.time;
        let forgotten = table.window == Window::None && next.event.time - before > funnel.forget_after_ms;
        if after > funnel.within_ms || forgotten {
            break;
        }
        before = next.event.time;
        if next.same_key != start.same_key {
            continue;
        }
        stands.iter_mut().zip(&next.undone).for_each(|(stand, undone)| *stand &= !undone);
        for step in (1..stands.len()).rev() {
            stands[step] |= stands[step - 1] && next.reached[step];
        }
        if stands[stands.len() - 1] {
            took_ms = took_ms.or(Some(after));
        }
    }
    Passage {
        depth: stands.iter().rposition(|stand| *stand).map_or(0, |step| step + 1),
        took_ms,
        bounds: match table.window {
            Window::None => None,
            window => windows(window, start.event.time).first().copied(),
        },
        group: table.group_by.iter().map(|group| evaluate(&group.expr, &start.event.cells)).collect(),
    }
}

fn columns(funnel: &FunnelPlan, passages: &[&Passage]) -> Vec<Cell> {
    let steps = funnel.steps.len();
    let counts: Vec<i64> =
        (1..=steps).map(|depth| passages.iter().filter(|each| each.depth >= depth).count() as i64).collect();
    let took: Vec<i64> = passages.iter().filter(|each| each.depth == steps).filter_map(|each| each.took_ms).collect();
    let (first, last) = (i128::from(counts[0]), i128::from(counts[steps - 1]));
    let conversion = number::divide(last * number::ONE, first * number::ONE).map_or(Cell::Null, Cell::Decimal);
    let millis: i128 = took.iter().map(|each| i128::from(*each)).sum();
    let seconds = match took.len() as i128 {
        0 => Cell::Null,
        count => Cell::Decimal(number::divide_half_even(millis * (number::ONE / 1_000), count)),
    };
    counts.into_iter().map(Cell::Integer).chain([conversion, seconds]).collect()
}
