//! A join in MERGE: rows of both sides by key, pairs fed to the tables that read them.

use super::{channels::Channels, tell_ledger};
use crate::{
    codec::{Corrupt, Reader},
    column::{Column, append},
    feed::{Feed, FeedBatch, Refused},
    join::JoinState,
    ledger::TableLedger,
    map::operator_name,
    output::Row,
    plan::{Input, Plan, Side},
    shuffle::{Channel, Mark, Section},
    time::{BEGINNING_OF_TIME, Millis},
    value::Type,
};

pub(super) struct JoinOperator {
    join: usize,
    left: usize,
    right: usize,
    state: JoinState,
    feeds: Vec<Feed>,
    ledger: TableLedger,
    told: TableLedger,
    told_feeds: Vec<TableLedger>,
    /// What was claimed before the message at hand: pairs are judged by it.
    claimed: Millis,
    pairs: Pairs,
}

/// Pairs of one advance as columns.
struct Pairs {
    columns: Vec<Column>,
    sides: Vec<Side>,
    ids: Column,
    times: Vec<Millis>,
    arena: Vec<u8>,
    rows: Vec<u32>,
    watermarks: Vec<Millis>,
    refused: Vec<Refused>,
}

impl JoinOperator {
    pub(super) fn new(plan: &Plan, join: usize) -> Self {
        let of = &plan.joins[join];
        let feeds = Feed::of_input(plan, Input::Join(join));
        Self {
            join,
            left: of.left,
            right: of.right,
            state: JoinState::new(of),
            ledger: TableLedger::default(),
            told: TableLedger::default(),
            told_feeds: vec![TableLedger::default(); feeds.len()],
            feeds,
            claimed: BEGINNING_OF_TIME,
            pairs: Pairs {
                columns: of.columns.iter().map(|column| Column::new(column.column.ty)).collect(),
                sides: of.columns.iter().map(|column| column.side).collect(),
                ids: Column::new(Type::String),
                times: Vec::new(),
                arena: Vec::new(),
                rows: Vec::new(),
                watermarks: Vec::new(),
                refused: Vec::new(),
            },
        }
    }

    /// Applies rows: side, key, start, length, id, row.
    pub(super) fn apply(&mut self, section: &mut Reader<'_>, channels: &Channels) -> Result<(), Corrupt> {
        let watermarks = (channels.now(Channel::Stream(self.left)), channels.now(Channel::Stream(self.right)));
        while !section.is_empty() {
            let is_right = section.u8()? == 1;
            let key = section.bytes()?;
            let start = section.time()?;
            let end = start + section.time()?;
            let id = section.bytes()?;
            let row = section.bytes()?;
            let watermark = if is_right { watermarks.1 } else { watermarks.0 };
            if start < watermark {
                self.ledger.late += 1;
                continue;
            }
            self.ledger.counted += 1;
            if is_right {
                self.state.right(key, start, end, id, row);
            } else {
                self.state.left(key, start, id, row);
            }
        }
        Ok(())
    }

    fn watermark(&self, channels: &Channels) -> Millis {
        channels.now(Channel::Stream(self.left)).min(channels.now(Channel::Stream(self.right)))
    }

    /// Pairs what both watermarks allow and feeds the pairs on.
    pub(super) fn advance(&mut self, plan: &Plan, channels: &Channels) {
        let (left, right) = (channels.now(Channel::Stream(self.left)), channels.now(Channel::Stream(self.right)));
        self.pairs.clear();
        let pairs = &mut self.pairs;
        self.state.advance(left, right, &mut |pair| pairs.push(pair.time, pair.id, pair.left, pair.right));
        self.pairs.feed(&mut self.feeds, self.claimed);
        self.claimed = self.watermark(channels);
        debug_assert_eq!(plan.joins[self.join].left, self.left, "bug: another plan");
    }

    pub(super) fn seal(&mut self) {
        self.feeds.iter_mut().for_each(|feed| {
            feed.seal();
        });
    }

    pub(super) fn sections(&self) -> impl Iterator<Item = &Section> + Clone {
        self.feeds.iter().map(Feed::section)
    }

    pub(super) fn clear(&mut self) {
        self.feeds.iter_mut().for_each(Feed::clear);
    }

    pub(super) fn mark(&self, channels: &Channels, _plan: &Plan) -> Mark {
        Mark { channel: Channel::Join(self.join), watermark: self.watermark(channels), idle: false }
    }

    pub(super) fn tell_ledgers(&mut self, plan: &Plan, task: &str, rows: &mut Vec<Row>) {
        tell_ledger(plan, &plan.joins[self.join].name, task, self.ledger, &mut self.told, rows);
        let task = format!("{task}:pairs");
        for (feed, told) in self.feeds.iter().zip(&mut self.told_feeds) {
            tell_ledger(plan, operator_name(plan, feed.operator), &task, feed.ledger, told, rows);
        }
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        self.ledger.snapshot(out);
        self.feeds.iter().for_each(|feed| feed.ledger.snapshot(out));
        crate::codec::put_i64(self.claimed, out);
        self.state.snapshot(out);
    }

    pub(super) fn restore(&mut self, plan: &Plan, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        self.ledger = TableLedger::restore(reader)?;
        for feed in &mut self.feeds {
            feed.ledger = TableLedger::restore(reader)?;
        }
        self.claimed = reader.i64()?;
        self.state = JoinState::restore(&plan.joins[self.join], reader)?;
        Ok(())
    }
}

impl Pairs {
    fn clear(&mut self) {
        self.columns.iter_mut().for_each(Column::clear);
        self.ids.clear();
        self.times.clear();
        self.arena.clear();
    }

    fn push(&mut self, time: Millis, id: &[u8], left: &[u8], right: &[u8]) {
        let (mut left, mut right) = (Reader::new(left), Reader::new(right));
        for (column, side) in self.columns.iter_mut().zip(&self.sides) {
            let reader = if *side == Side::Left { &mut left } else { &mut right };
            let value = reader.value().expect("rows of a join are written by this crate and checked when they arrive");
            column.push_value(&value, &mut self.arena);
        }
        let id = append(id, &mut self.arena);
        self.ids.valid.push(true);
        if let crate::column::Data::String(spans) = &mut self.ids.data {
            spans.push(id);
        }
        self.times.push(time);
    }

    fn feed(&mut self, feeds: &mut [Feed], watermark: Millis) {
        let len = self.times.len();
        if len == 0 {
            return;
        }
        self.rows.clear();
        self.rows.extend(0..len as u32);
        self.watermarks.clear();
        self.watermarks.resize(len, watermark);
        for feed in feeds {
            self.refused.clear();
            let mut batch = FeedBatch {
                columns: &self.columns,
                len,
                rows: &self.rows,
                times: &self.times,
                watermarks: &self.watermarks,
                ids: Some(&self.ids),
                arena: &mut self.arena,
            };
            feed.add(&mut batch, &mut self.refused);
        }
    }
}
