//! Sinks of a run that write beside the tables: Parquet files, and topics of the embedded log. A thread for each.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::Context;
use crds::spec::{Parquet, PipelineSpec, Sink};
use engine::batch::RawBatch;

use super::lane::{Lane, Source, Target};
use crate::{
    driver::Shared,
    log::topics,
    ports::{Log, TopicPartition},
    sink::{
        cells::Wanted,
        limits::{LOOK_EVERY, READ_BYTES},
        parquet::{ParquetFiles, Rolling},
    },
};

/// Directory for what would go to an object store, below the data directory.
const IN_PLACE_OF_STORES: &str = "object-store";

/// A running sink.
pub(super) struct Outlet {
    name: String,
    kind: &'static str,
    thread: JoinHandle<anyhow::Result<()>>,
    shared: Arc<Shared>,
    board: Arc<Board>,
    inputs: Vec<TopicPartition>,
}

/// Written by the sink's thread, but for `stop`.
#[derive(Default)]
struct Board {
    stop: AtomicBool,
    failed: AtomicBool,
    /// Sum of the positions.
    taken: AtomicU64,
}

impl Outlet {
    /// Starts every such sink of the manifest.
    ///
    /// # Errors
    /// Where files or positions cannot be used.
    pub(super) fn start_all(shared: &Arc<Shared>, spec: &PipelineSpec, data_dir: &Path) -> anyhow::Result<Vec<Self>> {
        let mine = spec.sinks.iter().filter(|sink| sink.parquet.is_some() || sink.kafka.is_some());
        mine.map(|sink| Self::start(shared, sink, data_dir)).collect()
    }

    fn start(shared: &Arc<Shared>, sink: &Sink, data_dir: &Path) -> anyhow::Result<Self> {
        let lanes = lanes(shared, sink, data_dir).with_context(|| format!("failed to start sink {}", sink.name))?;
        let inputs = lanes.iter().map(|lane| lane.at).collect();
        let board = Arc::new(Board::default());
        let (its_board, its_shared) = (Arc::clone(&board), Arc::clone(shared));
        let body = move || {
            let result = drain(&its_shared, lanes, &its_board);
            if let Err(error) = &result {
                tracing::error!(error = format!("{error:#}"), "a sink stopped");
            }
            its_board.failed.store(result.is_err(), Ordering::Release);
            result
        };
        let thread = std::thread::Builder::new().name(format!("sink-{}", sink.name)).spawn(body);
        Ok(Self {
            name: sink.name.clone(),
            kind: if sink.parquet.is_some() { "parquet" } else { "kafka (embedded log)" },
            thread: thread.context("no thread for a sink")?,
            shared: Arc::clone(shared),
            board,
            inputs,
        })
    }

    /// The sink's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it writes to.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// Records that it has taken, and those that wait.
    pub(super) fn progress(&self) -> (u64, u64) {
        let taken = self.board.taken.load(Ordering::Relaxed);
        let end: u64 = self.inputs.iter().map(|at| self.shared.log.offsets(*at).end).sum();
        (taken, end.saturating_sub(taken))
    }

    /// Whether the thread gave up; [`Outlet::finish`] says why.
    pub(super) fn has_failed(&self) -> bool {
        self.board.failed.load(Ordering::Acquire)
    }

    /// Writes what is left and ends.
    ///
    /// # Errors
    /// Why the sink gave up.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.board.stop.store(true, Ordering::Release);
        self.shared.log.nudge();
        let ended = self.thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("its thread panicked")));
        ended.with_context(|| format!("sink {} failed", self.name))
    }
}

/// Where the files of a sink lie in this mode.
pub(super) fn directory(parquet: &Parquet, data_dir: &Path) -> PathBuf {
    match parquet.path.split_once("://") {
        Some((_, bucket_and_prefix)) => data_dir.join(IN_PLACE_OF_STORES).join(bucket_and_prefix),
        None => data_dir.join(&parquet.path),
    }
}

/// What the sink takes, each from its position.
fn lanes(shared: &Arc<Shared>, sink: &Sink, data_dir: &Path) -> anyhow::Result<Vec<Lane>> {
    let (log, plan) = (&shared.log, &shared.plan);
    let consumer = format!("sink:{}", sink.name);
    let several = sink.streams.len() + sink.topics.len() > 1;
    let rolling = |name: &str| {
        let parquet = sink.parquet.as_ref()?;
        let directory = directory(parquet, data_dir);
        Some(Rolling {
            shelf: None,
            directory: if several { directory.join(name) } else { directory },
            partition_by: parquet.partition_by,
            every: parquet.roll_every.to_std(),
            bytes_max: parquet.roll_size.bytes,
        })
    };
    let target = || anyhow::Ok(Target::Topic(log.topic(&sink.kafka.as_ref().context("no kind")?.topic)?));
    let mut lanes = Vec::new();
    for stream in plan.streams.iter().filter(|stream| sink.streams.contains(&stream.name)) {
        let at = log.topic(&topics::silver(&stream.name))?.partition(0);
        let next = log.position(&consumer, at)?.unwrap_or(0);
        let target = match rolling(&stream.name) {
            Some(rolling) => Target::Files(Box::new(ParquetFiles::of_events(rolling, stream, 1, next)?)),
            None => target()?,
        };
        let wanted = Wanted::events(stream, sink.filter.as_deref()).map_err(anyhow::Error::msg)?;
        let source = Source::Events(Box::new(wanted));
        lanes.push(Lane { consumer: consumer.clone(), at, next, source, target });
    }
    for name in &sink.topics {
        let topic = log.topic(name)?;
        for partition in 0..topic.partitions {
            let at = topic.partition(partition);
            let next = log.position(&consumer, at)?.unwrap_or(0);
            let rolling = rolling(name).context("only files take raw records")?;
            let target = Target::Files(Box::new(ParquetFiles::of_raw(rolling, name, partition, next)?));
            lanes.push(Lane {
                consumer: consumer.clone(),
                at,
                next,
                source: Source::Raw { topic: name.clone() },
                target,
            });
        }
    }
    if !sink.tables.is_empty() {
        let at = shared.layout.results();
        let next = log.position(&consumer, at)?.unwrap_or(0);
        let wanted = Wanted::tables(&shared.schemas, &sink.tables, sink.filter.as_deref());
        let source = Source::Rows(wanted.map_err(anyhow::Error::msg)?);
        lanes.push(Lane { consumer, at, next, source, target: target()? });
    }
    Ok(lanes)
}

/// Takes what comes until told to stop, then everything that is left.
fn drain(shared: &Shared, mut lanes: Vec<Lane>, board: &Board) -> anyhow::Result<()> {
    let log = &shared.log;
    let mut batch = RawBatch::default();
    loop {
        let seen = log.changes();
        let stopping = board.stop.load(Ordering::Acquire);
        let mut idle = true;
        for lane in &mut lanes {
            batch.clear();
            lane.next = lane.next.max(log.offsets(lane.at).start);
            // Only what no power cut can take back: files must not know more than the log.
            log.read(lane.at, lane.next..log.durable_end(lane.at), READ_BYTES, &mut batch)?;
            idle &= batch.records.is_empty();
            lane.take(log, &batch)?;
            lane.close(log, stopping && batch.records.is_empty())?;
        }
        board.taken.store(lanes.iter().map(|lane| lane.next).sum(), Ordering::Relaxed);
        if idle {
            if stopping {
                return Ok(());
            }
            log.wait(seen, LOOK_EVERY);
        }
    }
}
