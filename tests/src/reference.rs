//! The naive reference: what `docs/semantics.md` says, as obvious loops over the whole input in memory.
//!
//! It shares no code with the engine. It reads the plan and its expressions, which are data, and brings its own JSON
//! reading, arithmetic, evaluation and windows. It knows no batches, tasks, shuffles, checkpoints or watermarks of
//! MERGE: every source is bounded and has ended, so every window is closed.
//!
//! What is a matter of chance in the engine is not answered here: where data is later than its declared bound, hopping
//! windows and sessions depend on how partitions interleave; see [`Answer`].

pub mod aggregates;
pub mod alerts;
pub mod cell;
pub mod evaluate;
pub mod funnels;
pub mod joins;
pub mod number;
pub mod read;
pub mod streams;
pub mod tables;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use engine::{output::Source, plan::Plan};

use cell::Cell;

/// A raw record as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The bytes.
    pub payload: Vec<u8>,
    /// Its offset; offsets grow, possibly with gaps.
    pub offset: u64,
    /// When it arrived in the log, in UTC milliseconds.
    pub arrival: i64,
}

/// The whole input: the records of every source partition in offset order.
pub type Input = BTreeMap<Source, Vec<Record>>;

/// Rows of lookups by key, for each lookup of the plan.
pub type Lookups = Vec<BTreeMap<String, Vec<Cell>>>;

/// The key of a row: table, start of the window, group.
pub type RowKey = (String, Option<i64>, Vec<Cell>);

/// A row's content: end of the window and the values.
pub type RowValue = (Option<i64>, Vec<Cell>);

/// Where a dead letter belongs: stream, table or join if it was late there, source partition, offset.
pub type LetterKey = (String, Option<String>, Source, u64);

/// Everything that must come out, and nothing else may.
///
/// Exact for any layout where no event is later than its declared bound. Beyond the bound it is exact for tumbling windows,
/// running totals, funnels and joins, because whether a partition's own watermark has passed an event does not depend on
/// the others; and for all tables where one partition holds everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Rows of all tables.
    pub rows: BTreeMap<RowKey, RowValue>,
    /// For every stream and source: read, accepted, duplicate, invalid.
    pub streams: BTreeMap<(String, Source), [u64; 4]>,
    /// For every table: accepted, filtered, late, counted.
    pub tables: BTreeMap<String, [u64; 4]>,
    /// Dead letters with the reasons that would be right. A record with two faults may be refused for either.
    pub dead_letters: BTreeMap<LetterKey, BTreeSet<String>>,
    /// Raised alerts: alert, window, group.
    pub alerts: BTreeSet<(String, Option<i64>, Vec<Cell>)>,
}

/// Computes the answer.
#[must_use]
pub fn reference(plan: &Plan, lookups: &Lookups, input: &Input) -> Answer {
    let mut answer = Answer::default();
    let streams: Vec<Vec<streams::Event>> =
        (0..plan.streams.len()).map(|stream| streams::accepted(plan, lookups, stream, input, &mut answer)).collect();
    let joins: Vec<Vec<streams::Event>> =
        plan.joins.iter().map(|join| joins::pairs(plan, join, &streams, &mut answer)).collect();
    for table in &plan.tables {
        tables::fill(plan, table, &streams, &joins, &mut answer);
    }
    for alert in &plan.alerts {
        alerts::judge(plan, alert, &mut answer);
    }
    answer
}
