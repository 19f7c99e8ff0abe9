//! MERGE: one task for each shuffle partition. Messages in, rows out.
//!
//! ```text
//! message ─► sections ─► tables ──────────────────────────────► rows, alerts
//!         │           ├► funnels ─► contributions ─┐
//!         │           └► joins ─► pairs ─► feeds ──┴─► shuffle messages of the next stage
//!         └► marks ─► merged watermark of each channel ─► advance all of the above
//! ```
//! The state is a pure function of the partition's prefix. What a flush brings out depends on when it is called;
//! the last row of every key does not.

mod alerts;
mod channels;
mod funnels;
mod joins;
mod tables;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    codec::{Corrupt, Reader, put_u64},
    output::{Output, Row, SystemTable},
    plan::Plan,
    shuffle::{Mark, Message, Operator, Origin, put_origin, read_origin, write_messages},
    time::Millis,
};
use alerts::Alerts;
use channels::Channels;
use funnels::FunnelOperator;
use joins::JoinOperator;
use tables::TableOperator;

/// Version of the snapshot format.
const VERSION: u8 = 2;

/// The task of one shuffle partition.
pub struct MergeTask {
    plan: Arc<Plan>,
    partition: u32,
    name: String,
    position: u64,
    /// Up to where each origin's input is in here.
    heard: BTreeMap<Origin, u64>,
    channels: Channels,
    tables: Vec<TableOperator>,
    funnels: Vec<FunnelOperator>,
    joins: Vec<JoinOperator>,
    alerts: Alerts,
    /// Rows that wait for the commit, in the order in which they were made.
    rows: Vec<Row>,
    /// Position at the last flush: where the next message's span begins.
    flushed: u64,
    /// Marks of the last flush, to see whether there is news.
    told: Vec<Mark>,
}

impl MergeTask {
    /// Makes the task of a partition that nothing was read from.
    #[must_use]
    pub fn new(plan: Arc<Plan>, partition: u32) -> Self {
        let partitions = plan.shuffle_partitions;
        Self {
            partition,
            name: format!("merge:{partition}"),
            position: 0,
            heard: BTreeMap::new(),
            channels: Channels::new(&plan),
            tables: plan
                .tables
                .iter()
                .enumerate()
                .map(|(at, table)| TableOperator::new(at, table, partitions, Alerts::watch(&plan, at)))
                .collect(),
            funnels: FunnelOperator::all(&plan),
            joins: (0..plan.joins.len()).map(|join| JoinOperator::new(&plan, join)).collect(),
            alerts: Alerts::new(&plan),
            rows: Vec::new(),
            flushed: 0,
            told: Vec::new(),
            plan,
        }
    }

    /// Applies the message at `offset` of the shuffle partition. A message that was applied before changes nothing.
    ///
    /// # Errors
    /// On corrupt bytes, or a message that overlaps an earlier one of its origin; the task must then be dropped.
    pub fn apply(&mut self, offset: u64, message: &[u8]) -> Result<(), Corrupt> {
        let plan = Arc::clone(&self.plan);
        self.position = offset + 1;
        let mut message = Message::read(message, &plan)?;
        if !self.hear(&message)? {
            return Ok(());
        }
        while let Some((operator, mut section)) = message.next_section(&plan)? {
            match operator {
                Operator::Table(table) => self.tables[table].apply(&mut section)?,
                Operator::Funnel(table) => {
                    let funnel = self.funnels.iter_mut().find(|funnel| funnel.table() == table);
                    let funnel = funnel.ok_or(Corrupt("events for a table that is no funnel"))?;
                    funnel.apply(&mut section, self.channels.input(&plan, table))?;
                }
                Operator::Join(join) => self.joins[join].apply(&mut section, &self.channels)?,
            }
        }
        let with_records = !message.span.is_empty();
        message.marks.iter().for_each(|mark| self.channels.hear(message.origin, *mark, with_records));
        self.advance(&plan);
        Ok(())
    }

    /// Whether the message is news. A heartbeat (an empty span) is, unless records came after it.
    fn hear(&mut self, message: &Message<'_>) -> Result<bool, Corrupt> {
        let heard = self.heard.entry(message.origin).or_default();
        if message.span.is_empty() {
            return Ok(message.span.start >= *heard);
        }
        if message.span.end <= *heard {
            return Ok(false);
        }
        if message.span.start < *heard {
            return Err(Corrupt("a message overlaps an earlier one of its origin"));
        }
        *heard = message.span.end;
        Ok(true)
    }

    fn advance(&mut self, plan: &Plan) {
        for join in &mut self.joins {
            join.advance(plan, &self.channels);
        }
        for funnel in &mut self.funnels {
            funnel.advance(self.channels.input(plan, funnel.table()));
        }
        for (at, table) in self.tables.iter_mut().enumerate() {
            let made = self.rows.len();
            let mut fresh = Vec::new();
            table.take_fresh(&mut fresh, &mut self.rows);
            let mut told = self.alerts.judge(plan, at, &self.rows[made..]);
            told.extend(self.alerts.judge(plan, at, &fresh));
            let made = self.rows.len();
            table.advance(self.channels.table(plan, at), &mut self.rows);
            told.extend(self.alerts.judge(plan, at, &self.rows[made..]));
            self.rows.extend(told);
        }
        self.alerts.advance(|table| self.channels.table(plan, table));
    }

    /// The next shuffle offset to read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves everything since the last flush into `output`, which the caller commits together with the position. Early rows of
    /// a table leave at most once in its `emit.every`, judged by `now`; returns whether some table held its rows back, so that the
    /// caller comes again even without news.
    pub fn flush(&mut self, now: Millis, output: &mut Output) -> bool {
        self.flush_due(Some(now), output)
    }

    /// As [`MergeTask::flush`], but holds nothing back: before a snapshot, and at the end.
    pub fn flush_all(&mut self, output: &mut Output) {
        self.flush_due(None, output);
    }

    fn flush_due(&mut self, now: Option<Millis>, output: &mut Output) -> bool {
        let mut held_back = false;
        let plan = Arc::clone(&self.plan);
        for at in 0..self.tables.len() {
            held_back |= !self.tables[at].drain(now, &mut self.rows);
        }
        self.funnels.iter_mut().for_each(FunnelOperator::seal);
        self.joins.iter_mut().for_each(JoinOperator::seal);
        self.write_messages(&plan, output);
        self.tell_ledgers(&plan);
        self.funnels.iter_mut().for_each(FunnelOperator::clear);
        self.joins.iter_mut().for_each(JoinOperator::clear);
        // Stable: rows of one key stay in the order in which they were made.
        self.rows.sort_by(|left, right| {
            (left.table, left.window, &left.group).cmp(&(right.table, right.window, &right.group))
        });
        output.rows.append(&mut self.rows);
        self.flushed = self.position;
        held_back
    }

    fn write_messages(&mut self, plan: &Plan, output: &mut Output) {
        output.shuffle.resize_with(plan.shuffle_partitions as usize, Vec::new);
        let marks: Vec<Mark> = self
            .joins
            .iter()
            .map(|join| join.mark(&self.channels, plan))
            .chain(self.funnels.iter().map(|funnel| funnel.mark(&self.channels, plan)))
            .collect();
        let news = marks != self.told;
        let sections =
            self.funnels.iter().map(FunnelOperator::section).chain(self.joins.iter().flat_map(JoinOperator::sections));
        let span = self.flushed..self.position;
        write_messages(Origin::Merge(self.partition), span, &marks, sections, news, &mut output.shuffle);
        self.told = marks;
    }

    fn tell_ledgers(&mut self, plan: &Plan) {
        let (name, rows) = (&self.name, &mut self.rows);
        self.tables.iter_mut().for_each(|table| table.tell_ledger(plan, name, rows));
        self.funnels.iter_mut().for_each(|funnel| funnel.tell_ledger(plan, name, rows));
        self.joins.iter_mut().for_each(|join| join.tell_ledgers(plan, name, rows));
        self.channels.tell_watermarks(plan, name, rows);
    }

    /// Forgets what a flush would bring: after a replay up to the committed offset, where it was committed already. Early
    /// rows that were held back then are told again.
    pub fn discard(&mut self) {
        self.rows.clear();
        self.tables.iter_mut().for_each(TableOperator::discard);
        self.funnels.iter_mut().for_each(FunnelOperator::discard);
        self.joins.iter_mut().for_each(JoinOperator::clear);
        self.flushed = self.position;
    }

    /// Appends the state. Only right after [`MergeTask::flush_all`] or a discard: what waits for a commit is not state.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        assert_eq!(self.flushed, self.position, "bug: snapshot between commits");
        out.push(VERSION);
        put_u64(self.position, out);
        put_u64(self.heard.len() as u64, out);
        for (origin, position) in &self.heard {
            put_origin(*origin, out);
            put_u64(*position, out);
        }
        self.channels.snapshot(out);
        self.tables.iter().for_each(|table| table.snapshot(out));
        self.funnels.iter().for_each(|funnel| funnel.snapshot(out));
        self.joins.iter().for_each(|join| join.snapshot(out));
        self.alerts.snapshot(out);
    }

    /// Makes a task from what [`MergeTask::snapshot`] wrote.
    ///
    /// # Errors
    /// On corrupt bytes or another version.
    pub fn restore(plan: Arc<Plan>, partition: u32, bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Corrupt("another version of the MERGE snapshot"));
        }
        let mut task = Self::new(Arc::clone(&plan), partition);
        task.position = reader.u64()?;
        task.flushed = task.position;
        for _ in 0..reader.count()? {
            let origin = read_origin(&mut reader)?;
            task.heard.insert(origin, reader.u64()?);
        }
        task.channels.restore(&mut reader)?;
        task.tables.iter_mut().try_for_each(|table| table.restore(&mut reader))?;
        task.funnels.iter_mut().try_for_each(|funnel| funnel.restore(&plan, &mut reader))?;
        task.joins.iter_mut().try_for_each(|join| join.restore(&plan, &mut reader))?;
        task.alerts.restore(&plan, &mut reader)?;
        if reader.is_empty() { Ok(task) } else { Err(Corrupt("bytes behind the end")) }
    }

    /// How many groups each table holds here, in plan order.
    #[must_use]
    pub fn groups(&self) -> Vec<usize> {
        self.tables.iter().map(TableOperator::groups).collect()
    }
}

/// Appends a ledger row of `name` as task `task` saw it, if it changed.
fn tell_ledger(
    plan: &Plan,
    name: &str,
    task: &str,
    ledger: crate::ledger::TableLedger,
    told: &mut crate::ledger::TableLedger,
    rows: &mut Vec<Row>,
) {
    if ledger != *told {
        rows.push(crate::map::system_row(plan, SystemTable::LedgerTables, &[name, task], ledger.values()));
        *told = ledger;
    }
}
