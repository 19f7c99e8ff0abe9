//! Session windows: intervals of one key that are no further apart than the gap are one session.
//!
//! Partial sessions arrive as (first, last, accumulators) in any order; joining intervals is associative and
//! commutative, so the sessions do not depend on how MAP cut them.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3Default;

use super::{
    Applied, Shape,
    rows::{Pending, RowBuilder},
};
use crate::{
    aggregate::Accumulators,
    codec::{Corrupt, Reader, put_bytes, put_i64, put_u64},
    output::Row,
    time::{BEGINNING_OF_TIME, Millis, window_start},
};

type Sessions = HashMap<Box<[u8]>, Vec<Session>, std::hash::BuildHasherDefault<Xxh3Default>>;

/// The sessions of one table.
pub struct SessionTable {
    shape: Shape,
    gap_ms: Millis,
    sessions: Sessions,
    accumulators: Accumulators,
    changed: Vec<Box<[u8]>>,
    /// Keys that the last message touched, where they are asked for.
    fresh: Vec<Box<[u8]>>,
    /// Keys to look at once the watermark passes a bucket of time. A key may stand in several buckets.
    closing: BTreeMap<Millis, Vec<Box<[u8]>>>,
    bucket_ms: Millis,
    /// Deleted rows that have not left yet.
    gone: Vec<Row>,
    watermark: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    first: Millis,
    last: Millis,
    group: u32,
    /// A row under `first` may have left.
    told: bool,
    is_final: bool,
    changed: bool,
}

impl SessionTable {
    pub(super) fn new(shape: Shape, gap_ms: Millis, accumulators: Accumulators) -> Self {
        Self {
            shape,
            gap_ms,
            sessions: HashMap::default(),
            accumulators,
            changed: Vec::new(),
            fresh: Vec::new(),
            closing: BTreeMap::new(),
            bucket_ms: (gap_ms / 16).max(1_000),
            gone: Vec::new(),
            watermark: BEGINNING_OF_TIME,
        }
    }

    pub(super) fn groups(&self) -> usize {
        self.sessions.values().map(Vec::len).sum()
    }

    /// Applies one partial session: key, events, first, length, accumulators.
    pub(super) fn apply(
        &mut self,
        section: &mut Reader<'_>,
        applied: &mut Applied,
        builder: &RowBuilder,
    ) -> Result<(), Corrupt> {
        let key = section.bytes()?;
        let events = section.u64()?;
        let first = section.time()?;
        let last = first + section.time()?;
        let group = self.accumulators.add_group();
        self.accumulators.merge_encoded(group, section)?;
        if last + self.gap_ms + self.shape.lateness_ms < self.watermark {
            self.accumulators.release(group);
            applied.late += events;
            return Ok(());
        }
        applied.counted += events;
        if self.shape.is_watched {
            self.fresh.push(key.into());
        }
        self.insert(key, Session { first, last, group, told: false, is_final: false, changed: true }, builder);
        Ok(())
    }

    fn insert(&mut self, key: &[u8], mut session: Session, builder: &RowBuilder) {
        if !self.sessions.contains_key(key) {
            self.sessions.insert(key.into(), Vec::with_capacity(1));
        }
        let sessions = self.sessions.get_mut(key).expect("it was just put there");
        let gap_ms = self.gap_ms;
        let touches =
            |other: &Session, with: &Session| other.first - gap_ms <= with.last && with.first - gap_ms <= other.last;
        let start = sessions.partition_point(|other| other.last + gap_ms < session.first);
        let mut end = start;
        let mut changed_before = false;
        while end < sessions.len() && touches(&sessions[end], &session) {
            session = absorb(&mut self.accumulators, &mut sessions[end], session);
            changed_before |= sessions[end].changed;
            end += 1;
        }
        for old in &sessions[start..end] {
            if old.told && old.first != session.first {
                self.gone.push(builder.deleted(key, Some((old.first, old.last + gap_ms))));
            }
        }
        let close = session.last + gap_ms;
        // The watermark may have called the session final before it grew.
        session.is_final = self.watermark > close;
        let is_new = start == end;
        if is_new || !changed_before {
            self.changed.push(key.into());
        }
        sessions.splice(start..end, [session]);
        if is_new {
            register(&mut self.closing, self.bucket_ms, close, key.into());
        }
    }

    pub(super) fn advance(&mut self, watermark: Millis, builder: &mut RowBuilder, out: &mut Vec<Row>) {
        out.append(&mut self.gone);
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        let mut pending = Vec::new();
        let mut freed = Vec::new();
        let mut again = Vec::new();
        while let Some((bucket, _)) = self.closing.first_key_value() {
            if *bucket >= watermark {
                break;
            }
            let (_, keys) = self.closing.pop_first().expect("it was just seen");
            for key in keys {
                self.close(&key, &mut pending, &mut freed);
                if let Some(next) = self.next_look(&key) {
                    again.push((next, key));
                }
            }
        }
        for (at, key) in again {
            register(&mut self.closing, self.bucket_ms, at, key);
        }
        builder.build(&self.accumulators, &pending, out);
        freed.into_iter().for_each(|group| self.accumulators.release(group));
    }

    /// Finishes what the watermark has passed: final rows into `pending`, accumulator rows to be freed into `freed`.
    fn close(&mut self, key: &[u8], pending: &mut Vec<Pending>, freed: &mut Vec<u32>) {
        let Some(sessions) = self.sessions.get_mut(key) else { return };
        let (watermark, gap_ms, lateness_ms) = (self.watermark, self.gap_ms, self.shape.lateness_ms);
        sessions.retain_mut(|session| {
            let close = session.last + gap_ms;
            if watermark <= close {
                return true;
            }
            let gone = watermark > close + lateness_ms;
            if !session.is_final || (gone && session.changed) {
                session.is_final = true;
                session.told = true;
                session.changed = false;
                let window = Some((session.first, close));
                pending.push(Pending { key: key.to_vec(), window, group: session.group, is_final: true });
            }
            if gone {
                freed.push(session.group);
            }
            !gone
        });
        if sessions.is_empty() {
            self.sessions.remove(key);
        }
    }

    /// When the next session of `key` becomes final or is freed.
    fn next_look(&self, key: &[u8]) -> Option<Millis> {
        let due = |session: &Session| {
            let close = session.last + self.gap_ms;
            if session.is_final { close + self.shape.lateness_ms } else { close }
        };
        self.sessions.get(key)?.iter().map(due).min()
    }

    /// Makes rows of the sessions that the last message changed and that are final, and tells which are gone. One that was
    /// final and is open again counts as gone for whoever judges it: it may stay open for longer than what was said is kept.
    pub(super) fn take_fresh(&mut self, builder: &mut RowBuilder, fresh: &mut Vec<Row>, out: &mut Vec<Row>) {
        out.append(&mut self.gone);
        let mut pending = Vec::new();
        for key in std::mem::take(&mut self.fresh) {
            let Some(sessions) = self.sessions.get_mut(&key) else { continue };
            for session in sessions.iter_mut().filter(|session| session.changed) {
                let window = Some((session.first, session.last + self.gap_ms));
                if !session.is_final {
                    fresh.extend(session.told.then(|| builder.deleted(&key, window)));
                    continue;
                }
                // Whoever judged it has to hear when it is gone.
                session.told = true;
                pending.push(Pending { key: key.to_vec(), window, group: session.group, is_final: true });
            }
        }
        builder.build(&self.accumulators, &pending, fresh);
    }

    pub(super) fn drain_changed(&mut self, builder: &mut RowBuilder, out: &mut Vec<Row>) {
        out.append(&mut self.gone);
        let mut pending = Vec::new();
        for key in std::mem::take(&mut self.changed) {
            let Some(sessions) = self.sessions.get_mut(&key) else { continue };
            for session in sessions.iter_mut().filter(|session| session.changed) {
                session.changed = false;
                if session.is_final || self.shape.early {
                    session.told = true;
                    let window = Some((session.first, session.last + self.gap_ms));
                    let is_final = session.is_final;
                    pending.push(Pending { key: key.to_vec(), window, group: session.group, is_final });
                }
            }
        }
        builder.build(&self.accumulators, &pending, out);
    }

    pub(super) fn mark_told(&mut self) {
        self.sessions.values_mut().flatten().for_each(|session| session.told = true);
        self.gone.clear();
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        put_i64(self.watermark, out);
        let mut keys: Vec<_> = self.sessions.keys().collect();
        keys.sort_unstable();
        put_u64(keys.len() as u64, out);
        for key in keys {
            put_bytes(key, out);
            let sessions = &self.sessions[key];
            put_u64(sessions.len() as u64, out);
            for session in sessions {
                put_i64(session.first, out);
                put_i64(session.last - session.first, out);
                out.push(u8::from(session.is_final));
                self.accumulators.encode(session.group, out);
            }
        }
    }

    pub(super) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        self.watermark = reader.i64()?;
        for _ in 0..reader.count()? {
            let key: Box<[u8]> = reader.bytes()?.into();
            let mut sessions = Vec::new();
            for _ in 0..reader.count()? {
                let first = reader.time()?;
                let last = first + reader.time()?;
                let is_final = reader.u8()? != 0;
                let group = self.accumulators.add_group();
                self.accumulators.merge_encoded(group, reader)?;
                sessions.push(Session { first, last, group, told: true, is_final, changed: false });
            }
            self.sessions.insert(key.clone(), sessions);
            if let Some(next) = self.next_look(&key) {
                register(&mut self.closing, self.bucket_ms, next, key);
            }
        }
        Ok(())
    }
}

/// Joins `new` with the session `old` that it touches; `old` keeps its bounds, its accumulator row goes over.
fn absorb(accumulators: &mut Accumulators, old: &mut Session, new: Session) -> Session {
    accumulators.merge_within(old.group, new.group);
    accumulators.release(new.group);
    let first = old.first.min(new.first);
    let told = (old.told && old.first == first) || (new.told && new.first == first);
    Session { first, last: old.last.max(new.last), group: old.group, told, is_final: false, changed: true }
}

fn register(closing: &mut BTreeMap<Millis, Vec<Box<[u8]>>>, bucket_ms: Millis, at: Millis, key: Box<[u8]>) {
    closing.entry(window_start(at, bucket_ms)).or_default().push(key);
}
