//! Compares what a pipeline serves with what the naive reference makes of the same events.
//!
//! `truth MANIFEST --tables` prints the tables' names. `truth MANIFEST [--resent] --events TOPIC=FILE… --served FOLDER` reads the events
//! of each raw topic, one a line, and from the folder the answers of `/api/v1/tables/TABLE` and `/api/v1/ledger` as
//! `TABLE.json` and `ledger.json`. Every row must be there, no other may, and every event must be accounted for.
//!
//! `--resent`: an event may have been sent more often than the files say; whatever is more must be a duplicate.
//!
//! No event may be later than its bound: then the answer does not depend on partitions, and one holds everything here.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use engine::{
    decimal::Decimal,
    output::Source,
    plan::{Plan, TablePlan},
    time,
};
use serde_json::Value;
use tests::{
    pipeline,
    reference::{Answer, Input, Record, RowKey, RowValue, cell::Cell, reference},
};

/// Differences that are shown of a table.
const SHOWN_MAX: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let manifest = arguments.next().context("usage: truth MANIFEST --events TOPIC=FILE… --served FOLDER")?;
    let plan = pipeline::plan(&read(manifest.as_ref())?).map_err(anyhow::Error::msg)?;
    let (mut input, mut served, mut resent) = (Input::new(), PathBuf::new(), false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--tables" => {
                plan.tables.iter().for_each(|table| println!("{}", table.name));
                return Ok(());
            }
            "--events" => {
                let (topic, file) =
                    arguments.next().context("--events needs TOPIC=FILE")?.split_once('=').map_or_else(
                        || bail!("--events needs TOPIC=FILE"),
                        |(topic, file)| Ok((topic.to_owned(), PathBuf::from(file))),
                    )?;
                let (source, records) = events(&plan, &topic, &file)?;
                input.insert(source, records);
            }
            "--resent" => resent = true,
            "--served" => served = arguments.next().context("--served needs a folder")?.into(),
            other => bail!("unknown argument {other:?}"),
        }
    }
    let answer = reference(&plan, &Vec::new(), &input);
    for table in &plan.tables {
        compare(table, &answer, &json(&served.join(format!("{}.json", table.name)))?)?;
    }
    compare_ledger(&plan, &answer, &json(&served.join("ledger.json"))?, resent)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
}

fn json(file: &Path) -> Result<Value> {
    serde_json::from_str(&read(file)?).with_context(|| format!("{} is no JSON", file.display()))
}

/// The events of a topic, as if they lay in one partition and had arrived now.
fn events(plan: &Plan, topic: &str, file: &Path) -> Result<(Source, Vec<Record>)> {
    let at = plan.topics.iter().position(|one| one.name == topic).with_context(|| format!("no topic {topic}"))?;
    let arrival = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let record = |(offset, line): (u64, &str)| Record { payload: line.as_bytes().to_vec(), offset, arrival };
    let records = (0..).zip(read(file)?.lines()).map(record).collect();
    Ok((Source { topic: u32::try_from(at)?, partition: 0 }, records))
}

/// A row: its columns by name, without whether it is final and its version, which depend on who disturbed whom.
type Row<'a> = BTreeMap<&'a str, Cell>;

/// The rows of the reference.
fn expected<'a>(table: &'a TablePlan, answer: &Answer) -> Vec<Row<'a>> {
    let of_table = answer.rows.iter().filter(|((name, ..), _)| *name == table.name);
    let row = |((_, start, group), (end, values)): (&RowKey, &RowValue)| {
        let groups = table.group_by.iter().map(|group| group.column.name.as_str());
        let outputs = table.outputs.iter().map(|output| output.column.name.as_str());
        let mut row: Row<'a> = groups.zip(group.iter().cloned()).chain(outputs.zip(values.iter().cloned())).collect();
        row.extend(start.map(|start| ("window_start", Cell::Time(start))));
        row.extend(end.map(|end| ("window_end", Cell::Time(end))));
        row
    };
    of_table.map(row).collect()
}

/// Whether what was served for a cell is what the reference says.
fn is_right(expected: &Cell, served: &Value) -> bool {
    let decimal = || Decimal::parse(served.to_string().as_bytes()).map(|decimal| decimal.0);
    match expected {
        Cell::Null => served.is_null(),
        Cell::Boolean(value) => served.as_bool() == Some(*value),
        Cell::Integer(value) => served.as_i64() == Some(*value),
        Cell::Decimal(value) => decimal() == Some(*value),
        Cell::Between(low, high) => decimal().is_some_and(|value| (low..=high).contains(&&value)),
        Cell::Text(text) => served.as_str() == Some(text),
        Cell::Time(at) => served.as_str() == Some(&time::rfc3339(*at)),
        Cell::List(cells) => served.as_array().is_some_and(|values| {
            cells.len() == values.len() && cells.iter().zip(values).all(|(cell, value)| is_right(cell, value))
        }),
    }
}

fn compare(table: &TablePlan, answer: &Answer, served: &Value) -> Result<()> {
    let expected = expected(table, answer);
    let rows = served["rows"].as_array().with_context(|| format!("{}: no rows in {served}", table.name))?;
    ensure!(served["more"] == false, "{}: these are not all rows", table.name);
    // By window and group, of which there is one row each.
    let key_names =
        || ["window_start"].into_iter().chain(table.group_by.iter().map(|group| group.column.name.as_str()));
    let mut by_key: BTreeMap<Vec<String>, &Value> = BTreeMap::new();
    for row in rows {
        let key = key_names().map(|name| row[name].to_string()).collect();
        ensure!(by_key.insert(key, row).is_none(), "{}: two rows of one key: {row}", table.name);
    }
    let mut different = Vec::new();
    for row in &expected {
        let found = by_key.values().find(|found| key_names().all(|name| matches(row, found, name)));
        match found {
            None => different.push(format!("missing {row:?}")),
            Some(found) if row.keys().any(|name| !matches(row, found, name)) => {
                different.push(format!("served {found}, the reference says {row:?}"));
            }
            Some(_) => {}
        }
    }
    if rows.len() != expected.len() {
        different.push(format!("{} rows are served, the reference has {}", rows.len(), expected.len()));
    }
    let shown = different.iter().take(SHOWN_MAX).map(|line| format!("\n  {line}")).collect::<String>();
    ensure!(different.is_empty(), "{}: {} differences:{shown}", table.name, different.len());
    println!("{}: {} rows, all as the reference says", table.name, rows.len());
    Ok(())
}

fn matches(row: &Row<'_>, served: &Value, name: &str) -> bool {
    let found = served.get(name).unwrap_or(&Value::Null);
    is_right(row.get(name).unwrap_or(&Cell::Null), found)
}

fn compare_ledger(plan: &Plan, answer: &Answer, ledger: &Value, resent: bool) -> Result<()> {
    ensure!(ledger["unaccounted"] == 0, "the ledger misses events: {ledger}");
    let of = |list: &str, kind: &str, name: &str| {
        let all = ledger[list].as_array().into_iter().flatten();
        all.into_iter().find(|sums| sums[kind] == name).cloned().with_context(|| format!("no {name} in {ledger}"))
    };
    for stream in &plan.streams {
        let parts = answer.streams.iter().filter(|((name, _), _)| *name == stream.name);
        let mut sums = parts.fold([0; 4], |sums: [u64; 4], (_, part)| std::array::from_fn(|at| sums[at] + part[at]));
        let served = of("streams", "stream", &stream.name)?;
        if resent {
            let more = served["duplicate"].as_u64().unwrap_or_default().saturating_sub(sums[2]);
            (sums[0], sums[2]) = (sums[0] + more, sums[2] + more);
        }
        let names = ["read", "accepted", "duplicate", "invalid"];
        for (name, sum) in names.into_iter().zip(sums) {
            ensure!(served[name] == sum, "{}: {name} is {sum} by the reference: {served}", stream.name);
        }
        println!(
            "{}: read {} = accepted {} + duplicate {} + invalid {}",
            stream.name, sums[0], sums[1], sums[2], sums[3]
        );
    }
    for table in &plan.tables {
        let [_, filtered, late, counted] = answer.tables[&table.name];
        let served = of("tables", "table", &table.name)?;
        for (name, sum) in [("filtered", filtered), ("late", late), ("counted", counted)] {
            ensure!(served[name] == sum, "{}: {name} is {sum} by the reference: {served}", table.name);
        }
        println!("{}: counted {counted}, late {late}, filtered {filtered}, unaccounted 0", table.name);
    }
    Ok(())
}
