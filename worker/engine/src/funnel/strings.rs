//! Short byte strings that many events share, as numbers: breakdown groups and `sameKey` values.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Interned byte strings. Number 0 is the empty one.
#[derive(Clone, Debug)]
pub struct Strings {
    bytes: Vec<u8>,
    /// Where each string ends in `bytes`; it begins where the one before ends.
    ends: Vec<usize>,
    numbers: HashTable<u32>,
}

impl Strings {
    /// Starts with the empty string alone.
    pub fn new() -> Self {
        Self { bytes: Vec::new(), ends: vec![0], numbers: HashTable::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the number of `text`.
    #[inline]
    pub fn number(&mut self, text: &[u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let hash = xxh3_64(text);
        let (bytes, ends) = (&self.bytes, &self.ends);
        if let Some(number) = self.numbers.find(hash, |number| get(bytes, ends, *number) == text) {
            return *number;
        }
        let number = u32::try_from(self.ends.len()).expect("fewer strings than four billion events");
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        let (bytes, ends) = (&self.bytes, &self.ends);
        self.numbers.insert_unique(hash, number, |number| xxh3_64(get(bytes, ends, *number)));
        number
    }

    /// Returns the string of `number`, which came from here.
    #[inline]
    pub fn get(&self, number: u32) -> &[u8] {
        get(&self.bytes, &self.ends, number)
    }
}

fn get<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    match number as usize {
        0 => &[],
        at => &bytes[ends[at - 1]..ends[at]],
    }
}
