//! Which session an event of a key belongs to.

use std::collections::HashMap;

use engine::{
    column::{Column, Data},
    time::Millis,
};
use xxhash_rust::xxh3::xxh3_64;

/// The sessions of one field: the last event of each key and the session's number, which is that of its first event,
/// from one.
#[derive(Debug, Default)]
pub struct Sessions {
    open: HashMap<u64, (Millis, u64)>,
    /// When so many keys are known, those that are idle are forgotten.
    forget_at: usize,
    numbers: Vec<u64>,
}

/// Keys below which forgetting is not worth the look: 32 bytes each.
const KEYS_FEW: usize = 1 << 16;

impl Sessions {
    /// Returns the session numbers of the events from `n` on, at `times`, whose keys are in `keys`.
    pub fn numbers(&mut self, keys: &Column, arena: &[u8], times: &[Millis], n: u64, idle_ms: i64) -> &[u64] {
        self.numbers.clear();
        for (row, time) in times.iter().enumerate() {
            let new = (*time, n + row as u64 + 1);
            let session = self.open.entry(hash(keys, row, arena)).or_insert(new);
            if time - session.0 > idle_ms {
                *session = new;
            }
            session.0 = *time;
            self.numbers.push(session.1);
        }
        if self.open.len() > self.forget_at.max(KEYS_FEW)
            && let Some(now) = times.last()
        {
            self.open.retain(|_, (last, _)| now - *last <= idle_ms);
            self.forget_at = 2 * self.open.len();
        }
        &self.numbers
    }
}

fn hash(keys: &Column, row: usize, arena: &[u8]) -> u64 {
    match &keys.data {
        Data::String(spans) => xxh3_64(spans[row].of(arena)),
        Data::Integer(values) | Data::Timestamp(values) => xxh3_64(&values[row].to_le_bytes()),
        Data::Decimal(values) => xxh3_64(&values[row].0.to_le_bytes()),
        Data::Boolean(values) => u64::from(values[row]),
    }
}
