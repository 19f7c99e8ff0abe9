//! Left rows until they are released, in order of time.
//!
//! Rows are put into divisions of event time and sorted only when a division is released: that is cheaper than a
//! heap, because a sort runs over memory that lies side by side, and memory is given back by the division.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::time::Millis;

/// Bits of a time within one division of 256 ms. Shorter ones cost memory on thin streams; longer ones cost time
/// where a watermark moves within one, because all of its rows are looked at.
const DIVISION_BITS: u32 = 8;

/// Empty divisions whose memory is kept for new ones.
const SPARE_MAX: usize = 16;

/// Left rows by division.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    divisions: BTreeMap<i64, Division>,
    spare: Vec<Division>,
    len: usize,
    bytes: usize,
    /// Rows on their way out.
    released: Vec<Place>,
}

/// The rows of one division in order of arrival.
#[derive(Clone, Debug, Default)]
struct Division {
    places: Vec<Place>,
    /// Key, id and row of each, with holes where rows were released.
    bytes: Vec<u8>,
}

/// Where a row lies in its division.
#[derive(Clone, Copy, Debug)]
struct Place {
    time: Millis,
    hash: u64,
    start: usize,
    key_len: u32,
    id_len: u32,
    row_len: u32,
}

/// A left row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftRow<'a> {
    /// Hash of `key`.
    pub hash: u64,
    /// What it is joined by.
    pub key: &'a [u8],
    /// When it happened.
    pub time: Millis,
    /// Its id.
    pub id: &'a [u8],
    /// The row.
    pub row: &'a [u8],
}

impl Waiting {
    /// Takes a row.
    ///
    /// # Panics
    /// If a part of the row passes 4 GiB: drivers bound records far below.
    pub fn push(&mut self, hash: u64, key: &[u8], time: Millis, id: &[u8], row: &[u8]) {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("drivers bound a record far below 4 GiB");
        let place = Place { time, hash, start: 0, key_len: len(key), id_len: len(id), row_len: len(row) };
        let spare = &mut self.spare;
        let division = self.divisions.entry(time >> DIVISION_BITS);
        let division = division.or_insert_with(|| spare.pop().unwrap_or_default());
        division.places.push(Place { start: division.bytes.len(), ..place });
        [key, id, row].iter().for_each(|part| division.bytes.extend_from_slice(part));
        self.len += 1;
        self.bytes += place.bytes();
    }

    /// Hands over the rows before `time` by (time, id, row).
    pub fn release_before(&mut self, time: Millis, take: &mut impl FnMut(LeftRow<'_>)) {
        while let Some(mut first) = self.divisions.first_entry()
            && *first.key() <= time >> DIVISION_BITS
        {
            let is_whole = *first.key() < time >> DIVISION_BITS;
            first.get_mut().release_before(time, &mut self.released, take);
            self.len -= self.released.len();
            self.bytes -= self.released.iter().map(Place::bytes).sum::<usize>();
            if first.get().places.is_empty() {
                let mut empty = first.remove();
                empty.bytes.clear();
                if self.spare.len() < SPARE_MAX {
                    self.spare.push(empty);
                }
            }
            if !is_whole {
                return;
            }
        }
    }

    /// Returns a time that no row is before, at most 256 ms before the oldest; `None` if there are no rows.
    pub fn not_before(&self) -> Option<Millis> {
        self.divisions.first_key_value().map(|(division, _)| division << DIVISION_BITS)
    }

    /// Calls `visit` with every row by (time, id, row, key).
    pub fn for_each(&self, visit: &mut impl FnMut(LeftRow<'_>)) {
        for division in self.divisions.values() {
            let mut places = division.places.clone();
            places.sort_unstable_by(|left, right| division.compare(left, right));
            places.iter().for_each(|place| visit(division.row(place)));
        }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The memory behind the rows, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Division {
    /// Hands over the rows before `time`, in order, and leaves them in `released`.
    fn release_before(&mut self, time: Millis, released: &mut Vec<Place>, take: &mut impl FnMut(LeftRow<'_>)) {
        released.clear();
        self.places.retain(|place| {
            let stays = place.time >= time;
            if !stays {
                released.push(*place);
            }
            stays
        });
        released.sort_unstable_by(|left, right| self.compare(left, right));
        released.iter().for_each(|place| take(self.row(place)));
    }

    fn row(&self, place: &Place) -> LeftRow<'_> {
        let (key, rest) = self.bytes[place.start..].split_at(place.key_len as usize);
        let (id, rest) = rest.split_at(place.id_len as usize);
        LeftRow { hash: place.hash, key, time: place.time, id, row: &rest[..place.row_len as usize] }
    }

    fn compare(&self, left: &Place, right: &Place) -> Ordering {
        left.time.cmp(&right.time).then_with(|| {
            let (left, right) = (self.row(left), self.row(right));
            (left.id, left.row, left.key).cmp(&(right.id, right.row, right.key))
        })
    }
}

impl Place {
    fn bytes(&self) -> usize {
        size_of::<Self>() + (self.key_len as usize) + (self.id_len as usize) + (self.row_len as usize)
    }
}
