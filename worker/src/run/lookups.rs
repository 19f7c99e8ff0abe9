//! Lookup files: JSON (an array, or an object a line) or CSV with a header.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use crds::spec::PipelineSpec;
use engine::{
    decimal::Decimal,
    decode::timestamp,
    lookup::LookupTable,
    plan::{LookupPlan, Plan},
    value::{Type, Value},
};
use serde_json::Map;

use super::resolve;
use crate::cli::Mistake;

type Row = Map<String, serde_json::Value>;

/// Loads every lookup of the plan.
///
/// # Errors
/// A [`Mistake`] where a file is not there or not what it should be.
pub(crate) fn load(plan: &Plan, spec: &PipelineSpec, directory: &Path) -> anyhow::Result<Vec<LookupTable>> {
    plan.lookups.iter().map(|lookup| load_one(lookup, spec, directory)).collect()
}

fn load_one(plan: &LookupPlan, spec: &PipelineSpec, directory: &Path) -> anyhow::Result<LookupTable> {
    let found = spec.lookups.iter().find(|lookup| lookup.name == plan.name);
    let Some(file) = found.and_then(|lookup| lookup.file.as_ref()) else {
        let told = format!("lookup {}: lookups by topic or collection are not read yet; give it `file`", plan.name);
        return Err(Mistake(told).into());
    };
    let path = resolve(directory, file);
    let mistake = |what: String| Mistake(format!("lookup {}: {}: {what}", plan.name, path.display()));
    let text = fs::read_to_string(&path).map_err(|error| mistake(error.to_string()))?;
    let rows = if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
        csv_rows(&text).map_err(mistake)?
    } else {
        json_rows(&text).map_err(mistake)?
    };
    let mut table = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        let key = row.get(&plan.key).map(text_of).filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| mistake(format!("row {} has no `{}`", at + 1, plan.key)))?;
        let values = plan.columns.iter().map(|column| {
            let value = row.get(&column.name).unwrap_or(&serde_json::Value::Null);
            convert(value, column.ty)
                .with_context(|| format!("row {}: `{}` is {value}, expected {}", at + 1, column.name, column.ty.name()))
        });
        let values = values.collect::<anyhow::Result<Vec<_>>>().map_err(|error| mistake(format!("{error:#}")))?;
        table.insert(key, values);
    }
    Ok(LookupTable::new(table))
}

fn json_rows(text: &str) -> Result<Vec<Row>, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", at + 1))).collect()
}

fn csv_rows(text: &str) -> Result<Vec<Row>, String> {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    let header: Vec<&str> = lines.next().ok_or("no header")?.split(',').map(str::trim).collect();
    let row = |(at, line): (usize, &str)| {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        if cells.len() != header.len() {
            return Err(format!("line {}: {} cells under {} headers", at + 2, cells.len(), header.len()));
        }
        let pairs = header.iter().zip(cells).map(|(name, cell)| ((*name).to_owned(), cell.into()));
        Ok(pairs.collect())
    };
    lines.enumerate().filter(|(_, line)| !line.trim().is_empty()).map(row).collect()
}

fn text_of(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn convert(value: &serde_json::Value, ty: Type) -> Option<Value> {
    if value.is_null() {
        return Some(Value::Null);
    }
    let text = text_of(value);
    match ty {
        Type::String => Some(Value::String(text.into())),
        Type::Integer => text.parse().ok().map(Value::Integer),
        Type::Decimal => Decimal::parse(text.as_bytes()).map(Value::Decimal),
        Type::Boolean => text.parse().ok().map(Value::Boolean),
        Type::Timestamp => timestamp(text.as_bytes()).map(Value::Timestamp),
        Type::List => None,
    }
}
