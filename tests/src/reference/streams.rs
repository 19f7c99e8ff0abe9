//! One stream: every record of its topics read, judged, deduplicated, enriched and derived.

use std::collections::{BTreeMap, BTreeSet};

use engine::{
    limits,
    output::Source,
    plan::{Plan, StreamPlan},
};

use super::{Answer, Input, Lookups, Record, cell::Cell, evaluate::evaluate, read};

/// An accepted event of a stream or a pair of a join.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its record: source partition and offset. A pair has its left row's.
    pub position: (Source, u64),
    /// Event time, zero where the stream has none.
    pub time: i64,
    /// Its id, or null.
    pub id: Cell,
    /// All columns of the input.
    pub cells: Vec<Cell>,
    /// The watermark of its partition when it came, itself included; a pair has none.
    pub watermark: Option<i64>,
    /// The watermark of its partition before it came.
    pub watermark_before: Option<i64>,
    /// Whether a robot sent it and robots are dropped.
    pub dropped: bool,
}

/// An event time before 1970 or too far behind the arrival.
const TIME_OUT_OF_RANGE: &str = "time-out-of-range";

/// Reads all records of a stream, fills its ledger and dead letters, and returns the accepted events.
pub fn accepted(plan: &Plan, lookups: &Lookups, stream: usize, input: &Input, answer: &mut Answer) -> Vec<Event> {
    let of = &plan.streams[stream];
    let mut events = Vec::new();
    for topic in &of.topics {
        for partition in 0..plan.topics[*topic].partitions {
            let source = Source { topic: *topic as u32, partition };
            let records = input.get(&source).map_or(&[][..], Vec::as_slice);
            let mut reader = Partition { plan, lookups, stream: of, source, latest: None, seen: BTreeMap::new() };
            let mut counts = [0; 4];
            for record in records {
                counts[0] += 1;
                match reader.judge(record) {
                    Verdict::Accepted(event) => {
                        counts[1] += 1;
                        events.push(*event);
                    }
                    Verdict::Duplicate => counts[2] += 1,
                    Verdict::Invalid(reasons) => {
                        counts[3] += 1;
                        answer.dead_letters.insert((of.name.clone(), None, source, record.offset), reasons);
                    }
                }
            }
            answer.streams.insert((of.name.clone(), source), counts);
        }
    }
    events
}

enum Verdict {
    Accepted(Box<Event>),
    Duplicate,
    Invalid(BTreeSet<String>),
}

struct Partition<'a> {
    plan: &'a Plan,
    lookups: &'a Lookups,
    stream: &'a StreamPlan,
    source: Source,
    latest: Option<i64>,
    /// Ids with the watermark after which each is forgotten.
    seen: BTreeMap<Cell, i64>,
}

impl Partition<'_> {
    fn watermark(&self) -> Option<i64> {
        let lag = self.stream.event_time.as_ref().map_or(0, |of| of.out_of_orderness_ms);
        self.latest.map(|latest| latest - lag)
    }

    fn judge(&mut self, record: &Record) -> Verdict {
        let cells = match read::read(&self.stream.fields, &record.payload) {
            Ok(cells) => cells,
            Err(reasons) => return Verdict::Invalid(reasons),
        };
        let mut time = 0;
        if let Some(event_time) = &self.stream.event_time {
            match cells[event_time.column] {
                Cell::Time(at) if (0..=record.arrival + limits::FUTURE_MS_MAX).contains(&at) => time = at,
                Cell::Time(_) => return Verdict::Invalid([TIME_OUT_OF_RANGE.to_owned()].into()),
                _ => return Verdict::Invalid([read::MISSING.to_owned()].into()),
            }
        }
        let failed = |check| evaluate(check, &cells) == Cell::Boolean(false);
        if let Some(rule) = self.stream.rules.iter().find(|rule| failed(&rule.check)) {
            return Verdict::Invalid([rule.name.clone()].into());
        }
        let before = self.watermark();
        if self.stream.event_time.is_some() {
            self.latest = self.latest.max(Some(time));
        }
        let id = self.stream.deduplicate.as_ref().map_or(Cell::Null, |of| cells[of.column].clone());
        if !id.is_null() && self.is_duplicate(&id, time, before) {
            return Verdict::Duplicate;
        }
        let (cells, dropped) = self.extend(cells);
        Verdict::Accepted(Box::new(Event {
            position: (self.source, record.offset),
            time,
            id,
            cells,
            watermark: self.watermark(),
            watermark_before: before,
            dropped,
        }))
    }

    fn is_duplicate(&mut self, id: &Cell, time: i64, before: Option<i64>) -> bool {
        let within = self.stream.deduplicate.as_ref().map_or(0, |of| of.within_ms);
        let remembered = self.seen.get(id).is_some_and(|until| before.is_none_or(|now| now <= *until));
        if !remembered {
            let sighted = self.watermark().map_or(time, |now| now.max(time));
            self.seen.insert(id.clone(), sighted + within);
        }
        remembered
    }

    /// Adds what lookups, robots and `derive` add.
    fn extend(&self, mut cells: Vec<Cell>) -> (Vec<Cell>, bool) {
        for enrich in &self.stream.enrich {
            let found = cells[enrich.key].text().and_then(|key| self.lookups[enrich.lookup].get(key)).cloned();
            cells
                .extend(enrich.take.iter().map(|column| found.as_ref().map_or(Cell::Null, |row| row[*column].clone())));
        }
        let mut dropped = false;
        if let Some(bots) = &self.stream.bots {
            let is_bot = cells[bots.column].text().is_some_and(|agent| agent.to_lowercase().contains("bot"));
            dropped = is_bot && bots.drop;
            cells.push(Cell::Boolean(is_bot));
        }
        for derived in &self.stream.derive {
            cells.push(evaluate(derived, &cells));
        }
        debug_assert!(self.plan.streams.iter().any(|stream| stream.columns.len() == cells.len()));
        (cells, dropped)
    }
}
