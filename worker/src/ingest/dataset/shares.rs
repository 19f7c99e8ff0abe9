//! A dataset whose rows several replicas divide among them.
//!
//! ```text
//!  rows of a file:  0 … 2047 │ 2048 … 4095 │ 4096 … 6143 │ …      block = row / 2048
//!  share of a block:    7    │      8      │      9      │ …      (hash of the file's name + block) mod 16
//! ```
//! Every replica reads all files and commits the blocks of its own shares, each with the progress of that share. So it does
//! not matter who has a share when, nor how far others are: what a share's progress says is all that counts. Nobody is far
//! ahead of the slowest share, so that times stay about in order. A pace is that of all rows: each replica passes those of
//! others at the same pace as it commits its own, and rows that are late, because their share had no owner, go at once.
//! Whoever reads them is told by each commit up to which event time all shares are committed ([`low`]): the newest event of one
//! says nothing about the others.

mod low;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering,
    time::Instant,
};

use xxhash_rust::xxh3::xxh3_64;

use self::low::{Passed, RowAt, note};
use super::{
    DatasetError,
    block::{Block, Place},
    feed::{Feed, Format},
    files::DataFile,
    pace::Pacer,
    progress::{At, ShareProgress},
};
use crate::{
    ingest::{
        IngestError,
        control::Control,
        limits::{SHARE_BLOCK_ROWS, SHARE_BLOCKS_AHEAD, SHARE_LOOK_EVERY, SHARE_LOOK_MAX, SHARES, SHARES_GIVEN_MAX},
        outbox::{Outbox, Topics},
    },
    ports::LogError,
};

/// Why reading goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// There are no more rows.
    Ended,
    /// Other shares are ours now: begin again where the slowest of them is.
    Changed,
    /// Somebody asked for the end.
    Stopped,
}

/// A place between two rows of a file.
#[derive(Clone, Copy, Debug)]
struct Stand {
    file: usize,
    row: u64,
    /// None at the beginning of the file.
    place: Option<Place>,
    /// Blocks before it.
    blocks: u64,
}

impl Stand {
    /// Rows of this file from here to a file and row that lie farther.
    fn rows_before(&self, (file, row): (usize, u64)) -> u64 {
        match file.cmp(&self.file) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => row.saturating_sub(self.row),
            std::cmp::Ordering::Greater => u64::MAX,
        }
    }
}

struct Sharing<'a> {
    feed: &'a mut Feed,
    /// Its files by name.
    files: HashMap<String, usize>,
    topics: &'a mut Topics,
    outbox: &'a mut Outbox,
    control: &'a Control,
    /// Of all rows behind `lead`, whosever they are.
    pacer: Pacer,
    /// File and row that the farthest share has reached, as far as was heard.
    lead: (usize, u64),
    /// Behind the last row that was read to the end, and the blocks before it.
    end: (Option<At>, u64),
    /// Event times of what was read, whosever it is.
    passed: Passed,
    /// The shares that are ours, as far as they are committed.
    mine: BTreeMap<u32, ShareProgress>,
    looked_at: Instant,
    began: Instant,
    /// Whether shares of ours were read to the end.
    has_read: bool,
}

/// Commits what is ours until every row of every share is committed, by whomever, or somebody asks for the end.
///
/// # Errors
/// Where a file or the log fails.
pub(super) fn run(
    feed: &mut Feed,
    topics: &mut Topics,
    outbox: &mut Outbox,
    control: &Control,
) -> Result<(), IngestError> {
    control.begin(0);
    let (pacer, mine, looked_at) = (Pacer::new(feed.pace), BTreeMap::new(), Instant::now());
    let passed = Passed::new((0, 0));
    let files = feed.files.iter().enumerate().map(|(at, file)| (file.name.clone(), at)).collect();
    let mut sharing = Sharing {
        feed,
        files,
        topics,
        outbox,
        control,
        pacer,
        lead: (0, 0),
        end: (None, 0),
        passed,
        mine,
        looked_at,
        began: looked_at,
        has_read: false,
    };
    let mut is_written = true;
    while !control.stopped() {
        is_written &= !sharing.take_over()?;
        if !is_written {
            match sharing.read()? {
                Outcome::Ended => {
                    sharing.has_read |= !sharing.mine.is_empty();
                    is_written = sharing.conclude()?;
                }
                Outcome::Changed => continue,
                Outcome::Stopped => return Ok(()),
            }
        }
        if let Some(rows) = sharing.total()? {
            control.total.store(rows, Ordering::Relaxed);
            let is_empty = rows == 0 && sharing.feed.format == Format::JsonLines;
            return if is_empty { Err(DatasetError::Empty { path: sharing.feed.path.clone() }.into()) } else { Ok(()) };
        }
        let _told_above = control.stopped_before(Instant::now() + SHARE_LOOK_EVERY);
    }
    Ok(())
}

/// The share of a block.
fn share_of(file: &DataFile, block: u64) -> u32 {
    (xxh3_64(file.name.as_bytes()).wrapping_add(block) % u64::from(SHARES)) as u32
}

impl Sharing<'_> {
    /// Looks whose the shares are; whether that has changed.
    fn take_over(&mut self) -> Result<bool, IngestError> {
        self.looked_at = Instant::now();
        let Some(ours) = self.outbox.ours()? else { return Ok(false) };
        self.mine.clear();
        for share in ours {
            let progress = match self.outbox.share_progress(share)? {
                Some(bytes) => ShareProgress::from_bytes(&bytes).map_err(|source| self.outbox.foreign(source))?,
                None => ShareProgress::default(),
            };
            self.mine.insert(share, progress);
        }
        self.lead = self.farthest()?;
        self.pacer = Pacer::new(self.feed.pace);
        Ok(true)
    }

    /// Where the farthest of all shares goes on, as far as was heard.
    fn farthest(&mut self) -> Result<(usize, u64), IngestError> {
        let heard = self.outbox.heard()?;
        let heard = heard.values().filter_map(|bytes| ShareProgress::from_bytes(bytes).ok()).collect::<Vec<_>>();
        let all = self.mine.values().chain(&heard).filter_map(|progress| self.next(progress.at.as_ref()).ok());
        Ok(all.max().unwrap_or_default())
    }

    /// Rows of all shares, once all are done. That they were done before this process began says nothing of files that came later:
    /// until shares were ours and are read to the end, the farthest of all must be in the last file.
    fn total(&mut self) -> Result<Option<u64>, IngestError> {
        let heard = self.outbox.heard()?;
        if heard.len() < SHARES as usize {
            return Ok(None);
        }
        let all: Result<Vec<_>, _> = heard.values().map(|bytes| ShareProgress::from_bytes(bytes)).collect();
        let all = all.map_err(|source| self.outbox.foreign(source))?;
        // Others may know files that we do not.
        let reached: Vec<_> = all.iter().map(|share| self.next(share.at.as_ref()).ok()).collect();
        let end = self.next(self.end.0.as_ref())?;
        let is_believed = match self.has_read {
            // What they have told may be of before.
            true => reached.iter().all(|at| at.is_none_or(|at| at >= end)),
            false => {
                let is_last = reached.iter().flatten().any(|(file, _)| file + 1 >= self.feed.files.len());
                is_last || self.began.elapsed() >= SHARES_GIVEN_MAX
            }
        };
        let is_done = is_believed && all.iter().all(|share| share.done);
        Ok(is_done.then(|| all.iter().map(|share| share.rows).sum()))
    }

    /// Where a share goes on: a file and a row.
    fn next(&self, at: Option<&At>) -> Result<(usize, u64), DatasetError> {
        let Some((name, row, _)) = at else { return Ok((0, 0)) };
        self.files.get(name).map(|file| (*file, *row)).ok_or_else(|| DatasetError::Gone { file: name.clone() })
    }

    /// Where the slowest of our shares goes on.
    fn start(&self) -> Result<Stand, DatasetError> {
        let mut stands = Vec::new();
        for progress in self.mine.values() {
            let (file, row) = self.next(progress.at.as_ref())?;
            let place = progress.at.as_ref().map(|(_, _, place)| *place);
            stands.push(Stand { file, row, place, blocks: progress.blocks });
        }
        let slowest = stands.into_iter().min_by_key(|stand| (stand.file, stand.row));
        Ok(slowest.unwrap_or(Stand { file: self.feed.files.len(), row: 0, place: None, blocks: 0 }))
    }

    /// Reads from the slowest share's place to the end.
    fn read(&mut self) -> Result<Outcome, IngestError> {
        let mut stand = self.start()?;
        self.passed = Passed::new((stand.file, stand.row));
        self.control.bytes.store(0, Ordering::Relaxed);
        self.control.bytes_total.store(self.feed.files.iter().map(|file| file.bytes).sum(), Ordering::Relaxed);
        while stand.file < self.feed.files.len() {
            match self.file(&mut stand)? {
                Outcome::Ended => {}
                other => return Ok(other),
            }
            let is_cut = !stand.row.is_multiple_of(SHARE_BLOCK_ROWS);
            stand = Stand { file: stand.file + 1, row: 0, place: None, blocks: stand.blocks + u64::from(is_cut) };
        }
        self.end.1 = stand.blocks;
        Ok(Outcome::Ended)
    }

    fn file(&mut self, stand: &mut Stand) -> Result<Outcome, IngestError> {
        let file = self.feed.files[stand.file].clone();
        let mut reader = self.feed.open(&file, stand.place, &self.control.bytes)?;
        let mut block = Block::default();
        loop {
            reader.next(&mut block)?;
            if block.rows.is_empty() {
                self.passed.ended(stand.file, stand.row);
                if let Some(place) = stand.place {
                    self.end.0 = Some((file.name, stand.row, place));
                }
                return Ok(Outcome::Ended);
            }
            self.feed.times.apply(&mut block, &mut None, self.feed.low_field.is_some());
            let mut from = 0;
            while from < block.rows.len() {
                let left = SHARE_BLOCK_ROWS - stand.row % SHARE_BLOCK_ROWS;
                let until = block.rows.len().min(from + left as usize);
                let times = self.feed.times.of_rows(from);
                self.passed.look(&times[..times.len().min(until - from)]);
                match self.rows(&file, stand, &block, from..until)? {
                    Outcome::Ended => {}
                    other => return Ok(other),
                }
                self.passed.over((stand.file, stand.row));
                let last = block.rows[until - 1];
                stand.row += (until - from) as u64;
                stand.place = Some(Place { byte: last.after, line: last.line_after });
                from = until;
                if stand.row.is_multiple_of(SHARE_BLOCK_ROWS) {
                    stand.blocks += 1;
                    match self.between_blocks(&file, stand)? {
                        Outcome::Ended => {}
                        other => return Ok(other),
                    }
                }
            }
        }
    }

    /// Commits rows of one block, if they are ours and were not committed before.
    fn rows(
        &mut self,
        file: &DataFile,
        stand: &Stand,
        block: &Block,
        rows: std::ops::Range<usize>,
    ) -> Result<Outcome, IngestError> {
        let share = share_of(file, stand.row / SHARE_BLOCK_ROWS);
        let Some(mut progress) = self.mine.get(&share).cloned() else {
            return self.pass(stand, &rows, rows.start);
        };
        let on_time = self.on_time(stand, &rows);
        let mut from = rows.start + stand.rows_before(self.next(progress.at.as_ref())?).min(rows.len() as u64) as usize;
        while from < rows.end {
            let ready = if from < on_time {
                on_time - from
            } else if let Some(ready) = self.pacer.next(rows.end - from, &[], self.control) {
                ready
            } else {
                return Ok(Outcome::Stopped);
            };
            let some = &block.rows[from..from + ready];
            let low = if self.feed.low_field.is_some() { Some(self.low(share)?) } else { None };
            let targets = self.topics.route(some.iter().map(|row| block.payload(row)));
            let topics = &*self.topics;
            let record = |(at, row)| topics.record(targets.of(at), block.payload(row));
            let mut records: Vec<_> = some.iter().enumerate().map(record).collect();
            if let (Some(field), Some(low)) = (&self.feed.low_field, low) {
                let (first, skipped) = ((stand.file, stand.row), from - rows.start);
                note(&mut records, topics.all_partitions(), field, |at| self.passed.before(first, skipped + at, low));
            }
            from += ready;
            let last = some[ready - 1];
            let place = Place { byte: last.after, line: last.line_after };
            progress.rows += ready as u64;
            progress.blocks = stand.blocks;
            progress.done = false;
            progress.at = Some((file.name.clone(), stand.row + (from - rows.start) as u64, place));
            match self.outbox.commit_share(share, &records, &progress.to_bytes()) {
                Err(IngestError::Log(LogError::Fenced)) => {
                    // Another replica has it: the group will say so, and its rows take their time all the same.
                    self.mine.remove(&share);
                    drop(records);
                    return self.pass(stand, &rows, from);
                }
                committed => committed?,
            }
            drop(records);
            self.topics.turn();
            self.control.count(ready as u64);
            self.mine.insert(share, progress.clone());
            // At a low rate a block takes minutes, and the others wait to hear that we live.
            if self.looked_at.elapsed() >= SHARE_LOOK_MAX && self.take_over()? {
                return Ok(Outcome::Changed);
            }
        }
        Ok(Outcome::Ended)
    }

    /// The first row that belongs to another share than `share` and is not committed yet, as far as was heard.
    fn low(&mut self, share: u32) -> Result<RowAt, IngestError> {
        let heard = self.outbox.heard()?;
        let mut low = (self.feed.files.len(), 0);
        for other in (0..SHARES).filter(|other| *other != share) {
            let progress =
                heard.get(&other).and_then(|bytes| ShareProgress::from_bytes(bytes).ok()).unwrap_or_default();
            let (file, row) = self.next(progress.at.as_ref()).unwrap_or_default();
            // One that is done is behind the file where it was so: others may have been added.
            let at = if progress.done && progress.at.is_some() { (file + 1, 0) } else { (file, row) };
            low = low.min(self.passed.next_of(other, at, &self.feed.files));
        }
        Ok(low)
    }

    /// Lets rows of others pass, from `from` on, at the pace at which their owners write them. Whoever turns out to be behind,
    /// because it heard of the others late, is where they are at once.
    fn pass(&mut self, stand: &Stand, rows: &std::ops::Range<usize>, mut from: usize) -> Result<Outcome, IngestError> {
        loop {
            from = from.max(self.on_time(stand, rows));
            if from >= rows.end {
                return Ok(Outcome::Ended);
            }
            let Some(ready) = self.pacer.next(rows.end - from, &[], self.control) else {
                return Ok(Outcome::Stopped);
            };
            from += ready;
            if self.looked_at.elapsed() >= SHARE_LOOK_MAX {
                if self.take_over()? {
                    return Ok(Outcome::Changed);
                }
                self.lead = self.lead.max(self.farthest()?);
            }
        }
    }

    /// The first of `rows` that no share has passed yet, as far as was heard.
    fn on_time(&self, stand: &Stand, rows: &std::ops::Range<usize>) -> usize {
        rows.start + stand.rows_before(self.lead).min(rows.len() as u64) as usize
    }

    /// Waits for slower shares; tells the others how far ours are that had nothing to commit for long.
    fn between_blocks(&mut self, file: &DataFile, stand: &Stand) -> Result<Outcome, IngestError> {
        let place = stand.place.map(|place| (file.name.clone(), stand.row, place));
        self.tell(SHARE_BLOCKS_AHEAD / 2, stand.blocks, false, place)?;
        loop {
            if self.control.stopped() {
                return Ok(Outcome::Stopped);
            }
            if self.take_over()? {
                return Ok(Outcome::Changed);
            }
            if stand.blocks <= self.slowest()? + SHARE_BLOCKS_AHEAD {
                return Ok(Outcome::Ended);
            }
            let _told_above = self.control.stopped_before(Instant::now() + SHARE_LOOK_EVERY);
        }
    }

    /// Commits where we are for those of our shares whose progress lies `behind` or more blocks back; if that is behind the
    /// last row, for all that are not done.
    fn tell(&mut self, behind: u64, blocks: u64, done: bool, at: Option<At>) -> Result<(), IngestError> {
        let here = self.next(at.as_ref())?;
        let is_late = |progress: &ShareProgress| match done {
            true => !progress.done || self.next(progress.at.as_ref()).is_ok_and(|at| at < here),
            false => progress.blocks + behind <= blocks,
        };
        let late: Vec<u32> =
            self.mine.iter().filter(|(_, progress)| is_late(progress)).map(|(share, _)| *share).collect();
        for share in late {
            let known = &self.mine[&share];
            // A share never goes back, whatever its count of blocks says.
            let is_behind = self.next(known.at.as_ref())? < here;
            let at = if is_behind { at.clone() } else { known.at.clone() };
            // One that is done is so until there are more rows.
            let told = ShareProgress { rows: known.rows, blocks, done: done || (known.done && !is_behind), at };
            match self.outbox.commit_share(share, &[], &told.to_bytes()) {
                Ok(()) => drop(self.mine.insert(share, told)),
                Err(IngestError::Log(LogError::Fenced)) => drop(self.mine.remove(&share)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that all of ours are done; whether they still are ours.
    fn conclude(&mut self) -> Result<bool, IngestError> {
        let count = self.mine.len();
        let (at, blocks) = self.end.clone();
        self.tell(0, blocks, true, at)?;
        Ok(self.mine.len() == count)
    }

    /// Blocks before the slowest share that has more to come; one that nobody told about is at the beginning.
    fn slowest(&mut self) -> Result<u64, IngestError> {
        let mine = &self.mine;
        let heard = self.outbox.heard()?;
        let mut slowest = u64::MAX;
        for share in 0..SHARES {
            let progress = match (mine.get(&share), heard.get(&share)) {
                (Some(progress), _) => progress.clone(),
                (None, Some(bytes)) => ShareProgress::from_bytes(bytes).unwrap_or_default(),
                (None, None) => ShareProgress::default(),
            };
            let file = progress.at.as_ref().and_then(|(name, ..)| self.files.get(name));
            let is_last = file.is_none_or(|file| file + 1 >= self.feed.files.len());
            if !(progress.done && is_last) {
                slowest = slowest.min(progress.blocks);
            }
        }
        Ok(slowest.min(u64::MAX - SHARE_BLOCKS_AHEAD))
    }
}
