//! A dataset whose rows several replicas divide among them.
//!
//! ```text
//!  rows of a file:  0 … 2047 │ 2048 … 4095 │ 4096 … 6143 │ …      block = row / 2048
//!  share of a block:    7    │      8      │      9      │ …      (hash of the file's name + block) mod 16
//! ```
//! Every replica reads all files and commits the blocks of its own shares, each with the progress of that share. So it does
//! not matter who has a share when, nor how far others are: what a share's progress says is all that counts. Nobody is far
//! ahead of the slowest share, so that times stay about in order.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Instant};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    DatasetError,
    block::{Block, Place},
    feed::{Feed, Format},
    files::DataFile,
    pace::{Pace, Pacer},
    progress::ShareProgress,
};
use crate::{
    ingest::{
        IngestError,
        control::Control,
        limits::{SHARE_BLOCK_ROWS, SHARE_BLOCKS_AHEAD, SHARE_LOOK_EVERY, SHARE_LOOK_MAX, SHARES},
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

struct Sharing<'a> {
    feed: &'a mut Feed,
    topics: &'a mut Topics,
    outbox: &'a mut Outbox,
    control: &'a Control,
    pacer: Pacer,
    /// The shares that are ours, as far as they are committed.
    mine: BTreeMap<u32, ShareProgress>,
    looked_at: Instant,
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
    let pacer = Pacer::new(feed.pace);
    let mut sharing =
        Sharing { feed, topics, outbox, control, pacer, mine: BTreeMap::new(), looked_at: Instant::now() };
    let mut is_written = true;
    while !control.stopped() {
        is_written &= !sharing.take_over()?;
        if !is_written {
            match sharing.read()? {
                Outcome::Ended => is_written = sharing.conclude()?,
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
        // The rate is that of all replicas together.
        if let Pace::Rate(rate) = self.feed.pace {
            let part = self.mine.len().max(1) as f64 / f64::from(SHARES);
            self.pacer = Pacer::new(Pace::Rate(rate * part));
        }
        Ok(true)
    }

    /// Rows of all shares, once all are done.
    fn total(&mut self) -> Result<Option<u64>, IngestError> {
        let heard = self.outbox.heard()?;
        if heard.len() < SHARES as usize {
            return Ok(None);
        }
        let all: Result<Vec<_>, _> = heard.values().map(|bytes| ShareProgress::from_bytes(bytes)).collect();
        let all = all.map_err(|source| self.outbox.foreign(source))?;
        Ok(all.iter().all(|share| share.done).then(|| all.iter().map(|share| share.rows).sum()))
    }

    /// Where a share goes on: a file and a row.
    fn next(&self, progress: &ShareProgress) -> Result<(usize, u64), DatasetError> {
        let Some((name, row, _)) = &progress.at else { return Ok((0, 0)) };
        let found = self.feed.files.iter().position(|file| file.name == *name);
        found.map(|file| (file, *row)).ok_or_else(|| DatasetError::Gone { file: name.clone() })
    }

    /// Where the slowest of our shares goes on.
    fn start(&self) -> Result<Stand, DatasetError> {
        let mut stands = Vec::new();
        for progress in self.mine.values() {
            let (file, row) = self.next(progress)?;
            let place = progress.at.as_ref().map(|(_, _, place)| *place);
            stands.push(Stand { file, row, place, blocks: progress.blocks });
        }
        let slowest = stands.into_iter().min_by_key(|stand| (stand.file, stand.row));
        Ok(slowest.unwrap_or(Stand { file: self.feed.files.len(), row: 0, place: None, blocks: 0 }))
    }

    /// Reads from the slowest share's place to the end.
    fn read(&mut self) -> Result<Outcome, IngestError> {
        let mut stand = self.start()?;
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
        Ok(Outcome::Ended)
    }

    fn file(&mut self, stand: &mut Stand) -> Result<Outcome, IngestError> {
        let file = self.feed.files[stand.file].clone();
        let mut reader = self.feed.open(&file, stand.place, &self.control.bytes)?;
        let mut block = Block::default();
        loop {
            reader.next(&mut block)?;
            if block.rows.is_empty() {
                return Ok(Outcome::Ended);
            }
            let mut from = 0;
            while from < block.rows.len() {
                let left = SHARE_BLOCK_ROWS - stand.row % SHARE_BLOCK_ROWS;
                let until = block.rows.len().min(from + left as usize);
                match self.rows(&file, stand, &block, from..until)? {
                    Outcome::Ended => {}
                    other => return Ok(other),
                }
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
        let Some(progress) = self.mine.get(&share).cloned() else { return Ok(Outcome::Ended) };
        let next = self.next(&progress)?;
        let done = match next.0.cmp(&stand.file) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => next.1.saturating_sub(stand.row),
            std::cmp::Ordering::Greater => u64::MAX,
        };
        let mut from = rows.start + (rows.len() as u64).min(done) as usize;
        let mut progress = progress;
        while from < rows.end {
            let Some(ready) = self.pacer.next(rows.end - from, &[], self.control) else { return Ok(Outcome::Stopped) };
            let some = &block.rows[from..from + ready];
            let targets = self.topics.route(some.iter().map(|row| block.payload(row)));
            let topics = &*self.topics;
            let record = |(at, row)| topics.record(targets.of(at), block.payload(row));
            let records: Vec<_> = some.iter().enumerate().map(record).collect();
            from += ready;
            let last = some[ready - 1];
            let place = Place { byte: last.after, line: last.line_after };
            progress.rows += ready as u64;
            progress.blocks = stand.blocks;
            progress.done = false;
            progress.at = Some((file.name.clone(), stand.row + (from - rows.start) as u64, place));
            match self.outbox.commit_share(share, &records, &progress.to_bytes()) {
                Err(IngestError::Log(LogError::Fenced)) => {
                    // Another replica has it: the group will say so.
                    self.mine.remove(&share);
                    return Ok(Outcome::Ended);
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

    /// Commits where we are for those of our shares whose progress lies `behind` or more blocks back.
    fn tell(
        &mut self,
        behind: u64,
        blocks: u64,
        done: bool,
        at: Option<(String, u64, Place)>,
    ) -> Result<(), IngestError> {
        let late: Vec<u32> = self
            .mine
            .iter()
            .filter(|(_, progress)| progress.blocks + behind <= blocks && !(done && progress.done))
            .map(|(share, _)| *share)
            .collect();
        for share in late {
            let known = &self.mine[&share];
            let at = if at.is_some() { at.clone() } else { known.at.clone() };
            // One that is done is so until it has more rows.
            let told = ShareProgress { rows: known.rows, blocks, done: done || known.done, at };
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
        let blocks = self.mine.values().map(|progress| progress.blocks).max().unwrap_or(0);
        self.tell(0, blocks, true, None)?;
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
            if !progress.done {
                slowest = slowest.min(progress.blocks);
            }
        }
        Ok(slowest.min(u64::MAX - SHARE_BLOCKS_AHEAD))
    }
}
