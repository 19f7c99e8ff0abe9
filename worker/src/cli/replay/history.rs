//! `clickstream replay --from SINK`: tables computed again from archived raw records, compared with the live ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use crds::{Checked, spec::Sink};
use engine::{
    map::MapContext,
    output::{Source, schemas},
    plan::{Input as From, Plan, TablePlan},
    time::Millis,
};
use serde_json::json;

use super::{Args, Format, TELL_EVERY};
use crate::{
    cli::{Mistake, manifest, process},
    clock,
    history::{
        archive::{Archive, Place},
        reach::{Held, Reach, streams, warm_up},
        recompute::{Input, recompute},
        rows::{Comparison, Rows, Side},
    },
    kafka::{
        catalogue::{self, Catalogue, Epoch, View},
        client::Cluster,
        feed::{Feed, FeedRecord},
        history::{begins_at, committed, ends_before, live_rows, wait_for},
        names::Names,
    },
    run::lookups,
    secrets::Secrets,
    sink::parquet::{self, ParquetFiles, Rolling},
    tell,
};

/// What was asked for, once it makes sense.
struct Asked<'a> {
    cluster: &'a Cluster,
    checked: &'a Checked,
    sink: &'a Sink,
    secrets: Secrets,
    since: Option<Millis>,
    files: &'a Path,
}

/// Computes the tables of every epoch that is shown again, and compares.
///
/// # Errors
/// A [`Mistake`] that tells everything that the user has to change; else what failed in the world.
pub fn run(
    args: &Args,
    from: &str,
    cluster: &Cluster,
    checked: &Checked,
    there: &Catalogue,
) -> anyhow::Result<ExitCode> {
    let view = View::new(there, checked)?;
    let epochs = catalogue::epochs(there, checked)?;
    let (sink, tables) = judge(args, from, checked, &view, &epochs)?;
    let directory = manifest::directory(&args.manifest.file);
    let asked = Asked {
        cluster,
        checked,
        sink,
        secrets: Secrets::from_environment(),
        since: args.since.map(|since| since.millis),
        files: args.files.as_deref().unwrap_or(&directory),
    };
    let mut found = Vec::new();
    let mut notes = Vec::new();
    for epoch in &epochs {
        let mine = |table: &&String| view.tables.get(*table) == Some(&epoch.number);
        let tables: BTreeSet<String> = tables.iter().filter(mine).cloned().collect();
        if !tables.is_empty() {
            found.extend(compare(&asked, epoch, tables, &mut notes)?);
        }
    }
    report(args.format, from, &found, &notes)?;
    Ok(if found.iter().all(Comparison::agrees) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The sink and the tables that are meant, or everything that is wrong with them.
fn judge<'a>(
    args: &Args,
    from: &str,
    checked: &'a Checked,
    view: &View,
    epochs: &[Epoch],
) -> Result<(&'a Sink, BTreeSet<String>), Mistake> {
    let sinks = &checked.manifest.spec.sinks;
    let archives = |sink: &&Sink| sink.parquet.is_some() && !sink.topics.is_empty();
    let known: Vec<&str> = sinks.iter().filter(archives).map(|sink| sink.name.as_str()).collect();
    let known =
        if known.is_empty() { "the manifest has none".into() } else { format!("there are {}", known.join(", ")) };
    let sink = sinks.iter().find(|sink| sink.name == from);
    let mut wrong = Vec::new();
    match sink {
        None => wrong.push(format!("--from {from}: there is no such sink; of those that archive raw topics {known}")),
        Some(sink) if !archives(&sink) => {
            wrong.push(format!("--from {from}: the sink archives no raw topics as Parquet; of those that do {known}"));
        }
        Some(_) => {}
    }
    let all: Vec<&str> = view.tables.keys().map(String::as_str).collect();
    for table in args.tables.iter().filter(|table| !view.tables.contains_key(*table)) {
        wrong.push(format!("--table {table}: the pipeline has no such table; it has {}", all.join(", ")));
    }
    let tables: BTreeSet<String> = match args.tables.is_empty() {
        true => view.tables.keys().cloned().collect(),
        false => args.tables.iter().cloned().collect(),
    };
    for table in sink.filter(archives).map(|_| &tables).into_iter().flatten() {
        let archived = |topic: &String| sink.is_some_and(|sink| sink.topics.contains(topic));
        let missing: Vec<String> =
            topics_of(epochs, view, table).into_iter().filter(|topic| !archived(topic)).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            wrong.push(format!("--from {from}: the sink does not archive {missing}, from which table {table} is made"));
        }
    }
    match (sink, wrong.is_empty()) {
        (Some(sink), true) => Ok((sink, tables)),
        _ => Err(Mistake(wrong.join("\n"))),
    }
}

/// Raw topics that a table is made from.
fn topics_of(epochs: &[Epoch], view: &View, table: &str) -> BTreeSet<String> {
    let epoch = epochs.iter().find(|epoch| view.tables.get(table) == Some(&epoch.number));
    let Some(plan) = epoch.map(|epoch| &epoch.checked.plan) else { return BTreeSet::new() };
    let Some(table) = plan.tables.iter().find(|found| found.name == table) else { return BTreeSet::new() };
    let topics = streams(plan, table).into_iter().flat_map(|stream| &plan.streams[stream].topics);
    topics.map(|topic| plan.topics[*topic].name.clone()).collect()
}

/// Computes tables of an epoch again, waits until the live ones are as far, and compares.
fn compare(
    asked: &Asked<'_>,
    epoch: &Epoch,
    tables: BTreeSet<String>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Comparison>> {
    let Asked { cluster, checked, sink, .. } = asked;
    let plan = Arc::new(epoch.checked.plan.clone());
    let spec = &epoch.checked.manifest.spec;
    let names = Names::new(&checked.manifest.name);
    let lookups = lookups::load(&plan, spec, asked.files)?;
    let context = Arc::new(MapContext { lookups, hash_key: process::hash_key(spec, &asked.secrets)? });
    let sources = sources(&plan, sink);
    let now = clock::now();
    let written = committed(cluster, &names.sink_group(&sink.name), sources.iter().map(|(_, place)| place))?;
    let mut archive = Archive::open(sink, &asked.secrets, &written)?;
    if let Some(since) = asked.since {
        archive.leave_out(since + warm_up(&plan));
    }
    let spool = tempfile::Builder::new().prefix("clickstream-repaired").tempdir()?;
    let repaired_place = (names.repaired(), 0);
    spool_repaired(cluster, &repaired_place, spool.path())?;
    let repaired = Archive::of_directory(spool.path(), &repaired_place)?;
    let mut inputs = Vec::new();
    for (source, place) in &sources {
        let next = written.get(place).copied().unwrap_or_default();
        inputs.push(Input {
            source: *source,
            records: archive.records(place),
            is_complete: ends_before(cluster, place, next)?,
        });
    }
    let source = Source { topic: Source::REPAIRED, partition: 0 };
    inputs.push(Input { source, records: repaired.records(&repaired_place), is_complete: true });

    let mut rows = Rows::new(epoch.number, tables.clone())?;
    let (schemas, all) = (schemas(&plan), archive.offsets() + repaired.offsets());
    let (mut key, mut document, mut told) = (Vec::new(), Vec::new(), Instant::now());
    let inputs = recompute(
        &plan,
        &context,
        inputs,
        now,
        |changed| {
            changed.iter().try_for_each(|row| {
                key.clear();
                document.clear();
                row.write_key(&schemas[row.table], &mut key);
                row.write_document(&schemas[row.table], &mut document);
                rows.put(Side::Again, &key, &document, now)
            })
        },
        |read| {
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tell::line(&format!("{read} of at most {all} archived records read"));
            }
        },
    )?;

    let mut positions = BTreeMap::new();
    for (input, place) in inputs.iter().zip(sources.iter().map(|(_, place)| place).chain([&repaired_place])) {
        if input.records.position() > 0 {
            positions.insert(place.clone(), input.records.position());
        }
        let gaps = &input.records.gaps;
        if let Some(longest) = gaps.iter().max_by_key(|gap| gap.end - gap.start) {
            let offsets: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
            let (first, last) = (longest.start, longest.end - 1);
            notes.push(format!(
                "{}-{}: {offsets} offsets between files are in none, at most {first} to {last} in a row \
                 (ends of transactions have offsets too)",
                place.0, place.1
            ));
        }
    }
    let mut told: Option<Instant> = None;
    wait_for(cluster, &epoch.names, &positions, plan.shuffle_partitions, |line| {
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            tell::line(line);
        }
    })?;
    let emit_every = plan.tables.iter().filter_map(|table| table.emit.every_ms).max().unwrap_or_default();
    let emit_every = Duration::from_millis(emit_every.unsigned_abs());
    live_rows(cluster, &epoch.names, emit_every, |record| {
        let document = record.value.as_deref();
        document.map_or(Ok(()), |document| rows.put(Side::Live, &record.key, document, record.time))
    })?;

    let mut found = Vec::new();
    for table in plan.tables.iter().filter(|table| tables.contains(&table.name)) {
        let held = held(cluster, &plan, table, &sources, &inputs, now)?;
        let stream = match table.input {
            From::Stream(stream) => &plan.streams[stream].name,
            From::Join(join) => &plan.joins[join].name,
        };
        let progress = |side| rows.progress(side, &table.name, stream, plan.shuffle_partitions);
        let sides = [progress(Side::Live)?, progress(Side::Again)?];
        found.push(rows.compare(&table.name, &Reach::new(&plan, table, held, sides, asked.since))?);
    }
    Ok(found)
}

/// Raw partitions of a plan that the sink archives.
fn sources(plan: &Plan, sink: &Sink) -> Vec<(Source, Place)> {
    let archived = plan.topics.iter().enumerate().filter(|(_, topic)| sink.topics.contains(&topic.name));
    let partitions = archived.flat_map(|(at, topic)| {
        let source = move |partition| Source { topic: at as u32, partition };
        (0..topic.partitions).map(move |partition| (source(partition), (topic.name.clone(), partition)))
    });
    partitions.collect()
}

/// What the archive holds of what a table reads.
fn held(
    cluster: &Cluster,
    plan: &Plan,
    table: &TablePlan,
    sources: &[(Source, Place)],
    inputs: &[Input<'_>],
    now: Millis,
) -> anyhow::Result<Held> {
    let read: BTreeSet<usize> =
        streams(plan, table).into_iter().flat_map(|stream| plan.streams[stream].topics.iter().copied()).collect();
    let mut held = Held { begins: None, ends: now };
    let mine = |(source, _): &(Source, Place)| read.contains(&(source.topic as usize));
    for ((_, place), input) in sources.iter().zip(inputs).filter(|(of, _)| mine(of)) {
        let first = input.records.first;
        if !begins_at(cluster, place, first.map(|(offset, _)| offset))? {
            held.begins = held.begins.max(Some(first.map_or(now, |(_, arrival)| arrival)));
        }
        if !input.is_complete {
            held.ends = held.ends.min(input.records.last.unwrap_or(Millis::MIN));
        }
    }
    Ok(held)
}

/// Repaired records are no sink's: they are kept beside the archive while it is read.
fn spool_repaired(cluster: &Cluster, place: &Place, directory: &Path) -> anyhow::Result<()> {
    let rolling = Rolling {
        directory: directory.to_owned(),
        partition_by: crds::spec::PartitionBy::None,
        every: Duration::MAX,
        bytes_max: u64::MAX,
        shelf: None,
    };
    let mut files = ParquetFiles::of_raw(rolling, &place.0, place.1, 0)?;
    let mut feed = Feed::open(cluster, &place.0, place.1, 0)?;
    let mut batch: Vec<FeedRecord> = Vec::new();
    loop {
        batch.clear();
        feed.read(Duration::from_millis(200), &mut batch)?;
        for record in &batch {
            let payload = record.value.as_deref().unwrap_or_default();
            let of = parquet::Place {
                offset: record.offset,
                time: record.time,
                topic: &place.0,
                partition: u64::from(place.1),
                source_offset: record.offset,
                bytes: payload.len(),
            };
            files.raw(of, payload)?;
        }
        if feed.is_caught_up() && batch.is_empty() {
            files.finish()?;
            return Ok(());
        }
    }
}

/// Tells what was found.
fn report(format: Format, from: &str, found: &[Comparison], notes: &[String]) -> anyhow::Result<()> {
    let agree = found.iter().all(Comparison::agrees);
    if format == Format::Json {
        let told = json!({ "from": from, "agree": agree, "tables": found, "notes": notes });
        return Ok(tell::result(&told.to_string())?);
    }
    for table in found {
        let Comparison { table, equal, changed, gone, new, left_out, differing } = table;
        let mut line = format!("{table}: {equal} rows equal, {changed} changed, {gone} gone, {new} new");
        let out = [
            (left_out.open, "that may still change"),
            (left_out.early, "that began too early"),
            (left_out.ahead, "ahead of the archive"),
        ];
        for (count, why) in out.into_iter().filter(|(count, _)| *count > 0) {
            line.push_str(&format!("; not compared: {count} {why}"));
        }
        tell::result(&line)?;
        let text = |says: &Option<String>| says.clone().unwrap_or_else(|| "no row".into());
        for one in differing {
            tell::result(&format!("  {}: {} → {}", one.row, text(&one.live), text(&one.again)))?;
        }
    }
    let notes = if agree { &[][..] } else { notes };
    notes.iter().for_each(|note| tell::line(note));
    let is_any = found.iter().any(|table| table.equal + table.changed + table.gone + table.new > 0);
    tell::result(match (agree, is_any) {
        (true, false) => "nothing was compared: the archive holds nothing whole that can no longer change",
        (true, true) => "the live tables and the archive agree",
        (false, _) => "the live tables and the archive differ",
    })?;
    Ok(())
}
