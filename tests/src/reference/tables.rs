//! Tables: which events count, in which windows and groups, and the rows that this makes.

use std::collections::{BTreeMap, BTreeSet};

use engine::plan::{Input, Plan, TableKind, TablePlan, Window};

use super::{Answer, aggregates::aggregate, cell::Cell, evaluate::evaluate, funnels, streams::Event};

/// A window by its bounds, or none.
pub type Bounds = Option<(i64, i64)>;

/// Events by window and group.
type Rows<'a> = BTreeMap<(Bounds, Vec<Cell>), Vec<&'a Event>>;

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
        TableKind::Aggregate(aggregates) => by_window(table, events, &counted)
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
fn by_window<'a>(table: &TablePlan, all: &[Event], events: &[&'a Event]) -> Rows<'a> {
    let mut rows = Rows::new();
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
        Window::Session { gap_ms } => sessions(gap_ms, gap_ms + table.lateness_ms, rows),
        Window::None => kept(table.keep_for_ms, all, rows),
        _ => rows,
    }
}

/// Cuts the events of each group into sessions.
fn sessions(gap: i64, kept_for: i64, groups: Rows<'_>) -> Rows<'_> {
    let mut rows = Rows::new();
    for ((_, group), events) in groups {
        for mut session in sessions_of_group(gap, kept_for, &events) {
            session.sort_by_key(|event| event.time);
            let bounds = (session[0].time, session[session.len() - 1].time + gap);
            rows.insert((Some(bounds), group.clone()), session);
        }
    }
    rows
}

/// Takes the events one after the other: each joins all sessions that are near enough and still kept.
///
/// Only where something is later than its bound is a session gone before an event could join it. What the watermark of
/// MERGE is then can be said of one partition alone, so with several of them nothing is gone here.
fn sessions_of_group<'a>(gap: i64, kept_for: i64, events: &[&'a Event]) -> Vec<Vec<&'a Event>> {
    let in_order = come_from_one_partition(events);
    let mut sessions: Vec<Vec<&Event>> = Vec::new();
    for event in events {
        let (from, until) = (event.time - gap, event.time + gap);
        let is_near = |session: &Vec<&Event>| session.iter().any(|other| (from..=until).contains(&other.time));
        let is_kept = |session: &Vec<&Event>| {
            let last = session.iter().map(|other| other.time).max().unwrap_or(i64::MIN);
            !in_order || event.watermark_before.is_none_or(|now| now <= last + kept_for)
        };
        let (joined, apart) = sessions.into_iter().partition(|session| is_near(session) && is_kept(session));
        sessions = apart;
        let joined: Vec<Vec<&Event>> = joined;
        sessions.push(joined.into_iter().flatten().chain([*event]).collect());
    }
    sessions
}

/// Forgets groups that had no event for `keep_for`, where the watermark is known: see [`sessions_of_group`].
fn kept<'a>(keep_for: Option<i64>, all: &[Event], groups: Rows<'a>) -> Rows<'a> {
    let (Some(keep_for), true) = (keep_for, come_from_one_partition(&all.iter().collect::<Vec<_>>())) else {
        return groups;
    };
    let end = all.iter().filter_map(|event| event.watermark).max();
    let mut rows = Rows::new();
    for (key, events) in groups {
        let mut counted: Vec<&Event> = Vec::new();
        let is_forgotten = |counted: &[&Event], now: Option<i64>| {
            let last = counted.iter().map(|event| event.time).max();
            last.zip(now).is_some_and(|(last, now)| now > last + keep_for)
        };
        for event in events {
            if is_forgotten(&counted, event.watermark_before) {
                counted.clear();
            }
            counted.push(event);
        }
        if !is_forgotten(&counted, end) {
            rows.insert(key, counted);
        }
    }
    rows
}

fn come_from_one_partition(events: &[&Event]) -> bool {
    events.iter().all(|event| event.watermark.is_some() && event.position.0 == events[0].position.0)
}
