//! One entity: events that are not settled yet, what the settled ones came to, and what was counted for it.

use std::cmp::Ordering;

use super::{
    FunnelEvent,
    progress::{Best, Event, Progress, Rules},
    strings::Strings,
};
use crate::time::{BEGINNING_OF_TIME, Millis};

/// An entity of the funnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Its bytes.
    pub key: Box<[u8]>,
    /// Hash of `key`.
    pub hash: u64,
    /// Unsettled events in the order (time, id, steps, undone, same key, group).
    pub pending: Vec<Pending>,
    /// Ids of `pending`, in order of arrival, with holes.
    pub ids: Vec<u8>,
    /// What the settled events came to.
    pub settled: Progress,
    /// What is counted for it by bucket, changes that were not drained included. Buckets ascend.
    pub reported: Vec<(Millis, Best)>,
    /// Events earlier than this were settled early, because there were too many.
    pub floor: Millis,
    /// Division of the calendar in which it is visited next; stale entries elsewhere are skipped.
    pub due: i64,
    /// Whether events came since the last report.
    pub dirty: bool,
}

/// An unsettled event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The event.
    pub event: Event,
    /// Where its id begins in [`Entity::ids`].
    pub id_start: u32,
    /// Length of its id.
    pub id_len: u32,
}

/// Not in the calendar.
pub const NEVER: i64 = i64::MAX;

impl Entity {
    /// Makes an entity without events.
    pub fn new(key: &[u8], hash: u64) -> Self {
        Self {
            key: key.into(),
            hash,
            pending: Vec::new(),
            ids: Vec::new(),
            settled: Progress::default(),
            reported: Vec::new(),
            floor: BEGINNING_OF_TIME,
            due: NEVER,
            dirty: false,
        }
    }

    /// Puts an event into its place.
    pub fn insert(&mut self, event: Event, id: &[u8], strings: &Strings) {
        // In order is the common case; else look from the end, where it is near.
        let at = match self.pending.last() {
            Some(last) if self.compare(last, &event, id, strings).is_gt() => {
                self.pending.partition_point(|other| self.compare(other, &event, id, strings).is_le())
            }
            _ => self.pending.len(),
        };
        let id_start = u32::try_from(self.ids.len()).expect("unsettled events are bounded, and so are records");
        self.ids.extend_from_slice(id);
        self.pending.insert(at, Pending { event, id_start, id_len: id.len() as u32 });
    }

    /// Folds the events before `time` into what is settled.
    pub fn settle_before(&mut self, rules: &Rules, time: Millis) {
        let count = self.pending.iter().take_while(|pending| pending.event.time < time).count();
        self.settle(rules, count);
        self.settled.end_before(rules, time);
    }

    /// Folds the oldest events early, and refuses earlier ones from now on.
    pub fn settle_early(&mut self, rules: &Rules, count: usize) {
        self.floor = self.pending[count - 1].event.time;
        self.settle(rules, count);
    }

    /// Appends the best passage of each bucket to `out`, unsettled events included.
    pub fn bests(&self, rules: &Rules, scratch: &mut Progress, out: &mut Vec<(Millis, Best)>) {
        if self.pending.is_empty() {
            return self.settled.bests(rules, out);
        }
        scratch.copy_from(&self.settled);
        self.pending.iter().for_each(|pending| scratch.step(rules, &pending.event));
        scratch.bests(rules, out);
    }

    /// Frees what can no longer change: windows whose passages have all ended, and lives that are over. Only after a
    /// report, because what was counted for them stays.
    pub fn free_before(&mut self, rules: &Rules, horizon: Millis) {
        let life = self.settled.life;
        let is_over = |(bucket, _): &(Millis, Best)| match rules.size_ms {
            Some(size) => bucket.saturating_add(size).saturating_add(rules.within_ms) <= horizon,
            None => *bucket < life,
        };
        self.settled.ended.retain(|best| !is_over(best));
        self.reported.retain(|best| !is_over(best));
    }

    /// Whether nothing it did can matter to what comes at `horizon` or later.
    pub fn is_over(&self, rules: &Rules, horizon: Millis) -> bool {
        let latest = self.settled.latest.unwrap_or(BEGINNING_OF_TIME);
        match rules.size_ms {
            Some(_) => self.pending.is_empty() && self.settled.live.is_empty() && self.reported.is_empty(),
            None => self.pending.is_empty() && latest.saturating_add(rules.forget_after_ms) < horizon,
        }
    }

    /// When there will be something to settle or free if no event comes.
    pub fn next_visit(&self, rules: &Rules) -> Millis {
        if let Some(newest) = self.pending.last() {
            return newest.event.time;
        }
        let latest = self.settled.latest.unwrap_or(BEGINNING_OF_TIME);
        match rules.size_ms {
            Some(size) => latest.saturating_add(size).saturating_add(rules.within_ms),
            None => latest.saturating_add(rules.forget_after_ms),
        }
    }

    /// Returns the id of one of its pending events.
    pub fn id(&self, pending: &Pending) -> &[u8] {
        &self.ids[pending.id_start as usize..][..pending.id_len as usize]
    }

    /// Returns the numbers of the strings it refers to.
    pub fn strings(&self) -> impl Iterator<Item = u32> {
        let pending = self.pending.iter().flat_map(|pending| [pending.event.key, pending.event.group]);
        let live = self.settled.live.iter().flat_map(|passage| [passage.key, passage.group]);
        let bests = self.settled.ended.iter().chain(&self.reported).map(|(_, best)| best.group);
        pending.chain(live).chain(bests)
    }

    /// Gives `change` every number of a string it refers to.
    pub fn renumber(&mut self, change: &mut impl FnMut(&mut u32)) {
        for pending in &mut self.pending {
            change(&mut pending.event.key);
            change(&mut pending.event.group);
        }
        for passage in &mut self.settled.live {
            change(&mut passage.key);
            change(&mut passage.group);
        }
        self.settled.ended.iter_mut().chain(&mut self.reported).for_each(|(_, best)| change(&mut best.group));
    }

    fn settle(&mut self, rules: &Rules, count: usize) {
        if count == 0 {
            return;
        }
        for pending in self.pending.drain(..count) {
            self.settled.step(rules, &pending.event);
        }
        self.compact_ids();
    }

    /// Closes the holes that settled events left in `ids`, once they are the larger part.
    fn compact_ids(&mut self) {
        let kept: usize = self.pending.iter().map(|pending| pending.id_len as usize).sum();
        if kept == 0 {
            self.ids.clear();
            self.pending.iter_mut().for_each(|pending| pending.id_start = 0);
        } else if self.ids.len() > 64 + 2 * kept {
            let mut ids = Vec::with_capacity(2 * kept);
            for pending in &mut self.pending {
                let start = ids.len() as u32;
                ids.extend_from_slice(&self.ids[pending.id_start as usize..][..pending.id_len as usize]);
                pending.id_start = start;
            }
            self.ids = ids;
        }
    }

    fn compare(&self, pending: &Pending, event: &Event, id: &[u8], strings: &Strings) -> Ordering {
        let other = &pending.event;
        let text =
            |left, right| if left == right { Ordering::Equal } else { strings.get(left).cmp(strings.get(right)) };
        (other.time.cmp(&event.time))
            .then_with(|| self.id(pending).cmp(id))
            .then_with(|| (other.reached, other.undone).cmp(&(event.reached, event.undone)))
            .then_with(|| text(other.key, event.key))
            .then_with(|| text(other.group, event.group))
    }
}

impl Event {
    /// Interns the bytes of `event`.
    pub fn new(event: &FunnelEvent<'_>, mask: u16, strings: &mut Strings) -> Self {
        Self {
            time: event.time,
            key: strings.number(event.same_key),
            group: strings.number(event.group),
            reached: event.reached & mask,
            undone: event.undone & mask,
        }
    }
}
