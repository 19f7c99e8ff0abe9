//! One sink of a fleet: a member of the sink's own group that reads results, accepted events or raw records.
//!
//! ```text
//!  poll ─► batch ─► changes ─► database (again until it is written) ─► offsets of the group
//!                └► Parquet files, closed when they are due ─────────► offsets of the group
//! ```
//! Offsets move only behind what is written. A database that is down is tried again, with longer pauses, for as long as it
//! takes; nothing else of the pipeline waits for it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use crds::{Checked, spec::Sink};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use prometheus::{IntCounter, IntGauge, Registry};
use rdkafka::{
    Offset, TopicPartitionList,
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
    message::Message,
};
use tokio::runtime::Runtime;

use super::{
    client::{Cluster, REQUEST_TIME_MAX, failed},
    context,
    names::Names,
    sink_files::Files,
};
use crate::{
    cli::Mistake,
    health::HealthServer,
    secrets::Secrets,
    sink::{
        database::{Connector, Database},
        limits::{BATCH_BYTES_MAX, BATCH_GATHER, BATCH_RECORDS_MAX, FAILURES_UNREADY, LOOK_EVERY, RETRY},
        row::{Change, Reader},
    },
};

/// How often the brokers are asked how far the topics reach.
const LAG_EVERY: Duration = Duration::from_secs(2);

/// A record of a batch.
pub(super) struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: u64,
    pub time: i64,
    pub value: Vec<u8>,
}

/// What requests for health read.
#[derive(Default)]
struct Board {
    /// The group has given us what it has for us.
    joined: AtomicBool,
    caught_up: AtomicBool,
    /// Failures since the last success, and the last of them.
    failures: AtomicU64,
    problem: Mutex<String>,
}

impl Board {
    fn ready(&self) -> Result<(), String> {
        if self.failures.load(Ordering::Acquire) >= FAILURES_UNREADY {
            return Err(self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone());
        }
        match (self.joined.load(Ordering::Acquire), self.caught_up.load(Ordering::Acquire)) {
            (true, true) => Ok(()),
            (true, false) => Err("reading what was written before".into()),
            (false, _) => Err("waiting for the group".into()),
        }
    }

    fn fail(&self, error: &anyhow::Error) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = format!("{error:#}");
        self.failures.fetch_add(1, Ordering::AcqRel);
    }
}

/// Counts rebalances; everything read before one is read again.
pub(super) struct Membership {
    board: Arc<Board>,
    generation: AtomicU64,
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        context::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        context::error(&error, reason);
    }
}

impl ConsumerContext for Membership {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.board.joined.store(matches!(rebalance, Rebalance::Assign(_)), Ordering::Release);
    }
}

struct Metrics {
    registry: Registry,
    written: IntCounter,
    failures: IntCounter,
    lag: IntGauge,
}

impl Metrics {
    fn new() -> anyhow::Result<Self> {
        let registry = Registry::new();
        let written = IntCounter::new("clickstream_sink_records_total", "Records read and written, or passed over.")?;
        let failures = IntCounter::new("clickstream_sink_failures_total", "Attempts to write that failed.")?;
        let lag = IntGauge::new("clickstream_sink_lag_records", "Records that are not written yet.")?;
        registry.register(Box::new(written.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(lag.clone()))?;
        Ok(Self { registry, written, failures, lag })
    }
}

/// Where a batch goes.
enum Destination {
    Database(Box<Store>),
    Files(Files),
}

/// A database that is connected whenever something is to be written.
struct Store {
    reader: Reader,
    connector: Connector,
    connected: Option<Database>,
}

/// Runs the sink until a signal comes.
///
/// # Errors
/// A [`Mistake`] where the manifest asks for what cannot be had; else what makes it senseless to go on.
pub fn run(
    checked: &Checked,
    sink: &Sink,
    cluster: &Cluster,
    secrets: &Secrets,
    health_listen: SocketAddr,
    signals: &Receiver<()>,
) -> anyhow::Result<()> {
    let names = Names::new(&checked.manifest.name);
    let destination = destination(checked, sink, &names, secrets)?;
    let topics = topics(sink, &names);
    let (board, metrics) = (Arc::new(Board::default()), Metrics::new()?);
    let membership = Membership { board: Arc::clone(&board), generation: AtomicU64::new(0) };
    let mut config = cluster.consumer(&names.sink_group(&sink.name));
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer<Membership> =
        config.create_with_context(membership).map_err(|error| failed("connect to", &cluster.bootstrap, error))?;
    let all: Vec<&str> = topics.keys().map(String::as_str).collect();
    consumer.subscribe(&all).map_err(|error| failed("read", &all.join(", "), error))?;
    let ready = Arc::clone(&board);
    let health = HealthServer::start(health_listen, Arc::new(move || ready.ready()), metrics.registry.clone())?;
    eprintln!("sink {}: health at http://{}", sink.name, health.address);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("failed to start the sink")?;
    let member = Member { consumer, topics, board, metrics, runtime, signals, generation: 0, ends: 0 };
    let ended = member.work(destination);
    health.stop();
    ended
}

fn destination(checked: &Checked, sink: &Sink, names: &Names, secrets: &Secrets) -> anyhow::Result<Destination> {
    if let Some(parquet) = &sink.parquet {
        if parquet.path.contains("://") {
            let told = format!("sink {}: {}: files go to a directory in this version", sink.name, parquet.path);
            return Err(Mistake(told).into());
        }
        return Ok(Destination::Files(Files::new(&checked.plan, sink, names, PathBuf::from(&parquet.path))?));
    }
    let reader = Reader::new(&checked.plan, sink).map_err(anyhow::Error::msg)?;
    let connector = Connector::of(sink, &reader.targets, secrets)?;
    let none = || Mistake(format!("sink {}: only `clickstream run` has this kind of sink in this version", sink.name));
    let connector = connector.ok_or_else(none)?;
    Ok(Destination::Database(Box::new(Store { reader, connector, connected: None })))
}

/// Topics to read; those of accepted events with their stream.
fn topics(sink: &Sink, names: &Names) -> BTreeMap<String, Option<String>> {
    let mut topics = BTreeMap::new();
    if !sink.tables.is_empty() {
        topics.insert(names.results(), None);
    }
    topics.extend(sink.topics.iter().map(|topic| (topic.clone(), None)));
    topics.extend(sink.streams.iter().map(|stream| (names.silver(stream), Some(stream.clone()))));
    topics
}

struct Member<'a> {
    consumer: BaseConsumer<Membership>,
    topics: BTreeMap<String, Option<String>>,
    board: Arc<Board>,
    metrics: Metrics,
    runtime: Runtime,
    signals: &'a Receiver<()>,
    /// The rebalance that the batch belongs to.
    generation: u64,
    /// Ends of partitions that were seen since.
    ends: usize,
}

impl Member<'_> {
    fn work(mut self, mut destination: Destination) -> anyhow::Result<()> {
        let mut batch = Vec::new();
        let mut looked_at = Instant::now();
        while self.signals.try_recv().is_err() {
            batch.clear();
            if self.gather(&mut batch)?
                && let Destination::Files(files) = &mut destination
            {
                files.forget();
            }
            let offsets = match &mut destination {
                Destination::Database(store) => {
                    let changes = changes(&mut store.reader, &self.topics, &batch)?;
                    if !self.write(store, &changes) {
                        break;
                    }
                    behind(&batch)
                }
                Destination::Files(files) => files.take(&batch)?,
            };
            self.commit(&offsets);
            self.metrics.written.inc_by(batch.len() as u64);
            if looked_at.elapsed() >= LAG_EVERY {
                looked_at = Instant::now();
                self.look();
            }
        }
        if let Destination::Files(files) = &mut destination {
            let offsets = files.finish()?;
            self.commit(&offsets);
        }
        Ok(())
    }

    /// Fills a batch; whether everything taken before it belongs to a membership that is over.
    fn gather(&mut self, batch: &mut Vec<Record>) -> anyhow::Result<bool> {
        let (mut deadline, mut bytes, mut is_new) = (Instant::now() + LOOK_EVERY, 0, false);
        while batch.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            let polled = self.consumer.poll(deadline.saturating_duration_since(Instant::now()));
            let generation = self.consumer.context().generation.load(Ordering::Acquire);
            if generation != self.generation {
                batch.clear();
                (self.generation, self.ends, is_new) = (generation, 0, true);
            }
            match polled {
                None => break,
                Some(Ok(message)) => {
                    if batch.is_empty() {
                        deadline = deadline.min(Instant::now() + BATCH_GATHER);
                    }
                    bytes += message.payload_len();
                    batch.push(Record {
                        topic: message.topic().to_owned(),
                        partition: message.partition(),
                        offset: message.offset() as u64,
                        time: message.timestamp().to_millis().unwrap_or_default(),
                        value: message.payload().unwrap_or_default().to_vec(),
                    });
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.ends += 1,
                Some(Err(error)) => endure(error)?,
            }
        }
        if self.ends >= self.assigned() && self.board.joined.load(Ordering::Acquire) {
            self.board.caught_up.store(true, Ordering::Release);
        }
        Ok(is_new)
    }

    fn assigned(&self) -> usize {
        self.consumer.assignment().map_or(0, |assignment| assignment.count())
    }

    /// Writes until it is written; false where somebody asked for the end before.
    fn write(&self, store: &mut Store, changes: &[Change]) -> bool {
        if changes.is_empty() && store.connected.is_some() {
            return true;
        }
        let mut pause = RETRY.start;
        loop {
            let written = self.runtime.block_on(async {
                let mut database = match store.connected.take() {
                    Some(database) => database,
                    None => store.connector.connect().await?,
                };
                database.write(changes).await?;
                store.connected = Some(database);
                anyhow::Ok(())
            });
            let Err(error) = written else {
                self.board.failures.store(0, Ordering::Release);
                return true;
            };
            self.board.fail(&error);
            self.metrics.failures.inc();
            tracing::warn!(error = format!("{error:#}"), "the database does not take what is written; trying again");
            // Sinks that failed together do not come back together.
            let jitter = pause.mul_f64(f64::from(crate::clock::now().rem_euclid(97) as u8) / 97.0);
            match self.signals.recv_timeout(pause / 2 + jitter / 2) {
                Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(RETRY.end),
                _ => return false,
            }
        }
    }

    /// Moves the group's offsets. What cannot be moved is read again: that changes nothing.
    fn commit(&self, offsets: &BTreeMap<(String, i32), u64>) {
        if offsets.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for ((topic, partition), next) in offsets {
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*next as i64));
            added.expect("an offset behind a record is one");
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Sync) {
            tracing::warn!(%error, "offsets are not moved; some records come again");
        }
    }

    /// Asks how much is left. A broker that does not answer leaves the last figure.
    fn look(&self) {
        let Ok(positions) = self.consumer.position() else { return };
        let mut lag = 0;
        for element in positions.elements() {
            let Ok((start, end)) =
                self.consumer.fetch_watermarks(element.topic(), element.partition(), REQUEST_TIME_MAX)
            else {
                return;
            };
            lag += end - element.offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(start);
        }
        self.metrics.lag.set(if self.board.caught_up.load(Ordering::Acquire) && lag <= 2 { 0 } else { lag });
    }
}

/// Reads records into changes; a tombstone says nothing that the row before it did not say.
fn changes(
    reader: &mut Reader,
    topics: &BTreeMap<String, Option<String>>,
    batch: &[Record],
) -> anyhow::Result<Vec<Change>> {
    let mut changes = Vec::with_capacity(batch.len());
    for record in batch.iter().filter(|record| !record.value.is_empty()) {
        let stream = topics.get(&record.topic).context("a record of a topic that was not asked for")?;
        let change = match stream {
            Some(stream) => reader.event(stream, record.offset, &record.value)?,
            None => reader.row(record.offset, &record.value)?,
        };
        changes.extend(change);
    }
    Ok(changes)
}

/// The offsets behind a batch.
fn behind(batch: &[Record]) -> BTreeMap<(String, i32), u64> {
    batch.iter().map(|record| ((record.topic.clone(), record.partition), record.offset + 1)).collect()
}

fn endure(error: KafkaError) -> anyhow::Result<()> {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::Authentication,
        ) => Err(error).context("Kafka refuses to be read"),
        _ => {
            tracing::warn!(%error, "waiting for Kafka");
            Ok(())
        }
    }
}
