//! Feeds: what a batch of accepted events becomes for one table, funnel or join, until the next commit.
//!
//! A feed stands wherever events are: in MAP behind a stream, in MERGE behind a join. It filters, judges
//! lateness by the watermark that each row brings, and collects bytes for every shuffle partition.

mod aggregates;
mod funnel;
mod join;

use crate::{
    codec::{put_bytes, put_i64, put_i128},
    column::{Column, Data},
    kernel::Program,
    ledger::TableLedger,
    plan::{Input, JoinPlan, Plan, Side, TableKind, TablePlan},
    shuffle::{Operator, Section},
    time::Millis,
};
use aggregates::AggregateFeed;
use funnel::FunnelFeed;
use join::JoinFeed;

/// Accepted events, as a feed sees them.
pub struct FeedBatch<'a> {
    /// All columns of the input.
    pub columns: &'a [Column],
    /// How many rows the columns have.
    pub len: usize,
    /// Rows that were accepted, ascending.
    pub rows: &'a [u32],
    /// Event time of each row.
    pub times: &'a [Millis],
    /// The watermark against which each row is judged.
    pub watermarks: &'a [Millis],
    /// The id of each row, if the input has ids.
    pub ids: Option<&'a Column>,
    /// Where strings lie; expressions append theirs.
    pub arena: &'a mut Vec<u8>,
}

/// A row that a feed refused and that is kept as a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Row of the batch.
    pub row: u32,
    /// Why.
    pub reason: &'static str,
}

/// A feed.
pub struct Feed {
    /// What it is for.
    pub operator: Operator,
    /// What became of the events offered to it. `counted` stays zero: MERGE counts.
    pub ledger: TableLedger,
    kind: Kind,
    filter: Option<Program>,
    section: Section,
}

enum Kind {
    Aggregate(Box<AggregateFeed>),
    Funnel(Box<FunnelFeed>),
    Join(Box<JoinFeed>),
}

impl Feed {
    /// Makes the feeds of everything that reads `input`, in plan order.
    #[must_use]
    pub fn of_input(plan: &Plan, input: Input) -> Vec<Self> {
        let tables = plan.tables.iter().enumerate().filter(|(_, table)| table.input == input);
        let mut feeds: Vec<Self> = tables.map(|(at, table)| Self::of_table(plan, at, table)).collect();
        if let Input::Stream(stream) = input {
            for (at, join) in plan.joins.iter().enumerate() {
                let sides = [(join.left, Side::Left), (join.right, Side::Right)];
                feeds.extend(
                    sides.iter().filter(|(of, _)| *of == stream).map(|(_, side)| Self::of_join(plan, at, join, *side)),
                );
            }
        }
        feeds
    }

    fn of_table(plan: &Plan, at: usize, table: &TablePlan) -> Self {
        let (operator, kind) = match &table.kind {
            TableKind::Aggregate(aggregates) => {
                (Operator::Table(at), Kind::Aggregate(Box::new(AggregateFeed::new(table, aggregates))))
            }
            TableKind::Funnel(funnel) => (Operator::Funnel(at), Kind::Funnel(Box::new(FunnelFeed::new(table, funnel)))),
        };
        let filter = table.filter.as_ref().map(Program::compile);
        let section = Section::new(operator, plan.shuffle_partitions);
        Self { operator, ledger: TableLedger::default(), kind, filter, section }
    }

    fn of_join(plan: &Plan, at: usize, join: &JoinPlan, side: Side) -> Self {
        let operator = Operator::Join(at);
        let kind = Kind::Join(Box::new(JoinFeed::new(join, side)));
        let section = Section::new(operator, plan.shuffle_partitions);
        Self { operator, ledger: TableLedger::default(), kind, filter: None, section }
    }

    /// Takes the accepted events of a batch; what is late or refused is appended to `refused`.
    pub fn add(&mut self, batch: &mut FeedBatch<'_>, refused: &mut Vec<Refused>) {
        let refused_before = refused.len();
        self.ledger.accepted += batch.rows.len() as u64;
        let mask = self.filter.as_mut().map(|filter| filter.eval_mask(batch.columns, batch.len, batch.arena));
        let passed = match &mut self.kind {
            Kind::Aggregate(feed) => feed.add(batch, mask, refused),
            Kind::Funnel(feed) => feed.add(batch, mask, &mut self.section, refused),
            Kind::Join(feed) => feed.add(batch, &mut self.section, refused),
        };
        let late = refused[refused_before..].iter().filter(|row| row.reason == LATE).count();
        self.ledger.late += late as u64;
        self.ledger.filtered += (batch.rows.len() - passed - late) as u64;
    }

    /// Returns the bytes for every shuffle partition since the last [`Feed::clear`].
    pub fn seal(&mut self) -> &Section {
        if let Kind::Aggregate(feed) = &mut self.kind {
            feed.seal(&mut self.section);
        }
        &self.section
    }

    /// The sealed bytes.
    #[must_use]
    pub fn section(&self) -> &Section {
        &self.section
    }

    /// Forgets what was collected and keeps the memory.
    pub fn clear(&mut self) {
        if let Kind::Aggregate(feed) = &mut self.kind {
            feed.clear();
        }
        self.section.clear();
    }
}

/// The reason of a late event.
pub const LATE: &str = "late";

/// Appends one cell with the bytes of [`crate::codec::put_value`].
#[inline]
fn put_cell(column: &Column, row: usize, arena: &[u8], out: &mut Vec<u8>) {
    if !column.valid[row] {
        out.push(0);
        return;
    }
    match &column.data {
        Data::Boolean(values) => out.push(1 + u8::from(values[row])),
        Data::Integer(values) => {
            out.push(3);
            put_i64(values[row], out);
        }
        Data::Decimal(values) => {
            out.push(4);
            put_i128(values[row].0, out);
        }
        Data::Timestamp(values) => {
            out.push(5);
            put_i64(values[row], out);
        }
        Data::String(spans) => {
            out.push(6);
            put_bytes(spans[row].of(arena), out);
        }
    }
}

/// Evaluates programs over a batch.
fn eval_all<'a>(
    programs: &'a mut [Program],
    columns: &'a [Column],
    len: usize,
    arena: &mut Vec<u8>,
) -> Vec<&'a Column> {
    programs.iter_mut().map(|program| program.eval(columns, len, arena)).collect()
}

/// The bytes of a row's id, or none.
fn id_of<'a>(ids: Option<&Column>, row: usize, arena: &'a [u8]) -> &'a [u8] {
    match ids {
        Some(Column { valid, data: Data::String(spans) }) if valid[row] => spans[row].of(arena),
        _ => &[],
    }
}
