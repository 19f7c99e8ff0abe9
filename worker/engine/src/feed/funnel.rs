//! Events of a funnel, projected to what its steps need, keyed by the entity.

use super::{FeedBatch, LATE, Refused, eval_all, id_of, put_cell};
use crate::{
    codec::{put_bytes, put_i64, put_u64},
    group::{hash_key, partition_of},
    kernel::Program,
    plan::{FunnelPlan, TablePlan},
    shuffle::Section,
    time::Millis,
    window::funnel_open,
};

/// Projected events of one funnel.
pub struct FunnelFeed {
    lateness_ms: Millis,
    by: Program,
    same_key: Option<Program>,
    group_by: Vec<Program>,
    steps: Vec<(Program, Option<Program>)>,
    /// Reused: bits of the steps that each row of the batch reaches and undoes; an entity; a group.
    reached: Vec<u16>,
    undone: Vec<u16>,
    entity: Vec<u8>,
    group: Vec<u8>,
}

impl FunnelFeed {
    pub(super) fn new(table: &TablePlan, funnel: &FunnelPlan) -> Self {
        let step = |step: &crate::plan::FunnelStepPlan| {
            (Program::compile(&step.when), step.undone_by.as_ref().map(Program::compile))
        };
        Self {
            lateness_ms: table.lateness_ms,
            by: Program::compile(&funnel.by),
            same_key: funnel.same_key.as_ref().map(Program::compile),
            group_by: table.group_by.iter().map(|group| Program::compile(&group.expr)).collect(),
            steps: funnel.steps.iter().map(step).collect(),
            reached: Vec::new(),
            undone: Vec::new(),
            entity: Vec::new(),
            group: Vec::new(),
        }
    }

    /// Returns how many rows passed.
    pub(super) fn add(
        &mut self,
        batch: &mut FeedBatch<'_>,
        mask: Option<&[bool]>,
        section: &mut Section,
        refused: &mut Vec<Refused>,
    ) -> usize {
        self.judge_steps(batch);
        let entities = self.by.eval(batch.columns, batch.len, batch.arena);
        let same_keys = self.same_key.as_mut().map(|program| program.eval(batch.columns, batch.len, batch.arena));
        let groups = eval_all(&mut self.group_by, batch.columns, batch.len, batch.arena);
        let arena: &[u8] = batch.arena;
        let partitions = section.partitions();
        let mut passed = 0;
        for row in batch.rows {
            let at = *row as usize;
            let (reached, undone) = (self.reached[at], self.undone[at]);
            let unkeyed = !entities.valid[at] || same_keys.is_some_and(|keys| !keys.valid[at]);
            if mask.is_some_and(|mask| !mask[at]) || reached | undone == 0 || unkeyed {
                continue;
            }
            let time = batch.times[at];
            if !funnel_open(self.lateness_ms, time, batch.watermarks[at]) {
                refused.push(Refused { row: *row, reason: LATE });
                continue;
            }
            self.entity.clear();
            put_cell(entities, at, arena, &mut self.entity);
            self.group.clear();
            groups.iter().for_each(|column| put_cell(column, at, arena, &mut self.group));
            let body = section.body(partition_of(hash_key(&self.entity), partitions));
            put_bytes(&self.entity, body);
            put_i64(time, body);
            put_bytes(id_of(batch.ids, at, arena), body);
            put_u64(u64::from(reached), body);
            put_u64(u64::from(undone), body);
            put_bytes(&self.group, body);
            self.entity.clear();
            if let Some(keys) = same_keys {
                put_cell(keys, at, arena, &mut self.entity);
            }
            put_bytes(&self.entity, body);
            passed += 1;
        }
        passed
    }

    fn judge_steps(&mut self, batch: &mut FeedBatch<'_>) {
        self.reached.clear();
        self.reached.resize(batch.len, 0);
        self.undone.clear();
        self.undone.resize(batch.len, 0);
        for (step, (when, undone_by)) in self.steps.iter_mut().enumerate() {
            let mask = when.eval_mask(batch.columns, batch.len, batch.arena);
            self.reached.iter_mut().zip(mask).for_each(|(bits, hit)| *bits |= u16::from(*hit) << step);
            if let Some(undone_by) = undone_by {
                let mask = undone_by.eval_mask(batch.columns, batch.len, batch.arena);
                self.undone.iter_mut().zip(mask).for_each(|(bits, hit)| *bits |= u16::from(*hit) << step);
            }
        }
    }
}
