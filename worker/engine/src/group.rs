//! Groups: an index from encoded keys to small numbers, which number the rows of the accumulators.
//!
//! ```text
//! table: hash ─► number      (hashbrown, 4 bytes a slot, no pointers)
//! keys:  [key 0][key 1]…     one arena; ends[n] is where key n ends
//! panes: start of the pane of each number
//! ```
//! Numbers are given in the order of first sight, so everything that walks them is deterministic.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::time::Millis;

/// Hash of a group key. It also decides the shuffle partition, so it never changes: xxh3, 64 bits, seed 0.
#[must_use]
#[inline]
pub fn hash_key(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The shuffle partition of a key. Bits are mixed once more, so that the keys of one partition still spread over
/// the slots of its hash tables.
#[must_use]
#[inline]
pub fn partition_of(hash: u64, partitions: u32) -> u32 {
    let mixed = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
    (mixed % u64::from(partitions)) as u32
}

/// An index of (pane, key) pairs.
#[derive(Clone, Debug, Default)]
pub struct GroupIndex {
    table: HashTable<u32>,
    keys: Vec<u8>,
    ends: Vec<u32>,
    panes: Vec<Millis>,
    hashes: Vec<u64>,
}

impl GroupIndex {
    /// The number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the number of (pane, key); the flag says whether it is new. `hash` is [`hash_key`] of `key`.
    #[inline]
    pub fn find_or_insert(&mut self, pane: Millis, key: &[u8], hash: u64) -> (u32, bool) {
        let slot = slot_hash(hash, pane);
        let (keys, ends, panes, hashes) = (&self.keys, &self.ends, &self.panes, &self.hashes);
        let same = |number: &u32| {
            let number = *number as usize;
            hashes[number] == hash && panes[number] == pane && key_at(keys, ends, number) == key
        };
        if let Some(number) = self.table.find(slot, same) {
            return (*number, false);
        }
        let number = self.ends.len() as u32;
        self.keys.extend_from_slice(key);
        let end = u32::try_from(self.keys.len()).expect("one task's keys stay far below 4 GiB");
        self.ends.push(end);
        self.panes.push(pane);
        self.hashes.push(hash);
        let (panes, hashes) = (&self.panes, &self.hashes);
        self.table.insert_unique(slot, number, |number| slot_hash(hashes[*number as usize], panes[*number as usize]));
        (number, true)
    }

    /// Returns the number of (pane, key), if it is there.
    #[must_use]
    pub fn find(&self, pane: Millis, key: &[u8], hash: u64) -> Option<u32> {
        let same = |number: &u32| {
            let at = *number as usize;
            self.hashes[at] == hash && self.panes[at] == pane && self.key(*number) == key
        };
        self.table.find(slot_hash(hash, pane), same).copied()
    }

    /// The key of `number`.
    #[must_use]
    pub fn key(&self, number: u32) -> &[u8] {
        key_at(&self.keys, &self.ends, number as usize)
    }

    /// The pane of `number`.
    #[must_use]
    pub fn pane(&self, number: u32) -> Millis {
        self.panes[number as usize]
    }

    /// The hash of the key of `number`.
    #[must_use]
    pub fn hash(&self, number: u32) -> u64 {
        self.hashes[number as usize]
    }

    /// Forgets all groups and keeps the memory.
    pub fn clear(&mut self) {
        self.table.clear();
        self.keys.clear();
        self.ends.clear();
        self.panes.clear();
        self.hashes.clear();
    }
}

#[inline]
fn slot_hash(hash: u64, pane: Millis) -> u64 {
    hash ^ (pane as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline]
fn key_at<'a>(keys: &'a [u8], ends: &[u32], number: usize) -> &'a [u8] {
    let start = if number == 0 { 0 } else { ends[number - 1] as usize };
    &keys[start..ends[number] as usize]
}
