//! Whether a run measured the right answer: the tables of W2 against those of the limit program.

use std::{collections::BTreeMap, sync::Arc};

use engine::{
    map::MapContext,
    output::{Row, Source},
    plan::Plan,
    value::Value,
};

use super::{drive::Rows, generator, limit::Limit};
use crate::{
    memory::{self, Cut},
    outcome::{Strictness, compare},
    random::Random,
    reference::{Input, Record, reference},
};

/// Compares the engine's two tables of W2, product minutes and category minutes, with the limit program's.
///
/// # Errors
/// With the first row that differs.
pub fn same_tables(rows: &Rows, limit: &Limit) -> Result<(), String> {
    let mut expected: BTreeMap<(usize, i64, String), Vec<i128>> = BTreeMap::new();
    for (minute, product, row) in &limit.product_rows {
        let key = (0, *minute, limit.product(*product).to_owned());
        expected.insert(key, row.iter().map(|value| i128::from(*value)).collect());
    }
    for (minute, category, row) in &limit.category_rows {
        let key = (1, *minute, limit.category(*category).to_owned());
        expected.insert(key, row.iter().map(|value| i128::from(*value)).collect());
    }
    if rows.len() != expected.len() {
        return Err(format!("{} rows, the limit program has {}", rows.len(), expected.len()));
    }
    for row in rows.values() {
        let key = key(row).ok_or_else(|| format!("not a row of W2: {row:?}"))?;
        let found: Vec<i128> = row.values.iter().map(number).collect();
        if expected.get(&key) != Some(&found) || !row.is_final {
            return Err(format!("{row:?}, the limit program has {:?}", expected.get(&key)));
        }
    }
    Ok(())
}

fn key(row: &Row) -> Option<(usize, i64, String)> {
    match row.group.as_slice() {
        [Value::String(name)] => Some((row.table, row.window?.0, name.to_string())),
        _ => None,
    }
}

/// Counts as they are, sums in units of 10⁻⁹, no sum as zero.
fn number(value: &Value) -> i128 {
    match value {
        Value::Integer(count) => i128::from(*count),
        Value::Decimal(sum) => sum.0,
        _ => 0,
    }
}

/// Events of the small run that is compared with the reference.
const SMALL_EVENTS: u64 = 5_000;

/// Compares the engine with the naive reference over the first few thousand events and promotions.
///
/// # Errors
/// With what differs.
pub fn same_as_reference(plan: &Arc<Plan>, context: &Arc<MapContext>) -> Result<(), String> {
    let mut input = Input::new();
    let feeds = [generator::events(SMALL_EVENTS, 1).remove(0), generator::promotions(SMALL_EVENTS)];
    for (topic, records) in feeds.iter().enumerate().take(plan.topics.len()) {
        let record =
            |at: usize| Record { payload: records.payload(at).to_vec(), offset: at as u64, arrival: i64::MAX / 2 };
        let source = Source { topic: topic as u32, partition: 0 };
        input.insert(source, (0..records.len()).map(record).collect());
    }
    let answer = reference(plan, &Vec::new(), &input);
    let cut = Cut { batch_max: 1_000, ..Cut::each_record() };
    let outcome = memory::run(plan, context, &input, cut, &mut Random::new(1));
    compare(plan, &answer, &outcome, Strictness::Everything)
}
