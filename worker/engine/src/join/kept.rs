//! Right rows by key, each key's by start, until nothing can pair with them.

use std::collections::BTreeSet;

use hashbrown::HashTable;

use crate::time::Millis;

/// Right rows by key.
#[derive(Clone, Debug)]
pub struct Kept {
    within_ms: Millis,
    directory: HashTable<u32>,
    keys: Vec<Option<KeyRows>>,
    /// Empty places in `keys`.
    free: Vec<u32>,
    /// (end, place of the key) of every row; rows of equal ones share an entry.
    ends: BTreeSet<(Millis, u32)>,
    len: usize,
    bytes: usize,
}

/// The rows of one key, by (start, id, row, end). Never empty.
#[derive(Clone, Debug)]
pub struct KeyRows {
    /// The key.
    pub key: Box<[u8]>,
    hash: u64,
    /// Its rows.
    pub rows: Vec<RightRow>,
}

/// A right row.
#[derive(Clone, Debug)]
pub struct RightRow {
    /// First instant at which it is valid.
    pub start: Millis,
    /// Last instant at which it is valid.
    pub end: Millis,
    id_len: usize,
    /// The id, then the row.
    bytes: Box<[u8]>,
}

impl Kept {
    /// Makes the state before the first row. No row is valid for longer than `within_ms`.
    pub fn new(within_ms: Millis) -> Self {
        Self {
            within_ms,
            directory: HashTable::new(),
            keys: Vec::new(),
            free: Vec::new(),
            ends: BTreeSet::new(),
            len: 0,
            bytes: 0,
        }
    }

    /// Takes a row.
    pub fn insert(&mut self, hash: u64, key: &[u8], start: Millis, end: Millis, id: &[u8], row: &[u8]) {
        let place = self.place(hash, key);
        let new = RightRow { start, end, id_len: id.len(), bytes: [id, row].concat().into() };
        self.len += 1;
        self.bytes += new.bytes_kept();
        self.ends.insert((end, place));
        let rows = &mut self.keys[place as usize].as_mut().expect("places in the directory are taken").rows;
        let at = rows.partition_point(|other| other.order() <= new.order());
        rows.insert(at, new);
    }

    /// Hands over the rows of `key` that are valid at `time`, by (start, id, row).
    pub fn valid_at(&self, hash: u64, key: &[u8], time: Millis, take: &mut impl FnMut(&[u8])) {
        let Some(place) = self.find(hash, key) else { return };
        let rows = &self.keys[place as usize].as_ref().expect("places in the directory are taken").rows;
        let begun = rows.partition_point(|row| row.start <= time);
        let over = rows[..begun].partition_point(|row| row.start.saturating_add(self.within_ms) < time);
        rows[over..begun].iter().filter(|row| time <= row.end).for_each(|row| take(row.row()));
    }

    /// Lets go of the rows that ended before `time`.
    pub fn free_before(&mut self, time: Millis) {
        while let Some((end, place)) = self.ends.first().copied()
            && end < time
        {
            self.ends.pop_first();
            let key = self.keys[place as usize].as_mut().expect("a row with this end is there");
            let (len, bytes) = (&mut self.len, &mut self.bytes);
            key.rows.retain(|row| {
                if row.end == end {
                    *len -= 1;
                    *bytes -= row.bytes_kept();
                }
                row.end != end
            });
            if key.rows.is_empty() {
                self.forget(place);
            }
        }
    }

    /// Returns all rows, by key.
    pub fn sorted(&self) -> Vec<&KeyRows> {
        let mut keys: Vec<&KeyRows> = self.keys.iter().flatten().collect();
        keys.sort_unstable_by(|left, right| left.key.cmp(&right.key));
        keys
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The memory behind the rows, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let keys = &self.keys;
        let found = self.directory.find(hash, |place| {
            keys[*place as usize].as_ref().is_some_and(|known| known.hash == hash && *known.key == *key)
        });
        found.copied()
    }

    fn place(&mut self, hash: u64, key: &[u8]) -> u32 {
        if let Some(place) = self.find(hash, key) {
            return place;
        }
        let place = self.free.pop().unwrap_or(self.keys.len() as u32);
        if place as usize == self.keys.len() {
            self.keys.push(None);
        }
        self.keys[place as usize] = Some(KeyRows { key: key.into(), hash, rows: Vec::new() });
        let keys = &self.keys;
        self.directory.insert_unique(hash, place, |place| {
            keys[*place as usize].as_ref().expect("places in the directory are taken").hash
        });
        place
    }

    fn forget(&mut self, place: u32) {
        if let Some(key) = self.keys[place as usize].take()
            && let Ok(found) = self.directory.find_entry(key.hash, |other| *other == place)
        {
            found.remove();
            self.free.push(place);
        }
    }
}

impl RightRow {
    /// Its id.
    pub fn id(&self) -> &[u8] {
        &self.bytes[..self.id_len]
    }

    /// The row.
    pub fn row(&self) -> &[u8] {
        &self.bytes[self.id_len..]
    }

    fn order(&self) -> (Millis, &[u8], &[u8], Millis) {
        (self.start, self.id(), self.row(), self.end)
    }

    fn bytes_kept(&self) -> usize {
        size_of::<Self>() + self.bytes.len()
    }
}
