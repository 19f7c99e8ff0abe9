//! Tables of facts that enrich events: loaded once by the driver, read by key.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3Default;

use crate::value::Value;

/// Rows by key; the values are in the order of the plan's columns.
#[derive(Clone, Debug, Default)]
pub struct LookupTable {
    rows: HashMap<Box<[u8]>, Vec<Value>, std::hash::BuildHasherDefault<Xxh3Default>>,
}

impl LookupTable {
    /// Makes a table.
    #[must_use]
    pub fn new(rows: BTreeMap<String, Vec<Value>>) -> Self {
        Self { rows: rows.into_iter().map(|(key, values)| (key.into_bytes().into(), values)).collect() }
    }

    /// The row of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[Value]> {
        self.rows.get(key).map(Vec::as_slice)
    }
}
