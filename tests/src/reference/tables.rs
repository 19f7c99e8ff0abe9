//! Tables: which events count, in which windows and groups, and the rows that this makes.

use std::collections::{BTreeMap, BTreeSet};

use engine::plan::{Input, Plan, TableKind, TablePlan, Window};

use super::{Answer, aggregates::aggregate, cell::Cell, evaluate::evaluate, funnels, streams::Event};

/// A window by its bounds, or none.
pub type Bounds = Option<(i64, i64)>;

/// Fills rows, ledger and dead letters of a table.
pub fn fill(plan: &Plan, table: &TablePlan, streams: &[Vec<Event>], joins: &[Vec<Event>], answer: &mut Answer) {
    let (events, stream) = match table.input {
        Input::Stream(stream) => (&streams[stream], Some(stream)),
        Input::Join(join) => (&joins[join], None),
    };
    let mut counts = [events.len() as u64, 0, 0, 0];
    let mut counted = Vec::new();
    for event in events {
        if is_filtered(table, event) {
            counts[1] += 1;
        } else if is_late(table, event) {
            counts[2] += 1;
            let stream = stream.expect("pairs are never late");
            let (source, offset) = event.position;
            let letter = (plan.streams[stream].name.clone(), Some(table.name.clone()), source, offset);
            answer.dead_letters.insert(letter, BTreeSet::from(["late".to_owned()]));
        } else {
            counts[3] += 1;
            counted.push(event);
        }
    }
    answer.tables.insert(table.name.clone(), counts);
    let results = match &table.kind {
        TableKind::Funnel(funnel) => funnels::results(table, funnel, &counted),
        TableKind::Aggregate(aggregates) => by_window(table, &counted)
            .into_iter()
            .map(|(key, events)| (key, aggregates.iter().map(|each| aggregate(each, &events)).collect()))
            .collect(),
    };
    for ((bounds, group), results) in results {
        let row: Vec<Cell> = group.iter().cloned().chain(results).collect();
        let values = table.outputs.iter().map(|output| evaluate(&output.expr, &row)).collect();
        let key = (table.name.clone(), bounds.map(|(start, _)| start), group);
        answer.rows.insert(key, (bounds.map(|(_, end)| end), values));
    }
}

fn is_filtered(table: &TablePlan, event: &Event) -> bool {
    let plays_no_part = match &table.kind {
        TableKind::Funnel(funnel) => funnels::plays_no_part(funnel, event),
        TableKind::Aggregate(_) => false,
    };
    event.dropped
        || plays_no_part
        || table.filter.as_ref().is_some_and(|filter| !evaluate(filter, &event.cells).is_true())
}

/// Whether no open window could take the event, by its own partition's watermark.
fn is_late(table: &TablePlan, event: &Event) -> bool {
    let Some(now) = event.watermark else { return false };
    let (time, lateness) = (event.time, table.lateness_ms);
    match (&table.kind, table.window) {
        (TableKind::Funnel(_), _) => now > time + lateness,
        (_, Window::None) => false,
        (_, Window::Tumbling { .. } | Window::Hopping { .. }) => {
            windows(table.window, time).iter().all(|(_, end)| now >= end + lateness)
        }
        (_, Window::Session { gap_ms }) => now > time + gap_ms + lateness,
    }
}

/// Every tumbling or hopping window that holds a time.
#[must_use]
pub fn windows(window: Window, time: i64) -> Vec<(i64, i64)> {
    let (size, every) = match window {
        Window::Tumbling { size_ms } => (size_ms, size_ms),
        Window::Hopping { size_ms, every_ms } => (size_ms, every_ms),
        Window::None | Window::Session { .. } => unreachable!("a window without a grid"),
    };
    let around = (time - size).div_euclid(every)..=time.div_euclid(every);
    around.map(|k| (k * every, k * every + size)).filter(|(start, end)| (*start..*end).contains(&time)).collect()
}

/// Events by window and group.
fn by_window<'a>(table: &TablePlan, events: &[&'a Event]) -> BTreeMap<(Bounds, Vec<Cell>), Vec<&'a Event>> {
    let mut rows: BTreeMap<(Bounds, Vec<Cell>), Vec<&Event>> = BTreeMap::new();
    for event in events {
        let group: Vec<Cell> = table.group_by.iter().map(|group| evaluate(&group.expr, &event.cells)).collect();
        match table.window {
            Window::None | Window::Session { .. } => rows.entry((None, group)).or_default().push(event),
            window => {
                // A late event counts in those of its windows that are still kept.
                let open = |end: i64| event.watermark.is_none_or(|now| now < end + table.lateness_ms);
                for (start, end) in windows(window, event.time).into_iter().filter(|(_, end)| open(*end)) {
                    rows.entry((Some((start, end)), group.clone())).or_default().push(event);
                }
            }
        }
    }
    match table.window {
        Window::Session { gap_ms } => sessions(gap_ms, rows),
        _ => rows,
    }
}

/// Cuts the events of each group where they are further apart than the gap.
fn sessions(
    gap: i64,
    groups: BTreeMap<(Bounds, Vec<Cell>), Vec<&Event>>,
) -> BTreeMap<(Bounds, Vec<Cell>), Vec<&Event>> {
    let mut rows = BTreeMap::new();
    for ((_, group), mut events) in groups {
        events.sort_by_key(|event| event.time);
        for session in events.chunk_by(|earlier, later| later.time - earlier.time <= gap) {
            let bounds = (session[0].time, session[session.len() - 1].time + gap);
            rows.insert((Some(bounds), group.clone()), session.to_vec());
        }
    }
    rows
}
