//! Rows of a join, projected to the columns that something reads, keyed by the join key.

use super::{FeedBatch, LATE, Refused, id_of, put_cell};
use crate::{
    codec::{put_bytes, put_i64},
    column::{Column, Data},
    expr::ColumnId,
    group::{hash_key, partition_of},
    kernel::Program,
    plan::{JoinPlan, Side},
    shuffle::Section,
    time::Millis,
};

/// The reason of a right row that is longer than the join's bound, or ends before it starts.
const TOO_LONG: &str = "longer-than-within";

/// Projected rows of one side of a join.
pub struct JoinFeed {
    side: Side,
    key: Program,
    columns: Vec<ColumnId>,
    start: ColumnId,
    end: ColumnId,
    within_ms: Millis,
    /// Reused: a key, a row.
    scratch: Vec<u8>,
    row: Vec<u8>,
}

impl JoinFeed {
    pub(super) fn new(join: &JoinPlan, side: Side) -> Self {
        let key = if side == Side::Left { &join.left_key } else { &join.right_key };
        Self {
            side,
            key: Program::compile(key),
            columns: join.columns.iter().filter(|column| column.side == side).map(|column| column.source).collect(),
            start: join.start,
            end: join.end,
            within_ms: join.within_ms,
            scratch: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Returns how many rows passed.
    pub(super) fn add(
        &mut self,
        batch: &mut FeedBatch<'_>,
        section: &mut Section,
        refused: &mut Vec<Refused>,
    ) -> usize {
        let keys = self.key.eval(batch.columns, batch.len, batch.arena);
        let arena: &[u8] = batch.arena;
        let partitions = section.partitions();
        let mut passed = 0;
        for row in batch.rows {
            let at = *row as usize;
            if !keys.valid[at] {
                continue;
            }
            let mut bounds = (batch.times[at], batch.times[at]);
            if self.side == Side::Right {
                let start = time_at(&batch.columns[self.start], at);
                let end = time_at(&batch.columns[self.end], at);
                match start.zip(end).filter(|(start, end)| start <= end && end - start <= self.within_ms) {
                    Some(valid) => bounds = valid,
                    None => {
                        refused.push(Refused { row: *row, reason: TOO_LONG });
                        continue;
                    }
                }
            }
            if batch.times[at] < batch.watermarks[at] {
                refused.push(Refused { row: *row, reason: LATE });
                continue;
            }
            self.scratch.clear();
            put_cell(keys, at, arena, &mut self.scratch);
            self.row.clear();
            self.columns.iter().for_each(|column| put_cell(&batch.columns[*column], at, arena, &mut self.row));
            let body = section.body(partition_of(hash_key(&self.scratch), partitions));
            body.push(u8::from(self.side == Side::Right));
            put_bytes(&self.scratch, body);
            put_i64(bounds.0, body);
            put_i64(bounds.1 - bounds.0, body);
            put_bytes(id_of(batch.ids, at, arena), body);
            put_bytes(&self.row, body);
            passed += 1;
        }
        passed
    }
}

fn time_at(column: &Column, row: usize) -> Option<Millis> {
    match &column.data {
        Data::Timestamp(values) if column.valid[row] => Some(values[row]),
        _ => None,
    }
}
