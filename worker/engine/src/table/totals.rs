//! Running totals: one row for each group, for as long as the plan keeps it.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashTable;

use super::{
    Applied, Shape,
    rows::{Pending, RowBuilder},
};
use crate::{
    aggregate::Accumulators,
    codec::{Corrupt, Reader, put_bytes, put_i64, put_u64},
    group::hash_key,
    output::Row,
    time::{BEGINNING_OF_TIME, END_OF_TIME, Millis, window_start},
};

/// The running totals of one table. A group's number in the accumulators is its number in `totals` too.
pub struct TotalTable {
    shape: Shape,
    keep_for_ms: Option<Millis>,
    max_groups: Option<u64>,
    index: HashTable<u32>,
    totals: Vec<Total>,
    accumulators: Accumulators,
    changed: Vec<u32>,
    /// Groups that the last message touched, where they are asked for.
    fresh: Vec<u32>,
    /// Groups to look at once the watermark passes a bucket of time; only with `keep_for_ms`. One that was looked at
    /// and registered elsewhere since then is passed over: [`Total::bucket`] says where it is due.
    expiring: BTreeMap<Millis, Vec<u32>>,
    /// Groups by their last event; only with `max_groups`.
    oldest: BTreeSet<(Millis, Box<[u8]>)>,
    gone: Vec<Row>,
    watermark: Millis,
}

#[derive(Clone, Debug, Default)]
struct Total {
    key: Box<[u8]>,
    last: Millis,
    bucket: Millis,
    changed: bool,
    live: bool,
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
            index: HashTable::new(),
            totals: Vec::new(),
            accumulators,
            changed: Vec::new(),
            fresh: Vec::new(),
            expiring: BTreeMap::new(),
            oldest: BTreeSet::new(),
            gone: Vec::new(),
            watermark: BEGINNING_OF_TIME,
        }
    }

    pub(super) fn groups(&self) -> usize {
        self.index.len()
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
        if self.shape.is_watched {
            self.fresh.push(group);
        }
        self.evict(builder);
        Ok(())
    }

    fn touch(&mut self, key: &[u8], last: Millis) -> u32 {
        let found = self.index.find(hash_key(key), |number| *self.totals[*number as usize].key == *key);
        let Some(number) = found.copied() else { return self.insert(key, last, true) };
        let total = &mut self.totals[number as usize];
        if self.max_groups.is_some() && last > total.last {
            self.oldest.remove(&(total.last, key.into()));
            self.oldest.insert((last, key.into()));
        }
        total.last = total.last.max(last);
        if !std::mem::replace(&mut total.changed, true) {
            self.changed.push(number);
        }
        number
    }

    fn insert(&mut self, key: &[u8], last: Millis, changed: bool) -> u32 {
        let number = self.accumulators.add_group();
        if self.max_groups.is_some() {
            self.oldest.insert((last, key.into()));
        }
        if self.totals.len() <= number as usize {
            self.totals.resize(number as usize + 1, Total::default());
        }
        self.totals[number as usize] = Total { key: key.into(), last, bucket: BEGINNING_OF_TIME, changed, live: true };
        self.register(number);
        let totals = &self.totals;
        self.index.insert_unique(hash_key(key), number, |number| hash_key(&totals[*number as usize].key));
        if changed {
            self.changed.push(number);
        }
        number
    }

    /// Buckets are a sixteenth of the time a group is kept, so that each group is looked at about once for nothing.
    fn register(&mut self, number: u32) {
        let Some(keep_for_ms) = self.keep_for_ms else { return };
        let total = &mut self.totals[number as usize];
        total.bucket = window_start(total.last + keep_for_ms, (keep_for_ms / 16).max(1_000));
        self.expiring.entry(total.bucket).or_default().push(number);
    }

    fn evict(&mut self, builder: &RowBuilder) {
        let Some(max_groups) = self.max_groups else { return };
        while self.index.len() as u64 > max_groups {
            let Some((_, key)) = self.oldest.pop_first() else { return };
            let found = self.index.find(hash_key(&key), |number| self.totals[*number as usize].key == key);
            if let Some(number) = found.copied() {
                self.remove(number, builder);
            }
        }
    }

    fn remove(&mut self, number: u32, builder: &RowBuilder) {
        let total = std::mem::take(&mut self.totals[number as usize]);
        if let Ok(entry) = self.index.find_entry(hash_key(&total.key), |other| *other == number) {
            entry.remove();
        }
        self.accumulators.release(number);
        if self.max_groups.is_some() {
            self.oldest.remove(&(total.last, total.key.clone()));
        }
        self.gone.push(builder.deleted(&total.key, None));
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
            let (bucket, numbers) = self.expiring.pop_first().expect("it was just seen");
            for number in numbers {
                let total = &self.totals[number as usize];
                if !total.live || total.bucket != bucket {
                    continue;
                }
                match self.watermark > total.last + keep_for_ms {
                    true => self.remove(number, builder),
                    false => again.push(number),
                }
            }
        }
        again.into_iter().for_each(|number| self.register(number));
    }

    /// Makes rows of the totals that the last message touched and that are still there, and tells which are gone.
    pub(super) fn take_fresh(&mut self, builder: &mut RowBuilder, fresh: &mut Vec<Row>, out: &mut Vec<Row>) {
        out.append(&mut self.gone);
        let mut touched = std::mem::take(&mut self.fresh);
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|number| self.totals[*number as usize].live);
        self.make_rows(&touched, builder, fresh);
    }

    pub(super) fn drain_changed(&mut self, builder: &mut RowBuilder, out: &mut Vec<Row>) {
        out.append(&mut self.gone);
        let mut changed = std::mem::take(&mut self.changed);
        changed.retain(|number| std::mem::take(&mut self.totals[*number as usize].changed));
        self.make_rows(&changed, builder, out);
    }

    fn make_rows(&self, numbers: &[u32], builder: &mut RowBuilder, out: &mut Vec<Row>) {
        let mut pending = Vec::with_capacity(numbers.len());
        for number in numbers {
            let key = &self.totals[*number as usize].key;
            if self.shape.drop_empty && self.accumulators.count(0, *number) == 0 {
                out.push(builder.deleted(key, None));
                continue;
            }
            pending.push(Pending { key: key.to_vec(), window: None, group: *number, is_final: false });
        }
        builder.build(&self.accumulators, &pending, out);
    }

    pub(super) fn mark_told(&mut self) {
        self.gone.clear();
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        put_i64(self.watermark, out);
        let mut numbers: Vec<u32> = self.index.iter().copied().collect();
        numbers.sort_unstable_by_key(|number| &self.totals[*number as usize].key);
        put_u64(numbers.len() as u64, out);
        for number in numbers {
            let total = &self.totals[number as usize];
            put_bytes(&total.key, out);
            put_i64(total.last, out);
            self.accumulators.encode(number, out);
        }
    }

    pub(super) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        self.watermark = reader.i64()?;
        for _ in 0..reader.count()? {
            let key = reader.bytes()?;
            let last = reader.time()?;
            let number = self.insert(key, last, false);
            self.accumulators.merge_encoded(number, reader)?;
        }
        Ok(())
    }
}
