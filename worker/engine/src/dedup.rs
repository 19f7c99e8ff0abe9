//! Remembered ids of one partition: exact in time, 16 bytes an entry, at most 24 with the empty places.
//!
//! ```text
//! 64 shards by the top bits of the hash, each an open table:
//!   [hash, 96 bits │ time, 32 bits] …      place = hash × capacity ÷ 2⁶⁴, then the next, and the next
//! ```
//! The place grows with the hash, so a shard grows by one pass in order. Shards grow one at a time, by a fifth: between 2/3 and
//! 4/5 of the places are taken, which is 20 to 24 bytes an id. Two different ids are taken for one with a probability of
//! n² ÷ 2⁹⁷: for a billion remembered ids 10⁻¹¹.

use xxhash_rust::xxh3::xxh3_128;

use crate::{
    codec::{Corrupt, Reader, put_i64, put_u64},
    column::Span,
    time::{BEGINNING_OF_TIME, Millis},
};

const SHARDS: usize = 64;

/// Places of a shard at first.
const PLACES_MIN: usize = 64;

/// Ids looked ahead in a batch, so that their places are on the way from memory when they are needed.
const AHEAD: usize = 16;

/// Ids of one partition and when each may be forgotten.
#[derive(Clone, Debug)]
pub struct Dedup {
    within_ms: Millis,
    /// Times are kept as milliseconds since this, plus one; zero marks an empty place.
    base: Millis,
    shards: Vec<Shard>,
    /// Reused: hashes of a batch.
    hashes: Vec<u128>,
}

#[derive(Clone, Debug, Default)]
struct Shard {
    entries: Vec<Entry>,
    taken: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    high: u64,
    low: u32,
    /// Milliseconds since the base plus one.
    time: u32,
}

impl Dedup {
    /// Makes an empty memory of `within_ms`.
    #[must_use]
    pub fn new(within_ms: Millis) -> Self {
        Self { within_ms, base: BEGINNING_OF_TIME, shards: vec![Shard::default(); SHARDS], hashes: Vec::new() }
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
                touched ^= self.touch(*ahead);
            }
            out.push(asked[row] && self.seen_hash(hashes[row], times[row], watermarks[row]));
        }
        std::hint::black_box(touched);
        self.hashes = hashes;
    }

    fn touch(&self, hash: u128) -> u32 {
        let (high, _) = split(hash);
        let shard = &self.shards[shard_of(high)];
        if shard.entries.is_empty() { 0 } else { shard.entries[place_of(high, shard.entries.len())].time }
    }

    fn seen_hash(&mut self, hash: u128, time: Millis, watermark: Millis) -> bool {
        let kept_from = time.max(watermark);
        if self.base == BEGINNING_OF_TIME || kept_from - self.base > i64::from(u32::MAX) - 2 {
            self.rebase(kept_from, watermark);
        }
        let (high, low) = split(hash);
        // An event older than the base is remembered as if it had the base's time: longer, never shorter.
        let stored = (kept_from - self.base).max(0) as u32 + 1;
        let dead_before = self.dead_before(watermark);
        let shard = &mut self.shards[shard_of(high)];
        match shard.find(high, low) {
            Some(place) => {
                let entry = &mut shard.entries[place];
                let remembered = entry.time >= dead_before;
                if !remembered {
                    entry.time = stored;
                }
                remembered
            }
            None => {
                shard.insert(Entry { high, low, time: stored }, dead_before);
                false
            }
        }
    }

    /// Stored times below this are forgotten: `watermark > time + within`.
    fn dead_before(&self, watermark: Millis) -> u32 {
        if watermark == BEGINNING_OF_TIME {
            return 0;
        }
        let oldest = watermark.saturating_sub(self.within_ms).saturating_sub(self.base);
        oldest.clamp(0, i64::from(u32::MAX) - 2) as u32 + 1
    }

    /// Moves the base so that `time` fits, half the range (24 days) before it, and drops what is forgotten.
    fn rebase(&mut self, time: Millis, watermark: Millis) {
        let base = time.saturating_sub(i64::from(u32::MAX / 2));
        let dead_before = if self.base == BEGINNING_OF_TIME { 0 } else { self.dead_before(watermark) };
        let shift = base.saturating_sub(self.base);
        for shard in &mut self.shards {
            shard.rebuild(dead_before, |time| (i64::from(time) - shift).clamp(1, i64::from(u32::MAX)) as u32);
        }
        self.base = base;
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
        self.shards.iter().map(|shard| shard.entries.capacity() * size_of::<Entry>()).sum()
    }

    /// Appends the state.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        put_i64(self.within_ms, out);
        put_i64(self.base, out);
        for shard in &self.shards {
            put_u64(shard.taken as u64, out);
            for entry in shard.entries.iter().filter(|entry| entry.time != 0) {
                out.extend_from_slice(&entry.high.to_le_bytes());
                out.extend_from_slice(&entry.low.to_le_bytes());
                out.extend_from_slice(&entry.time.to_le_bytes());
            }
        }
    }

    /// Reads what [`Dedup::snapshot`] wrote.
    ///
    /// # Errors
    /// On corrupt bytes.
    pub fn restore(reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let mut dedup = Self::new(reader.i64()?);
        dedup.base = reader.i64()?;
        for (at, shard) in dedup.shards.iter_mut().enumerate() {
            for _ in 0..reader.count()? {
                let entry = read_entry(reader)?;
                if entry.time == 0 || shard_of(entry.high) != at || shard.find(entry.high, entry.low).is_some() {
                    return Err(Corrupt("an id out of place"));
                }
                shard.insert(entry, 0);
            }
        }
        Ok(dedup)
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Result<Entry, Corrupt> {
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let bytes = reader.take(16)?;
    let high = u64::from(word(bytes)) | u64::from(word(&bytes[4..])) << 32;
    Ok(Entry { high, low: word(&bytes[8..]), time: word(&bytes[12..]) })
}

fn split(hash: u128) -> (u64, u32) {
    ((hash >> 64) as u64, (hash >> 32) as u32)
}

fn shard_of(high: u64) -> usize {
    (high >> 58) as usize
}

/// The place by the bits below the shard's: it grows with them.
fn place_of(high: u64, places: usize) -> usize {
    ((u128::from(high << 6) * places as u128) >> 64) as usize
}

impl Shard {
    #[inline]
    fn find(&self, high: u64, low: u32) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut place = place_of(high, self.entries.len());
        loop {
            let entry = &self.entries[place];
            if entry.time == 0 {
                return None;
            }
            if entry.high == high && entry.low == low {
                return Some(place);
            }
            place = if place + 1 == self.entries.len() { 0 } else { place + 1 };
        }
    }

    fn insert(&mut self, entry: Entry, dead_before: u32) {
        if (self.taken + 1) * 5 > self.entries.len() * 4 {
            self.rebuild(dead_before, |time| time);
            if (self.taken + 1) * 3 > self.entries.len() * 2 {
                self.resize((self.entries.len() + self.entries.len() / 5).max(PLACES_MIN));
            }
        }
        self.place(entry);
    }

    fn place(&mut self, entry: Entry) {
        let mut place = place_of(entry.high, self.entries.len());
        while self.entries[place].time != 0 {
            place = if place + 1 == self.entries.len() { 0 } else { place + 1 };
        }
        self.entries[place] = entry;
        self.taken += 1;
    }

    /// Drops entries older than `dead_before` and maps the times of the others.
    fn rebuild(&mut self, dead_before: u32, time: impl Fn(u32) -> u32) {
        let places = self.entries.len();
        let old = std::mem::take(&mut self.entries);
        self.entries = vec![Entry::default(); places];
        self.taken = 0;
        for entry in old.into_iter().filter(|entry| entry.time != 0 && entry.time >= dead_before) {
            self.place(Entry { time: time(entry.time), ..entry });
        }
    }

    fn resize(&mut self, places: usize) {
        let old = std::mem::take(&mut self.entries);
        let mut entries = Vec::new();
        entries.reserve_exact(places);
        entries.resize(places, Entry::default());
        self.entries = entries;
        self.taken = 0;
        old.into_iter().filter(|entry| entry.time != 0).for_each(|entry| self.place(entry));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_remembered_as_the_page_says(
            events in proptest::collection::vec((0_u16..400, -50_i64..50, 0_i64..200), 1..600),
            jump in prop_oneof![Just(0_i64), Just(40 * 86_400_000)],
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
                    let mut bytes = Vec::new();
                    dedup.snapshot(&mut bytes);
                    dedup = Dedup::restore(&mut Reader::new(&bytes)).unwrap();
                }
            }
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes: Vec<u8>) {
            drop(Dedup::restore(&mut Reader::new(&bytes)));
        }
    }

    #[test]
    fn a_remembered_id_costs_at_most_24_bytes() {
        let mut dedup = Dedup::new(900_000);
        for id in 0..1_000_000_u64 {
            assert!(!dedup.seen(&id.to_le_bytes(), 1_000_000, 999_000));
        }
        assert_eq!(dedup.len(), 1_000_000);
        assert!(dedup.bytes() <= 24 * dedup.len(), "{} bytes an id", dedup.bytes() as f64 / 1e6);
    }
}
