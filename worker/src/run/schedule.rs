//! `clickstream run --now NAME`: a schedule once, now. Tables are computed again from the raw records in the data directory, and
//! compared with what the run left there.
//!
//! The replay reads the log from its beginning, so that sessions, remembered ids and running totals are whole; `since` only says
//! which windows are compared. It writes nothing into the data directory.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::ensure;
use crds::{
    Checked,
    spec::{PipelineSpec, Schedule},
};
use engine::{map::MapContext, plan::Plan, time::Millis};

use super::{DataDir, RunOptions, lookups, recompute::recompute};
use crate::{
    cli::Mistake,
    driver::Layout,
    ports::{Log, PROCESS},
    store::{Bounds, Format, Pairs, Reader, TableQuery, TableStore},
    tell,
};

/// Rows that are told one by one.
const ROWS_SHOWN: usize = 20;

/// Runs a schedule and prints what it found; whether all tables agree.
///
/// # Errors
/// A [`Mistake`] where there is no such schedule or nothing to compare with; else what failed in the world.
pub fn run_now(checked: &Checked, options: &RunOptions, name: &str) -> anyhow::Result<bool> {
    let spec = &checked.manifest.spec;
    let schedule = find(spec, name)?;
    let place = options.data_dir.as_deref().filter(|path| path.join("tables.db").is_file()).ok_or_else(|| {
        Mistake(format!("--now {name} compares with what a run left: name its directory with --data-dir"))
    })?;
    let data_dir = DataDir::open(Some(place), checked, options.fsync)?;
    let plan = Arc::new(checked.plan.clone());
    let layout = Layout::find(&data_dir.log, &plan)?;
    refuse_unfinished(&data_dir, &plan, &layout)?;
    let lookups = lookups::load(&plan, spec, &options.directory)?;
    let context = Arc::new(MapContext { lookups, hash_key: data_dir.hash_key });
    let again = recompute(&data_dir.log, &layout, &plan, &context)?;
    let (live, again) = (Reader::open(&place.join("tables.db"))?, Reader::open(again.path())?);
    let mut agree = true;
    for table in tables(&plan, schedule) {
        agree &= compare(&live, &again, table, schedule.replay.since.map(|since| since.millis))?;
    }
    tell::result(&format!("schedule {name}: the tables {}", if agree { "agree" } else { "differ" }))?;
    Ok(agree)
}

fn find<'a>(spec: &'a PipelineSpec, name: &str) -> Result<&'a Schedule, Mistake> {
    spec.schedules.iter().find(|schedule| schedule.name == name).ok_or_else(|| {
        let names: Vec<&str> = spec.schedules.iter().map(|schedule| schedule.name.as_str()).collect();
        let there =
            if names.is_empty() { "the manifest has none".into() } else { format!("there are {}", names.join(", ")) };
        Mistake(format!("--now {name}: there is no such schedule; {there}"))
    })
}

/// Tables that lag behind the log would differ for no reason that anybody wants to hear of.
fn refuse_unfinished(data_dir: &DataDir, plan: &Arc<Plan>, layout: &Layout) -> anyhow::Result<()> {
    let log = &data_dir.log;
    let store = TableStore::open(Some(&data_dir.path.join("tables.db")), plan)?;
    let mut is_finished = store.offset() >= log.offsets(layout.results()).end;
    for partition in 0..plan.shuffle_partitions {
        let at = layout.shuffle(partition);
        is_finished &= log.position(PROCESS, at)?.unwrap_or(0) >= log.offsets(at).end;
    }
    ensure!(
        is_finished,
        Mistake(format!(
            "the last run on {} was cut short: start it once more and let it end, so that its tables are complete",
            data_dir.path.display()
        ))
    );
    Ok(())
}

fn tables<'a>(plan: &'a Plan, schedule: &'a Schedule) -> Vec<&'a str> {
    match schedule.replay.tables.is_empty() {
        true => plan.tables.iter().map(|table| table.name.as_str()).collect(),
        false => schedule.replay.tables.iter().map(String::as_str).collect(),
    }
}

/// A row as text without its version, and the end of its window.
type Line = (Option<Millis>, String);

/// Compares a table: final rows up to the last window that the run closed; where there are no windows, all rows.
fn compare(live: &Reader, again: &Reader, table: &str, since: Option<Millis>) -> anyhow::Result<bool> {
    let (live, again) = (rows(live, table)?, rows(again, table)?);
    let last = live.iter().filter_map(|(end, _)| *end).max();
    let first = last.zip(since).map(|(last, since)| last - since);
    let counts = |(end, _): &&Line| match (end, last) {
        (Some(end), Some(last)) => *end <= last && first.is_none_or(|first| *end > first),
        (Some(_), None) => false,
        (None, _) => true,
    };
    let set = |rows: &[Line]| rows.iter().filter(counts).map(|(_, text)| text.clone()).collect::<BTreeSet<String>>();
    let (live, again) = (set(&live), set(&again));
    let mut told: Vec<String> = live.difference(&again).map(|row| format!("  - {row}")).collect();
    told.extend(again.difference(&live).map(|row| format!("  + {row}")));
    if told.is_empty() {
        tell::result(&format!("{table}: {} rows agree", live.len()))?;
        return Ok(true);
    }
    tell::result(&format!("{table}: {} differences (- the run, + computed again)", told.len()))?;
    told.iter().take(ROWS_SHOWN).try_for_each(|line| tell::result(line))?;
    if told.len() > ROWS_SHOWN {
        tell::result(&format!("  … and {} more", told.len() - ROWS_SHOWN))?;
    }
    Ok(false)
}

/// Rows of a table: final ones if it has windows.
fn rows(reader: &Reader, table: &str) -> anyhow::Result<Vec<Line>> {
    let windowed = reader.table(table)?.info.window.is_some();
    let filter = windowed.then(|| "final".to_owned());
    let query = TableQuery { table: table.into(), filter, order: None, limit: u64::MAX - 1, offset: 0 };
    let outcome = reader.query(&query, Format::JsonLines, Bounds::none())?;
    let lines = outcome.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let members: Pairs<'_> = serde_json::from_slice(line)?;
            let text = |name: &str| members.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.get());
            let end = text("window_end").and_then(|text| engine::decode::timestamp(text.trim_matches('"').as_bytes()));
            let kept = members.0.iter().filter(|(name, _)| name != "version" && name != "final");
            let cells: Vec<String> = kept.map(|(name, value)| format!("{name}={}", value.get())).collect();
            Ok((end, cells.join(" ")))
        })
        .collect()
}
