//! Which rows are compared: those that neither side can change any more, and that the archive holds from their beginning.
//!
//! | rows | compared when |
//! |---|---|
//! | windows, sessions | no event before the archive's first could be in them; they were freed on both sides, so that nothing corrects them |
//! | funnels by window | as above, and a later window is final on both sides: their own watermark is nobody's row |
//! | running totals | the archive begins with the topics, and the live row was told before anything came that is not archived |
//!
//! What is absent: alerts (they follow from windows, and say when they were judged), ledgers, and rows by approximate time.

use engine::{
    plan::{Input, Plan, TableKind, TablePlan, Window},
    time::Millis,
};

/// An event may claim a time that is this much later than its arrival; later ones are invalid.
const AHEAD_MAX: Millis = 86_400_000;

/// How far the clocks of brokers and processors may be apart, where only they can order a row and an event.
const CLOCKS_APART: Millis = 2_000;

/// How far one side of the comparison is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The merged watermark of what the table reads, as the slowest task has it.
    pub watermark: Option<Millis>,
    /// The end of the last window that is final.
    pub final_end: Option<Millis>,
}

/// What the archive holds of what a table reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Arrival of the latest of all first records, where partitions do not begin with their topic.
    pub begins: Option<Millis>,
    /// Everything that arrived before is archived.
    pub ends: Millis,
}

/// Which rows of a table are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Windows that begin at `from` or later, end after `after` and at `until` or before.
    Windows {
        /// Nothing that is not archived belongs to them.
        from: Millis,
        /// How far back was asked for.
        after: Millis,
        /// Nothing changes them any more.
        until: Millis,
    },
    /// Running totals whose live row was told before.
    Totals {
        /// In milliseconds.
        before: Millis,
    },
    /// None: the archive does not hold them from their beginning.
    Nothing,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its sides should be equal.
    Compare,
    /// It may still change.
    Open,
    /// It began before what the archive holds, or before what was asked for.
    Early,
    /// It is a total that took events which are not archived yet.
    Ahead,
}

impl Reach {
    /// The reach of a table.
    #[must_use]
    pub fn new(plan: &Plan, table: &TablePlan, held: Held, sides: [Progress; 2], since: Option<Millis>) -> Self {
        let Some(length) = length(table.window) else {
            return match (held.begins, since) {
                (None, None) => Self::Totals { before: held.ends.saturating_sub(CLOCKS_APART) },
                _ => Self::Nothing,
            };
        };
        let passed = match table.kind {
            TableKind::Aggregate(_) => sides.map(|side| side.watermark),
            TableKind::Funnel(_) => sides.map(|side| side.final_end.map(|end| end - length)),
        };
        let [Some(live), Some(again)] = passed else { return Self::Nothing };
        let passed = live.min(again);
        // A session is freed once the watermark is later than this, other windows as soon as it is there.
        let until =
            passed.saturating_sub(table.lateness_ms + i64::from(matches!(table.window, Window::Session { .. })));
        // The watermark of a quiet stream goes on: how far back is counted from the last window that there is.
        let last = sides.iter().filter_map(|side| side.final_end).max().map_or(until, |end| end.min(until));
        let after = since.map_or(Millis::MIN, |since| last.saturating_sub(since));
        let from = held.begins.map_or(Millis::MIN, |begins| begins.saturating_add(before(plan, table)));
        Self::Windows { from, after, until }
    }

    /// Judges a row by its window, and when its live side was told.
    #[must_use]
    pub fn judge(&self, window: Option<(Millis, Millis)>, told_at: Option<Millis>) -> Verdict {
        match (self, window) {
            (Self::Windows { from, after, until }, Some((start, end))) => {
                if start < *from || end <= *after {
                    Verdict::Early
                } else if end > *until {
                    Verdict::Open
                } else {
                    Verdict::Compare
                }
            }
            (Self::Totals { before }, None) if told_at.is_none_or(|told_at| told_at < *before) => Verdict::Compare,
            (Self::Totals { .. }, None) => Verdict::Ahead,
            (Self::Nothing, None) => Verdict::Early,
            _ => Verdict::Open,
        }
    }
}

/// How much of an archive's beginning a replay must have read before the rows of any table of `plan` that follow are whole.
#[must_use]
pub fn warm_up(plan: &Plan) -> Millis {
    let longest =
        |table: &TablePlan| before(plan, table) + length(table.window).unwrap_or_default() + table.lateness_ms;
    plan.tables.iter().map(longest).max().unwrap_or_default()
}

/// How long after the arrival of the first record a window must begin so that nothing before that record could be in it,
/// or tell which of its events are repeated.
fn before(plan: &Plan, table: &TablePlan) -> Millis {
    let streams = streams(plan, table);
    let remembered =
        streams.iter().filter_map(|stream| Some(plan.streams[*stream].deduplicate.as_ref()?.within_ms)).max();
    let joined = match table.input {
        Input::Stream(_) => 0,
        Input::Join(join) => plan.joins[join].within_ms,
    };
    let gap = if let Window::Session { gap_ms } = table.window { gap_ms } else { 0 };
    AHEAD_MAX + remembered.unwrap_or_default() + joined + gap
}

/// The streams that a table is made from.
#[must_use]
pub fn streams(plan: &Plan, table: &TablePlan) -> Vec<usize> {
    match table.input {
        Input::Stream(stream) => vec![stream],
        Input::Join(join) => vec![plan.joins[join].left, plan.joins[join].right],
    }
}

fn length(window: Window) -> Option<Millis> {
    match window {
        Window::None => None,
        Window::Tumbling { size_ms } | Window::Hopping { size_ms, .. } => Some(size_ms),
        Window::Session { gap_ms } => Some(gap_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_its_verdict() {
        let windows = Reach::Windows { from: 100, after: 150, until: 300 };
        let totals = Reach::Totals { before: 50 };
        type Row = (Reach, Option<(Millis, Millis)>, Option<Millis>, Verdict);
        let table: [Row; 9] = [
            (windows, Some((100, 200)), None, Verdict::Compare),
            (windows, Some((200, 300)), Some(1), Verdict::Compare),
            (windows, Some((200, 301)), None, Verdict::Open),
            (windows, Some((99, 199)), None, Verdict::Early),
            (windows, Some((100, 150)), None, Verdict::Early),
            (totals, None, Some(49), Verdict::Compare),
            (totals, None, None, Verdict::Compare),
            (totals, None, Some(50), Verdict::Ahead),
            (Reach::Nothing, None, Some(1), Verdict::Early),
        ];
        for (reach, window, told_at, wanted) in table {
            assert_eq!(reach.judge(window, told_at), wanted, "{reach:?} {window:?} {told_at:?}");
        }
    }
}
