//! The passages of one entity and how one event moves them. No order, storage or watermark here: whoever calls
//! [`Progress::step`] brings the events in order.

use crate::{
    plan::{FunnelPlan, Window},
    time::{Millis, window_start},
};

/// What a funnel's plan says, as the loop below wants it.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many steps.
    pub steps: u32,
    /// The bit of the last step.
    pub last: u16,
    /// A passage reaches no further than this behind its start.
    pub within_ms: Millis,
    /// Length of the windows of starts, if there are windows.
    pub size_ms: Option<Millis>,
    /// Without windows: the pause after which an entity is counted anew.
    pub forget_after_ms: Millis,
    /// The highest step that can be undone, counted from one; zero if none can.
    undoable: u32,
    /// Most passages that are followed at once.
    passages_max: usize,
}

/// An event, with its bytes interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Event time.
    pub time: Millis,
    /// The value that all events of a passage share.
    pub key: u32,
    /// The breakdown, if a passage starts here.
    pub group: u32,
    /// Bit k: matches step k.
    pub reached: u16,
    /// Bit k: undoes step k.
    pub undone: u16,
}

/// A passage that later events can still move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Time of the event it started at.
    pub start: Millis,
    /// Time from the start to the first arrival at the last step; negative before that.
    pub took_ms: Millis,
    /// The value its events share.
    pub key: u32,
    /// The breakdown of the event it started at.
    pub group: u32,
    /// Bit k: stands at step k. Never zero.
    pub stands: u16,
}

/// The best passage of an entity in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Best {
    /// Highest step at which it stands, from one.
    pub depth: u16,
    /// Its breakdown.
    pub group: u32,
    /// Time to the last step; meaningless below that step.
    pub took_ms: Millis,
}

/// What the events so far have come to.
///
/// "Bucket" is the start of a window, or without windows the first event of a life: what lies between two pauses
/// longer than [`Rules::forget_after_ms`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Passages that can still move, by their starts.
    pub live: Vec<Passage>,
    /// The best of those that cannot, by bucket; buckets ascend.
    pub ended: Vec<(Millis, Best)>,
    /// Time of the latest event, if there was one.
    pub latest: Option<Millis>,
    /// Without windows: the bucket of now.
    pub life: Millis,
}

impl Rules {
    /// Reads the plan.
    pub fn new(plan: &FunnelPlan, window: Window, passages_max: usize) -> Self {
        let undoable = plan.steps.iter().rposition(|step| step.undone_by.is_some()).map_or(0, |at| at as u32 + 1);
        let size_ms = match window {
            Window::Tumbling { size_ms } => Some(size_ms),
            Window::None => None,
            Window::Hopping { .. } | Window::Session { .. } => unreachable!("plans give funnels no such window"),
        };
        Self {
            steps: plan.steps.len() as u32,
            last: 1 << (plan.steps.len() - 1),
            within_ms: plan.within_ms,
            size_ms,
            forget_after_ms: plan.forget_after_ms,
            undoable,
            passages_max,
        }
    }

    /// The bits of all steps.
    pub fn mask(&self) -> u16 {
        self.last | (self.last - 1)
    }
}

impl Passage {
    fn best(&self) -> Best {
        Best { depth: self.depth() as u16, group: self.group, took_ms: self.took_ms }
    }

    fn depth(&self) -> u32 {
        u16::BITS - self.stands.leading_zeros()
    }
}

impl Progress {
    /// Becomes a copy of `other` within the memory it has.
    pub fn copy_from(&mut self, other: &Self) {
        self.live.clear();
        self.live.extend_from_slice(&other.live);
        self.ended.clear();
        self.ended.extend_from_slice(&other.ended);
        self.latest = other.latest;
        self.life = other.life;
    }

    /// Takes the next event, which is no earlier than the ones before.
    pub fn step(&mut self, rules: &Rules, event: &Event) {
        self.begin_life(rules, event.time);
        self.end_before(rules, event.time);
        for passage in self.live.iter_mut().filter(|passage| passage.key == event.key) {
            let kept = passage.stands & !event.undone;
            // All steps at once from where it stood before the event: no event moves a passage twice.
            passage.stands = kept | (kept << 1 & event.reached);
            if passage.stands & rules.last != 0 && passage.took_ms < 0 {
                passage.took_ms = event.time - passage.start;
            }
        }
        if event.reached & 1 != 0 {
            let start = event.time;
            self.live.push(Passage { start, took_ms: -1, key: event.key, group: event.group, stands: 1 });
        }
        self.prune(rules, event.key);
    }

    /// Ends the passages that no event at `time` or later can reach.
    pub fn end_before(&mut self, rules: &Rules, time: Millis) {
        let ended = self.live.iter().take_while(|passage| passage.start.saturating_add(rules.within_ms) < time);
        let ended = ended.count();
        self.end(rules, ended);
    }

    /// Appends the best passage of each bucket to `out`, which is empty.
    pub fn bests(&self, rules: &Rules, out: &mut Vec<(Millis, Best)>) {
        out.extend_from_slice(&self.ended);
        let mut bucket = Bucket::default();
        for passage in &self.live {
            improve(out, bucket.of(rules, self.life, passage.start), passage.best());
        }
    }

    /// Without windows: after a long pause everything ends and the entity is counted anew.
    fn begin_life(&mut self, rules: &Rules, time: Millis) {
        let latest = self.latest.replace(time);
        if latest.is_none_or(|latest| latest.saturating_add(rules.forget_after_ms) < time) && rules.size_ms.is_none() {
            self.end(rules, self.live.len());
            self.life = time;
        }
    }

    fn end(&mut self, rules: &Rules, count: usize) {
        if count == 0 {
            return;
        }
        let mut bucket = Bucket::default();
        for passage in self.live.drain(..count) {
            improve(&mut self.ended, bucket.of(rules, self.life, passage.start), passage.best());
        }
    }

    /// Drops the passages of `key` that stand nowhere any more, and those that a later one of the same bucket will
    /// always beat.
    ///
    /// A later start q beats an earlier p for good if q stands at p's depth and no step from there on can be undone:
    /// q keeps that stand, whatever moves p from there on happens within q's bound too, and of equals the later one
    /// counts. Where a step can be undone this does not hold, because an undo may reach q after p's bound. Without
    /// any such step, at most one passage is left for each step.
    fn prune(&mut self, rules: &Rules, key: u32) {
        let (mut covered, mut dropped) = (0_u16, false);
        let (mut bucket, mut before) = (Bucket::default(), None);
        for at in (0..self.live.len()).rev() {
            let passage = self.live[at];
            if passage.key != key {
                continue;
            }
            let here = bucket.of(rules, self.life, passage.start);
            if before.replace(here) != Some(here) {
                covered = 0;
            }
            let depth = passage.depth();
            if depth == 0 || (depth > rules.undoable && covered >> (depth - 1) & 1 == 1) {
                self.live[at].stands = 0;
                dropped = true;
            }
            covered |= passage.stands;
        }
        if dropped {
            self.live.retain(|passage| passage.stands != 0);
        }
        let surplus = self.live.len().saturating_sub(rules.passages_max);
        self.end(rules, surplus);
    }
}

/// The bucket of the last start that was asked for; most starts lie in the same one, and dividing is slow.
#[derive(Default)]
struct Bucket {
    start: Millis,
    end: Millis,
}

impl Bucket {
    fn of(&mut self, rules: &Rules, life: Millis, start: Millis) -> Millis {
        let Some(size) = rules.size_ms else { return life };
        if !(self.start..self.end).contains(&start) {
            self.start = window_start(start, size);
            self.end = self.start.saturating_add(size);
        }
        self.start
    }
}

/// Counts `best`, whose start is no earlier than those before, in the last bucket or a new one.
fn improve(bests: &mut Vec<(Millis, Best)>, bucket: Millis, best: Best) {
    match bests.last_mut() {
        Some((last, so_far)) if *last == bucket => {
            if best.depth >= so_far.depth {
                *so_far = best;
            }
        }
        _ => bests.push((bucket, best)),
    }
}
