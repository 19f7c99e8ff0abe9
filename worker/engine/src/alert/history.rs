//! The rows of one group that answers can still depend on.

use crate::{
    decimal::Decimal,
    plan::{AlertPlan, TableKind, TablePlan, Window, ZScorePlan},
    time::Millis,
    value::Value,
};

/// How far back an answer looks, and how long it may be corrected.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The z-scores.
    pub scores: Vec<ZScorePlan>,
    for_windows: u32,
    /// How long after its end a window may be corrected.
    open_ms: Millis,
    /// Whether the table has windows.
    pub is_windowed: bool,
    /// How far apart their starts are; sessions lie anywhere, and so does nothing.
    every_ms: Option<Millis>,
}

/// A group's rows, by window start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The rows.
    pub rows: Vec<Row>,
    /// Start of the latest row that was let go.
    pub gone: Option<Millis>,
}

/// A row and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its window.
    pub window: (Millis, Millis),
    /// Its output columns.
    pub outputs: Box<[Value]>,
    /// For how many windows in a row up to here the condition held, at most as many as are asked for.
    pub run: u32,
    /// The answer.
    pub raised: bool,
}

impl Reach {
    /// Reads the plan.
    pub fn new(alert: &AlertPlan, table: &TablePlan) -> Self {
        let every_ms = match table.window {
            Window::None | Window::Session { .. } => None,
            Window::Tumbling { size_ms } => Some(size_ms),
            Window::Hopping { every_ms, .. } => Some(every_ms),
        };
        let passages_ms = match &table.kind {
            TableKind::Funnel(funnel) => funnel.within_ms,
            TableKind::Aggregate(_) => 0,
        };
        Self {
            scores: alert.zscores.clone(),
            for_windows: if every_ms.is_some() { alert.for_windows.max(1) } else { 1 },
            open_ms: table.lateness_ms.saturating_add(passages_ms),
            is_windowed: table.window != Window::None,
            every_ms,
        }
    }

    /// How long rows are kept beyond the end of their window: as long as a window that looks back at them may be
    /// corrected.
    pub fn kept_ms(&self) -> Millis {
        let windows = self.scores.iter().map(|score| score.windows).chain([self.for_windows]).max();
        let behind_ms = self.every_ms.map_or(0, |every_ms| every_ms.saturating_mul(windows.unwrap_or(1).into()));
        behind_ms.saturating_add(self.open_ms)
    }
}

impl Group {
    /// Enters or replaces the row of a window and returns its place.
    pub fn put(&mut self, window: (Millis, Millis), outputs: &[Value]) -> usize {
        let place = self.rows.binary_search_by_key(&window.0, |row| row.window.0);
        match place {
            Ok(at) => {
                self.rows[at].window = window;
                self.rows[at].outputs = outputs.into();
                at
            }
            Err(at) => {
                self.rows.insert(at, Row { window, outputs: outputs.into(), run: 0, raised: false });
                at
            }
        }
    }

    /// Removes the row of the window that starts at `start`; returns its place and whether it was raised.
    pub fn take(&mut self, start: Millis) -> Option<(usize, bool)> {
        let at = self.rows.binary_search_by_key(&start, |row| row.window.0).ok()?;
        Some((at, self.rows.remove(at).raised))
    }

    /// Sets the answer of the row at `at`, given whether the condition holds there and all answers before it;
    /// returns it if it changed.
    pub fn answer(&mut self, reach: &Reach, at: usize, holds: bool) -> Option<bool> {
        let start = self.rows[at].window.0;
        let before = at.checked_sub(1).map(|before| &self.rows[before]);
        let before = before.filter(|row| reach.every_ms.is_some_and(|every_ms| row.window.0 + every_ms == start));
        let run = before.map_or(0, |before| before.run);
        let row = &mut self.rows[at];
        row.run = if holds { run.saturating_add(1).min(reach.for_windows) } else { 0 };
        let raised = row.run == reach.for_windows;
        (std::mem::replace(&mut row.raised, raised) != raised).then_some(raised)
    }

    /// Returns the z-score of the row at `at`, rounded to six digits.
    pub fn score(&self, reach: &Reach, score: &ZScorePlan, at: usize) -> Option<Decimal> {
        let number = |row: &Row| match row.outputs.get(score.output)? {
            Value::Integer(value) => Some(Decimal::from_int(*value).0),
            Value::Decimal(value) => Some(value.0),
            _ => None,
        };
        let every_ms = reach.every_ms?;
        let windows = i64::from(score.windows);
        let row = &self.rows[at];
        let value = number(row)?;
        let first = row.window.0.saturating_sub(every_ms.saturating_mul(windows));
        let from = self.rows[..at].partition_point(|row| row.window.0 < first);
        let earlier = from.checked_sub(1).map(|at| self.rows[at].window.0).or(self.gone);
        let before = numbers_between(&self.rows[from..=at], earlier, first, every_ms, score.missing_is_zero, number);
        let enough = before.len() as i64 >= (windows / 2).max(2);
        enough.then(|| z_score(value, &before)).flatten()
    }

    /// Lets go of rows that no window still open to correction reaches back to.
    pub fn prune(&mut self, reach: &Reach, watermark: Millis) {
        let kept_ms = reach.kept_ms();
        let count = self.rows.iter().take_while(|row| row.window.1.saturating_add(kept_ms) < watermark).count();
        if let Some(last) = self.rows.drain(..count).next_back() {
            self.gone = Some(last.window.0);
        }
    }
}

/// Returns the numbers of the windows from `first` to before the last of `rows`, in window order, with zeros for
/// missing windows if that is wanted. A group that had no row for as many windows as are looked at begins anew with
/// its next: windows before that do not count as missing. `earlier` is the start of the row before `rows`.
fn numbers_between(
    rows: &[Row],
    earlier: Option<Millis>,
    first: Millis,
    every_ms: Millis,
    missing_is_zero: bool,
    number: impl Fn(&Row) -> Option<i128>,
) -> Vec<i128> {
    let (last, before) = rows.split_last().expect("the row itself is among them");
    if !missing_is_zero {
        return before.iter().filter_map(number).collect();
    }
    let Some(oldest) = before.first().map(|row| row.window.0) else { return Vec::new() };
    let reached_ms = last.window.0.saturating_sub(first);
    let goes_on = earlier.is_some_and(|earlier| oldest.saturating_sub(earlier) <= reached_ms);
    let mut next = if goes_on { first } else { oldest };
    let mut numbers = Vec::new();
    for row in rows {
        while next < row.window.0 {
            numbers.push(0);
            next += every_ms;
        }
        numbers.extend(number(row));
        next = row.window.0 + every_ms;
    }
    if number(last).is_some() {
        numbers.pop();
    }
    numbers
}

/// `(value − mean) / σ`, all in units of 10⁻⁹; `None` where σ is zero. Sums are exact, and the rest is computed in
/// window order, so that the same rows give the same digits.
fn z_score(value: i128, before: &[i128]) -> Option<Decimal> {
    if before.iter().all(|number| *number == before[0]) {
        return None;
    }
    let count = before.len() as f64;
    let mean = before.iter().fold(0_i128, |sum, number| sum.saturating_add(*number)) as f64 / count;
    let variance = before.iter().map(|number| (*number as f64 - mean).powi(2)).sum::<f64>() / count;
    Decimal::from_f64((value as f64 - mean) / variance.sqrt()).map(|score| score.round(6))
}
