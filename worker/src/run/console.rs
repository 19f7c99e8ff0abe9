//! The console sink: changed rows as lines on the standard output.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;
use crds::spec::{ConsoleFormat, PipelineSpec};
use engine::batch::RawBatch;
use serde_json::Value;

use crate::{
    driver::Shared,
    limits,
    log::record::read_result,
    ports::{Commit, Log, Position},
};

/// A console sink's thread.
pub(super) struct ConsoleSink {
    name: String,
    thread: JoinHandle<anyhow::Result<()>>,
    stop: Arc<AtomicBool>,
    /// Written by the thread: the next offset of the results that it takes.
    next: Arc<AtomicU64>,
    shared: Arc<Shared>,
}

struct Printer {
    shared: Arc<Shared>,
    consumer: String,
    tables: BTreeSet<String>,
    every: Option<u64>,
    format: ConsoleFormat,
    /// The latest document of each row that was not printed yet.
    waiting: BTreeMap<Vec<u8>, Vec<u8>>,
    printed_at: u64,
}

impl ConsoleSink {
    /// Starts every console sink of the manifest.
    pub(super) fn start_all(shared: &Arc<Shared>, spec: &PipelineSpec) -> anyhow::Result<Vec<Self>> {
        let sinks = spec.sinks.iter().filter_map(|sink| Some((sink, sink.console.as_ref()?)));
        sinks
            .map(|(sink, console)| {
                let printer = Printer {
                    shared: Arc::clone(shared),
                    consumer: format!("sink:{}", sink.name),
                    tables: sink.tables.iter().cloned().collect(),
                    every: console.every,
                    format: console.format,
                    waiting: BTreeMap::new(),
                    printed_at: 0,
                };
                let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
                let (its_stop, its_next) = (Arc::clone(&stop), Arc::clone(&next));
                let thread = std::thread::Builder::new().name(format!("sink-{}", sink.name));
                let thread = thread.spawn(move || printer.run(&its_stop, &its_next)).context("no thread for a sink")?;
                Ok(Self { name: sink.name.clone(), thread, stop, next, shared: Arc::clone(shared) })
            })
            .collect()
    }

    /// The sink's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Offset up to which it has taken the results.
    pub(super) fn offset(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Prints what is left and ends.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Release);
        self.shared.log.nudge();
        self.thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a console sink panicked")))
    }
}

impl Printer {
    fn run(mut self, stop: &AtomicBool, taken: &AtomicU64) -> anyhow::Result<()> {
        let shared = Arc::clone(&self.shared);
        let at = shared.layout.results();
        let mut batch = RawBatch::default();
        let mut next = shared.log.position(&self.consumer, at)?.unwrap_or(0).max(shared.log.offsets(at).start);
        loop {
            let seen = shared.log.changes();
            let stopping = stop.load(Ordering::Acquire);
            batch.clear();
            shared.log.read(at, next..u64::MAX, limits::RESULTS_READ_BYTES, &mut batch)?;
            for record in &batch.records {
                let (key, document) = read_result(batch.payload(record)).context("damaged results")?;
                self.waiting.insert(key.to_vec(), document.to_vec());
                next = record.offset + 1;
            }
            taken.store(next, Ordering::Relaxed);
            let processed = shared.processed.load(Ordering::Relaxed);
            let due = self.every.is_none_or(|every| processed >= self.printed_at + every);
            if due || (stopping && batch.records.is_empty()) {
                self.print()?;
                self.printed_at = processed;
                let position = Some(Position { consumer: &self.consumer, at, next });
                if !batch.records.is_empty() {
                    shared.log.commit(&Commit { appends: &[], position, progress: None })?;
                }
            }
            if batch.records.is_empty() {
                if stopping {
                    return Ok(());
                }
                shared.log.wait(seen, Duration::from_millis(200));
            }
        }
    }

    fn print(&mut self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        for document in std::mem::take(&mut self.waiting).into_values() {
            let row: Value = serde_json::from_slice(&document).context("damaged results")?;
            if !self.tables.contains(row["table"].as_str().unwrap_or_default()) {
                continue;
            }
            let line = match self.format {
                ConsoleFormat::Json => String::from_utf8_lossy(&document).into_owned(),
                ConsoleFormat::Table => line(&row),
            };
            writeln!(out, "{line}").context("failed to write to the standard output")?;
        }
        Ok(())
    }
}

/// `table  window  group=…  value=…`.
fn line(row: &Value) -> String {
    let mut parts = vec![row["table"].as_str().unwrap_or_default().to_owned()];
    parts.extend(row["window_start"].as_str().map(str::to_owned));
    for columns in [&row["group"], &row["values"]] {
        let pairs = columns.as_object().into_iter().flatten();
        parts.extend(pairs.map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            value => format!("{name}={value}"),
        }));
    }
    if row["deleted"] == Value::Bool(true) {
        parts.push("(deleted)".into());
    }
    parts.join("  ")
}
