//! A funnel's state as bytes. Equal states have equal bytes: entities and strings are written in the order of their
//! bytes, never by place.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::{
    FunnelState,
    changes::STEPS_MAX,
    entity::{Entity, Pending},
    progress::{Best, Event, Passage, Progress, Rules},
};
use crate::{
    codec::{Corrupt, Reader, put_bytes, put_i64, put_i128, put_u64},
    plan::{FunnelPlan, Window},
    time::{BEGINNING_OF_TIME, Millis, TIME_MAX},
};

impl FunnelState {
    /// Appends the state, changes that were not drained included.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        put_i64(self.horizon, out);
        let ranks = self.write_strings(out);
        self.write_changes(&ranks, out);
        let mut entities: Vec<&Entity> = self.entities.iter().flatten().collect();
        entities.sort_unstable_by(|left, right| left.key.bytes().cmp(right.key.bytes()));
        put_u64(entities.len() as u64, out);
        for entity in entities {
            if entity.is_sorted {
                write_entity(entity, &ranks, out);
            } else {
                let mut sorted = entity.clone();
                sorted.sort(&self.strings);
                write_entity(&sorted, &ranks, out);
            }
        }
    }

    /// Reads what [`FunnelState::snapshot`] wrote under the same plan.
    ///
    /// # Errors
    /// Where the bytes are not a state of this plan.
    pub fn restore(
        plan: &FunnelPlan,
        window: Window,
        lateness_ms: Millis,
        reader: &mut Reader<'_>,
    ) -> Result<Self, Corrupt> {
        let mut state = Self::new(plan, window, lateness_ms);
        state.horizon = reader.i64()?;
        let mut numbers = vec![0];
        for _ in 0..reader.count()? {
            numbers.push(state.strings.number(reader.bytes()?));
        }
        state.strings_kept = state.strings.len();
        state.read_changes(&numbers, reader)?;
        for _ in 0..reader.count()? {
            let entity = read_entity(&state.rules, &numbers, reader)?;
            state.adopt(entity)?;
        }
        Ok(state)
    }

    /// Writes the strings in use and returns their ranks by number; the empty string has rank 0.
    fn write_strings(&self, out: &mut Vec<u8>) -> Vec<u32> {
        let mut used: BTreeMap<&[u8], u32> = BTreeMap::new();
        let mut ranks = vec![u32::MAX; self.strings.len()];
        let mut mark = |number: u32| {
            if number > 0 && std::mem::replace(&mut ranks[number as usize], 0) == u32::MAX {
                used.insert(self.strings.get(number), number);
            }
        };
        self.entities.iter().flatten().for_each(|entity| entity.strings().for_each(&mut mark));
        self.changes.sorted(&self.strings).iter().for_each(|change| mark(change.group));
        put_u64(used.len() as u64, out);
        for (rank, (text, number)) in used.iter().enumerate() {
            put_bytes(text, out);
            ranks[*number as usize] = rank as u32 + 1;
        }
        ranks[0] = 0;
        ranks
    }

    fn write_changes(&self, ranks: &[u32], out: &mut Vec<u8>) {
        let changes = self.changes.sorted(&self.strings);
        put_u64(changes.len() as u64, out);
        for change in changes {
            put_i64(change.window, out);
            put_u64(u64::from(ranks[change.group as usize]), out);
            change.steps[..self.rules.steps as usize].iter().for_each(|count| put_i64(*count, out));
            put_i64(change.converted, out);
            put_i128(change.converted_ms, out);
        }
    }

    fn read_changes(&mut self, numbers: &[u32], reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        for _ in 0..reader.count()? {
            let window = reader.i64()?;
            let group = read_number(numbers, reader)?;
            let mut steps = [0; STEPS_MAX];
            for count in &mut steps[..self.rules.steps as usize] {
                *count = reader.i64()?;
            }
            let change = self.changes.change(window, group);
            change.steps = steps;
            change.converted = reader.i64()?;
            change.converted_ms = reader.i128()?;
        }
        Ok(())
    }

    /// Enters an entity that was read; keys ascend.
    fn adopt(&mut self, entity: Entity) -> Result<(), Corrupt> {
        if self
            .entities
            .last()
            .is_some_and(|last| last.as_ref().is_some_and(|last| last.key.bytes() >= entity.key.bytes()))
        {
            return Err(Corrupt("entities out of order"));
        }
        let place = self.entities.len() as u32;
        if entity.dirty {
            self.dirty.push(place);
        }
        self.entities.push(Some(entity));
        let entities = &self.entities;
        let hash = |place: &u32| entities[*place as usize].as_ref().map_or(0, |entity| entity.hash);
        self.directory.insert_unique(hash(&place), place, hash);
        self.schedule(place);
        Ok(())
    }
}

fn write_entity(entity: &Entity, ranks: &[u32], out: &mut Vec<u8>) {
    put_bytes(entity.key.bytes(), out);
    let settled = &entity.settled;
    let has_floor = entity.floor != BEGINNING_OF_TIME;
    out.push(u8::from(entity.dirty) | u8::from(has_floor) << 1 | u8::from(settled.latest.is_some()) << 2);
    if has_floor {
        put_i64(entity.floor, out);
    }
    if let Some(latest) = settled.latest {
        put_i64(latest, out);
        put_i64(settled.life, out);
    }
    put_u64(entity.pending.len() as u64, out);
    for pending in &entity.pending {
        write_event(&pending.event, ranks, out);
        put_bytes(entity.id(pending), out);
    }
    put_u64(settled.live.len() as u64, out);
    settled.live.iter().for_each(|passage| write_passage(passage, ranks, out));
    write_bests(&settled.ended, ranks, out);
    write_bests(&entity.reported, ranks, out);
}

fn read_entity(rules: &Rules, numbers: &[u32], reader: &mut Reader<'_>) -> Result<Entity, Corrupt> {
    let key = reader.bytes()?;
    let mut entity = Entity::new(key, xxh3_64(key));
    let flags = reader.u8()?;
    entity.dirty = flags & 1 != 0;
    if flags & 2 != 0 {
        entity.floor = read_time(reader)?;
    }
    let mut settled = Progress::default();
    if flags & 4 != 0 {
        settled.latest = Some(read_time(reader)?);
        settled.life = read_time(reader)?;
    }
    for _ in 0..reader.count()? {
        let event = read_event(rules, numbers, reader)?;
        let id = reader.bytes()?;
        let id_start = u32::try_from(entity.ids.len()).map_err(|_| Corrupt("too many ids"))?;
        entity.ids.extend_from_slice(id);
        entity.pending.push(Pending { event, id_start, id_len: id.len() as u32 });
    }
    for _ in 0..reader.count()? {
        settled.live.push(read_passage(rules, numbers, reader)?);
    }
    settled.ended = read_bests(rules, numbers, reader)?;
    entity.reported = read_bests(rules, numbers, reader)?;
    entity.settled = settled;
    Ok(entity)
}

fn write_event(event: &Event, ranks: &[u32], out: &mut Vec<u8>) {
    put_i64(event.time, out);
    put_u64(u64::from(event.reached), out);
    put_u64(u64::from(event.undone), out);
    put_u64(u64::from(ranks[event.key as usize]), out);
    put_u64(u64::from(ranks[event.group as usize]), out);
}

fn read_event(rules: &Rules, numbers: &[u32], reader: &mut Reader<'_>) -> Result<Event, Corrupt> {
    Ok(Event {
        time: read_time(reader)?,
        reached: read_bits(rules, reader)?,
        undone: read_bits(rules, reader)?,
        key: read_number(numbers, reader)?,
        group: read_number(numbers, reader)?,
    })
}

fn write_passage(passage: &Passage, ranks: &[u32], out: &mut Vec<u8>) {
    put_i64(passage.start, out);
    put_i64(passage.took_ms, out);
    put_u64(u64::from(passage.stands), out);
    put_u64(u64::from(ranks[passage.key as usize]), out);
    put_u64(u64::from(ranks[passage.group as usize]), out);
}

fn read_passage(rules: &Rules, numbers: &[u32], reader: &mut Reader<'_>) -> Result<Passage, Corrupt> {
    let start = read_time(reader)?;
    let took_ms = reader.i64()?;
    let stands = read_bits(rules, reader)?;
    if stands == 0 {
        return Err(Corrupt("passage that stands nowhere"));
    }
    let key = read_number(numbers, reader)?;
    Ok(Passage { start, took_ms, key, group: read_number(numbers, reader)?, stands })
}

fn write_bests(bests: &[(Millis, Best)], ranks: &[u32], out: &mut Vec<u8>) {
    put_u64(bests.len() as u64, out);
    for (bucket, best) in bests {
        put_i64(*bucket, out);
        put_u64(u64::from(best.depth), out);
        put_u64(u64::from(ranks[best.group as usize]), out);
        put_i64(best.took_ms, out);
    }
}

fn read_bests(rules: &Rules, numbers: &[u32], reader: &mut Reader<'_>) -> Result<Vec<(Millis, Best)>, Corrupt> {
    let mut bests = Vec::new();
    for _ in 0..reader.count()? {
        let bucket = reader.i64()?;
        let depth = reader.u64()?;
        if depth == 0 || depth > u64::from(rules.steps) {
            return Err(Corrupt("no such step"));
        }
        let group = read_number(numbers, reader)?;
        bests.push((bucket, Best { depth: depth as u16, group, took_ms: reader.i64()? }));
    }
    Ok(bests)
}

fn read_time(reader: &mut Reader<'_>) -> Result<Millis, Corrupt> {
    let time = reader.i64()?;
    (-TIME_MAX..=TIME_MAX).contains(&time).then_some(time).ok_or(Corrupt("time out of range"))
}

fn read_bits(rules: &Rules, reader: &mut Reader<'_>) -> Result<u16, Corrupt> {
    let bits = u16::try_from(reader.u64()?).ok().filter(|bits| bits & !rules.mask() == 0);
    bits.ok_or(Corrupt("no such step"))
}

/// Reads the rank of a string and returns its number.
fn read_number(numbers: &[u32], reader: &mut Reader<'_>) -> Result<u32, Corrupt> {
    let rank = usize::try_from(reader.u64()?).ok().and_then(|rank| numbers.get(rank));
    rank.copied().ok_or(Corrupt("no such string"))
}
