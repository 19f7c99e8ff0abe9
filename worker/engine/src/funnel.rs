//! Funnels: how many entities get how far through ordered steps. The state of one funnel on one shuffle partition.
//!
//! ```text
//! apply ─► unsettled events of the entity, in order ──(older than watermark − lateness)──► live passages ─► ended
//!                        └──────────── replayed on a copy when the entity is dirty ──────────────┘
//! drain ◄─ changes per (window, group) ◄─ difference to what was counted for the entity before
//! ```
//!
//! The passages of an entity are simulated as `docs/semantics.md` says, in one pass over its events; those that a
//! later start is certain to beat are dropped on the way (see [`progress`]). So the memory is the unsettled events
//! and a few passages and counts for each entity. Nothing depends on where the calls were cut: what an entity counts
//! is a function of its events, the watermark only says when to let go of them. The exception is an entity with more
//! than [`FUNNEL_EVENTS_MAX`] unsettled events, a robot, whose oldest are settled early.
//!
//! Aggregation is not here: [`Contribution`]s go to the table's own counts, where groups may have other partitions.

mod changes;
mod entity;
mod progress;
mod snapshot;
mod strings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use self::{
    changes::Changes,
    entity::{Entity, NEVER},
    progress::{Best, Event, Progress, Rules},
    strings::Strings,
};
use crate::{
    limits::{FUNNEL_EVENTS_MAX, FUNNEL_ID_BYTES_MAX},
    plan::{FunnelPlan, Window},
    time::{BEGINNING_OF_TIME, Millis},
};

/// An event of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunnelEvent<'a> {
    /// Event time.
    pub time: Millis,
    /// Its id, or nothing.
    pub id: &'a [u8],
    /// Bit k: it matches step k.
    pub reached: u16,
    /// Bit k: it matches `undoneBy` of step k.
    pub undone: u16,
    /// The encoded value of `sameKey`; empty if there is none.
    pub same_key: &'a [u8],
    /// The encoded values of the breakdown.
    pub group: &'a [u8],
}

/// How the counts of a (window, group) changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contribution<'a> {
    /// Start of the window, if there are windows.
    pub window_start: Option<Millis>,
    /// The encoded values of the breakdown.
    pub group: &'a [u8],
    /// For each step, how many more entities stand at it or beyond; may be negative.
    pub steps: &'a [i64],
    /// How many more stand at the last one.
    pub converted: i64,
    /// How much longer these took together.
    pub converted_ms: i128,
}

/// The state of one funnel on one shuffle partition.
#[derive(Clone, Debug)]
pub struct FunnelState {
    rules: Rules,
    lateness_ms: Millis,
    /// No event before this is accepted any more: the largest watermark seen, minus the lateness.
    horizon: Millis,
    strings: Strings,
    /// Places of entities by their bytes.
    directory: HashTable<u32>,
    entities: Vec<Option<Entity>>,
    /// Empty places in `entities`.
    free: Vec<u32>,
    /// Places of entities with events since their last report; some may have been reported on the way.
    dirty: Vec<u32>,
    /// Places by the division of time in which they are to be visited.
    calendar: BTreeMap<i64, Vec<u32>>,
    /// Length of a division.
    division_ms: Millis,
    changes: Changes,
    /// Strings after the last collection.
    strings_kept: usize,
    scratch: Scratch,
}

/// Buffers that are kept between calls.
#[derive(Clone, Debug, Default)]
struct Scratch {
    progress: Progress,
    bests: Vec<(Millis, Best)>,
}

impl FunnelState {
    /// Makes the state before the first event. `window` is none or tumbling.
    #[must_use]
    pub fn new(plan: &FunnelPlan, window: Window, lateness_ms: Millis) -> Self {
        Self {
            rules: Rules::new(plan, window, FUNNEL_EVENTS_MAX),
            lateness_ms,
            horizon: BEGINNING_OF_TIME,
            strings: Strings::new(),
            directory: HashTable::new(),
            entities: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            calendar: BTreeMap::new(),
            // Idle entities keep settled events for at most this long: an eighth of what has to be kept anyway.
            division_ms: (plan.within_ms / 8).clamp(1_000, 600_000),
            changes: Changes::default(),
            strings_kept: 0,
            scratch: Scratch::default(),
        }
    }

    /// The number of entities that are remembered.
    #[must_use]
    pub fn entities(&self) -> usize {
        self.directory.len()
    }

    /// The number of events that are not settled yet.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.entities.iter().flatten().map(|entity| entity.pending.len()).sum()
    }

    /// Takes an event. Returns false, and does nothing, if it is late: earlier than the watermark by more than the
    /// lateness. An event that matches nothing is taken and plays no part.
    pub fn apply(&mut self, entity: &[u8], event: FunnelEvent<'_>, watermark: Millis) -> bool {
        if event.time < self.horizon.max(watermark.saturating_sub(self.lateness_ms)) {
            return false;
        }
        let mask = self.rules.mask();
        if (event.reached | event.undone) & mask == 0 {
            return true;
        }
        let place = self.place(entity);
        let known = self.entities[place as usize].as_mut().expect("places in the directory are taken");
        if event.time < known.floor {
            return false;
        }
        known.push(Event::new(&event, mask, &mut self.strings), event.id);
        if known.pending.len() > FUNNEL_EVENTS_MAX || known.ids.len() > FUNNEL_ID_BYTES_MAX {
            known.sort(&self.strings);
            known.settle_early(&self.rules, known.pending.len().div_ceil(8));
        }
        if !known.dirty {
            known.dirty = true;
            self.dirty.push(place);
        }
        true
    }

    /// Lets go of what events at the watermark or later cannot change, as far as it is due. What that counted and
    /// was not drained yet is not lost.
    pub fn advance(&mut self, watermark: Millis) {
        self.horizon = self.horizon.max(watermark.saturating_sub(self.lateness_ms));
        let now = self.horizon.div_euclid(self.division_ms);
        while let Some(first) = self.calendar.first_entry()
            && *first.key() < now
        {
            let (division, places) = first.remove_entry();
            for place in places {
                if self.entities[place as usize].as_ref().is_some_and(|entity| entity.due == division) {
                    self.visit_idle(place);
                }
            }
        }
    }

    /// Hands over the changes since the last time, net for each (window, group), by window and group bytes.
    pub fn drain(&mut self, emit: &mut impl FnMut(Contribution<'_>)) {
        self.report_dirty();
        let windowed = self.rules.size_ms.is_some();
        for change in self.changes.sorted(&self.strings) {
            emit(Contribution {
                window_start: windowed.then_some(change.window),
                group: self.strings.get(change.group),
                steps: &change.steps[..self.rules.steps as usize],
                converted: change.converted,
                converted_ms: change.converted_ms,
            });
        }
        self.forget_changes();
    }

    /// Forgets the changes since the last time: they were handed over before a restart.
    pub fn discard(&mut self) {
        self.report_dirty();
        self.forget_changes();
    }

    fn report_dirty(&mut self) {
        for place in std::mem::take(&mut self.dirty) {
            if self.entities[place as usize].as_ref().is_some_and(|entity| entity.dirty) {
                self.visit(place);
            }
        }
    }

    fn forget_changes(&mut self) {
        self.changes.clear();
        if self.strings.len() > 1_024 + 2 * self.strings_kept {
            self.collect_strings();
        }
    }

    /// Settles, reports and frees; then forgets the entity or enters it into the calendar.
    fn visit(&mut self, place: u32) {
        let entity = self.entities[place as usize].as_mut().expect("only entities that exist are visited");
        entity.sort(&self.strings);
        entity.settle_before(&self.rules, self.horizon);
        if entity.dirty {
            report(entity, &self.rules, &mut self.scratch, &mut self.changes);
        }
        entity.free_before(&self.rules, self.horizon);
        if entity.is_over(&self.rules, self.horizon) {
            return self.forget(place);
        }
        self.schedule(place);
    }

    /// As [`FunnelState::visit`], for an entity whose turn came: memory for unsettled events is given back.
    fn visit_idle(&mut self, place: u32) {
        if let Some(entity) = self.entities[place as usize].as_mut() {
            entity.due = NEVER;
        }
        self.visit(place);
        if let Some(entity) = self.entities[place as usize].as_mut()
            && entity.pending.is_empty()
        {
            (entity.pending, entity.ids) = (Vec::new(), Vec::new());
        }
    }

    fn schedule(&mut self, place: u32) {
        let entity = self.entities[place as usize].as_mut().expect("only entities that exist are scheduled");
        let due = entity.next_visit(&self.rules).div_euclid(self.division_ms);
        if due < entity.due {
            entity.due = due;
            self.calendar.entry(due).or_default().push(place);
        }
    }

    fn place(&mut self, key: &[u8]) -> u32 {
        let hash = xxh3_64(key);
        let entities = &self.entities;
        let at = |place: &u32| entities[*place as usize].as_ref().expect("places in the directory are taken");
        if let Some(place) = self.directory.find(hash, |place| at(place).key.bytes() == key) {
            return *place;
        }
        let place = self.free.pop().unwrap_or(self.entities.len() as u32);
        self.directory.insert_unique(hash, place, |place| at(place).hash);
        self.put(place, Entity::new(key, hash));
        place
    }

    fn put(&mut self, place: u32, entity: Entity) {
        if place as usize == self.entities.len() {
            self.entities.push(None);
        }
        self.entities[place as usize] = Some(entity);
    }

    fn forget(&mut self, place: u32) {
        if let Some(entity) = self.entities[place as usize].take()
            && let Ok(found) = self.directory.find_entry(entity.hash, |other| *other == place)
        {
            found.remove();
            self.free.push(place);
        }
    }

    /// Keeps only the strings that something refers to. Called with no changes waiting.
    fn collect_strings(&mut self) {
        let mut kept = Strings::new();
        let old = &self.strings;
        let mut renumber = |number: &mut u32| *number = kept.number(old.get(*number));
        self.entities.iter_mut().flatten().for_each(|entity| entity.renumber(&mut renumber));
        self.strings_kept = kept.len();
        self.strings = kept;
    }
}

/// Adds the difference between what the entity counts now and what was reported before.
fn report(entity: &mut Entity, rules: &Rules, scratch: &mut Scratch, changes: &mut Changes) {
    entity.dirty = false;
    let Scratch { progress, bests } = scratch;
    bests.clear();
    entity.bests(rules, progress, bests);
    if *bests == entity.reported {
        return;
    }
    let window = |bucket: Millis| rules.size_ms.map_or(0, |_| bucket);
    // Both ascend by bucket, but retracting all and adding all is as good: equal ones cancel out.
    for (bucket, best) in &entity.reported {
        changes.add(window(*bucket), *best, rules.steps, -1);
    }
    for (bucket, best) in bests.iter() {
        changes.add(window(*bucket), *best, rules.steps, 1);
    }
    entity.reported.clear();
    entity.reported.extend_from_slice(bests);
}
