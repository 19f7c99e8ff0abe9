//! One stream in one source partition: decode, judge, deduplicate, enrich, feed.

use std::sync::Arc;

use super::{MapContext, quality::Quality, system_row};
use crate::{
    batch::{Bound, RawBatch, RawRecord, field_id},
    bots::is_bot,
    codec::{Corrupt, Reader},
    column::{Column, Data, Span},
    decode::{Decoded, Decoder},
    dedup::Dedup,
    feed::{Feed, FeedBatch, LATE, Refused},
    kernel::Program,
    ledger::{StreamLedger, TableLedger},
    limits::DEAD_LETTER_BYTES_MAX,
    output::{DeadLetter, Output, SilverEvent, Source, SystemTable},
    plan::{BotPlan, EnrichPlan, Input, Plan, StreamPlan},
    shuffle::{Operator, Section},
    time::{BEGINNING_OF_TIME, Millis, rfc3339},
    value::{Type, Value, write_integer, write_json_string},
    watermark::PartitionWatermark,
};

/// One stream in one source partition.
pub(super) struct StreamTask {
    index: usize,
    source: Source,
    plan: Arc<Plan>,
    context: Arc<MapContext>,
    decoder: Decoder,
    rules: Vec<Program>,
    derive: Vec<Program>,
    feeds: Vec<Feed>,
    /// The field of the event time, as [`Bound::field`] names it.
    time_field: Option<u64>,
    // State.
    watermark: PartitionWatermark,
    dedup: Option<Dedup>,
    ledger: StreamLedger,
    quality: Quality,
    // What an idle mark claims until the next record; not state, the driver makes it again.
    idle_claim: Option<(Millis, bool)>,
    // Output until the next commit.
    dead_letters: Vec<DeadLetter>,
    silver: Vec<SilverEvent>,
    told: StreamLedger,
    told_feeds: Vec<TableLedger>,
    scratch: Scratch,
}

/// Reused from batch to batch.
#[derive(Default)]
struct Scratch {
    decoded: Decoded,
    /// Columns behind the decoded ones, kept for their memory.
    added: Vec<Column>,
    /// For each row the rule it breaks, counted from one.
    broken: Vec<u32>,
    times: Vec<Millis>,
    watermarks: Vec<Millis>,
    asked: Vec<bool>,
    seen: Vec<bool>,
    accepted: Vec<u32>,
    refused: Vec<Refused>,
    /// Robots that left `accepted`.
    robots: u64,
}

impl StreamTask {
    pub(super) fn new(plan: &Arc<Plan>, context: &Arc<MapContext>, source: Source, index: usize) -> Self {
        let stream = &plan.streams[index];
        let feeds = Feed::of_input(plan, Input::Stream(index));
        let time_field = stream.event_time.as_ref().map(|time| field_id(&stream.fields[time.column].path.join(".")));
        Self {
            index,
            source,
            plan: Arc::clone(plan),
            context: Arc::clone(context),
            decoder: Decoder::new(stream, &context.hash_key),
            rules: stream.rules.iter().map(|rule| Program::compile(&rule.check)).collect(),
            derive: stream.derive.iter().map(Program::compile).collect(),
            watermark: PartitionWatermark::new(stream.event_time.as_ref().map_or(0, |time| time.out_of_orderness_ms)),
            time_field,
            dedup: stream.deduplicate.as_ref().map(|dedup| Dedup::new(dedup.within_ms)),
            ledger: StreamLedger::default(),
            quality: Quality::new(stream.quality.as_ref().map(|quality| quality.over_ms)),
            idle_claim: None,
            dead_letters: Vec::new(),
            silver: Vec::new(),
            told: StreamLedger::default(),
            told_feeds: vec![TableLedger::default(); feeds.len()],
            feeds,
            scratch: Scratch::default(),
        }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    fn stream(&self) -> &StreamPlan {
        &self.plan.streams[self.index]
    }

    /// The watermark to tell and whether the partition is idle.
    pub(super) fn claim(&self) -> (Millis, bool) {
        let now = self.watermark.now();
        self.idle_claim.map_or((now, false), |(claim, excused)| (claim.max(now), excused))
    }

    pub(super) fn mark_idle(&mut self, now: Millis) {
        self.idle_claim = Some(self.watermark.idle_claim(now));
    }

    pub(super) fn finish(&mut self) {
        self.watermark.finish();
    }

    pub(super) fn expire(&mut self, records: u64) {
        self.ledger.read += records;
        self.ledger.expired += records;
    }

    pub(super) fn process(&mut self, batch: &mut RawBatch) {
        if batch.records.is_empty() {
            return;
        }
        self.idle_claim = None;
        self.ledger.read += batch.records.len() as u64;
        self.decoder.decode(batch, &mut self.scratch.decoded);
        self.reject_undecodable(batch);
        self.judge_rules(batch);
        self.read_times(batch);
        self.find_duplicates(&batch.bytes);
        self.accept(batch);
        self.add_columns(&mut batch.bytes);
        self.feed(batch);
        if self.stream().silver {
            self.write_silver(batch);
        }
        let fields = self.stream().fields.len();
        self.scratch.added = self.scratch.decoded.columns.split_off(fields);
    }

    fn reject_undecodable(&mut self, batch: &RawBatch) {
        for reject in std::mem::take(&mut self.scratch.decoded.rejects) {
            let record = batch.records[reject.record as usize];
            self.reject(batch, record, reject.reason.into(), reject.detail);
        }
    }

    fn reject(&mut self, batch: &RawBatch, record: RawRecord, reason: String, detail: String) {
        self.ledger.invalid += 1;
        self.quality.at(record.arrival).invalid += 1;
        self.bury(batch, record, None, reason, detail);
    }

    fn bury(&mut self, batch: &RawBatch, record: RawRecord, table: Option<String>, reason: String, detail: String) {
        let payload = batch.payload(&record);
        let kept = payload.len().min(DEAD_LETTER_BYTES_MAX);
        self.dead_letters.push(DeadLetter {
            stream: self.index,
            table,
            source: self.source,
            offset: record.offset,
            arrival: record.arrival,
            reason,
            detail,
            bytes: payload[..kept].to_vec(),
            truncated: kept < payload.len(),
        });
    }

    fn judge_rules(&mut self, batch: &mut RawBatch) {
        let Scratch { decoded, broken, .. } = &mut self.scratch;
        let rows = decoded.rows.len();
        broken.clear();
        broken.resize(rows, 0);
        for (at, rule) in self.rules.iter_mut().enumerate() {
            let verdict = rule.eval(&decoded.columns, rows, &mut batch.bytes);
            let Data::Boolean(values) = &verdict.data else { unreachable!("bug: rules are boolean") };
            for (row, broken) in broken.iter_mut().enumerate() {
                if *broken == 0 && verdict.valid[row] && !values[row] {
                    *broken = at as u32 + 1;
                }
            }
        }
        if self.rules.is_empty() {
            return;
        }
        for row in 0..rows {
            let rule = self.scratch.broken[row];
            if rule > 0 {
                let record = batch.records[self.scratch.decoded.rows[row] as usize];
                let name = self.plan.streams[self.index].rules[rule as usize - 1].name.clone();
                self.reject(batch, record, name, "rule is false".into());
            }
        }
    }

    /// Event time of each row, and the watermark before it.
    fn read_times(&mut self, batch: &RawBatch) {
        let side = self.source.topic == Source::REPAIRED;
        let column = self.plan.streams[self.index].event_time.as_ref().map(|time| time.column);
        let Scratch { decoded, broken, times, watermarks, .. } = &mut self.scratch;
        times.clear();
        watermarks.clear();
        let arrivals = decoded.rows.iter().map(|record| batch.records[*record as usize].arrival);
        let Some(column) = column else {
            times.extend(arrivals);
            watermarks.resize(times.len(), BEGINNING_OF_TIME);
            return;
        };
        let Data::Timestamp(values) = &decoded.columns[column].data else { unreachable!("bug: event time is a time") };
        times.extend_from_slice(values);
        if !batch.bounds.is_empty() || self.watermark.is_bounded() {
            return self.read_bounded_times(batch);
        }
        for ((arrival, time), broken) in arrivals.zip(times.iter()).zip(broken.iter()) {
            watermarks.push(if side { BEGINNING_OF_TIME } else { self.watermark.now() });
            if *broken == 0 {
                self.watermark.see(*time, arrival);
            }
        }
    }

    /// The watermark before each row, where records say how far all are that write.
    fn read_bounded_times(&mut self, batch: &RawBatch) {
        let plan = &self.plan.streams[self.index];
        let idle_after_ms = plan.event_time.as_ref().map_or(0, |time| time.idle_after_ms);
        let Scratch { decoded, broken, times, watermarks, .. } = &mut self.scratch;
        let mut rows =
            decoded.rows.iter().map(|record| *record as usize).zip(times.iter().zip(broken.iter())).peekable();
        // Where a batch is given in two parts, the first has heard those before.
        let first = batch.records.first().map_or(0, |record| record.offset);
        let ours = |bound: &&Bound| Some(bound.field) == self.time_field && bound.offset >= first;
        let mut bounds = batch.bounds.iter().filter(ours).peekable();
        for (at, record) in batch.records.iter().enumerate() {
            while let Some(bound) = bounds.next_if(|bound| bound.offset <= record.offset) {
                self.watermark.bound(bound.low, record.arrival);
            }
            self.watermark.forget_bound(record.arrival, idle_after_ms);
            if let Some((_, (time, broken))) = rows.next_if(|(row, _)| *row == at) {
                watermarks.push(self.watermark.now());
                if *broken == 0 {
                    self.watermark.see(*time, record.arrival);
                }
            }
        }
    }

    fn find_duplicates(&mut self, arena: &[u8]) {
        let Scratch { decoded, broken, times, watermarks, asked, seen, .. } = &mut self.scratch;
        let rows = decoded.rows.len();
        let plan = self.plan.streams[self.index].deduplicate.as_ref();
        let (Some(plan), Some(dedup)) = (plan, &mut self.dedup) else {
            seen.clear();
            seen.resize(rows, false);
            return;
        };
        let ids = &decoded.columns[plan.column];
        let Data::String(spans) = &ids.data else { unreachable!("bug: ids are strings") };
        asked.clear();
        asked.extend(ids.valid.iter().zip(broken.iter()).map(|(valid, broken)| *valid && *broken == 0));
        dedup.seen_batch(spans, asked, arena, times, watermarks, seen);
    }

    fn accept(&mut self, batch: &RawBatch) {
        let Scratch { decoded, broken, seen, accepted, .. } = &mut self.scratch;
        accepted.clear();
        let mut arrival_before = None;
        let mut counts = &mut super::quality::Counts::default();
        for row in 0..decoded.rows.len() {
            if broken[row] > 0 {
                continue;
            }
            let arrival = batch.records[decoded.rows[row] as usize].arrival;
            if arrival_before != Some(arrival) {
                counts = self.quality.at(arrival);
                arrival_before = Some(arrival);
            }
            if seen[row] {
                counts.duplicate += 1;
                self.ledger.duplicate += 1;
            } else {
                counts.accepted += 1;
                self.ledger.accepted += 1;
                accepted.push(row as u32);
            }
        }
    }

    /// Lookups, robots and derived columns, over all rows: the few that were not accepted cost less than a copy.
    fn add_columns(&mut self, arena: &mut Vec<u8>) {
        let stream = &self.plan.streams[self.index];
        let Scratch { decoded, added, accepted, robots, .. } = &mut self.scratch;
        let rows = decoded.rows.len();
        let mut spare = added.drain(..);
        for enrich in &stream.enrich {
            look_up(&self.plan, &self.context, enrich, decoded, rows, &mut spare, arena);
        }
        if let Some(bots) = &stream.bots {
            let before = accepted.len();
            mark_bots(bots, decoded, rows, accepted, arena);
            *robots = (before - accepted.len()) as u64;
        }
        drop(spare);
        for program in &mut self.derive {
            let column = program.eval(&decoded.columns, rows, arena).clone();
            decoded.columns.push(column);
        }
    }

    fn feed(&mut self, batch: &mut RawBatch) {
        let plan = Arc::clone(&self.plan);
        let ids = plan.streams[self.index].deduplicate.as_ref().map(|dedup| dedup.column);
        for at in 0..self.feeds.len() {
            let feed = &mut self.feeds[at];
            let Scratch { decoded, times, watermarks, accepted, refused, robots, .. } = &mut self.scratch;
            feed.ledger.accepted += *robots;
            feed.ledger.filtered += *robots;
            refused.clear();
            let mut rows = FeedBatch {
                columns: &decoded.columns,
                len: decoded.rows.len(),
                rows: accepted,
                times,
                watermarks,
                ids: ids.map(|id| &decoded.columns[id]),
                arena: &mut batch.bytes,
            };
            feed.add(&mut rows, refused);
            let name = operator_name(&plan, feed.operator);
            self.bury_refused(batch, name);
        }
    }

    fn bury_refused(&mut self, batch: &RawBatch, table: &str) {
        let refused = std::mem::take(&mut self.scratch.refused);
        for Refused { row, reason } in &refused {
            let record = batch.records[self.scratch.decoded.rows[*row as usize] as usize];
            let detail = if *reason == LATE {
                let (time, watermark) = (self.scratch.times[*row as usize], self.scratch.watermarks[*row as usize]);
                format!("event time {} is behind the watermark {}", rfc3339(time), rfc3339(watermark))
            } else {
                String::new()
            };
            self.bury(batch, record, Some(table.into()), (*reason).into(), detail);
        }
        self.scratch.refused = refused;
    }

    fn write_silver(&mut self, batch: &RawBatch) {
        let stream = &self.plan.streams[self.index];
        let Scratch { decoded, times, accepted, .. } = &self.scratch;
        for row in accepted.iter().map(|row| *row as usize) {
            let mut json = Vec::with_capacity(256);
            write_event(stream, &decoded.columns, row, &batch.bytes, &mut json);
            self.silver.push(SilverEvent {
                stream: self.index,
                source: self.source,
                offset: batch.records[decoded.rows[row] as usize].offset,
                event_time: stream.event_time.as_ref().map(|_| times[row]),
                key: stream.key.map_or_else(Vec::new, |key| key_bytes(&decoded.columns[key], row, &batch.bytes)),
                json,
            });
        }
    }

    pub(super) fn seal(&mut self) {
        self.feeds.iter_mut().for_each(|feed| {
            feed.seal();
        });
    }

    pub(super) fn sections(&self) -> impl Iterator<Item = &Section> + Clone {
        self.feeds.iter().map(Feed::section)
    }

    /// Moves what waits for the commit into `output`.
    pub(super) fn drain(&mut self, plan: &Plan, output: &mut Output) {
        let source = self.source.name(plan);
        let stream = &plan.streams[self.index].name;
        self.dead_letters.sort_by_key(|letter| letter.offset);
        output.dead_letters.append(&mut self.dead_letters);
        output.silver.append(&mut self.silver);
        if self.ledger != self.told {
            let values = self.ledger.values();
            output.rows.push(system_row(plan, SystemTable::LedgerStreams, &[stream, &source], values));
            self.told = self.ledger;
        }
        let task = format!("map:{source}");
        for (feed, told) in self.feeds.iter_mut().zip(&mut self.told_feeds) {
            if feed.ledger != *told {
                let name = operator_name(plan, feed.operator);
                let task =
                    if matches!(feed.operator, Operator::Join(_)) { format!("{task}:{stream}") } else { task.clone() };
                output.rows.push(system_row(plan, SystemTable::LedgerTables, &[name, &task], feed.ledger.values()));
                *told = feed.ledger;
            }
            feed.clear();
        }
        self.quality.drain(plan, stream, &source, &mut output.rows);
    }

    pub(super) fn discard(&mut self) {
        self.dead_letters.clear();
        self.silver.clear();
        self.feeds.iter_mut().for_each(Feed::clear);
        self.told = self.ledger;
        self.told_feeds = self.feeds.iter().map(|feed| feed.ledger).collect();
        self.quality.discard();
    }

    /// Whether its state says what an earlier version cannot read.
    pub(super) fn is_bounded(&self) -> bool {
        self.watermark.is_bounded()
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        self.watermark.snapshot(out);
        self.ledger.snapshot(out);
        self.feeds.iter().for_each(|feed| feed.ledger.snapshot(out));
        self.quality.snapshot(out);
        if let Some(dedup) = &self.dedup {
            dedup.snapshot(out);
        }
    }

    pub(super) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        let out_of_orderness_ms = self.stream().event_time.as_ref().map_or(0, |time| time.out_of_orderness_ms);
        self.watermark = PartitionWatermark::restore(out_of_orderness_ms, reader)?;
        self.ledger = StreamLedger::restore(reader)?;
        for feed in &mut self.feeds {
            feed.ledger = TableLedger::restore(reader)?;
        }
        self.quality.restore(reader)?;
        if let Some(dedup) = &mut self.dedup {
            *dedup = Dedup::restore(reader)?;
        }
        self.told = self.ledger;
        self.told_feeds = self.feeds.iter().map(|feed| feed.ledger).collect();
        Ok(())
    }
}

/// The name under which the ledger lists an operator.
pub(crate) fn operator_name(plan: &Plan, operator: Operator) -> &str {
    match operator {
        Operator::Table(table) | Operator::Funnel(table) => &plan.tables[table].name,
        Operator::Join(join) => &plan.joins[join].name,
    }
}

fn look_up(
    plan: &Plan,
    context: &MapContext,
    enrich: &EnrichPlan,
    decoded: &mut Decoded,
    rows: usize,
    spare: &mut impl Iterator<Item = Column>,
    arena: &mut Vec<u8>,
) {
    let lookup = &context.lookups[enrich.lookup];
    let types = enrich.take.iter().map(|column| plan.lookups[enrich.lookup].columns[*column].ty);
    let mut taken: Vec<Column> = types.map(|ty| empty_column(ty, spare)).collect();
    let keys = &decoded.columns[enrich.key];
    let Data::String(spans) = &keys.data else { unreachable!("bug: lookups go by strings") };
    debug_assert_eq!(spans.len(), rows, "bug: a ragged batch");
    for (span, valid) in spans.iter().zip(&keys.valid) {
        let found = if *valid { lookup.get(span.of(arena)) } else { None };
        for (column, at) in taken.iter_mut().zip(&enrich.take) {
            match found {
                Some(values) => column.push_value(&values[*at], arena),
                None => column.push_null(),
            }
        }
    }
    decoded.columns.append(&mut taken);
}

fn empty_column(ty: Type, spare: &mut impl Iterator<Item = Column>) -> Column {
    match spare.next() {
        Some(mut column) if column.type_of() == ty => {
            column.clear();
            column
        }
        _ => Column::new(ty),
    }
}

/// Appends `is_bot`; robots leave `accepted` where the plan drops them, which the feeds' ledgers show as filtered.
fn mark_bots(bots: &BotPlan, decoded: &mut Decoded, rows: usize, accepted: &mut Vec<u32>, arena: &[u8]) {
    let agents = &decoded.columns[bots.column];
    let Data::String(spans) = &agents.data else { unreachable!("bug: user agents are strings") };
    let marks: Vec<bool> = (0..rows).map(|row| agents.valid[row] && is_bot(spans[row].of(arena))).collect();
    if bots.drop {
        accepted.retain(|row| !marks[*row as usize]);
    }
    decoded.columns.push(Column { valid: vec![true; rows], data: Data::Boolean(marks) });
}

fn key_bytes(column: &Column, row: usize, arena: &[u8]) -> Vec<u8> {
    match &column.data {
        Data::String(spans) => spans[row].of(arena).to_vec(),
        _ => {
            let mut out = Vec::new();
            column.value(row, arena).write_json(&mut out);
            out
        }
    }
}

/// Writes an accepted event as a JSON object; nulls are left out.
fn write_event(stream: &StreamPlan, columns: &[Column], row: usize, arena: &[u8], out: &mut Vec<u8>) {
    out.push(b'{');
    let present = stream.columns.iter().zip(columns).filter(|(_, column)| column.valid[row]);
    for (at, (plan, column)) in present.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_json_string(&plan.name, out);
        out.push(b':');
        write_cell(column, row, arena, out);
    }
    out.push(b'}');
}

fn write_cell(column: &Column, row: usize, arena: &[u8], out: &mut Vec<u8>) {
    match &column.data {
        Data::Integer(values) => write_integer(values[row], out),
        Data::Decimal(values) => values[row].write(out),
        Data::String(spans) => write_json_string(text(spans[row], arena), out),
        Data::Boolean(values) => Value::Boolean(values[row]).write_json(out),
        Data::Timestamp(values) => Value::Timestamp(values[row]).write_json(out),
    }
}

fn text(span: Span, arena: &[u8]) -> &str {
    std::str::from_utf8(span.of(arena)).expect("spans hold UTF-8")
}
