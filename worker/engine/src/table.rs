//! The state of one table on one shuffle partition: groups in panes, sessions, or running totals.
//!
//! ```text
//! windows of panes:   panes: start ─► Pane { index, accumulators, dirty }     freed as a whole
//! running totals:     one Pane, groups dropped one by one
//! sessions:           key ─► sessions sorted by start, each with an accumulator row
//! ```

mod panes;
mod rows;
mod sessions;
mod totals;

use crate::{
    aggregate::Accumulators,
    codec::{Corrupt, Reader},
    output::Row,
    plan::{TableKind, TablePlan, Window},
    time::Millis,
};
use panes::PaneTable;
pub use rows::RowBuilder;
use sessions::SessionTable;
use totals::TotalTable;

/// How many events a message brought and how many of them came too late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// In the table now.
    pub counted: u64,
    /// For windows already freed.
    pub late: u64,
}

/// The state of one table on one shuffle partition.
pub enum TableState {
    /// Tumbling and hopping windows.
    Panes(PaneTable),
    /// Session windows.
    Sessions(SessionTable),
    /// No window.
    Totals(TotalTable),
}

/// What every kind of table needs to know.
#[derive(Clone, Debug)]
struct Shape {
    window: Window,
    /// Between a window's end and its final row: zero, or a funnel's bound.
    settle_ms: Millis,
    lateness_ms: Millis,
    /// Emits rows that are not final.
    early: bool,
    /// A funnel's group that nobody stands in any more has no row.
    drop_empty: bool,
    /// What each message changes is asked for after it.
    is_watched: bool,
}

impl TableState {
    /// Makes an empty state. `partitions` is the number of shuffle partitions that share `max_groups`; with `is_watched` it
    /// remembers what [`TableState::take_fresh`] will ask for.
    #[must_use]
    pub fn new(table: &TablePlan, partitions: u32, is_watched: bool) -> Self {
        let (accumulators, settle_ms, drop_empty) = match &table.kind {
            TableKind::Aggregate(aggregates) => (Accumulators::new(aggregates), 0, false),
            TableKind::Funnel(funnel) => (Accumulators::for_funnel(funnel.steps.len()), funnel.within_ms, true),
        };
        let shape = Shape {
            window: table.window,
            settle_ms,
            lateness_ms: table.lateness_ms,
            early: table.emit.every_ms.is_some(),
            drop_empty,
            is_watched,
        };
        match table.window {
            Window::Tumbling { .. } | Window::Hopping { .. } => Self::Panes(PaneTable::new(shape, accumulators)),
            Window::Session { gap_ms } => Self::Sessions(SessionTable::new(shape, gap_ms, accumulators)),
            Window::None => {
                let max_groups = table.max_groups.map(|groups| groups.div_ceil(u64::from(partitions)));
                // What a funnel counted stays; only its entities are forgotten.
                let keep_for_ms = table.keep_for_ms.filter(|_| !drop_empty);
                Self::Totals(TotalTable::new(shape, accumulators, keep_for_ms, max_groups))
            }
        }
    }

    /// Applies a section of partial aggregates.
    ///
    /// # Errors
    /// On corrupt bytes; the task must then be dropped.
    pub fn apply(&mut self, section: &mut Reader<'_>, builder: &mut RowBuilder) -> Result<Applied, Corrupt> {
        let mut applied = Applied::default();
        while !section.is_empty() {
            match self {
                Self::Panes(table) => table.apply(section, &mut applied)?,
                Self::Sessions(table) => table.apply(section, &mut applied, builder)?,
                Self::Totals(table) => table.apply(section, &mut applied, builder)?,
            }
        }
        Ok(applied)
    }

    /// Moves the merged watermark: final rows go to `out`, freed windows go away.
    pub fn advance(&mut self, watermark: Millis, builder: &mut RowBuilder, out: &mut Vec<Row>) {
        match self {
            Self::Panes(table) => table.advance(watermark, builder, out),
            Self::Sessions(table) => table.advance(watermark, builder, out),
            Self::Totals(table) => table.advance(watermark, builder, out),
        }
    }

    /// Writes what changed since the last call, which was before the last message: rows that are gone into `out`, which they
    /// leave by, and into `fresh` those of final windows or of no window, which leave by [`TableState::drain_changed`].
    pub fn take_fresh(&mut self, builder: &mut RowBuilder, fresh: &mut Vec<Row>, out: &mut Vec<Row>) {
        match self {
            Self::Panes(table) => table.take_fresh(builder, fresh),
            Self::Sessions(table) => table.take_fresh(builder, fresh, out),
            Self::Totals(table) => table.take_fresh(builder, fresh, out),
        }
    }

    /// Writes the rows that changed since the last call.
    pub fn drain_changed(&mut self, builder: &mut RowBuilder, out: &mut Vec<Row>) {
        match self {
            Self::Panes(table) => table.drain_changed(builder, out),
            Self::Sessions(table) => table.drain_changed(builder, out),
            Self::Totals(table) => table.drain_changed(builder, out),
        }
    }

    /// After a replay: whatever is here may have been told before.
    pub fn mark_told(&mut self) {
        match self {
            Self::Panes(_) => {}
            Self::Sessions(table) => table.mark_told(),
            Self::Totals(table) => table.mark_told(),
        }
    }

    /// The number of groups held, over all panes.
    #[must_use]
    pub fn groups(&self) -> usize {
        match self {
            Self::Panes(table) => table.groups(),
            Self::Sessions(table) => table.groups(),
            Self::Totals(table) => table.groups(),
        }
    }

    /// Appends the state.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        match self {
            Self::Panes(table) => table.snapshot(out),
            Self::Sessions(table) => table.snapshot(out),
            Self::Totals(table) => table.snapshot(out),
        }
    }

    /// Reads what [`TableState::snapshot`] wrote into an empty state.
    ///
    /// # Errors
    /// On corrupt bytes.
    pub fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        match self {
            Self::Panes(table) => table.restore(reader),
            Self::Sessions(table) => table.restore(reader),
            Self::Totals(table) => table.restore(reader),
        }
    }
}
