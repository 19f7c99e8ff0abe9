//! How far all shares are, in the events' own time: what records say of those that are still to come, so that a share whose
//! owner died is not late when it goes on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::{
    limits::FUTURE_MS_MAX,
    time::{BEGINNING_OF_TIME, Millis},
};

use super::share_of;
use crate::{
    clock,
    ingest::{
        dataset::files::DataFile,
        limits::{SHARE_BLOCK_ROWS, SHARE_BLOCKS_AHEAD, SHARES},
    },
    ports::{IngestRecord, Low},
};

/// A file and a row of it.
pub(super) type RowAt = (usize, u64);

/// Rows from one remembered place to the next.
const STEP_ROWS: u64 = 256;

/// Remembered places: twice as many as the slowest share may be behind.
const PLACES_MAX: usize = (2 * SHARE_BLOCKS_AHEAD * SHARE_BLOCK_ROWS / STEP_ROWS) as usize;

/// The latest event time before each of the last places that were read, whosever the rows are.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Where reading began. What lies before is not known.
    begin: RowAt,
    /// Rows of the files that were read to the end since.
    ended: BTreeMap<usize, u64>,
    /// In order.
    places: VecDeque<(RowAt, Millis)>,
    /// Before the rows at hand.
    latest: Millis,
    /// Behind each of the rows at hand.
    running: Vec<Millis>,
}

impl Passed {
    /// Begins to read at a place.
    pub(super) fn new(begin: RowAt) -> Self {
        let latest = BEGINNING_OF_TIME;
        Self { begin, places: VecDeque::from([(begin, latest)]), latest, ..Self::default() }
    }

    /// Looks at the times of the rows at hand, of which those that no stream takes do not count.
    pub(super) fn look(&mut self, times: &[Option<Millis>]) {
        self.running.clear();
        let (mut latest, valid) = (self.latest, 0..=clock::now().saturating_add(FUTURE_MS_MAX));
        self.running.extend(times.iter().map(|time| {
            latest = latest.max(time.filter(|time| valid.contains(time)).unwrap_or(BEGINNING_OF_TIME));
            latest
        }));
    }

    /// The rows at hand are over, of which `first` was the first.
    pub(super) fn over(&mut self, (file, first): RowAt) {
        for (row, latest) in (first + 1..).zip(&self.running) {
            if row.is_multiple_of(STEP_ROWS) {
                self.places.push_back(((file, row), *latest));
            }
        }
        self.latest = self.running.last().copied().unwrap_or(self.latest);
        self.running.clear();
        self.places.drain(..self.places.len().saturating_sub(PLACES_MAX));
    }

    /// A file has so many rows. Times begin anew with the next: files may be of the same days, for other topics or partitions,
    /// and whoever reads keeps the latest that it has heard.
    pub(super) fn ended(&mut self, file: usize, rows: u64) {
        self.ended.insert(file, rows);
        self.latest = BEGINNING_OF_TIME;
        self.places.push_back(((file + 1, 0), self.latest));
    }

    /// The latest event time before `count` of the rows at hand, the first of which is `first`, where nobody has a row before
    /// `low` to write any more. [`BEGINNING_OF_TIME`] if that is not known.
    pub(super) fn before(&self, first: RowAt, count: usize, low: RowAt) -> Millis {
        if low >= (first.0, first.1 + count as u64) {
            return count.checked_sub(1).map_or(self.latest, |last| self.running[last]);
        }
        let behind = self.places.partition_point(|(place, _)| *place <= low);
        behind.checked_sub(1).filter(|_| low >= self.begin).map_or(BEGINNING_OF_TIME, |at| self.places[at].1)
    }

    /// The first row at or behind `from` that belongs to `share`, as far as the files are known.
    pub(super) fn next_of(&self, share: u32, (mut file, mut row): RowAt, files: &[DataFile]) -> RowAt {
        while let Some(known) = files.get(file) {
            let block = row / SHARE_BLOCK_ROWS;
            let blocks = (share + SHARES - share_of(known, block)) % SHARES;
            if blocks > 0 {
                row = (block + u64::from(blocks)) * SHARE_BLOCK_ROWS;
            }
            if self.ended.get(&file).is_none_or(|rows| row < *rows) {
                return (file, row);
            }
            (file, row) = (file + 1, 0);
        }
        (file, row)
    }
}

/// Notes in the first record of each partition what is known `before` it, by its place, and in the last what is known behind
/// it: where nothing was said yet the first must be, before others are taken for late. There are `partitions` in all.
pub(super) fn note<'a>(
    records: &mut [IngestRecord<'a>],
    partitions: usize,
    field: &'a str,
    before: impl Fn(usize) -> Millis,
) {
    let low = |at: usize| Some(Low { field, time: before(at) });
    let mut noted = BTreeSet::new();
    for (at, record) in records.iter_mut().enumerate() {
        if noted.insert((record.topic, record.partition)) {
            record.low = low(at);
        }
        if noted.len() == partitions {
            break;
        }
    }
    for (at, record) in records.iter_mut().enumerate().rev() {
        if noted.remove(&(record.topic, record.partition)) {
            record.low = low(at + 1);
        }
        if noted.is_empty() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::dataset::files;

    #[test]
    fn the_latest_time_is_known_of_places_that_were_read() {
        let mut passed = Passed::new((0, 512));
        passed.look(&(0..300).map(|row| (row != 7).then_some(1_000 - row)).collect::<Vec<_>>());
        let first = (0, 512);
        assert_eq!(passed.before(first, 0, (9, 0)), BEGINNING_OF_TIME);
        assert_eq!(passed.before(first, 3, (9, 0)), 1_000);
        assert_eq!(passed.before(first, 3, (0, 513)), BEGINNING_OF_TIME, "somebody is at the second row");
        passed.over(first);
        passed.look(&[Some(5_000)]);
        assert_eq!(passed.before((0, 812), 1, (0, 800)), 1_000, "as it was behind row 768");
        assert_eq!(passed.before((0, 812), 1, (0, 767)), BEGINNING_OF_TIME);
        assert_eq!(passed.before((0, 812), 1, (0, 10)), BEGINNING_OF_TIME, "that was not read");
        passed.over((0, 812));
        passed.ended(0, 813);
        assert_eq!(passed.before((1, 0), 0, (1, 0)), BEGINNING_OF_TIME, "another file is another matter");
        passed.look(&[Some(-1), Some(7_000), Some(i64::MAX)]);
        assert_eq!([1, 2, 3].map(|count| passed.before((1, 0), count, (2, 0))), [BEGINNING_OF_TIME, 7_000, 7_000]);
    }

    #[test]
    fn the_next_row_of_a_share_lies_in_its_next_block_or_file() {
        let folder = tempfile::tempdir().unwrap();
        ["a.csv", "b.csv"].iter().for_each(|name| std::fs::write(folder.path().join(name), "").unwrap());
        let files = files::list(folder.path(), ".", &[".csv"]).unwrap();
        let mut passed = Passed::new((0, 0));
        let share = share_of(&files[0], 3);
        assert_eq!(passed.next_of(share, (0, 0), &files), (0, 3 * SHARE_BLOCK_ROWS));
        assert_eq!(passed.next_of(share, (0, 3 * SHARE_BLOCK_ROWS + 9), &files), (0, 3 * SHARE_BLOCK_ROWS + 9));
        assert_eq!(passed.next_of(share, (0, 4 * SHARE_BLOCK_ROWS), &files), (0, 19 * SHARE_BLOCK_ROWS));
        passed.ended(0, 3 * SHARE_BLOCK_ROWS);
        let (file, row) = passed.next_of(share, (0, 0), &files);
        assert_eq!((file, share_of(&files[1], row / SHARE_BLOCK_ROWS)), (1, share));
        passed.ended(1, 0);
        assert_eq!(passed.next_of(share, (0, 0), &files), (2, 0));
    }
}
