//! A table in MERGE: its state, its ledger, and how often its early rows leave.

use super::tell_ledger;
use crate::{
    codec::{Corrupt, Reader},
    ledger::TableLedger,
    output::Row,
    plan::{Plan, TableKind, TablePlan},
    table::{RowBuilder, TableState},
    time::Millis,
};

pub(super) struct TableOperator {
    at: usize,
    /// A funnel's events are counted where the funnel is.
    is_funnel: bool,
    is_watched: bool,
    state: TableState,
    builder: RowBuilder,
    ledger: TableLedger,
    told: TableLedger,
    every_ms: Option<Millis>,
    left_at: Option<Millis>,
}

impl TableOperator {
    /// `is_watched` where [`TableOperator::take_fresh`] will be asked after every message.
    pub(super) fn new(at: usize, table: &TablePlan, partitions: u32, is_watched: bool) -> Self {
        Self {
            is_watched,
            at,
            is_funnel: matches!(table.kind, TableKind::Funnel(_)),
            state: TableState::new(table, partitions, is_watched),
            builder: RowBuilder::new(at, table),
            ledger: TableLedger::default(),
            told: TableLedger::default(),
            every_ms: table.emit.every_ms,
            left_at: None,
        }
    }

    pub(super) fn apply(&mut self, section: &mut Reader<'_>) -> Result<(), Corrupt> {
        let applied = self.state.apply(section, &mut self.builder)?;
        self.ledger.counted += applied.counted;
        self.ledger.late += applied.late;
        Ok(())
    }

    /// What the last message did to a table that is watched: rows that are gone go to `out`, and those that changed and are
    /// not open any more to `fresh`, to be judged. They leave later.
    pub(super) fn take_fresh(&mut self, fresh: &mut Vec<Row>, out: &mut Vec<Row>) {
        if self.is_watched {
            self.state.take_fresh(&mut self.builder, fresh, out);
        }
    }

    pub(super) fn advance(&mut self, watermark: Millis, out: &mut Vec<Row>) {
        self.state.advance(watermark, &mut self.builder, out);
    }

    /// Writes changed rows if it is time to, or whenever `now` is not given. Returns whether it was.
    pub(super) fn drain(&mut self, now: Option<Millis>, out: &mut Vec<Row>) -> bool {
        let early = now.zip(self.left_at).zip(self.every_ms);
        if early.is_some_and(|((now, left_at), every_ms)| now < left_at.saturating_add(every_ms)) {
            return false;
        }
        self.left_at = now.or(self.left_at);
        self.state.drain_changed(&mut self.builder, out);
        true
    }

    pub(super) fn tell_ledger(&mut self, plan: &Plan, task: &str, rows: &mut Vec<Row>) {
        if !self.is_funnel {
            tell_ledger(plan, &plan.tables[self.at].name, task, self.ledger, &mut self.told, rows);
        }
    }

    pub(super) fn discard(&mut self) {
        self.state.mark_told();
        self.told = TableLedger::default();
        self.left_at = None;
    }

    pub(super) fn groups(&self) -> usize {
        self.state.groups()
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        self.ledger.snapshot(out);
        self.state.snapshot(out);
    }

    pub(super) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        self.ledger = TableLedger::restore(reader)?;
        self.state.restore(reader)
    }
}
