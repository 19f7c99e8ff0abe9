//! Tumbling and hopping windows, kept as panes: an event is counted once, however many windows hold it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Applied, Shape,
    rows::{Pending, RowBuilder},
};
use crate::{
    aggregate::Accumulators,
    codec::{Corrupt, Reader, put_bytes, put_i64, put_u64},
    group::{GroupIndex, hash_key},
    output::Row,
    time::{BEGINNING_OF_TIME, Millis},
    window::{first_start, last_start, pane_ms, size_and_step},
};

/// The panes of one table.
pub struct PaneTable {
    shape: Shape,
    size_ms: Millis,
    step_ms: Millis,
    pane_ms: Millis,
    /// An empty set of accumulators, from which those of a pane are made.
    template: Accumulators,
    panes: BTreeMap<Millis, Pane>,
    /// Groups of panes that the last message touched, where they are asked for.
    fresh: Vec<(Millis, u32)>,
    watermark: Millis,
}

struct Pane {
    index: GroupIndex,
    accumulators: Accumulators,
    changed: Vec<bool>,
    changed_list: Vec<u32>,
}

impl Pane {
    fn new(template: &Accumulators) -> Self {
        Self {
            index: GroupIndex::default(),
            accumulators: template.clone(),
            changed: Vec::new(),
            changed_list: Vec::new(),
        }
    }

    fn group(&mut self, key: &[u8]) -> u32 {
        let (group, is_new) = self.index.find_or_insert(0, key, hash_key(key));
        if is_new {
            self.accumulators.add_group();
            self.changed.push(false);
        }
        group
    }

    fn mark(&mut self, group: u32) {
        if !std::mem::replace(&mut self.changed[group as usize], true) {
            self.changed_list.push(group);
        }
    }
}

impl PaneTable {
    pub(super) fn new(shape: Shape, template: Accumulators) -> Self {
        let (size_ms, step_ms) = size_and_step(shape.window);
        let pane_ms = pane_ms(shape.window);
        let (panes, fresh) = (BTreeMap::new(), Vec::new());
        Self { shape, size_ms, step_ms, pane_ms, template, panes, fresh, watermark: BEGINNING_OF_TIME }
    }

    pub(super) fn groups(&self) -> usize {
        self.panes.values().map(|pane| pane.index.len()).sum()
    }

    /// Applies one group of a section: key, events, pane, accumulators.
    pub(super) fn apply(&mut self, section: &mut Reader<'_>, applied: &mut Applied) -> Result<(), Corrupt> {
        let key = section.bytes()?;
        let events = section.u64()?;
        let start = section.time()?;
        if self.freed(start) {
            // Read it all the same, to find the next group.
            let mut nowhere = self.template.clone();
            let group = nowhere.add_group();
            nowhere.merge_encoded(group, section)?;
            applied.late += events;
            return Ok(());
        }
        let template = &self.template;
        let pane = self.panes.entry(start).or_insert_with(|| Pane::new(template));
        let group = pane.group(key);
        pane.accumulators.merge_encoded(group, section)?;
        pane.mark(group);
        if self.shape.is_watched {
            self.fresh.push((start, group));
        }
        applied.counted += events;
        Ok(())
    }

    /// Whether the last window that holds the pane is gone.
    fn freed(&self, pane: Millis) -> bool {
        self.window_freed(last_start(pane, self.step_ms))
    }

    fn window_freed(&self, start: Millis) -> bool {
        start + self.size_ms + self.shape.settle_ms + self.shape.lateness_ms <= self.watermark
    }

    fn window_final(&self, start: Millis, watermark: Millis) -> bool {
        start + self.size_ms + self.shape.settle_ms <= watermark
    }

    pub(super) fn advance(&mut self, watermark: Millis, builder: &mut RowBuilder, out: &mut Vec<Row>) {
        if watermark <= self.watermark {
            return;
        }
        let closing = self.closing_windows(watermark);
        // Corrections of windows that were final before must leave before their windows are gone.
        if !closing.is_empty() || self.frees_any(watermark) {
            self.emit_corrections(builder, out);
        }
        for start in closing {
            let keys = self.keys_of_window(start);
            self.emit_window(start, &keys, true, builder, out);
        }
        self.watermark = watermark;
        while let Some((start, _)) = self.panes.first_key_value() {
            if !self.freed(*start) {
                break;
            }
            self.panes.pop_first();
        }
    }

    /// Whether some window, with or without data, is freed on the way to `watermark`. Not whether a pane is: the first
    /// pane may outlive windows that it shares with panes that never were.
    fn frees_any(&self, watermark: Millis) -> bool {
        let kept_for = self.size_ms + self.shape.settle_ms + self.shape.lateness_ms;
        let last_freed = |watermark: Millis| watermark.saturating_sub(kept_for).div_euclid(self.step_ms);
        last_freed(watermark) > last_freed(self.watermark)
    }

    /// Starts of the windows with data that become final on the way to `watermark`, in order.
    fn closing_windows(&self, watermark: Millis) -> Vec<Millis> {
        let mut starts = Vec::new();
        let mut next = BEGINNING_OF_TIME;
        for pane in self.panes.keys() {
            let first = first_start(*pane + self.pane_ms - 1, self.size_ms, self.step_ms).max(next);
            let mut start = first;
            while start <= *pane && self.window_final(start, watermark) {
                if !self.window_final(start, self.watermark) {
                    starts.push(start);
                }
                start += self.step_ms;
            }
            next = start;
        }
        starts
    }

    fn panes_of_window(&self, start: Millis) -> impl Iterator<Item = (&Millis, &Pane)> {
        self.panes.range(start..start + self.size_ms)
    }

    fn keys_of_window(&self, start: Millis) -> BTreeSet<Vec<u8>> {
        let keys = |pane: &Pane| (0..pane.index.len()).map(|at| pane.index.key(at as u32).to_vec()).collect::<Vec<_>>();
        self.panes_of_window(start).flat_map(|(_, pane)| keys(pane)).collect()
    }

    /// Makes the rows of `keys` in the window at `start`.
    fn emit_window(
        &self,
        start: Millis,
        keys: &BTreeSet<Vec<u8>>,
        is_final: bool,
        builder: &mut RowBuilder,
        out: &mut Vec<Row>,
    ) {
        let window = Some((start, start + self.size_ms));
        let pending = |key: &Vec<u8>, group| Pending { key: key.clone(), window, group, is_final };
        let mut live = Vec::with_capacity(keys.len());
        let merged;
        let accumulators = if self.size_ms == self.pane_ms {
            let Some(pane) = self.panes.get(&start) else { return };
            let group = |key: &Vec<u8>| pane.index.find(0, key, hash_key(key));
            live.extend(keys.iter().filter_map(|key| group(key).map(|group| pending(key, group))));
            &pane.accumulators
        } else {
            merged = self.merge_panes(start, keys);
            live.extend(keys.iter().enumerate().map(|(at, key)| pending(key, at as u32)));
            &merged
        };
        if self.shape.drop_empty {
            let (full, empty) = live.into_iter().partition(|row| accumulators.count(0, row.group) != 0);
            let empty: Vec<Pending> = empty;
            out.extend(empty.iter().map(|row| builder.deleted(&row.key, row.window)));
            live = full;
        }
        builder.build(accumulators, &live, out);
    }

    fn merge_panes(&self, start: Millis, keys: &BTreeSet<Vec<u8>>) -> Accumulators {
        let mut merged = self.template.clone();
        for key in keys {
            let group = merged.add_group();
            let hash = hash_key(key);
            for (_, pane) in self.panes_of_window(start) {
                if let Some(from) = pane.index.find(0, key, hash) {
                    merged.merge(group, &pane.accumulators, from);
                }
            }
        }
        merged
    }

    /// Changed keys of every window that is not gone, and forgets that they changed.
    fn take_changes(&mut self) -> BTreeMap<Millis, BTreeSet<Vec<u8>>> {
        let mut windows: BTreeMap<Millis, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let (size_ms, step_ms, pane_ms) = (self.size_ms, self.step_ms, self.pane_ms);
        for (pane_start, pane) in &mut self.panes {
            for group in std::mem::take(&mut pane.changed_list) {
                pane.changed[group as usize] = false;
                for start in windows_of(*pane_start, pane_ms, (size_ms, step_ms)) {
                    windows.entry(start).or_default().insert(pane.index.key(group).to_vec());
                }
            }
        }
        windows.retain(|start, _| !self.window_freed(*start));
        windows
    }

    /// Makes rows of what the last message changed in windows that were final before it.
    pub(super) fn take_fresh(&mut self, builder: &mut RowBuilder, out: &mut Vec<Row>) {
        let mut windows: BTreeMap<Millis, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (pane_start, group) in std::mem::take(&mut self.fresh) {
            let Some(pane) = self.panes.get(&pane_start) else { continue };
            let starts = windows_of(pane_start, self.pane_ms, (self.size_ms, self.step_ms));
            let corrected =
                starts.filter(|start| self.window_final(*start, self.watermark) && !self.window_freed(*start));
            for start in corrected {
                windows.entry(start).or_default().insert(pane.index.key(group).to_vec());
            }
        }
        for (start, keys) in windows {
            self.emit_window(start, &keys, true, builder, out);
        }
    }

    fn emit_corrections(&mut self, builder: &mut RowBuilder, out: &mut Vec<Row>) {
        if self.shape.lateness_ms == 0 {
            return;
        }
        self.drain_changed(builder, out);
    }

    pub(super) fn drain_changed(&mut self, builder: &mut RowBuilder, out: &mut Vec<Row>) {
        for (start, keys) in self.take_changes() {
            let is_final = self.window_final(start, self.watermark);
            if is_final || self.shape.early {
                self.emit_window(start, &keys, is_final, builder, out);
            }
        }
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        put_i64(self.watermark, out);
        put_u64(self.panes.len() as u64, out);
        for (start, pane) in &self.panes {
            put_i64(*start, out);
            put_u64(pane.index.len() as u64, out);
            for group in 0..pane.index.len() as u32 {
                put_bytes(pane.index.key(group), out);
                pane.accumulators.encode(group, out);
            }
        }
    }

    pub(super) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        self.watermark = reader.i64()?;
        for _ in 0..reader.count()? {
            let start = reader.time()?;
            let mut pane = Pane::new(&self.template);
            for _ in 0..reader.count()? {
                let group = pane.group(reader.bytes()?);
                pane.accumulators.merge_encoded(group, reader)?;
            }
            self.panes.insert(start, pane);
        }
        Ok(())
    }
}

/// Starts of the windows that hold a pane, in order.
fn windows_of(pane: Millis, pane_ms: Millis, (size_ms, step_ms): (Millis, Millis)) -> impl Iterator<Item = Millis> {
    let first = first_start(pane + pane_ms - 1, size_ms, step_ms);
    std::iter::successors(Some(first), move |start| Some(start + step_ms)).take_while(move |start| *start <= pane)
}
