//! Shares over a log in memory whose owners change all the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use engine::{time::Millis, watermark::PartitionWatermark};
use proptest::prelude::*;

use super::{
    super::{Feed, Format, files, pace::Pace, times::Times},
    SHARE_BLOCK_ROWS, SHARE_BLOCKS_AHEAD, SHARES, run,
};
use crate::{
    ingest::{Control, Outbox, Routes, Target, Topics},
    ports::{IngestLog, IngestRecord, LogError, Shares, share_name},
};

/// What Kafka would keep: who may write each share, what was written, and how far.
#[derive(Default)]
struct Pool {
    owners: BTreeMap<u32, usize>,
    /// Raised with every change of owners.
    generation: u64,
    /// The change that gave each share to its owner: whoever took it before is fenced, also one that has it again.
    given: BTreeMap<u32, u64>,
    progress: BTreeMap<u32, Vec<u8>>,
    rows: Vec<String>,
    /// What each of them says of those that are still to come.
    lows: Vec<Option<Millis>>,
    commits: usize,
    /// Whose shares go where, after how many commits.
    changes: Vec<(usize, usize)>,
}

impl Pool {
    /// Gives every share that `from` has to one of the other two.
    fn pass_on(&mut self, from: usize) {
        self.generation += 1;
        for (share, owner) in self.owners.iter_mut().filter(|(_, owner)| **owner == from) {
            *owner = (from + 1 + *share as usize % 2) % 3;
            self.given.insert(*share, self.generation);
        }
    }
}

/// One replica's way to the pool.
struct Replica {
    pool: Arc<Mutex<Pool>>,
    own: usize,
    seen: Option<u64>,
    ours: BTreeSet<u32>,
    heard: BTreeMap<u32, Vec<u8>>,
}

impl Shares for Replica {
    fn ours(&mut self) -> Result<Option<Vec<u32>>, LogError> {
        let pool = self.pool.lock().unwrap();
        if self.seen.replace(pool.generation) == Some(pool.generation) {
            return Ok(None);
        }
        self.ours = pool.owners.iter().filter(|(_, owner)| **owner == self.own).map(|(share, _)| *share).collect();
        Ok(Some(self.ours.iter().copied().collect()))
    }

    fn heard(&mut self) -> Result<&BTreeMap<u32, Vec<u8>>, LogError> {
        self.heard.clone_from(&self.pool.lock().unwrap().progress);
        Ok(&self.heard)
    }
}

fn share_of(name: &str) -> u32 {
    name.rsplit_once('/').unwrap().1.parse().unwrap()
}

impl IngestLog for Replica {
    fn commit(&mut self, name: &str, records: &[IngestRecord<'_>], progress: &[u8]) -> Result<(), LogError> {
        let (share, mut pool) = (share_of(name), self.pool.lock().unwrap());
        let taken_at = self.seen.filter(|_| self.ours.contains(&share));
        let given_at = pool.given.get(&share).copied().unwrap_or_default();
        if pool.owners[&share] != self.own || taken_at.is_none_or(|taken_at| taken_at < given_at) {
            // A commit that was only handed over fails later: `ours` tells of the change.
            return if share % 2 == 0 { Err(LogError::Fenced) } else { Ok(()) };
        }
        pool.rows.extend(records.iter().map(|record| String::from_utf8(record.payload.to_vec()).unwrap()));
        pool.lows.extend(records.iter().map(|record| Some(record.low?.time)));
        pool.progress.insert(share, progress.to_vec());
        pool.commits += 1;
        while let Some((_, from)) = pool.changes.first().copied().filter(|(after, _)| *after <= pool.commits) {
            pool.changes.remove(0);
            pool.pass_on(from);
        }
        Ok(())
    }

    fn progress(&self, name: &str) -> Result<Option<Vec<u8>>, LogError> {
        Ok(self.pool.lock().unwrap().progress.get(&share_of(name)).cloned())
    }

    fn partitions(&self, _: &str) -> u32 {
        1
    }

    fn shares(&mut self) -> Option<&mut dyn Shares> {
        Some(self)
    }
}

/// Times go up from row to row, in milliseconds since 1970, and a few events are [`DISORDER_MS`] behind.
fn time_of(file: usize, row: usize) -> Millis {
    1_700_000_000_000 + (file * 1_000_000 + row) as Millis * 100 - if row % 7 == 3 { DISORDER_MS } else { 0 }
}

const DISORDER_MS: Millis = 1_000;

/// Nobody is late for whoever reads the log, however far shares are apart. Returns its watermark in the end.
fn check_watermark(written: &[String], lows: &[Option<Millis>]) -> Millis {
    let mut watermark = PartitionWatermark::new(DISORDER_MS);
    for (row, low) in written.iter().zip(lows) {
        low.iter().for_each(|low| watermark.bound(*low, 0));
        let time: Millis = row.rsplit_once(':').unwrap().1.trim_end_matches('}').parse().unwrap();
        assert!(time >= watermark.now(), "{row} comes when the watermark is {}", watermark.now());
        watermark.see(time, 0);
    }
    watermark.now()
}

fn check(rows: [usize; 3], changes: &[(usize, usize)], pace: Pace) -> Millis {
    let base = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for (file, count) in rows.into_iter().enumerate() {
        let line = |row: usize| format!("{{\"f\":{file},\"r\":{row},\"t\":{}}}", time_of(file, row));
        let lines: Vec<String> = (0..count).map(line).collect();
        fs::write(base.path().join(format!("{file}.jsonl")), lines.join("\n")).unwrap();
        expected.extend(lines);
    }
    let mut changes = changes.to_vec();
    changes.sort_unstable();
    let owners = (0..SHARES).map(|share| (share, share as usize % 3)).collect();
    let pool = Arc::new(Mutex::new(Pool { owners, changes, ..Pool::default() }));
    let replica = |own: usize| {
        let mut feed = Feed {
            path: ".".into(),
            files: files::list(base.path(), ".", Format::JsonLines.extensions()).unwrap(),
            format: Format::JsonLines,
            delimiter: b',',
            columns: Vec::new(),
            fields: Vec::new(),
            pace,
            repeat: false,
            times: Times::new(Some(vec!["t".into()]), Vec::new()),
            low_field: Some("t".into()),
            until: None,
        };
        let (ours, heard) = (BTreeSet::new(), BTreeMap::new());
        let log = Replica { pool: Arc::clone(&pool), own, seen: None, ours, heard };
        let target = Target { topic: "t".into(), key: None };
        let mut topics = Topics::new(vec![target], Routes::default(), &log);
        let control = Control::new();
        run(&mut feed, &mut topics, &mut Outbox::new(Box::new(log), "rows"), &control).unwrap();
        control.total.into_inner()
    };
    let totals = thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|own| scope.spawn(move || replica(own))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(totals, [expected.len() as u64; 3]);
    let mut written = std::mem::take(&mut pool.lock().unwrap().rows);
    let watermark = check_watermark(&written, &pool.lock().unwrap().lows);
    written.sort_unstable();
    expected.sort_unstable();
    assert!(written == expected, "{} rows of {}", written.len(), expected.len());
    watermark
}

#[test]
fn shares_have_names_of_their_own() {
    assert_eq!((share_name("a", 3), share_of(&share_name("a/b", 12))), ("a/3".into(), 12));
}

#[test]
fn every_row_is_written_once() {
    // In the end it is at most as far back as shares may be apart.
    let far = time_of(0, 60_000 - (SHARE_BLOCKS_AHEAD * SHARE_BLOCK_ROWS / 2) as usize);
    for changes in [&[][..], &[(3, 0), (10, 1), (11, 2), (30, 0)]] {
        assert!(check([60_000, 0, 2_048], changes, Pace::Free) >= far, "{changes:?}");
    }
    check([60_000, 3, 5_000], &[], Pace::Free);
}

/// However the rows lie in blocks, and whoever has these or is fenced: of three replicas none has much more than a third of the
/// shares.
#[test]
fn a_pace_is_that_of_all_replicas() {
    let paced = |rows: [usize; 3], changes: &[(usize, usize)]| {
        let began = Instant::now();
        check(rows, changes, Pace::Rate(1_000.0));
        let took = began.elapsed();
        assert!(
            (Duration::from_millis(450)..Duration::from_secs(1)).contains(&took),
            "{rows:?}, {changes:?}: {took:?}"
        );
    };
    paced([200, 150, 150], &[]);
    for rows in [[500, 0, 0], [0, 500, 0], [0, 0, 500]] {
        paced(rows, &[]);
        (0..3).for_each(|first| paced(rows, &[(5, first), (12, (first + 1) % 3), (20, (first + 2) % 3)]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whoever_gets_a_share_goes_on_where_it_is(
        rows in (1_usize..20_000, 0_usize..5_000, 0_usize..5_000),
        changes in prop::collection::vec((0_usize..120, 0_usize..3), 0..16),
    ) {
        check([rows.0, rows.1, rows.2], &changes, Pace::Free);
    }
}
