//! Signed changes of a funnel's counts since they were last drained, net for each (window, group).

use hashbrown::HashTable;

use super::{progress::Best, strings::Strings};
use crate::time::Millis;

/// Steps that a plan may have.
pub const STEPS_MAX: usize = 16;

/// The change of one (window, group).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Start of the window; zero without windows.
    pub window: Millis,
    /// The breakdown.
    pub group: u32,
    /// For each step, how many more entities stand at it or beyond.
    pub steps: [i64; STEPS_MAX],
    /// How many more stand at the last one.
    pub converted: i64,
    /// How much longer these took together.
    pub converted_ms: i128,
}

/// Changes by (window, group).
#[derive(Clone, Debug, Default)]
pub struct Changes {
    all: Vec<Change>,
    places: HashTable<u32>,
}

impl Changes {
    /// Adds (`sign` is one) or takes back (minus one) what an entity counted.
    pub fn add(&mut self, window: Millis, best: Best, steps: u32, sign: i64) {
        let change = self.change(window, best.group);
        change.steps[..usize::from(best.depth)].iter_mut().for_each(|count| *count = count.saturating_add(sign));
        if u32::from(best.depth) == steps {
            change.converted = change.converted.saturating_add(sign);
            let took_ms = i128::from(sign) * i128::from(best.took_ms);
            change.converted_ms = change.converted_ms.saturating_add(took_ms);
        }
    }

    /// Returns the change of (window, group), zero at first.
    pub fn change(&mut self, window: Millis, group: u32) -> &mut Change {
        let all = &self.all;
        let found = self.places.find(hash(window, group), |place| {
            let change = &all[*place as usize];
            change.window == window && change.group == group
        });
        let place = match found {
            Some(place) => *place as usize,
            None => self.insert(window, group),
        };
        &mut self.all[place]
    }

    /// Returns those that are not zero, by window and group bytes.
    pub fn sorted(&self, strings: &Strings) -> Vec<&Change> {
        let is_zero =
            |change: &&Change| change.steps == [0; STEPS_MAX] && change.converted == 0 && change.converted_ms == 0;
        let mut sorted: Vec<&Change> = self.all.iter().filter(|change| !is_zero(change)).collect();
        sorted.sort_unstable_by_key(|change| (change.window, strings.get(change.group)));
        sorted
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.all.clear();
        self.places.clear();
    }

    fn insert(&mut self, window: Millis, group: u32) -> usize {
        let place = self.all.len();
        self.all.push(Change { window, group, steps: [0; STEPS_MAX], converted: 0, converted_ms: 0 });
        let all = &self.all;
        self.places.insert_unique(hash(window, group), place as u32, |place| {
            let change = &all[*place as usize];
            hash(change.window, change.group)
        });
        place
    }
}

/// Spreads two small numbers over 64 bits.
fn hash(window: Millis, group: u32) -> u64 {
    let mixed = (window as u64 ^ u64::from(group) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}
