//! The console sink: changed rows as lines on the standard output.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;
use crds::spec::PipelineSpec;
use engine::batch::RawBatch;

use crate::{
    driver::Shared,
    limits,
    log::record::read_result,
    ports::{Commit, Log, Position},
    sink::{cells::Wanted, console::Lines},
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
    lines: Lines,
}

impl ConsoleSink {
    /// Starts every console sink of the manifest.
    pub(super) fn start_all(shared: &Arc<Shared>, spec: &PipelineSpec) -> anyhow::Result<Vec<Self>> {
        let sinks = spec.sinks.iter().filter_map(|sink| Some((sink, sink.console.as_ref()?)));
        sinks
            .map(|(sink, console)| {
                let tables = Wanted::tables(&shared.schemas, &sink.tables, sink.filter.as_deref());
                let printer = Printer {
                    shared: Arc::clone(shared),
                    consumer: format!("sink:{}", sink.name),
                    lines: Lines::new(console.clone(), tables.map_err(anyhow::Error::msg)?),
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
                self.lines.take_row(key, document)?;
                next = record.offset + 1;
            }
            taken.store(next, Ordering::Relaxed);
            let processed = shared.processed.load(Ordering::Relaxed);
            if self.lines.is_due(processed) || (stopping && batch.records.is_empty()) {
                self.lines.print(processed)?;
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
}
