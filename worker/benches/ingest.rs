//! What bringing events in costs: `cargo bench -p worker --bench ingest [-- EVENTS]`.
//!
//! Prints events a second and CPU seconds per million events, on one core, with a log that takes everything and keeps
//! nothing, so that what is measured is the ingester alone.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crds::spec::Synthetic;
use engine::{
    plan::{ColumnPlan, FieldPlan, StreamPlan},
    value::Type,
};
use worker::{
    ingest::{
        Control, Outbox, Routes, Target, Topics,
        dataset::{self, Format, files, pace::Pace, times::Times},
        synthetic::{
            self,
            compile::{Surroundings, compile},
            generator::{Events, Generator, Model},
        },
    },
    ports::{IngestLog, IngestRecord, LogError},
};

const MEDALLION: &str = "
seed: 42
fields:
  event_id: {sequence: {format: 'evt_%08d'}}
  user_id: {oneOf: {format: 'user_%05d', count: 50000}}
  product_id: {oneOf: {format: 'prod_%04d', count: 1000, share: {prod_0042: 0.2}}}
  event_type: {weighted: {view: 70, add_to_cart: 20, purchase: 10}}
  timestamp: {now: {jitter: 30s}}
  session_id: {sessionOf: {key: user_id, idle: 30m, format: 'session_%04d'}}
  product_category: {choice: [Electronics, Clothing, Home, Books, Sports], fixedPer: product_id}
  device_type: {choice: [mobile, desktop, tablet]}
  page_url: {template: '/product/{product_id}'}
  price: {decimal: {min: 5, max: 500}, fixedPer: product_id}
";

#[derive(Clone, Default)]
struct NoLog {
    records: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl IngestLog for NoLog {
    fn commit(&mut self, _: &str, records: &[IngestRecord<'_>], _: &[u8]) -> Result<(), LogError> {
        self.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        let bytes: usize = records.iter().map(|record| record.payload.len() + record.partition as usize).sum();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn progress(&self, _: &str) -> Result<Option<Vec<u8>>, LogError> {
        Ok(None)
    }

    fn partitions(&self, _: &str) -> u32 {
        3
    }
}

fn main() -> anyhow::Result<()> {
    // cargo bench passes `--bench`.
    let events = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let base = tempfile::tempdir()?;
    println!("{:<28} {:>12} {:>12} {:>16}", "", "events/s", "MB/s", "CPU s/million");
    measure("generate", events, || {
        let mut generator = Generator::new(model()?, 3, 0);
        let mut made = Events::default();
        let mut bytes = 0;
        while generator.next() < events {
            made.clear();
            generator.generate((events - generator.next()).min(8_192) as usize, &mut made);
            bytes += made.bytes.len() as u64;
        }
        Ok((events, bytes))
    })?;
    measure("generate, into a log", events, || {
        let feed =
            synthetic::Feed { model: model()?, total: Some(events), paced: false, fixed_start: true, until: None };
        through(|topics, outbox, control| feed.run(topics, outbox, control))
    })?;
    write_files(base.path(), events)?;
    for (name, path, format) in [
        ("jsonl", "events.jsonl", Format::JsonLines),
        ("jsonl.gz", "events.jsonl.gz", Format::JsonLines),
        ("json", "events.json", Format::Json),
        ("csv", "events.csv", Format::Csv),
    ] {
        measure(name, events, || {
            let feed = feed(base.path(), path, format)?;
            through(|topics, outbox, control| feed.run(topics, outbox, control))
        })?;
    }
    Ok(())
}

fn measure(name: &str, events: u64, run: impl FnOnce() -> anyhow::Result<(u64, u64)>) -> anyhow::Result<()> {
    let (started, cpu) = (Instant::now(), cpu_seconds()?);
    let (count, bytes) = run()?;
    let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    anyhow::ensure!(count == events, "{name}: {count} events of {events}");
    let (rate, speed) = (count as f64 / took, bytes as f64 / took / 1e6);
    println!("{name:<28} {rate:>12.0} {speed:>12.0} {:>16.3}", cpu / count as f64 * 1e6);
    Ok(())
}

/// User and system time of the process, in the hundredths of a second that Linux counts.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = behind.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

fn through(
    run: impl FnOnce(&mut Topics, &mut Outbox, &Control) -> Result<(), worker::ingest::IngestError>,
) -> anyhow::Result<(u64, u64)> {
    let log = NoLog::default();
    let target = Target { topic: "events".into(), key: Some(vec!["user_id".into()]) };
    let mut topics = Topics::new(vec![target], Routes::default(), &log);
    run(&mut topics, &mut Outbox::new(Box::new(log.clone()), "bench"), &Control::new())?;
    Ok((log.records.load(Ordering::Relaxed), log.bytes.load(Ordering::Relaxed)))
}

fn stream() -> StreamPlan {
    let field = |(name, ty): (&str, Type)| FieldPlan {
        name: name.into(),
        path: vec![name.into()],
        ty,
        required: true,
        hashed: false,
    };
    let fields = [
        ("event_id", Type::String),
        ("user_id", Type::String),
        ("product_id", Type::String),
        ("event_type", Type::String),
        ("timestamp", Type::Timestamp),
        ("price", Type::Decimal),
    ];
    let fields: Vec<FieldPlan> = fields.into_iter().map(field).collect();
    StreamPlan {
        name: "events".into(),
        topics: vec![0],
        key: Some(1),
        columns: fields.iter().map(|field| ColumnPlan { name: field.name.clone(), ty: field.ty }).collect(),
        fields,
        event_time: None,
        deduplicate: None,
        rules: Vec::new(),
        enrich: Vec::new(),
        bots: None,
        derive: Vec::new(),
        quality: None,
        silver: false,
    }
}

fn model() -> anyhow::Result<Model> {
    let spec: Synthetic = serde_yaml::from_str(MEDALLION)?;
    let (stream, lookups) = (stream(), Default::default());
    let around =
        Surroundings { path: "spec", streams: &[&stream], lookups: &lookups, start: 1_763_700_000_000, rate: 1e4 };
    Ok(compile(&spec, around)?)
}

fn feed(base: &Path, path: &str, format: Format) -> anyhow::Result<dataset::Feed> {
    Ok(dataset::Feed {
        path: path.into(),
        files: files::list(base, path, format.extensions())?,
        format,
        delimiter: b',',
        columns: Vec::new(),
        fields: stream().fields,
        pace: Pace::Free,
        repeat: false,
        times: Times::new(None, Vec::new()),
        low_field: None,
        until: None,
    })
}

fn write_files(base: &Path, events: u64) -> anyhow::Result<()> {
    let mut made = Events::default();
    Generator::new(model()?, 3, 0).generate(events as usize, &mut made);
    let (mut lines, mut array, mut csv) = (Vec::new(), b"[\n".to_vec(), Vec::new());
    for (payload, _) in made.iter() {
        lines.extend_from_slice(payload);
        lines.push(b'\n');
        array.extend_from_slice(if array.len() > 2 { b",\n" } else { b"" });
        array.extend_from_slice(payload);
        let event: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(payload)?;
        if csv.is_empty() {
            csv.extend_from_slice(event.keys().cloned().collect::<Vec<_>>().join(",").as_bytes());
            csv.push(b'\n');
        }
        let mut row = String::new();
        for value in event.values() {
            write!(row, "{}{}", if row.is_empty() { "" } else { "," }, value.as_str().unwrap_or(&value.to_string()))?;
        }
        csv.extend_from_slice(row.as_bytes());
        csv.push(b'\n');
    }
    array.extend_from_slice(b"\n]\n");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &lines)?;
    println!("{events} events of {} bytes", lines.len() as u64 / events.max(1));
    fs::write(base.join("events.jsonl"), &lines)?;
    fs::write(base.join("events.jsonl.gz"), gzip.finish()?)?;
    fs::write(base.join("events.json"), &array)?;
    Ok(fs::write(base.join("events.csv"), &csv)?)
}
