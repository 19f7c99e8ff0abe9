//! `clickstream replay --from SINK`: tables computed again from archived raw records, and compared with the live ones; or what
//! an epoch begins with.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use crds::{Checked, spec::Sink};
use engine::{
    map::{MapContext, MapTask},
    output::{Source, schemas},
    plan::{Input as From, Plan, TablePlan},
    time::Millis,
};
use serde_json::json;
use tempfile::TempDir;

use super::{Args, Format, TELL_EVERY};
use crate::{
    cli::{Mistake, manifest, process, setup::Seeding},
    clock,
    history::{
        archive::{Archive, Place},
        reach::{Held, Reach, streams, warm_up},
        recompute::{Downstream, Input, Merged, recompute},
        rows::{Comparison, Rows, Side},
    },
    kafka::{
        catalogue::{self, Catalogue, Epoch, View},
        client::Cluster,
        feed::{Feed, FeedRecord},
        history::{begins_at, committed, ends_before, live_rows, oldest, wait_for},
        names::Names,
        process::seed::{Permit, Seed},
    },
    ports::LogError,
    run::lookups,
    secrets::Secrets,
    sink::parquet::{self, ParquetFiles, Rolling},
    tell,
};

/// What was asked for, once it makes sense.
pub(super) struct Asked<'a> {
    /// The tables that are meant.
    pub tables: BTreeSet<String>,
    cluster: &'a Cluster,
    checked: &'a Checked,
    sink: &'a Sink,
    view: View,
    epochs: Vec<Epoch>,
    secrets: Secrets,
    since: Option<Millis>,
    files: PathBuf,
}

/// Finds the archive, and the tables that can be made from it.
///
/// # Errors
/// A [`Mistake`] that tells everything that the user has to change.
pub(super) fn find<'a>(
    args: &Args,
    from: &str,
    cluster: &'a Cluster,
    checked: &'a Checked,
    there: &Catalogue,
) -> anyhow::Result<Asked<'a>> {
    let view = View::new(there, checked)?;
    let epochs = catalogue::epochs(there, checked)?;
    let (sink, tables) = judge(args, from, checked, &view, &epochs)?;
    Ok(Asked {
        tables,
        cluster,
        checked,
        sink,
        view,
        epochs,
        secrets: Secrets::from_environment(),
        since: args.since.map(|since| since.millis),
        files: args.files.clone().unwrap_or_else(|| manifest::directory(&args.manifest.file)),
    })
}

impl Asked<'_> {
    /// Computes the tables of every epoch that is shown again, and compares.
    ///
    /// # Errors
    /// What failed in the world.
    pub(super) fn compare(&self, format: Format) -> anyhow::Result<ExitCode> {
        let mut found = Vec::new();
        let mut notes = Vec::new();
        for epoch in &self.epochs {
            let mine = |table: &&String| self.view.tables.get(*table) == Some(&epoch.number);
            let tables: BTreeSet<String> = self.tables.iter().filter(mine).cloned().collect();
            if !tables.is_empty() {
                found.extend(compare(self, epoch, tables, &mut notes)?);
            }
        }
        report(format, &self.sink.name, &found, &notes)?;
        Ok(if found.iter().all(Comparison::agrees) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// What an epoch begins with that is computed from the archive; whoever was at it before is stopped.
    ///
    /// # Errors
    /// Where no broker answers.
    pub(super) fn seeding(&self) -> anyhow::Result<Seeding<'_>> {
        let permit = Permit::take(self.cluster, &Names::new(&self.checked.manifest.name))?;
        let seed = move |epoch: &Epoch| seed(self, permit, epoch).map_err(stopped);
        Ok((format!("the archive of {} and what comes behind it", self.sink.name), Box::new(seed)))
    }
}

/// What is told where another command has taken over.
fn stopped(error: anyhow::Error) -> anyhow::Error {
    let is_fenced = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(LogError::Fenced)));
    let told =
        "another `clickstream replay` has begun meanwhile, and stopped this one: see what it makes, then try again";
    if is_fenced { error.context(told) } else { error }
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

/// What the tables of an epoch are made from again.
struct Material {
    plan: Arc<Plan>,
    context: Arc<MapContext>,
    /// Raw partitions, in the order of the inputs; the repaired records come behind them.
    sources: Vec<(Source, Place)>,
    /// When the log was asked what it has.
    now: Millis,
    written: BTreeMap<Place, u64>,
    archive: Archive,
    repaired: Archive,
    _spool: TempDir,
}

const REPAIRED: Source = Source { topic: Source::REPAIRED, partition: 0 };

impl Material {
    fn gather(asked: &Asked<'_>, epoch: &Epoch) -> anyhow::Result<Self> {
        let Asked { cluster, checked, sink, .. } = asked;
        let plan = Arc::new(epoch.checked.plan.clone());
        let spec = &epoch.checked.manifest.spec;
        let names = Names::new(&checked.manifest.name);
        let lookups = lookups::load(&plan, spec, &asked.files)?;
        let context = Arc::new(MapContext { lookups, hash_key: process::hash_key(spec, &asked.secrets)? });
        let mut sources = sources(&plan, sink);
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
        sources.push((REPAIRED, repaired_place));
        Ok(Self { plan, context, sources, now, written, archive, repaired, _spool: spool })
    }

    fn inputs(&self, cluster: &Cluster) -> anyhow::Result<Vec<Input<'_>>> {
        let input = |(source, place): &(Source, Place)| {
            if *source == REPAIRED {
                return Ok(Input { source: *source, records: self.repaired.records(place), is_complete: true });
            }
            let next = self.written.get(place).copied().unwrap_or_default();
            let is_complete = ends_before(cluster, place, next)?;
            Ok(Input { source: *source, records: self.archive.records(place), is_complete })
        };
        self.sources.iter().map(input).collect()
    }

    /// Gives the records to MAP, and what it says to `downstream`.
    fn recompute(
        &self,
        cluster: &Cluster,
        downstream: &mut impl Downstream,
    ) -> anyhow::Result<Vec<(Input<'_>, MapTask)>> {
        let (all, mut told) = (self.archive.offsets() + self.repaired.offsets(), Instant::now());
        recompute(&self.plan, &self.context, self.inputs(cluster)?, self.now, downstream, |read| {
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tell::line(&format!("{read} of at most {all} archived records read"));
            }
        })
    }

    /// What is missing between files, once they were read.
    fn gaps<'i>(&'i self, inputs: &'i [(Input<'_>, MapTask)]) -> impl Iterator<Item = String> + 'i {
        inputs.iter().zip(&self.sources).filter_map(|((input, _), (_, place))| {
            let gaps = &input.records.gaps;
            let longest = gaps.iter().max_by_key(|gap| gap.end - gap.start)?;
            let offsets: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
            let (first, last) = (longest.start, longest.end - 1);
            Some(format!(
                "{}-{}: {offsets} offsets between files are in none, at most {first} to {last} in a row \
                 (ends of transactions have offsets too)",
                place.0, place.1
            ))
        })
    }
}

/// Computes what an epoch begins with, and writes it where processors will look for it.
fn seed(asked: &Asked<'_>, permit: Permit, epoch: &Epoch) -> anyhow::Result<()> {
    let Asked { cluster, checked, .. } = asked;
    let checkpoints = process::checkpoints(cluster, epoch, &checked.manifest.spec, &asked.secrets)?;
    let material = Material::gather(asked, epoch)?;
    let mut seed = Seed::new(cluster, permit, epoch)?;
    let done = material.recompute(cluster, &mut seed)?;
    material.gaps(&done).for_each(|note| tell::line(&note));
    for ((input, _), (_, (topic, partition))) in done.iter().zip(&material.sources) {
        let (place, records) = ((topic.clone(), *partition), &input.records);
        if !begins_at(cluster, &place, records.first.map(|(offset, _)| offset))? {
            tell::line(&format!(
                "{topic}-{partition}: the archive does not begin with the topic: neither do the tables"
            ));
        }
        let oldest = oldest(cluster, &place)?;
        if oldest > records.position() && records.position() > 0 {
            let (first, last) = (records.position(), oldest - 1);
            tell::line(&format!(
                "{topic}-{partition}: offsets {first} to {last} are neither in the archive nor in the topic"
            ));
        }
    }
    let tasks: Vec<(Source, MapTask)> = done.into_iter().map(|(input, task)| (input.source, task)).collect();
    Ok(seed.finish(&tasks, &checkpoints)?)
}

/// Computes tables of an epoch again, waits until the live ones are as far, and compares.
fn compare(
    asked: &Asked<'_>,
    epoch: &Epoch,
    tables: BTreeSet<String>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Comparison>> {
    let cluster = asked.cluster;
    let material = Material::gather(asked, epoch)?;
    let Material { plan, sources, now, .. } = &material;
    let mut rows = Rows::new(epoch.number, tables.clone())?;
    let (schemas, mut key, mut document) = (schemas(plan), Vec::new(), Vec::new());
    let mut merged = Merged::new(plan, |changed| {
        changed.iter().try_for_each(|row| {
            key.clear();
            document.clear();
            row.write_key(&schemas[row.table], &mut key);
            row.write_document(&schemas[row.table], &mut document);
            rows.put(Side::Again, &key, &document, *now)
        })
    });
    let inputs = material.recompute(cluster, &mut merged)?;
    merged.finish()?;

    notes.extend(material.gaps(&inputs));
    let mut positions = BTreeMap::new();
    for ((input, _), (_, place)) in inputs.iter().zip(sources) {
        if input.records.position() > 0 {
            positions.insert(place.clone(), input.records.position());
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
        let held = held(cluster, plan, table, sources, &inputs, *now)?;
        let stream = match table.input {
            From::Stream(stream) => &plan.streams[stream].name,
            From::Join(join) => &plan.joins[join].name,
        };
        let progress = |side| rows.progress(side, &table.name, stream, plan.shuffle_partitions);
        let sides = [progress(Side::Live)?, progress(Side::Again)?];
        found.push(rows.compare(&table.name, &Reach::new(plan, table, held, sides, asked.since))?);
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
    inputs: &[(Input<'_>, MapTask)],
    now: Millis,
) -> anyhow::Result<Held> {
    let read: BTreeSet<usize> =
        streams(plan, table).into_iter().flat_map(|stream| plan.streams[stream].topics.iter().copied()).collect();
    let mut held = Held { begins: None, ends: now };
    let mine = |(source, _): &(Source, Place)| read.contains(&(source.topic as usize));
    for ((_, place), (input, _)) in sources.iter().zip(inputs).filter(|(of, _)| mine(of)) {
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
            files.raw(of, &record.key, payload)?;
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
