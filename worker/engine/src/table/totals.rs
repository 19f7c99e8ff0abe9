//! Running totals: one row for each group, for as long as the plan keeps it.

use std::collections::{BTreeMap, BTreeSet};

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
    time::{BEGINNING_OF_TIME, END_OF_TIME, Millis, window_start},
};

/// The running totals of one table.
pub struct TotalTable {
    shape: Shape,
    keep_for_ms: Option<Millis>,
    max_groups: Option<u64>,
    totals: HashMap<Box<[u8]>, Total, std::hash::BuildHasherDefault<Xxh3Default>>,
    accumulators: Accumulators,
    changed: Vec<Box<[u8]>>,
    /// Keys to look at once the watermark passes a bucket of time; only with `keep_for_ms`.
    expiring: BTreeMap<Millis, Vec<Box<[u8]>>>,
    /// Groups by their last event; only with `max_groups`.
    oldest: BTreeSet<(Millis, Box<[u8]>)>,
    gone: Vec<Row>,
    watermark: Millis,
}

#[derive(Clone, Copy, Debug)]
struct Total {
    group: u32,
    last: Millis,
    changed: bool,
}

impl TotalTable {
    pub(super) fn new(
        shape: Shape,
        accumulators: Accumulators,
        keep_for_ms: Option<Millis>,
        max_groups: Option<u64>,
    ) -> Self {
        Self {
            shape,
            keep_for_ms,
            max_groups,
            totals: HashMap::default(),
            accumulators,
            changed: Vec::new(),
            expiring: BTreeMap::new(),
            oldest: BTreeSet::new(),
            gone: Vec::new(),
            watermark: BEGINNING_OF_TIME,
        }
    }

    pub(super) fn groups(&self) -> usize {
        self.totals.len()
    }

    /// Applies one group of a section: key, events, last event time, accumulators.
    pub(super) fn apply(
        &mut self,
        section: &mut Reader<'_>,
        applied: &mut Applied,
        builder: &RowBuilder,
    ) -> Result<(), Corrupt> {
        let key = section.bytes()?;
        applied.counted += section.u64()?;
        let last = section.time()?;
        let group = self.touch(key, last);
        self.accumulators.merge_encoded(group, section)?;
        self.evict(builder);
        Ok(())
    }

    fn touch(&mut self, key: &[u8], last: Millis) -> u32 {
        if let Some(total) = self.totals.get_mut(key) {
            if self.max_groups.is_some() && last > total.last {
                self.oldest.remove(&(total.last, key.into()));
                self.oldest.insert((last, key.into()));
            }
            total.last = total.last.max(last);
            if !std::mem::replace(&mut total.changed, true) {
                self.changed.push(key.into());
            }
            return total.group;
        }
        let group = self.accumulators.add_group();
        self.insert(key.into(), Total { group, last, changed: true });
        self.changed.push(key.into());
        group
    }

    fn insert(&mut self, key: Box<[u8]>, total: Total) {
        if self.max_groups.is_some() {
            self.oldest.insert((total.last, key.clone()));
        }
        if let Some(keep_for_ms) = self.keep_for_ms {
            register(&mut self.expiring, keep_for_ms, total.last, key.clone());
        }
        self.totals.insert(key, total);
    }

    fn evict(&mut self, builder: &RowBuilder) {
        let Some(max_groups) = self.max_groups else { return };
        while self.totals.len() as u64 > max_groups {
            let Some((_, key)) = self.oldest.pop_first() else { return };
            self.remove(&key, builder);
        }
    }

    fn remove(&mut self, key: &[u8], builder: &RowBuilder) {
        let Some(total) = self.totals.remove(key) else { return };
        self.accumulators.release(total.group);
        self.oldest.remove(&(total.last, key.into()));
        self.gone.push(builder.deleted(key, None));
    }

    pub(super) fn advance(&mut self, watermark: Millis, builder: &RowBuilder, out: &mut Vec<Row>) {
        // The end of a bounded source closes windows; it does not make totals old.
        if watermark != END_OF_TIME {
            // Also where it did not move: an event may have come that was too old already.
            self.watermark = self.watermark.max(watermark);
            self.expire(builder);
        }
        out.append(&mut self.gone);
    }

    fn expire(&mut self, builder: &RowBuilder) {
        let Some(keep_for_ms) = self.keep_for_ms else { return };
        let mut again = Vec::new();
        while let Some((bucket, _)) = self.expiring.first_key_value() {
            if *bucket >= self.watermark {
                break;
            }
            let (_, keys) = self.expiring.pop_first().expect("it was just seen");
            for key in keys {
                match self.totals.get(&key) {
                    Some(total) if self.watermark > total.last + keep_for_ms => self.remove(&key, builder),
                    Some(total) => again.push((total.last, key)),
                    None => {}
                }
            }
        }
        for (last, key) in again {
            register(&mut self.expiring, keep_for_ms, last, key);
        }
    }

    pub(super) fn drain_changed(&mut self, builder: &mut RowBuilder, out: &mut Vec<Row>) {
        out.append(&mut self.gone);
        let mut pending = Vec::new();
        for key in std::mem::take(&mut self.changed) {
            let Some(total) = self.totals.get_mut(&key) else { continue };
            if !std::mem::take(&mut total.changed) {
                continue;
            }
            if self.shape.drop_empty && self.accumulators.count(0, total.group) == 0 {
                out.push(builder.deleted(&key, None));
                continue;
            }
            pending.push(Pending { key: key.into(), window: None, group: total.group, is_final: false });
        }
        builder.build(&self.accumulators, &pending, out);
    }

    pub(super) fn mark_told(&mut self) {
        self.gone.clear();
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        put_i64(self.watermark, out);
        let mut keys: Vec<_> = self.totals.keys().collect();
        keys.sort_unstable();
        put_u64(keys.len() as u64, out);
        for key in keys {
            let total = self.totals[key];
            put_bytes(key, out);
            put_i64(total.last, out);
            self.accumulators.encode(total.group, out);
        }
    }

    pub(super) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        self.watermark = reader.i64()?;
        for _ in 0..reader.count()? {
            let key = reader.bytes()?;
            let last = reader.time()?;
            let group = self.accumulators.add_group();
            self.accumulators.merge_encoded(group, reader)?;
            self.insert(key.into(), Total { group, last, changed: false });
        }
        Ok(())
    }
}

/// Buckets are a sixteenth of the time a group is kept, so that each group is looked at about once for nothing.
fn register(expiring: &mut BTreeMap<Millis, Vec<Box<[u8]>>>, keep_for_ms: Millis, last: Millis, key: Box<[u8]>) {
    let bucket_ms = (keep_for_ms / 16).max(1_000);
    expiring.entry(window_start(last + keep_for_ms, bucket_ms)).or_default().push(key);
}
