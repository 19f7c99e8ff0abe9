//! Remembered ids of one partition: exact in time, 16 bytes an entry, at most 24 with the empty places.
//!
//! ```text
//! 64 shards by the top bits of the hash, each an open table in the order of the hash:
//!   [hash, 80 bits │ time, 48 bits] …      place = hash × places ÷ 2⁶⁴, or the next that keeps the order
//! ```
//! Order pays three times: a search for a new id ends at the first larger hash; a shard grows by one pass that only copies; a
//! snapshot says the same however the ids came in. Shards grow one at a time, by an eighth: a full one has 4/5 of its places
//! taken and grows to 0.71, which is 20 to 22.5 bytes an id; where enough is forgotten it keeps its size, which is at most 23.4
//! bytes a remembered id. A forgotten entry gives its place to the next id that passes by.
//!
//! Two different ids are taken for one with a probability of n² ÷ 2⁸¹: for ten million remembered ids 4 · 10⁻¹¹. A hash of
//! 96 bits with a time of 32 would need a base for the times, and could not say "30 days" to the millisecond.

use xxhash_rust::xxh3::xxh3_128;

use crate::{
    codec::{Corrupt, Reader, put_i64, put_u64},
    column::Span,
    time::Millis,
};

const SHARDS: usize = 64;

/// Least places of a shard, and the least by which it grows.
const PLACES_MIN: usize = 64;

/// Places behind the last one, for ids that were pushed past it.
const SPILL: usize = 16;

/// Ids looked ahead in a batch, so that their places are on the way from memory when they are needed.
const AHEAD: usize = 16;

/// Bits of an entry that hold the time plus one; zero marks an empty place.
const TIME_BITS: u32 = 48;

const TIME_MASK: u128 = (1 << TIME_BITS) - 1;

/// Ids of one partition and when each may be forgotten.
#[derive(Clone, Debug)]
pub struct Dedup {
    within_ms: Millis,
    shards: Vec<Shard>,
    /// Reused: hashes of a batch.
    hashes: Vec<u128>,
}

/// Entries ascend; an entry lies at its place or behind it, with no empty place between. The last place is empty.
#[derive(Clone, Debug, Default)]
struct Shard {
    entries: Vec<u128>,
    /// Places that are counted on; `entries` has some more.
    places: usize,
    /// Entries that are not empty, forgotten ones included.
    taken: usize,
}

impl Dedup {
    /// Makes an empty memory of `within_ms`.
    #[must_use]
    pub fn new(within_ms: Millis) -> Self {
        Self { within_ms, shards: vec![Shard::default(); SHARDS], hashes: Vec::new() }
    }

    /// Whether `id` is remembered; if not, it is now. `watermark` is the partition's before this event.
    pub fn seen(&mut self, id: &[u8], time: Millis, watermark: Millis) -> bool {
        self.seen_hash(xxh3_128(id), time, watermark)
    }

    /// [`Dedup::seen`] for every row of a batch; rows that are not `asked` are not seen and not remembered.
    pub fn seen_batch(
        &mut self,
        ids: &[Span],
        asked: &[bool],
        arena: &[u8],
        times: &[Millis],
        watermarks: &[Millis],
        out: &mut Vec<bool>,
    ) {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        hashes.extend(ids.iter().map(|id| xxh3_128(id.of(arena))));
        out.clear();
        let mut touched = 0;
        for row in 0..ids.len() {
            // The load has no effect but to bring the line near; the sum keeps it from being dropped.
            if let Some(ahead) = hashes.get(row + AHEAD) {
                touched ^= self.shards[shard_of(*ahead)].touch(*ahead);
            }
            out.push(asked[row] && self.seen_hash(hashes[row], times[row], watermarks[row]));
        }
        std::hint::black_box(touched);
        self.hashes = hashes;
    }

    #[inline]
    fn seen_hash(&mut self, hash: u128, time: Millis, watermark: Millis) -> bool {
        let dead_before = stored(watermark.saturating_sub(self.within_ms));
        self.shards[shard_of(hash)].seen(hash & !TIME_MASK, stored(time.max(watermark)), dead_before)
    }

    /// How many ids are held, forgotten ones included that were not dropped yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.taken).sum()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.entries.capacity() * size_of::<u128>()).sum()
    }

    /// Appends the state.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        put_i64(self.within_ms, out);
        for shard in &self.shards {
            put_u64(shard.taken as u64, out);
            out.reserve(shard.taken * size_of::<u128>());
            shard.entries.iter().filter(|entry| **entry != 0).for_each(|entry| out.extend(entry.to_le_bytes()));
        }
    }

    /// Reads what [`Dedup::snapshot`] wrote.
    ///
    /// # Errors
    /// On corrupt bytes.
    pub fn restore(reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let mut dedup = Self::new(reader.i64()?);
        for (at, shard) in dedup.shards.iter_mut().enumerate() {
            let count = reader.count()?;
            let bytes = reader.take(count.checked_mul(size_of::<u128>()).ok_or(Corrupt("too many ids"))?)?;
            let entry = |bytes: &[u8]| u128::from_le_bytes(bytes.try_into().expect("chunks have this size"));
            let entries = bytes.chunks_exact(size_of::<u128>()).map(entry);
            let mut before = None;
            for entry in entries.clone() {
                let key = entry & !TIME_MASK;
                if entry == key || shard_of(entry) != at || before.is_some_and(|before| key <= before) {
                    return Err(Corrupt("an id out of place"));
                }
                before = Some(key);
            }
            if count > 0 {
                shard.lay_out(entries, count + count / 3 + PLACES_MIN);
            }
        }
        Ok(dedup)
    }
}

/// A time as entries hold it: times of events lie in the years 1970 to 9999.
fn stored(time: Millis) -> u64 {
    time.clamp(0, (1 << TIME_BITS) - 2) as u64 + 1
}

fn time_of(entry: u128) -> u64 {
    (entry & TIME_MASK) as u64
}

fn shard_of(entry: u128) -> usize {
    (entry >> 122) as usize
}

/// The place by the bits below the shard's: it grows with them.
fn place_of(entry: u128, places: usize) -> usize {
    let hash = (entry >> 58) as u64;
    ((u128::from(hash) * places as u128) >> 64) as usize
}

impl Shard {
    #[inline]
    fn touch(&self, entry: u128) -> u128 {
        self.entries.get(place_of(entry, self.places)).copied().unwrap_or_default()
    }

    #[inline]
    fn seen(&mut self, key: u128, stored: u64, dead_before: u64) -> bool {
        if self.entries.is_empty() {
            self.lay_out(std::iter::empty(), PLACES_MIN);
        }
        let place = self.find(key);
        let entry = &mut self.entries[place];
        if *entry & !TIME_MASK != key || *entry == 0 {
            self.insert(key | u128::from(stored), place, dead_before);
            return false;
        }
        let remembered = time_of(*entry) >= dead_before;
        if !remembered {
            *entry = key | u128::from(stored);
        }
        remembered
    }

    /// Where the id is, or where it would have to be.
    #[inline]
    fn find(&self, key: u128) -> usize {
        let mut place = place_of(key, self.places);
        while self.entries[place] != 0 && self.entries[place] < key {
            place += 1;
        }
        place
    }

    /// Puts an entry at its place and moves the others on, up to the next that is empty or forgotten.
    fn insert(&mut self, entry: u128, place: usize, dead_before: u64) {
        let mut hole = place;
        // What is empty has the time zero, and `dead_before` is at least one.
        while time_of(self.entries[hole]) >= dead_before {
            hole += 1;
        }
        if self.entries[hole] == 0 {
            if (self.taken + 1) * 5 > self.places * 4 {
                self.make_room(dead_before);
                return self.insert(entry, self.find(entry & !TIME_MASK), dead_before);
            }
            self.taken += 1;
        }
        self.entries.copy_within(place..hole, place + 1);
        self.entries[place] = entry;
        self.keep_last_empty();
    }

    /// Drops what is forgotten, and grows if that is too little.
    #[cold]
    fn make_room(&mut self, dead_before: u64) {
        let old = std::mem::take(&mut self.entries);
        let live = old.iter().copied().filter(|entry| time_of(*entry) >= dead_before);
        let count = live.clone().count();
        let places = if (count + 1) * 13 > self.places * 10 {
            self.places + (self.places / 8).max(PLACES_MIN)
        } else if count * 4 < self.places {
            count + count / 3 + PLACES_MIN
        } else {
            self.places
        };
        self.lay_out(live, places);
    }

    /// Fills the table with entries, which ascend.
    fn lay_out(&mut self, entries: impl Iterator<Item = u128>, places: usize) {
        self.entries = Vec::new();
        self.entries.reserve_exact(places + SPILL);
        self.entries.resize(places + SPILL, 0);
        self.places = places;
        self.taken = 0;
        let mut next = 0;
        for entry in entries {
            let place = place_of(entry, places).max(next);
            self.entries[place] = entry;
            self.taken += 1;
            next = place + 1;
            self.keep_last_empty();
        }
    }

    /// So many ids pushed past the end are all but impossible; a table that is longer by one is right all the same.
    #[inline]
    fn keep_last_empty(&mut self) {
        if self.entries.last() != Some(&0) {
            self.entries.reserve_exact(SPILL);
            self.entries.resize(self.entries.len() + SPILL, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::time::BEGINNING_OF_TIME;

    proptest! {
        #[test]
        fn ids_are_remembered_as_the_page_says(
            events in proptest::collection::vec((0_u16..400, -50_i64..50, 0_i64..200), 1..600),
            jump in prop_oneof![Just(0_i64), Just(400), Just(40 * 86_400_000)],
        ) {
            let mut dedup = Dedup::new(100);
            let mut naive: BTreeMap<u16, Millis> = BTreeMap::new();
            let mut latest = None::<Millis>;
            for (at, (id, jitter, step)) in events.iter().enumerate() {
                let pause = if at == events.len() / 2 { jump } else { 0 };
                let time = latest.unwrap_or(1_000_000) + jitter + step / 10 + pause;
                let watermark = latest.map_or(BEGINNING_OF_TIME, |latest| latest - 30);
                latest = Some(latest.map_or(time, |latest| latest.max(time)));
                let remembered = naive.get(id).is_some_and(|kept| watermark <= kept.saturating_add(100));
                if !remembered {
                    naive.insert(*id, time.max(watermark));
                }
                prop_assert_eq!(dedup.seen(&id.to_le_bytes(), time, watermark), remembered, "event {}", at);
                if at % 100 == 50 {
                    dedup.shards.iter().for_each(check);
                    let bytes = snapshot(&dedup);
                    dedup = Dedup::restore(&mut Reader::new(&bytes)).unwrap();
                    prop_assert_eq!(snapshot(&dedup), bytes);
                }
            }
        }

        #[test]
        fn a_snapshot_does_not_tell_in_which_order_ids_came(ids: Vec<u32>) {
            let remember = |ids: &mut dyn Iterator<Item = &u32>| {
                let mut dedup = Dedup::new(100);
                for id in ids {
                    dedup.seen(&id.to_le_bytes(), 1_000, BEGINNING_OF_TIME);
                }
                snapshot(&dedup)
            };
            prop_assert_eq!(remember(&mut ids.iter()), remember(&mut ids.iter().rev()));
        }

        #[test]
        fn hashes_chosen_to_collide_only_make_it_slower(ends in proptest::collection::vec(0_u128..4_096, 1..1_200)) {
            let mut shard = Shard::default();
            let mut naive = std::collections::BTreeSet::new();
            for end in ends {
                // The last places of the last shard, so that they are pushed past the end.
                let key = (!0 << 60 | end << 48) & !TIME_MASK;
                prop_assert_eq!(shard.seen(key, 1, 1), !naive.insert(key));
                check(&shard);
            }
        }

        #[test]
        fn torn_snapshots_are_an_error_and_never_a_panic(
            ids in proptest::collection::vec(any::<u8>(), 0..200),
            at: prop::sample::Index,
            byte: u8,
        ) {
            let mut dedup = Dedup::new(100);
            let remember = |dedup: &mut Dedup| {
                for id in &ids {
                    dedup.seen(&[*id], 1_000, BEGINNING_OF_TIME);
                }
            };
            remember(&mut dedup);
            let mut bytes = snapshot(&dedup);
            prop_assert!(Dedup::restore(&mut Reader::new(&bytes[..at.index(bytes.len())])).is_err());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(mut dedup) = Dedup::restore(&mut Reader::new(&bytes)) {
                dedup.shards.iter().for_each(check);
                remember(&mut dedup);
            }
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes: Vec<u8>) {
            drop(Dedup::restore(&mut Reader::new(&bytes)));
        }
    }

    fn snapshot(dedup: &Dedup) -> Vec<u8> {
        let mut bytes = Vec::new();
        dedup.snapshot(&mut bytes);
        bytes
    }

    /// What must hold of a shard.
    fn check(shard: &Shard) {
        let entries: Vec<u128> = shard.entries.iter().copied().filter(|entry| *entry != 0).collect();
        assert!(entries.is_sorted_by(|left, right| left & !TIME_MASK < right & !TIME_MASK));
        assert_eq!(entries.len(), shard.taken);
        assert!(shard.entries.last().is_none_or(|last| *last == 0));
        for (at, entry) in shard.entries.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            assert_eq!(shard.find(entry & !TIME_MASK), at, "an entry that is not found");
        }
    }

    #[test]
    fn the_end_of_time_forgets_what_was_before() {
        let mut dedup = Dedup::new(100);
        assert!(!dedup.seen(b"a", 1_000, BEGINNING_OF_TIME));
        assert!(dedup.seen(b"a", 1_000, 1_100));
        assert!(!dedup.seen(b"a", 1_000, Millis::MAX));
        assert!(dedup.seen(b"a", 1_000, Millis::MAX));
    }

    #[test]
    fn a_remembered_id_costs_at_most_24_bytes() {
        let mut dedup = Dedup::new(900_000);
        for id in 0..1_000_000_u64 {
            assert!(!dedup.seen(&id.to_le_bytes(), 1_000_000, 999_000));
            let (bytes, len) = (dedup.bytes(), dedup.len());
            assert!(id % 10_000 > 0 || len < 100_000 || bytes <= 24 * len, "{bytes} bytes for {len} ids");
        }
        assert_eq!(dedup.len(), 1_000_000);
    }

    #[test]
    fn forgotten_ids_make_room() {
        let mut dedup = Dedup::new(100_000);
        for id in 0..1_000_000_u64 {
            // 200,000 ids are remembered at any time.
            let time = id as Millis / 2;
            assert!(!dedup.seen(&id.to_le_bytes(), time, time));
        }
        assert!(dedup.bytes() <= 24 * 200_000, "{} bytes an id", dedup.bytes() as f64 / 2e5);
    }
}
