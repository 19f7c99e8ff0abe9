//! Partial aggregates: the groups that a batch touches, until the next commit.

use super::{FeedBatch, LATE, Refused, eval_all, put_cell};
use crate::{
    aggregate::{Accumulators, Update},
    codec::{put_bytes, put_i64, put_u64},
    group::{GroupIndex, hash_key, partition_of},
    kernel::Program,
    plan::{AggregatePlan, TablePlan, Window},
    shuffle::Section,
    time::{Millis, window_start},
    window::{pane_ms, window_open},
};

/// Partial aggregates of one table.
pub struct AggregateFeed {
    window: Window,
    lateness_ms: Millis,
    pane_ms: Millis,
    group_by: Vec<Program>,
    filters: Vec<Option<Program>>,
    arguments: Vec<Option<Program>>,
    index: GroupIndex,
    slots: Slots,
    /// Reused: rows that passed and their accumulator rows, a key.
    rows: Vec<u32>,
    groups: Vec<u32>,
    key: Vec<u8>,
}

/// Accumulator rows and what else travels with each.
struct Slots {
    accumulators: Accumulators,
    bounds: Vec<Slot>,
    /// Sessions only: the newest slot of each group of the index.
    current: Vec<u32>,
}

/// What travels with an accumulator row: its group in the index (the same number except for sessions), how many
/// events it holds and between which times.
#[derive(Clone, Copy, Debug)]
struct Slot {
    group: u32,
    events: u64,
    first: Millis,
    last: Millis,
}

impl AggregateFeed {
    pub(super) fn new(table: &TablePlan, aggregates: &[AggregatePlan]) -> Self {
        let compile = |expr: &Option<crate::expr::Expr>| expr.as_ref().map(Program::compile);
        Self {
            window: table.window,
            lateness_ms: table.lateness_ms,
            pane_ms: pane_ms(table.window),
            group_by: table.group_by.iter().map(|group| Program::compile(&group.expr)).collect(),
            filters: aggregates.iter().map(|aggregate| compile(&aggregate.filter)).collect(),
            arguments: aggregates.iter().map(|aggregate| compile(&aggregate.argument)).collect(),
            index: GroupIndex::default(),
            slots: Slots { accumulators: Accumulators::new(aggregates), bounds: Vec::new(), current: Vec::new() },
            rows: Vec::new(),
            groups: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Returns how many rows passed.
    pub(super) fn add(
        &mut self,
        batch: &mut FeedBatch<'_>,
        mask: Option<&[bool]>,
        refused: &mut Vec<Refused>,
    ) -> usize {
        self.find_groups(batch, mask, refused);
        self.update(batch);
        self.rows.len()
    }

    /// The hot loop: filter, lateness, key, group.
    fn find_groups(&mut self, batch: &mut FeedBatch<'_>, mask: Option<&[bool]>, refused: &mut Vec<Refused>) {
        let keys = eval_all(&mut self.group_by, batch.columns, batch.len, batch.arena);
        let arena: &[u8] = batch.arena;
        self.rows.clear();
        self.groups.clear();
        for row in batch.rows {
            let at = *row as usize;
            if mask.is_some_and(|mask| !mask[at]) {
                continue;
            }
            let time = batch.times[at];
            if !window_open(self.window, self.lateness_ms, time, batch.watermarks[at]) {
                refused.push(Refused { row: *row, reason: LATE });
                continue;
            }
            self.key.clear();
            keys.iter().for_each(|column| put_cell(column, at, arena, &mut self.key));
            let pane = if self.pane_ms == 0 { 0 } else { window_start(time, self.pane_ms) };
            let (group, is_new) = self.index.find_or_insert(pane, &self.key, hash_key(&self.key));
            let slot = match self.window {
                Window::Session { gap_ms } => self.slots.of_session(group, is_new, time, gap_ms),
                _ if is_new => self.slots.add(group, time),
                _ => group,
            };
            let kept = &mut self.slots.bounds[slot as usize];
            kept.events += 1;
            kept.first = kept.first.min(time);
            kept.last = kept.last.max(time);
            self.rows.push(*row);
            self.groups.push(slot);
        }
    }

    fn update(&mut self, batch: &mut FeedBatch<'_>) {
        for at in 0..self.arguments.len() {
            let mask = self.filters[at].as_mut().map(|filter| filter.eval_mask(batch.columns, batch.len, batch.arena));
            let argument =
                self.arguments[at].as_mut().map(|program| program.eval(batch.columns, batch.len, batch.arena));
            let update = Update {
                rows: &self.rows,
                groups: &self.groups,
                mask,
                argument,
                times: batch.times,
                ids: batch.ids,
                arena: batch.arena,
            };
            self.slots.accumulators.update(at, &update);
        }
    }

    /// Writes every group to the partition of its key: see [`crate::table::TableState::apply`] for the reader.
    pub(super) fn seal(&mut self, section: &mut Section) {
        let partitions = section.partitions();
        for (number, slot) in self.slots.bounds.iter().enumerate() {
            let body = section.body(partition_of(self.index.hash(slot.group), partitions));
            put_bytes(self.index.key(slot.group), body);
            put_u64(slot.events, body);
            match self.window {
                Window::None => put_i64(slot.last, body),
                Window::Tumbling { .. } | Window::Hopping { .. } => put_i64(self.index.pane(slot.group), body),
                Window::Session { .. } => {
                    put_i64(slot.first, body);
                    put_i64(slot.last - slot.first, body);
                }
            }
            self.slots.accumulators.encode(number as u32, body);
        }
        self.forget_groups();
    }

    pub(super) fn clear(&mut self) {
        self.forget_groups();
    }

    fn forget_groups(&mut self) {
        self.index.clear();
        self.slots.accumulators.clear();
        self.slots.bounds.clear();
        self.slots.current.clear();
    }
}

impl Slots {
    fn add(&mut self, group: u32, time: Millis) -> u32 {
        self.bounds.push(Slot { group, events: 0, first: time, last: time });
        self.accumulators.add_group()
    }

    /// Partial sessions may overlap: MERGE joins them by their bounds, so only the newest is looked at here.
    fn of_session(&mut self, group: u32, is_new: bool, time: Millis, gap_ms: Millis) -> u32 {
        if is_new {
            let slot = self.add(group, time);
            self.current.push(slot);
            return slot;
        }
        let slot = self.current[group as usize];
        let newest = &self.bounds[slot as usize];
        if time >= newest.first - gap_ms && time <= newest.last + gap_ms {
            return slot;
        }
        let slot = self.add(group, time);
        self.current[group as usize] = slot;
        slot
    }
}
