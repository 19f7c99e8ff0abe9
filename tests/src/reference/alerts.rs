//! Alerts over finished tables: what is raised when everything has been said.

use std::collections::BTreeMap;

use engine::plan::{AlertPlan, Plan, Window, ZScorePlan};

use super::{Answer, aggregates, cell::Cell, evaluate::evaluate, number};

/// The rows of one group by the start of their windows.
type History = BTreeMap<Option<i64>, Vec<Cell>>;

/// Adds the raised alerts.
pub fn judge(plan: &Plan, alert: &AlertPlan, answer: &mut Answer) {
    let table = &plan.tables[alert.table];
    let step = match table.window {
        Window::Tumbling { size_ms } => Some(size_ms),
        Window::Hopping { every_ms, .. } => Some(every_ms),
        Window::None | Window::Session { .. } => None,
    };
    let mut groups: BTreeMap<&Vec<Cell>, History> = BTreeMap::new();
    for ((name, start, group), (_, values)) in &answer.rows {
        if *name == table.name {
            groups.entry(group).or_default().insert(*start, values.clone());
        }
    }
    let mut raised = Vec::new();
    for (group, history) in &groups {
        for start in history.keys() {
            if holds_for(alert, step, group, history, *start) {
                raised.push((alert.name.clone(), *start, (*group).clone()));
            }
        }
    }
    answer.alerts.extend(raised);
}

/// Whether the condition holds in this window and in as many before it as `for` asks.
fn holds_for(alert: &AlertPlan, step: Option<i64>, group: &[Cell], history: &History, start: Option<i64>) -> bool {
    let before = |back: i64| start.and_then(|start| Some(start - back * step?));
    let is_met =
        |at: Option<i64>| history.get(&at).is_some_and(|values| is_met(alert, step, group, history, at, values));
    is_met(start) && (1..i64::from(alert.for_windows)).all(|back| before(back).is_some() && is_met(before(back)))
}

fn is_met(
    alert: &AlertPlan,
    step: Option<i64>,
    group: &[Cell],
    history: &History,
    start: Option<i64>,
    values: &[Cell],
) -> bool {
    let scores = alert.zscores.iter().map(|zscore| score(zscore, step, history, start, values));
    let row: Vec<Cell> = group.iter().chain(values).cloned().chain(scores).collect();
    evaluate(&alert.when, &row).is_true()
}

/// How many standard deviations a value lies from the mean of the windows before.
fn score(zscore: &ZScorePlan, step: Option<i64>, history: &History, start: Option<i64>, values: &[Cell]) -> Cell {
    let (Some(step), Some(start)) = (step, start) else { return Cell::Null };
    let first = beginning(history, start, (i64::from(zscore.windows) + 1) * step);
    let value = |cell: &Cell| match cell {
        Cell::Null => None,
        cell => Some(aggregates::in_units(cell) as f64 / number::ONE as f64),
    };
    let mut before = Vec::new();
    for back in 1..=i64::from(zscore.windows) {
        let at = start - back * step;
        if at < first {
            break;
        }
        match history.get(&Some(at)) {
            Some(row) => before.extend(value(&row[zscore.output])),
            None if zscore.missing_is_zero => before.push(0.0),
            None => {}
        }
    }
    let Some(now) = value(&values[zscore.output]) else { return Cell::Null };
    if before.len() < (zscore.windows as usize / 2).max(2) {
        return Cell::Null;
    }
    let count = before.len() as f64;
    let mean = before.iter().sum::<f64>() / count;
    let deviation = (before.iter().map(|each| (each - mean).powi(2)).sum::<f64>() / count).sqrt();
    if deviation < 1e-9 {
        return Cell::Null;
    }
    Cell::Decimal(((now - mean) / deviation * number::ONE as f64).round() as i128)
}

/// The group's first window, after its last pause of at least `pause` between the starts of two rows.
fn beginning(history: &History, start: i64, pause: i64) -> i64 {
    let mut first = start;
    for at in history.keys().rev().copied().flatten().filter(|at| *at < start) {
        if first - at >= pause {
            break;
        }
        first = at;
    }
    first
}
