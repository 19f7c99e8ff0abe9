//! A funnel in MERGE: entities here, their contributions to the table's groups through the next shuffle.

use super::{channels::Channels, tell_ledger};
use crate::{
    codec::{Corrupt, Reader, put_bytes, put_i64, put_i128, put_u64},
    funnel::{Contribution, FunnelEvent, FunnelState},
    group::{hash_key, partition_of},
    ledger::TableLedger,
    output::Row,
    plan::{FunnelPlan, Plan, TableKind},
    shuffle::{Channel, Mark, Operator, Section},
    time::Millis,
};

pub(super) struct FunnelOperator {
    table: usize,
    state: FunnelState,
    section: Section,
    ledger: TableLedger,
    told: TableLedger,
}

impl FunnelOperator {
    /// Makes the operators of all funnels of the plan.
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        let make = |(table, funnel): (usize, &FunnelPlan)| Self {
            table,
            state: FunnelState::new(funnel, plan.tables[table].window, plan.tables[table].lateness_ms),
            section: Section::new(Operator::Table(table), plan.shuffle_partitions),
            ledger: TableLedger::default(),
            told: TableLedger::default(),
        };
        let funnel = |(at, table): (usize, &'_ crate::plan::TablePlan)| match &table.kind {
            TableKind::Funnel(funnel) => Some((at, funnel.clone())),
            TableKind::Aggregate(_) => None,
        };
        plan.tables.iter().enumerate().filter_map(funnel).map(|(at, funnel)| make((at, &funnel))).collect()
    }

    pub(super) fn table(&self) -> usize {
        self.table
    }

    /// Applies events: entity, time, id, reached, undone, group, same key.
    pub(super) fn apply(&mut self, section: &mut Reader<'_>, watermark: Millis) -> Result<(), Corrupt> {
        while !section.is_empty() {
            let entity = section.bytes()?;
            let time = section.time()?;
            let id = section.bytes()?;
            let reached = section.u64()? as u16;
            let undone = section.u64()? as u16;
            let group = section.bytes()?;
            let same_key = section.bytes()?;
            let event = FunnelEvent { time, id, reached, undone, same_key, group };
            if self.state.apply(entity, event, watermark) {
                self.ledger.counted += 1;
            } else {
                self.ledger.late += 1;
            }
        }
        Ok(())
    }

    pub(super) fn advance(&mut self, watermark: Millis) {
        self.state.advance(watermark);
    }

    /// Writes contributions as sections of the table: see [`crate::table::TableState::apply`].
    pub(super) fn seal(&mut self) {
        let section = &mut self.section;
        let partitions = section.partitions();
        self.state.drain(&mut |contribution: Contribution<'_>| {
            let body = section.body(partition_of(hash_key(contribution.group), partitions));
            put_bytes(contribution.group, body);
            put_u64(0, body);
            put_i64(contribution.window_start.unwrap_or(0), body);
            contribution.steps.iter().for_each(|count| put_i64(*count, body));
            put_i64(contribution.converted, body);
            body.push(1);
            put_i128(contribution.converted_ms, body);
        });
    }

    pub(super) fn section(&self) -> &Section {
        &self.section
    }

    pub(super) fn clear(&mut self) {
        self.section.clear();
    }

    pub(super) fn discard(&mut self) {
        self.state.discard();
        self.section.clear();
        self.told = TableLedger::default();
    }

    pub(super) fn mark(&self, channels: &Channels, plan: &Plan) -> Mark {
        Mark { channel: Channel::Funnel(self.table), watermark: channels.input(plan, self.table), idle: false }
    }

    pub(super) fn tell_ledger(&mut self, plan: &Plan, task: &str, rows: &mut Vec<Row>) {
        tell_ledger(plan, &plan.tables[self.table].name, task, self.ledger, &mut self.told, rows);
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        self.ledger.snapshot(out);
        self.state.snapshot(out);
    }

    pub(super) fn restore(&mut self, plan: &Plan, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        self.ledger = TableLedger::restore(reader)?;
        let table = &plan.tables[self.table];
        let TableKind::Funnel(funnel) = &table.kind else { return Err(Corrupt("no funnel")) };
        self.state = FunnelState::restore(funnel, table.window, table.lateness_ms, reader)?;
        Ok(())
    }
}
