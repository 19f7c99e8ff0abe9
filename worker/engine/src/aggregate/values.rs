//! Sets and multisets of values: `count(distinct x)` and `top(n, x)`.

use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_128;

use super::put_len;
use crate::{
    codec::{Corrupt, Reader, put_i64, put_value},
    column::{Column, Data},
    value::Value,
};

/// Values kept in a plain list before a hash set pays.
const SMALL: usize = 16;

/// Hash builder without a seed: contents are hashes already, or come out sorted.
type Fixed = std::hash::BuildHasherDefault<xxhash_rust::xxh3::Xxh3Default>;

/// Hash builder for what is a hash already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }
}

/// A 128-bit hash of the value at `row`, which is not null. Two values of a column that differ share it with
/// probability 2⁻¹²⁸, so sets of hashes count exactly.
pub(super) fn hash_value(column: &Column, row: usize, arena: &[u8]) -> u128 {
    match &column.data {
        Data::String(spans) => xxh3_128(spans[row].of(arena)),
        Data::Integer(values) | Data::Timestamp(values) => xxh3_128(&values[row].to_le_bytes()),
        Data::Decimal(values) => xxh3_128(&values[row].0.to_le_bytes()),
        Data::Boolean(values) => xxh3_128(&[u8::from(values[row])]),
    }
}

/// An exact set of values, by their hashes.
#[derive(Clone, Debug)]
pub(super) enum Distinct {
    Small(Vec<u128>),
    Large(HashSet<u128, std::hash::BuildHasherDefault<Identity>>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Small(Vec::new())
    }
}

impl Distinct {
    pub(super) fn insert(&mut self, hash: u128) {
        match self {
            Self::Small(hashes) if hashes.contains(&hash) => {}
            Self::Small(hashes) if hashes.len() < SMALL => hashes.push(hash),
            Self::Small(hashes) => {
                let large = hashes.iter().copied().chain([hash]).collect();
                *self = Self::Large(large);
            }
            Self::Large(hashes) => {
                hashes.insert(hash);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Small(hashes) => hashes.len(),
            Self::Large(hashes) => hashes.len(),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        match other {
            Self::Small(hashes) => hashes.iter().for_each(|hash| self.insert(*hash)),
            Self::Large(hashes) => hashes.iter().for_each(|hash| self.insert(*hash)),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut sorted: Vec<u128> = match self {
            Self::Small(hashes) => hashes.clone(),
            Self::Large(hashes) => hashes.iter().copied().collect(),
        };
        sorted.sort_unstable();
        put_len(sorted.len(), out);
        sorted.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
    }

    pub(super) fn merge_encoded(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        for _ in 0..reader.count()? {
            let bytes = reader.take(16)?.try_into().map_err(|_| Corrupt("short hash"))?;
            self.insert(u128::from_le_bytes(bytes));
        }
        Ok(())
    }
}

/// How often each value was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Frequencies(HashMap<Value, i64, Fixed>);

impl Frequencies {
    pub(super) fn add(&mut self, value: Value, count: i64) {
        let kept = self.0.entry(value).or_default();
        *kept = kept.wrapping_add(count);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(value, count)| self.add(value.clone(), *count));
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_unstable();
        put_len(sorted.len(), out);
        for (value, count) in sorted {
            put_value(value, out);
            put_i64(*count, out);
        }
    }

    pub(super) fn merge_encoded(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        for _ in 0..reader.count()? {
            let value = reader.value()?;
            self.add(value, reader.i64()?);
        }
        Ok(())
    }

    /// The `count` most frequent values as pairs `[value, count]`; ties by value.
    pub(super) fn top(&self, count: usize) -> Value {
        let mut ranked: Vec<(&Value, i64)> = self.0.iter().map(|(value, count)| (value, *count)).collect();
        ranked.sort_unstable_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(right.0)));
        let pair = |(value, count): &(&Value, i64)| Value::List([(*value).clone(), Value::Integer(*count)].into());
        Value::List(ranked.iter().take(count).map(pair).collect())
    }
}
