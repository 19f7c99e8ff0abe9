//! Makes events, a batch of columns at a time.
//!
//! Every value is a function of the seed, the field and the event's number, so that shares hold, and so that a restart
//! goes on anywhere without what came before. Sessions are the exception, because they look at the key's last event:
//! a restart runs through the earlier keys and times again, which takes seconds for a hundred million.

use std::{collections::HashMap, mem};

use engine::{
    column::{Column, Data},
    decimal::Decimal,
    time::Millis,
    value::Type,
};

use super::{
    clock::Clock,
    field::{Draw, Field, Piece},
    fill::{gather, put, random_numbers, template, texts, write_uuid},
    random::{Random, Share, below, mix},
    render,
    sessions::Sessions,
};
use crate::ingest::{
    layout::Layout,
    limits::{DUPLICATE_REACH, GENERATE_ROWS},
};

/// Places that are tried for the record to be repeated: if all are repetitions, which for a share of one in a hundred
/// never happens, the record is an original.
const REPEAT_CANDIDATES: u64 = 8;

/// What one synthetic ingester makes, after checking.
#[derive(Debug)]
pub struct Model {
    /// The columns; some are only there for others.
    pub fields: Vec<Field>,
    /// The order in which they can be filled.
    pub order: Vec<usize>,
    /// The events, by column.
    pub layout: Layout<usize>,
    /// The column that keys the records.
    pub key: Option<usize>,
    /// Texts of all constants; their spans point here.
    pub constants: Vec<u8>,
    /// Which records repeat an earlier one.
    pub duplicates: Share,
    /// Which events are late, and by how many milliseconds.
    pub late: (Share, Millis),
    /// Which records are broken, and how.
    pub malformed: Malformed,
    /// The seed.
    pub seed: u64,
    /// The clock.
    pub clock: Clock,
}

/// Records that no decoder takes.
#[derive(Debug)]
pub struct Malformed {
    /// How many.
    pub share: Share,
    /// Members of the event that are decoded: they can have a wrong type.
    pub typed: Vec<usize>,
    /// Members that must be there.
    pub required: Vec<usize>,
}

/// Records, one behind the other.
#[derive(Debug, Default)]
pub struct Events {
    /// Payloads without anything between them.
    pub bytes: Vec<u8>,
    /// Place behind each payload, and its partition.
    pub ends: Vec<(u32, u32)>,
}

impl Events {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Returns the payloads and their partitions.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u32)> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        starts.zip(&self.ends).map(|(start, (end, partition))| (&self.bytes[start as usize..*end as usize], *partition))
    }
}

/// Makes the records of a [`Model`] in order.
#[derive(Debug)]
pub struct Generator {
    model: Model,
    partitions: u32,
    next: u64,
    /// Constants, then the texts of the batch at hand.
    arena: Vec<u8>,
    columns: Vec<Column>,
    times: Vec<Millis>,
    draws: Vec<u64>,
    /// The rows of lookups that were picked, by column.
    picked: HashMap<usize, Vec<u32>>,
    sessions: HashMap<usize, Sessions>,
    /// The last [`DUPLICATE_REACH`] records, if there are duplicates.
    recent: Vec<(Vec<u8>, u32)>,
    randoms: Randoms,
}

#[derive(Debug)]
struct Randoms {
    duplicate: Random,
    late: Random,
    malformed: Random,
}

impl Generator {
    /// Makes a generator that goes on at record `next`.
    #[must_use]
    pub fn new(model: Model, partitions: u32, next: u64) -> Self {
        let columns = model.fields.iter().map(|field| Column::new(field.ty)).collect();
        let session = |field: &Field| matches!(field.draw, Draw::Session { .. });
        let sessions = (0..model.fields.len()).filter(|at| session(&model.fields[*at]));
        let sessions = sessions.map(|at| (at, Sessions::default())).collect();
        let randoms = Randoms {
            duplicate: Random::new(model.seed, " duplicate"),
            late: Random::new(model.seed, " late"),
            malformed: Random::new(model.seed, " malformed"),
        };
        let mut generator = Self {
            arena: model.constants.clone(),
            model,
            partitions,
            next: 0,
            columns,
            times: Vec::new(),
            draws: Vec::new(),
            picked: HashMap::new(),
            sessions,
            recent: vec![Default::default(); DUPLICATE_REACH as usize],
            randoms,
        };
        generator.skip_to(next);
        generator
    }

    /// The number of the next record.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.model.clock
    }

    /// Shows `now` at the next record.
    pub fn restart_clock(&mut self, now: Millis) {
        self.model.clock.restart(self.next, now);
    }

    /// Appends the next `count` records to `events`.
    pub fn generate(&mut self, mut count: usize, events: &mut Events) {
        let all = vec![true; self.model.fields.len()];
        while count > 0 {
            let rows = count.min(GENERATE_ROWS);
            self.fill(self.next, rows, &all);
            self.render(rows, events);
            self.next += rows as u64;
            count -= rows;
        }
    }

    /// Goes to record `next`, with the sessions as they then are and the records that may be repeated.
    fn skip_to(&mut self, next: u64) {
        let shown = if self.model.duplicates.holds(0) { next.saturating_sub(DUPLICATE_REACH) } else { next };
        let needed = self.needed_by_sessions();
        if needed.contains(&true) {
            self.next = self.model.clock.first();
            while self.next < shown {
                let rows = (shown - self.next).min(GENERATE_ROWS as u64) as usize;
                self.fill(self.next, rows, &needed);
                self.next += rows as u64;
            }
        }
        self.next = shown;
        self.generate((next - shown) as usize, &mut Events::default());
    }

    fn needed_by_sessions(&self) -> Vec<bool> {
        let mut needed = vec![false; self.model.fields.len()];
        self.sessions.keys().for_each(|at| needed[*at] = true);
        for at in self.model.order.iter().rev().filter(|_| !self.sessions.is_empty()) {
            if needed[*at] {
                self.model.fields[*at].reads(&mut |column| needed[column] = true);
            }
        }
        needed
    }

    /// Fills the wanted columns for the events `n..n + rows`.
    fn fill(&mut self, n: u64, rows: usize, wanted: &[bool]) {
        self.arena.truncate(self.model.constants.len());
        self.times.clear();
        self.model.clock.extend(n, rows, &mut self.times);
        for index in 0..self.model.order.len() {
            let at = self.model.order[index];
            if wanted[at] {
                let mut column = mem::replace(&mut self.columns[at], Column::new(Type::Boolean));
                column.clear();
                self.draw(at, n, rows, &mut column);
                debug_assert_eq!(column.len(), rows, "bug: field {} is not full", self.model.fields[at].name);
                self.columns[at] = column;
            }
        }
    }

    fn draw(&mut self, at: usize, n: u64, rows: usize, column: &mut Column) {
        let field = &mut self.model.fields[at];
        random_numbers(field, &self.columns, &self.arena, n, rows, &mut self.draws);
        let draws = &self.draws[..];
        match &mut field.draw {
            Draw::Uuid => texts(column, draws, &mut self.arena, |draw, out| write_uuid(*draw, out)),
            Draw::Sequence { start, pattern: None } => {
                let numbers = (n..n + rows as u64).map(|n| start.wrapping_add(n) as i64);
                put(column, numbers, |data| if let Data::Integer(values) = data { Some(values) } else { None });
            }
            Draw::Sequence { start, pattern: Some(pattern) } => {
                let numbers: Vec<u64> = (n..n + rows as u64).map(|n| start.wrapping_add(n)).collect();
                texts(column, &numbers, &mut self.arena, |number, out| pattern.write(*number, out));
            }
            Draw::Visitor(visitors) => {
                let numbers = draws.iter().zip(n..).map(|(draw, n)| visitors.choose(field.random, n, *draw));
                let numbers: Vec<u64> = numbers.collect();
                texts(column, &numbers, &mut self.arena, |number, out| visitors.pattern.write(*number, out));
            }
            Draw::Numbered(numbered) => match &numbered.kept {
                Some(kept) => gather(kept, draws.iter().map(|draw| numbered.choose(*draw) as u32 - 1), column),
                None => {
                    texts(column, draws, &mut self.arena, |draw, out| {
                        numbered.pattern.write(numbered.choose(*draw), out)
                    });
                }
            },
            Draw::Pick(pick) if pick.cases.is_empty() => {
                gather(&pick.values, draws.iter().map(|draw| pick.otherwise.choose(*draw)), column);
            }
            Draw::Pick(pick) => {
                let rows = pick.choose(draws, &self.columns, &mut self.arena);
                gather(&pick.values, rows.iter().copied(), column);
            }
            Draw::Now { jitter_ms } => {
                let (share, by) = self.model.late;
                let times = self.times.iter().zip(draws).zip(n..).map(|((time, draw), n)| {
                    let late = if share.holds(self.randoms.late.at(n)) { by } else { 0 };
                    time - below(*draw, *jitter_ms + 1) as Millis - late
                });
                put(column, times, |data| if let Data::Timestamp(values) = data { Some(values) } else { None });
            }
            Draw::Decimal { min, count, step } => {
                let values = draws.iter().map(|draw| Decimal(*min + i128::from(below(*draw, *count)) * *step));
                put(column, values, |data| if let Data::Decimal(values) = data { Some(values) } else { None });
            }
            Draw::Integer { min, count } => {
                let value = |draw: u64| if *count == 0 { draw } else { below(draw, *count) };
                let values = draws.iter().map(|draw| min.wrapping_add(value(*draw) as i64));
                put(column, values, |data| if let Data::Integer(values) = data { Some(values) } else { None });
            }
            Draw::Constant(value) => (0..rows).for_each(|_| column.push_value(value, &mut self.arena)),
            Draw::Template(pieces) => template(pieces, &self.columns, rows, &mut self.arena, column),
            Draw::Expression(expr) => expr.evaluate(&self.columns, rows, &mut self.arena, column),
            Draw::Session { key, idle_ms, pattern } => {
                let sessions = self.sessions.get_mut(&at).expect("every session column has its sessions");
                let numbers = sessions.numbers(&self.columns[*key], &self.arena, &self.times, n, *idle_ms);
                texts(column, numbers, &mut self.arena, |number, out| pattern.write(*number, out));
            }
            Draw::LookupKey { keys } => {
                let picked = self.picked.entry(at).or_default();
                picked.clear();
                picked.extend(draws.iter().map(|draw| below(*draw, keys.len() as u64) as u32));
                gather(keys, picked.iter().copied(), column);
            }
            Draw::LookupValue { picked_by, values } => {
                gather(values, self.picked[picked_by].iter().copied(), column);
            }
        }
    }

    fn render(&mut self, rows: usize, events: &mut Events) {
        let repeats = self.model.duplicates.holds(0);
        for row in 0..rows {
            let n = self.next + row as u64;
            let start = events.bytes.len();
            let mut partition = 0;
            if let Some(earlier) = self.repeated_by(n) {
                let (bytes, of) = &self.recent[(earlier % DUPLICATE_REACH) as usize];
                events.bytes.extend_from_slice(bytes);
                partition = *of;
            } else {
                let (columns, draw) = (&self.columns[..], self.randoms.malformed.at(n));
                match self.model.malformed.share.holds(draw) {
                    false => render::event(&self.model.layout, columns, &self.arena, row, &mut events.bytes),
                    true => {
                        let broken = (&self.model.malformed, mix(draw));
                        render::broken(&self.model.layout, columns, &self.arena, row, broken, &mut events.bytes);
                    }
                }
                if let Some(key) = self.model.key {
                    partition = render::partition(&self.columns[key], row, &self.arena, self.partitions);
                }
            }
            if repeats {
                self.remember(n, &events.bytes[start..], partition);
            }
            events.ends.push((events.bytes.len() as u32, partition));
        }
    }

    /// The record that record `n` repeats, if it does: an original close before it.
    fn repeated_by(&self, n: u64) -> Option<u64> {
        let draw = |n: u64| self.randoms.duplicate.at(n);
        if !self.model.duplicates.holds(draw(n)) {
            return None;
        }
        let reach = DUPLICATE_REACH.min(n);
        let candidates = (1..=REPEAT_CANDIDATES).map(|at| n - below(mix(draw(n).wrapping_add(at)), reach + 1).min(n));
        // What is no candidate for a repetition itself is an original for certain, without looking further back.
        candidates.into_iter().find(|earlier| *earlier < n && !self.model.duplicates.holds(draw(*earlier)))
    }

    fn remember(&mut self, n: u64, bytes: &[u8], partition: u32) {
        let slot = &mut self.recent[(n % DUPLICATE_REACH) as usize];
        slot.0.clear();
        slot.0.extend_from_slice(bytes);
        slot.1 = partition;
    }
}

impl Field {
    /// Calls `visit` with every column that must be filled before this one.
    pub fn reads(&self, visit: &mut impl FnMut(usize)) {
        self.fixed_per.iter().for_each(|column| visit(*column));
        match &self.draw {
            Draw::Pick(pick) => pick.cases.iter().for_each(|(when, _)| when.reads(visit)),
            Draw::Expression(expr) => expr.reads(visit),
            Draw::Session { key, .. } => visit(*key),
            Draw::LookupValue { picked_by, .. } => visit(*picked_by),
            Draw::Template(pieces) => pieces.iter().for_each(|piece| {
                if let Piece::Column(column) = piece {
                    visit(*column);
                }
            }),
            _ => {}
        }
    }
}
