//! Accumulators: for each aggregate of a table a column of states, one for each group number.
//!
//! Every state is a commutative monoid: a partial from MAP merges into MERGE in any order and any grouping with the
//! same result. The bytes of [`Accumulators::encode`] are what travels through the shuffle and into checkpoints.

mod ranked;
mod values;

use crate::{
    codec::{Corrupt, Reader, put_i64, put_i128, put_u64},
    column::{Column, Data},
    ddsketch::DdSketch,
    decimal::Decimal,
    hll::HyperLogLog,
    plan::{Aggregate, AggregatePlan},
    time::Millis,
    value::{Type, Value},
};
pub use ranked::Ranked;
use values::{Distinct, Frequencies, hash_value};

/// What an update reads: a batch and which of its rows go to which group.
pub struct Update<'a> {
    /// Rows of the batch.
    pub rows: &'a [u32],
    /// The group of each of `rows`.
    pub groups: &'a [u32],
    /// The aggregate's filter over the whole batch.
    pub mask: Option<&'a [bool]>,
    /// The aggregate's argument over the whole batch.
    pub argument: Option<&'a Column>,
    /// Event time of every row of the batch.
    pub times: &'a [Millis],
    /// Id of every row of the batch, for ties; empty where there is none.
    pub ids: Option<&'a Column>,
    /// Where strings lie.
    pub arena: &'a [u8],
}

impl Update<'_> {
    /// Calls `each` with (row, group) for every row that counts: mask true and argument not null.
    #[inline]
    fn for_each(&self, mut each: impl FnMut(usize, usize)) {
        let pairs = || self.rows.iter().zip(self.groups).map(|(row, group)| (*row as usize, *group as usize));
        match (self.mask, self.argument) {
            (None, None) => pairs().for_each(|(row, group)| each(row, group)),
            (Some(mask), None) => pairs().filter(|(row, _)| mask[*row]).for_each(|(row, group)| each(row, group)),
            (None, Some(column)) => {
                pairs().filter(|(row, _)| column.valid[*row]).for_each(|(row, group)| each(row, group));
            }
            (Some(mask), Some(column)) => {
                pairs().filter(|(row, _)| mask[*row] && column.valid[*row]).for_each(|(row, group)| each(row, group));
            }
        }
    }

    fn id(&self, row: usize) -> &[u8] {
        match self.ids {
            Some(Column { valid, data: Data::String(spans) }) if valid[row] => spans[row].of(self.arena),
            _ => &[],
        }
    }
}

/// The states of all groups of a table.
#[derive(Clone, Debug)]
pub struct Accumulators {
    states: Vec<States>,
    len: usize,
    free: Vec<u32>,
}

/// The states of one aggregate, one for each group.
#[derive(Clone, Debug)]
enum States {
    Count(Vec<i64>),
    Sum { ty: Type, sums: Vec<i128>, any: Vec<bool> },
    Average { integer: bool, sums: Vec<i128>, counts: Vec<i64> },
    Extreme { maximum: bool, values: Vec<Value> },
    Bool { or: bool, values: Vec<Option<bool>> },
    Distinct(Vec<Distinct>),
    ApproxDistinct(Vec<HyperLogLog>),
    Percentile { quantile_ppm: u32, sketches: Vec<DdSketch> },
    Ranked(Vec<Ranked>, ranked::Kind),
    Top { count: usize, frequencies: Vec<Frequencies> },
}

impl Accumulators {
    /// Makes accumulators without groups.
    #[must_use]
    pub fn new(plans: &[AggregatePlan]) -> Self {
        Self { states: plans.iter().map(States::new).collect(), len: 0, free: Vec::new() }
    }

    /// Makes the accumulators of a funnel behind its shuffle: signed counts for each step and for the converted, and the
    /// sum of their milliseconds.
    #[must_use]
    pub fn for_funnel(steps: usize) -> Self {
        let mut states: Vec<States> = (0..=steps).map(|_| States::Count(Vec::new())).collect();
        states.push(States::Sum { ty: Type::Integer, sums: Vec::new(), any: Vec::new() });
        Self { states, len: 0, free: Vec::new() }
    }

    /// Adds an empty group and returns its number; a released number is used again.
    pub fn add_group(&mut self) -> u32 {
        if let Some(group) = self.free.pop() {
            return group;
        }
        self.states.iter_mut().for_each(States::push);
        self.len += 1;
        (self.len - 1) as u32
    }

    /// Empties `group` and lets its number be used again.
    pub fn release(&mut self, group: u32) {
        self.reset(group);
        self.free.push(group);
    }

    /// Empties `group`.
    pub fn reset(&mut self, group: u32) {
        self.states.iter_mut().for_each(|states| states.reset(group as usize));
    }

    /// Forgets all groups and keeps the memory.
    pub fn clear(&mut self) {
        self.states.iter_mut().for_each(States::clear);
        self.len = 0;
        self.free.clear();
    }

    /// Lets aggregate number `aggregate` see the rows of `update`.
    pub fn update(&mut self, aggregate: usize, update: &Update<'_>) {
        self.states[aggregate].update(update);
    }

    /// Merges group `from` of `other` into `group`. Both were made from the same plan.
    pub fn merge(&mut self, group: u32, other: &Self, from: u32) {
        for (mine, theirs) in self.states.iter_mut().zip(&other.states) {
            mine.merge(group as usize, theirs, from as usize);
        }
    }

    /// Merges group `from` into `group`.
    pub fn merge_within(&mut self, group: u32, from: u32) {
        let mut bytes = Vec::new();
        self.encode(from, &mut bytes);
        self.merge_encoded(group, &mut Reader::new(&bytes)).expect("these bytes were written one line above");
    }

    /// Appends the bytes of `group`.
    pub fn encode(&self, group: u32, out: &mut Vec<u8>) {
        self.states.iter().for_each(|states| states.encode(group as usize, out));
    }

    /// Merges bytes made by [`Accumulators::encode`] into `group`.
    ///
    /// # Errors
    /// Where the bytes are not of this plan; `group` is then half merged and its task must be dropped.
    pub fn merge_encoded(&mut self, group: u32, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        self.states.iter_mut().try_for_each(|states| states.merge_encoded(group as usize, reader))
    }

    /// Appends the result of every aggregate of `group`.
    pub fn results(&self, group: u32, out: &mut Vec<Value>) {
        out.extend(self.states.iter().map(|states| states.result(group as usize)));
    }

    /// The count number `state`: funnels only.
    #[must_use]
    pub fn count(&self, state: usize, group: u32) -> i64 {
        match &self.states[state] {
            States::Count(counts) => counts[group as usize],
            states => unreachable!("bug: {states:?} is no count"),
        }
    }

    /// The exact sum number `state`: funnels only.
    #[must_use]
    pub fn sum(&self, state: usize, group: u32) -> i128 {
        match &self.states[state] {
            States::Sum { sums, .. } => sums[group as usize],
            states => unreachable!("bug: {states:?} is no sum"),
        }
    }
}

impl States {
    fn new(plan: &AggregatePlan) -> Self {
        let argument = plan.argument.as_ref().map_or(Type::Integer, crate::expr::Expr::type_of);
        match plan.function {
            Aggregate::Count => Self::Count(Vec::new()),
            Aggregate::Sum => Self::Sum { ty: argument, sums: Vec::new(), any: Vec::new() },
            Aggregate::Average => {
                Self::Average { integer: argument == Type::Integer, sums: Vec::new(), counts: Vec::new() }
            }
            Aggregate::Min => Self::Extreme { maximum: false, values: Vec::new() },
            Aggregate::Max => Self::Extreme { maximum: true, values: Vec::new() },
            Aggregate::BoolOr => Self::Bool { or: true, values: Vec::new() },
            Aggregate::BoolAnd => Self::Bool { or: false, values: Vec::new() },
            Aggregate::CountDistinct => Self::Distinct(Vec::new()),
            Aggregate::ApproxDistinct => Self::ApproxDistinct(Vec::new()),
            Aggregate::ApproxPercentile { quantile_ppm } => Self::Percentile { quantile_ppm, sketches: Vec::new() },
            Aggregate::First => Self::Ranked(Vec::new(), ranked::Kind::First),
            Aggregate::Last => Self::Ranked(Vec::new(), ranked::Kind::Last),
            Aggregate::LastN { count } => Self::Ranked(Vec::new(), ranked::Kind::LastN(count as usize)),
            Aggregate::LastDistinct { count } => Self::Ranked(Vec::new(), ranked::Kind::LastDistinct(count as usize)),
            Aggregate::Top { count } => Self::Top { count: count as usize, frequencies: Vec::new() },
        }
    }

    fn push(&mut self) {
        match self {
            Self::Count(counts) => counts.push(0),
            Self::Sum { sums, any, .. } => {
                sums.push(0);
                any.push(false);
            }
            Self::Average { sums, counts, .. } => {
                sums.push(0);
                counts.push(0);
            }
            Self::Extreme { values, .. } => values.push(Value::Null),
            Self::Bool { values, .. } => values.push(None),
            Self::Distinct(sets) => sets.push(Distinct::default()),
            Self::ApproxDistinct(sketches) => sketches.push(HyperLogLog::default()),
            Self::Percentile { sketches, .. } => sketches.push(DdSketch::default()),
            Self::Ranked(lists, _) => lists.push(Ranked::default()),
            Self::Top { frequencies, .. } => frequencies.push(Frequencies::default()),
        }
    }

    fn reset(&mut self, group: usize) {
        match self {
            Self::Count(counts) => counts[group] = 0,
            Self::Sum { sums, any, .. } => {
                sums[group] = 0;
                any[group] = false;
            }
            Self::Average { sums, counts, .. } => {
                sums[group] = 0;
                counts[group] = 0;
            }
            Self::Extreme { values, .. } => values[group] = Value::Null,
            Self::Bool { values, .. } => values[group] = None,
            Self::Distinct(sets) => sets[group] = Distinct::default(),
            Self::ApproxDistinct(sketches) => sketches[group] = HyperLogLog::default(),
            Self::Percentile { sketches, .. } => sketches[group] = DdSketch::default(),
            Self::Ranked(lists, _) => lists[group] = Ranked::default(),
            Self::Top { frequencies, .. } => frequencies[group] = Frequencies::default(),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Count(counts) => counts.clear(),
            Self::Sum { sums, any, .. } => {
                sums.clear();
                any.clear();
            }
            Self::Average { sums, counts, .. } => {
                sums.clear();
                counts.clear();
            }
            Self::Extreme { values, .. } => values.clear(),
            Self::Bool { values, .. } => values.clear(),
            Self::Distinct(sets) => sets.clear(),
            Self::ApproxDistinct(sketches) => sketches.clear(),
            Self::Percentile { sketches, .. } => sketches.clear(),
            Self::Ranked(lists, _) => lists.clear(),
            Self::Top { frequencies, .. } => frequencies.clear(),
        }
    }

    /// One match over every kind of state: longer than a screen line by line, but flat.
    fn update(&mut self, update: &Update<'_>) {
        let value = |row: usize| update.argument.map_or(Value::Null, |column| column.value(row, update.arena));
        match self {
            Self::Count(counts) => update.for_each(|_, group| counts[group] += 1),
            Self::Sum { sums, any, .. } => match argument(update) {
                Data::Integer(values) => update.for_each(|row, group| {
                    sums[group] += i128::from(values[row]);
                    any[group] = true;
                }),
                Data::Decimal(values) => update.for_each(|row, group| {
                    sums[group] += values[row].0;
                    any[group] = true;
                }),
                data => unreachable!("bug: sum of {data:?}"),
            },
            Self::Average { sums, counts, .. } => match argument(update) {
                Data::Integer(values) => update.for_each(|row, group| {
                    sums[group] += i128::from(values[row]);
                    counts[group] += 1;
                }),
                Data::Decimal(values) => update.for_each(|row, group| {
                    sums[group] += values[row].0;
                    counts[group] += 1;
                }),
                data => unreachable!("bug: average of {data:?}"),
            },
            Self::Extreme { maximum, values } => {
                let maximum = *maximum;
                update.for_each(|row, group| keep_extreme(&mut values[group], value(row), maximum));
            }
            Self::Bool { or, values } => match argument(update) {
                Data::Boolean(arguments) => {
                    let or = *or;
                    update.for_each(|row, group| combine(&mut values[group], arguments[row], or));
                }
                data => unreachable!("bug: bool_or of {data:?}"),
            },
            Self::Distinct(sets) => {
                let column = column(update);
                update.for_each(|row, group| sets[group].insert(hash_value(column, row, update.arena)));
            }
            Self::ApproxDistinct(sketches) => {
                let column = column(update);
                update.for_each(|row, group| {
                    sketches[group].insert(hash_value(column, row, update.arena) as u64);
                });
            }
            Self::Percentile { sketches, .. } => match argument(update) {
                Data::Integer(values) => {
                    update.for_each(|row, group| sketches[group].insert(Decimal::from_int(values[row])));
                }
                Data::Decimal(values) => update.for_each(|row, group| sketches[group].insert(values[row])),
                data => unreachable!("bug: percentile of {data:?}"),
            },
            Self::Ranked(lists, kind) => {
                let kind = *kind;
                update.for_each(|row, group| {
                    lists[group].insert(kind, update.times[row], update.id(row), || value(row));
                });
            }
            Self::Top { frequencies, .. } => update.for_each(|row, group| frequencies[group].add(value(row), 1)),
        }
    }

    fn merge(&mut self, group: usize, other: &Self, from: usize) {
        match (self, other) {
            (Self::Count(mine), Self::Count(theirs)) => mine[group] += theirs[from],
            (Self::Sum { sums, any, .. }, Self::Sum { sums: other_sums, any: other_any, .. }) => {
                sums[group] += other_sums[from];
                any[group] |= other_any[from];
            }
            (Self::Average { sums, counts, .. }, Self::Average { sums: other_sums, counts: other_counts, .. }) => {
                sums[group] += other_sums[from];
                counts[group] += other_counts[from];
            }
            (Self::Extreme { maximum, values }, Self::Extreme { values: theirs, .. }) => {
                keep_extreme(&mut values[group], theirs[from].clone(), *maximum);
            }
            (Self::Bool { or, values }, Self::Bool { values: theirs, .. }) => {
                if let Some(value) = theirs[from] {
                    combine(&mut values[group], value, *or);
                }
            }
            (Self::Distinct(mine), Self::Distinct(theirs)) => mine[group].merge(&theirs[from]),
            (Self::ApproxDistinct(mine), Self::ApproxDistinct(theirs)) => mine[group].merge(&theirs[from]),
            (Self::Percentile { sketches, .. }, Self::Percentile { sketches: theirs, .. }) => {
                sketches[group].merge(&theirs[from]);
            }
            (Self::Ranked(mine, kind), Self::Ranked(theirs, _)) => mine[group].merge(*kind, &theirs[from]),
            (Self::Top { frequencies, .. }, Self::Top { frequencies: theirs, .. }) => {
                frequencies[group].merge(&theirs[from]);
            }
            (mine, theirs) => unreachable!("bug: {mine:?} merged with {theirs:?}"),
        }
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>) {
        match self {
            Self::Count(counts) => put_i64(counts[group], out),
            Self::Sum { sums, any, .. } => {
                out.push(u8::from(any[group]));
                put_i128(sums[group], out);
            }
            Self::Average { sums, counts, .. } => {
                put_i64(counts[group], out);
                put_i128(sums[group], out);
            }
            Self::Extreme { values, .. } => crate::codec::put_value(&values[group], out),
            Self::Bool { values, .. } => out.push(match values[group] {
                None => 0,
                Some(false) => 1,
                Some(true) => 2,
            }),
            Self::Distinct(sets) => sets[group].encode(out),
            Self::ApproxDistinct(sketches) => sketches[group].encode(out),
            Self::Percentile { sketches, .. } => sketches[group].encode(out),
            Self::Ranked(lists, _) => lists[group].encode(out),
            Self::Top { frequencies, .. } => frequencies[group].encode(out),
        }
    }

    fn merge_encoded(&mut self, group: usize, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        match self {
            Self::Count(counts) => counts[group] = counts[group].wrapping_add(reader.i64()?),
            Self::Sum { sums, any, .. } => {
                any[group] |= reader.u8()? != 0;
                sums[group] = sums[group].checked_add(reader.i128()?).ok_or(Corrupt("sum overflows"))?;
            }
            Self::Average { sums, counts, .. } => {
                counts[group] = counts[group].wrapping_add(reader.i64()?);
                sums[group] = sums[group].checked_add(reader.i128()?).ok_or(Corrupt("sum overflows"))?;
            }
            Self::Extreme { maximum, values } => keep_extreme(&mut values[group], reader.value()?, *maximum),
            Self::Bool { or, values } => match reader.u8()? {
                0 => {}
                value @ (1 | 2) => combine(&mut values[group], value == 2, *or),
                _ => return Err(Corrupt("not a boolean")),
            },
            Self::Distinct(sets) => sets[group].merge_encoded(reader)?,
            Self::ApproxDistinct(sketches) => sketches[group].merge(&HyperLogLog::decode(reader)?),
            Self::Percentile { sketches, .. } => sketches[group].merge(&DdSketch::decode(reader)?),
            Self::Ranked(lists, kind) => lists[group].merge_encoded(*kind, reader)?,
            Self::Top { frequencies, .. } => frequencies[group].merge_encoded(reader)?,
        }
        Ok(())
    }

    fn result(&self, group: usize) -> Value {
        match self {
            Self::Count(counts) => Value::Integer(counts[group]),
            Self::Sum { any, .. } if !any[group] => Value::Null,
            Self::Sum { ty: Type::Integer, sums, .. } => i64::try_from(sums[group]).map_or(Value::Null, Value::Integer),
            Self::Sum { sums, .. } => Value::Decimal(Decimal(sums[group])),
            Self::Average { integer, sums, counts } => average(*integer, sums[group], counts[group]),
            Self::Extreme { values, .. } => values[group].clone(),
            Self::Bool { values, .. } => values[group].map_or(Value::Null, Value::Boolean),
            Self::Distinct(sets) => Value::Integer(sets[group].len() as i64),
            Self::ApproxDistinct(sketches) => Value::Integer(sketches[group].estimate() as i64),
            Self::Percentile { quantile_ppm, sketches } => {
                sketches[group].quantile(*quantile_ppm).map_or(Value::Null, Value::Decimal)
            }
            Self::Ranked(lists, kind) => lists[group].result(*kind),
            Self::Top { count, frequencies } => frequencies[group].top(*count),
        }
    }
}

fn column<'a>(update: &Update<'a>) -> &'a Column {
    update.argument.expect("plans give every aggregate but count() an argument")
}

fn argument<'a>(update: &Update<'a>) -> &'a Data {
    &column(update).data
}

fn average(integer: bool, sum: i128, count: i64) -> Value {
    let sum = if integer { sum.checked_mul(crate::decimal::ONE) } else { Some(sum) };
    let mean = sum.and_then(|sum| Decimal(sum).checked_div(Decimal::from_int(count)));
    mean.map_or(Value::Null, Value::Decimal)
}

fn keep_extreme(kept: &mut Value, value: Value, maximum: bool) {
    let better = match (&*kept, &value) {
        (_, Value::Null) => false,
        (Value::Null, _) => true,
        (kept, value) if maximum => value > kept,
        (kept, value) => value < kept,
    };
    if better {
        *kept = value;
    }
}

fn combine(kept: &mut Option<bool>, value: bool, or: bool) {
    *kept = Some(match *kept {
        None => value,
        Some(before) if or => before | value,
        Some(before) => before & value,
    });
}

/// Appends a count of things as a varint; here so that submodules share the spelling.
fn put_len(len: usize, out: &mut Vec<u8>) {
    put_u64(len as u64, out);
}
