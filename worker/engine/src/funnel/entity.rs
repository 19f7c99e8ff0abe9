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
    pub key: Key,
    /// Hash of `key`.
    pub hash: u64,
    /// Unsettled events, after [`Entity::sort`] in the order (time, id, steps, undone, same key, group).
    pub pending: Vec<Pending>,
    /// Whether `pending` is in order.
    pub is_sorted: bool,
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

/// The bytes of an entity; short ones (a UUID with its tag and length is 38) lie in place, because looking at them is
/// a miss of the cache for each event otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// In place.
    Short(u8, [u8; 38]),
    /// Elsewhere.
    Long(Box<[u8]>),
}

/// Not in the calendar.
pub const NEVER: i64 = i64::MAX;

impl Entity {
    /// Makes an entity without events.
    pub fn new(key: &[u8], hash: u64) -> Self {
        Self {
            key: Key::new(key),
            hash,
            pending: Vec::new(),
            is_sorted: true,
            ids: Vec::new(),
            settled: Progress::default(),
            reported: Vec::new(),
            floor: BEGINNING_OF_TIME,
            due: NEVER,
            dirty: false,
        }
    }

    /// Takes an event. Its place is found when the entity is visited, once for all that came since.
    pub fn push(&mut self, event: Event, id: &[u8]) {
        self.is_sorted &= self.pending.last().is_none_or(|last| last.event.time < event.time);
        let id_start = u32::try_from(self.ids.len()).expect("unsettled events are bounded, and so are records");
        self.ids.extend_from_slice(id);
        self.pending.push(Pending { event, id_start, id_len: id.len() as u32 });
    }

    /// Puts the events that came into their places.
    pub fn sort(&mut self, strings: &Strings) {
        if self.is_sorted {
            return;
        }
        let ids = &self.ids;
        self.pending.sort_by(|left, right| compare(left, right, ids, strings));
        self.is_sorted = true;
    }

    /// Folds the events before `time` into what is settled. Only when sorted, as everything below.
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
        // Buckets ascend, so the first tells whether there is anything to do: mostly there is not.
        if self.reported.first().is_some_and(is_over) || self.settled.ended.first().is_some_and(is_over) {
            self.settled.ended.retain(|best| !is_over(best));
            self.reported.retain(|best| !is_over(best));
        }
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
}

fn compare(left: &Pending, right: &Pending, ids: &[u8], strings: &Strings) -> Ordering {
    let id = |pending: &Pending| &ids[pending.id_start as usize..][..pending.id_len as usize];
    let steps = |pending: &Pending| (pending.event.reached, pending.event.undone);
    let text = |left, right| if left == right { Ordering::Equal } else { strings.get(left).cmp(strings.get(right)) };
    (left.event.time.cmp(&right.event.time))
        .then_with(|| id(left).cmp(id(right)))
        .then_with(|| steps(left).cmp(&steps(right)))
        .then_with(|| text(left.event.key, right.event.key))
        .then_with(|| text(left.event.group, right.event.group))
}

impl Key {
    fn new(bytes: &[u8]) -> Self {
        let mut short = [0; 38];
        match short.get_mut(..bytes.len()) {
            Some(part) => {
                part.copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            None => Self::Long(bytes.into()),
        }
    }

    /// Returns the bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
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
