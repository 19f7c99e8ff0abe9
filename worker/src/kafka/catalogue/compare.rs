//! Two epochs of a table, row by row, as their results have them now.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::{
    history::rows::identity,
    kafka::{client::Cluster, compacted::read_all, names::Names},
    ports::LogError,
    store::Document,
};

/// Keys that are shown of those that differ.
const SHOWN_MAX: usize = 10;

/// How two epochs of a table differ. Rows that are still open may differ because one is a moment ahead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Rows that are the same.
    pub equal: u64,
    /// Rows with other values.
    pub changed: u64,
    /// Rows that only the older epoch has.
    pub gone: u64,
    /// Rows that only the newer epoch has.
    pub new: u64,
    /// Identities of some of those that differ, with both epochs' values.
    pub shown: Vec<String>,
}

/// Rows of a table by a hash of their identity: a hash of what they say, 24 bytes a row.
type Rows = BTreeMap<u128, u64>;

/// Compares `table` as `older` and `newer` have it.
///
/// # Errors
/// Where the results cannot be read.
pub fn compare(
    cluster: &Cluster,
    names: &Names,
    table: &str,
    (older, newer): (u32, u32),
) -> Result<Differences, LogError> {
    let before = rows(cluster, names, table, older, |_, _, _| {})?;
    let mut found = Differences::default();
    let mut left = before.clone();
    let after = rows(cluster, names, table, newer, |_, _, _| {})?;
    for (key, values) in &after {
        match left.remove(key) {
            None => found.new += 1,
            Some(before) if before == *values => found.equal += 1,
            Some(_) => found.changed += 1,
        }
    }
    found.gone = left.len() as u64;
    if found.changed + found.gone + found.new > 0 {
        let mut shown: BTreeMap<String, [Option<String>; 2]> = BTreeMap::new();
        for (at, epoch) in [older, newer].into_iter().enumerate() {
            rows(cluster, names, table, epoch, |key, identity, values| {
                let differs = before.get(&key) != after.get(&key);
                if differs && (shown.len() < SHOWN_MAX || shown.contains_key(identity)) {
                    shown.entry(identity.to_owned()).or_default()[at] = Some(values.to_owned());
                }
            })?;
        }
        let text = |values: &Option<String>| values.clone().unwrap_or_else(|| "no row".into());
        found.shown = shown.iter().map(|(key, [a, b])| format!("{key}: {} → {}", text(a), text(b))).collect();
    }
    Ok(found)
}

/// The last word on every row that is not deleted.
fn rows(
    cluster: &Cluster,
    names: &Names,
    table: &str,
    epoch: u32,
    mut each: impl FnMut(u128, &str, &str),
) -> Result<Rows, LogError> {
    let mut rows = Rows::new();
    read_all(cluster, &names.epoch(epoch).results(), &[0], |_, key, value| {
        let Some(row) = value.and_then(|value| serde_json::from_slice::<Document<'_>>(value).ok()) else { return };
        if row.table != table || row.epoch != epoch {
            return;
        }
        let identity = identity(key);
        let hash = xxh3_128(identity.as_bytes());
        if row.deleted {
            rows.remove(&hash);
            return;
        }
        let mut values = Xxh3::new();
        values.update(row.window_end.unwrap_or_default().as_bytes());
        let text = row.says();
        values.update(text.as_bytes());
        rows.insert(hash, values.digest());
        each(hash, &identity, &text);
    })?;
    Ok(rows)
}
