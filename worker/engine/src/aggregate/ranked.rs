//! `first`, `last`, `last_n`, `last_distinct`: values ranked by (event time, id, value), never by position.

use std::cmp::Ordering;

use super::put_len;
use crate::{
    codec::{Corrupt, Reader, put_bytes, put_i64, put_value},
    time::Millis,
    value::Value,
};

/// Which values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The earliest.
    First,
    /// The latest.
    Last,
    /// The latest n.
    LastN(usize),
    /// The latest n different ones, each at its latest.
    LastDistinct(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    time: Millis,
    id: Box<[u8]>,
    value: Value,
}

/// The kept values of one group, best first.
#[derive(Clone, Debug, Default)]
pub struct Ranked(Vec<Entry>);

impl Kind {
    fn limit(self) -> usize {
        match self {
            Self::First | Self::Last => 1,
            Self::LastN(count) | Self::LastDistinct(count) => count,
        }
    }

    /// Orders entries best first.
    fn rank(self, left: &Entry, right: &Entry) -> Ordering {
        match self {
            Self::First => left.cmp(right),
            _ => right.cmp(left),
        }
    }
}

impl Ranked {
    /// Offers a value. It is only made when its time says that it may be kept.
    pub(super) fn insert(&mut self, kind: Kind, time: Millis, id: &[u8], value: impl FnOnce() -> Value) {
        if let Some(worst) = self.0.last().filter(|_| self.0.len() >= kind.limit()) {
            let hopeless = if kind == Kind::First { time > worst.time } else { time < worst.time };
            if hopeless {
                return;
            }
        }
        self.offer(kind, Entry { time, id: id.into(), value: value() });
    }

    fn offer(&mut self, kind: Kind, entry: Entry) {
        let same = |kept: &Entry| matches!(kind, Kind::LastDistinct(_)) && kept.value == entry.value;
        if let Some(at) = self.0.iter().position(same) {
            if self.0[at] >= entry {
                return;
            }
            self.0.remove(at);
        }
        let at = self.0.partition_point(|kept| kind.rank(kept, &entry) == Ordering::Less);
        if at < kind.limit() {
            self.0.insert(at, entry);
            self.0.truncate(kind.limit());
        }
    }

    pub(super) fn merge(&mut self, kind: Kind, other: &Self) {
        other.0.iter().for_each(|entry| self.offer(kind, entry.clone()));
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_len(self.0.len(), out);
        for entry in &self.0 {
            put_i64(entry.time, out);
            put_bytes(&entry.id, out);
            put_value(&entry.value, out);
        }
    }

    pub(super) fn merge_encoded(&mut self, kind: Kind, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        for _ in 0..reader.count()? {
            let time = reader.i64()?;
            let id = reader.bytes()?.into();
            self.offer(kind, Entry { time, id, value: reader.value()? });
        }
        Ok(())
    }

    pub(super) fn result(&self, kind: Kind) -> Value {
        match kind {
            Kind::First | Kind::Last => self.0.first().map_or(Value::Null, |entry| entry.value.clone()),
            Kind::LastN(_) | Kind::LastDistinct(_) => {
                Value::List(self.0.iter().map(|entry| entry.value.clone()).collect())
            }
        }
    }
}
