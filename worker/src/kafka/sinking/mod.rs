//! One sink of a fleet, or whoever tells people of alerts: a member of a group of its own that reads results, accepted events or
//! raw records.
//!
//! ```text
//!  poll ─► batch ─► changes ─► database (again until it is written) ─► offsets of the group
//!                ├► Parquet files, closed when due (until a bucket takes them) ► offsets of the group
//!                ├► lines on the standard output, when they are due ─► offsets of the group
//!                ├► alerts: webhooks, topics (until they take them) ─► offsets of the group
//!                └► one transaction: records of a topic and offsets of the group
//! ```
//! Offsets move only behind what is written. A database that is down is tried again, with longer pauses, for as long as it
//! takes; nothing else of the pipeline waits for it, and it stays a member of its group. After a failed transaction everything that is not committed is read again.

mod alerts;
mod asking;
mod board;
mod console;
mod destination;
mod files;
mod listed;
mod topic;
mod turns;
mod writing;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use crds::{
    Checked,
    spec::{PipelineSpec, Sink},
};
use crossbeam_channel::Receiver;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{BorrowedMessage, Message},
};
use tokio::runtime::Runtime;

use super::{
    client::{Cluster, REQUEST_TIME_MAX, failed},
    connection::Connection,
    context::is_news,
    names::Names,
    unread::Unread,
};
use crate::{
    health::HealthServer,
    ports::LogError,
    secrets::Secrets,
    sink::limits::{BATCH_BYTES_MAX, BATCH_GATHER, BATCH_RECORDS_MAX, LOOK_EVERY, RETRY},
    store::Document,
    tell,
};
use alerts::{AlertSink, Outbox};
use board::{Board, Membership, Metrics, inputs};
use destination::{Destination, Input, Store, changes, destination, topics};
use files::Offsets;
use topic::{Producers, TopicSink};
use turns::{Leftover, Turns};
use writing::Written;

/// A record of a batch.
struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: u64,
    pub time: i64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// What is done with what is read.
#[derive(Clone, Copy)]
pub enum Task<'a> {
    /// A sink of the manifest.
    Sink(&'a Sink),
    /// Its alerts are told to whoever they name.
    Alerts,
}

/// The same, with what outlives a session.
enum Work<'a> {
    Sink(&'a Sink, &'a Secrets),
    Alerts(&'a PipelineSpec, Arc<Mutex<Outbox>>),
}

/// Runs a task until a signal comes. Whenever other epochs are shown it ends in order and begins again with those.
///
/// # Errors
/// A [`crate::cli::Mistake`] where the manifest asks for what cannot be had; else what makes it senseless to go on.
pub fn run(
    checked: &Checked,
    task: Task<'_>,
    cluster: &Cluster,
    secrets: &Secrets,
    health_listen: SocketAddr,
    signals: &Receiver<()>,
) -> anyhow::Result<()> {
    let names = Names::new(&checked.manifest.name);
    let (board, metrics) = (Arc::new(Board::default()), Metrics::new()?);
    let (name, work) = match task {
        Task::Sink(sink) => (format!("sink {}", sink.name), Work::Sink(sink, secrets)),
        Task::Alerts => {
            let outbox = Arc::new(Mutex::new(Outbox::open(checked, cluster, secrets, &metrics)?));
            ("notify".to_owned(), Work::Alerts(&checked.manifest.spec, outbox))
        }
    };
    let mut turns = Turns::open(cluster, &names, checked)?;
    let ready = Arc::clone(&board);
    let health = HealthServer::start(health_listen, Arc::new(move || ready.ready()), metrics.registry.clone())?;
    tell::line(&format!("{name}: health at http://{}", health.address));
    let ended = loop {
        board.begin();
        match session(&mut turns, &work, cluster, (&board, &metrics), signals) {
            Ok(End::Turned) => continue,
            Ok(End::Told) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    health.stop();
    ended
}

/// What a poll gave.
enum Polled {
    Nothing,
    /// Something that is no record.
    Event,
    Record(Record),
}

/// Why a session ended.
enum End {
    /// Somebody asked for it.
    Told,
    /// Other epochs are shown.
    Turned,
}

fn session(
    turns: &mut Turns,
    work: &Work<'_>,
    cluster: &Cluster,
    (board, metrics): (&Arc<Board>, &Metrics),
    signals: &Receiver<()>,
) -> anyhow::Result<End> {
    let (names, view) = (turns.names.clone(), &turns.view);
    let (group, topics, destination, leftovers) = match work {
        Work::Sink(sink, secrets) => {
            let destination = destination(view, sink, cluster, &names, secrets)?;
            (names.sink_group(&sink.name), topics(sink, &names, view), destination, turns.leftovers(sink)?)
        }
        Work::Alerts(spec, outbox) => {
            let ready = alerts::ready(turns, spec, (cluster, &names.notify_group()), board, signals)?;
            let topics = match ready {
                ControlFlow::Continue(topics) => topics,
                ControlFlow::Break(end) => return Ok(end),
            };
            let (group, sink) = (names.notify_group(), AlertSink::new(turns, spec, topics.clone(), outbox));
            (group, topics, Destination::Alerts(sink), Vec::new())
        }
    };
    let producers = match &destination {
        Destination::Topic(topic) => Some(Arc::clone(&topic.producers)),
        _ => None,
    };
    let membership = Membership { board: Arc::clone(board), generation: AtomicU64::new(0), producers };
    let mut config = cluster.consumer(&group);
    config.set("enable.partition.eof", "true");
    let consumer: Connection<BaseConsumer<Membership>> =
        cluster.open(&config, membership).map_err(|error| failed("connect to", &cluster.bootstrap, error))?;
    let all: Vec<&str> = topics.keys().map(String::as_str).collect();
    consumer.subscribe(&all).map_err(|error| failed("read", &all.join(", "), error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("failed to start the sink")?;
    let member = Member {
        consumer,
        group,
        topics,
        turns,
        leftovers,
        board: Arc::clone(board),
        metrics,
        runtime,
        signals,
        generation: 0,
        unread: Unread::default(),
        pause: RETRY.start,
        looked_at: Instant::now(),
        given_at: Instant::now(),
        early: Vec::new(),
        is_new: false,
        back_at: None,
    };
    member.work(destination)
}

struct Member<'a> {
    consumer: Connection<BaseConsumer<Membership>>,
    group: String,
    topics: BTreeMap<String, Input>,
    turns: &'a mut Turns,
    /// Rows of older epochs that are to go once the newer ones are there.
    leftovers: Vec<Leftover>,
    board: Arc<Board>,
    metrics: &'a Metrics,
    runtime: Runtime,
    signals: &'a Receiver<()>,
    /// The rebalance that the batch belongs to.
    generation: u64,
    /// What was there of its partitions when they became ours.
    unread: Unread,
    /// How long to wait after the next failed transaction.
    pause: Duration,
    /// When the lag was asked for.
    looked_at: Instant,
    /// Since when every partition should have given something, if it has something.
    given_at: Instant,
    /// Read while a database was away, after the group had given other partitions: the next batch begins with it.
    early: Vec<Record>,
    /// The group has done so, and nobody has heard of it yet.
    is_new: bool,
    /// A transaction failed: when to go back to what is committed. What is read until then does not count.
    back_at: Option<Instant>,
}

impl Member<'_> {
    fn work(mut self, mut destination: Destination) -> anyhow::Result<End> {
        let mut batch = Vec::new();
        let mut end = End::Told;
        while self.signals.try_recv().is_err() {
            batch.clear();
            if self.gather(&mut batch)? {
                if matches!(destination, Destination::Topic(_)) {
                    // What failed was another's to write, from now on, or will be tried anew.
                    self.board.downstream.succeeded();
                }
                destination.forget();
                self.back_at = None;
            }
            let offsets = match &mut destination {
                Destination::Database(store) => {
                    let changes = changes(&mut store.reader, &self.topics, &batch)?;
                    match self.write(&mut **store, &changes, batch.len()) {
                        Written::All => behind(&batch),
                        Written::Lost => continue,
                        Written::Told => break,
                    }
                }
                Destination::Alerts(alerts) => match self.tell(alerts, &batch)? {
                    Written::All => behind(&batch),
                    Written::Lost => continue,
                    Written::Told => break,
                },
                Destination::Files(files) => match self.shelve(files, &batch)? {
                    ControlFlow::Continue(offsets) => offsets,
                    ControlFlow::Break(Written::Told) => {
                        // What waits for its bucket would wait for it once more.
                        files.forget();
                        break;
                    }
                    ControlFlow::Break(_) => continue,
                },
                Destination::Console(console) => console.take(&batch)?,
                Destination::Topic(topic) => {
                    match self.back_at {
                        Some(at) => self.go_back(topic, at),
                        None => self.transact(topic, &batch)?,
                    }
                    // Offsets are in the transaction, and so is the count.
                    batch.clear();
                    Offsets::new()
                }
            };
            self.commit(&offsets);
            self.metrics.written.inc_by(batch.len() as u64);
            if self.look_if_due(0) {
                if let Destination::Database(store) = &mut destination
                    && !self.clear_leftovers(store)?
                {
                    break;
                }
                let has_turned = self.turns.turn()?
                    || matches!(&destination, Destination::Alerts(alerts) if alerts.has_turned(self.turns));
                if has_turned || self.is_left_out() {
                    end = End::Turned;
                    break;
                }
            }
        }
        let offsets = destination.finish(&self)?;
        self.commit(&offsets);
        Ok(end)
    }

    /// Deletes rows of older epochs, once everything newer is written; false where somebody asked for the end before.
    fn clear_leftovers(&mut self, store: &mut Store) -> anyhow::Result<bool> {
        if !self.board.caught_up.load(Ordering::Acquire) {
            return Ok(true);
        }
        while let Some(leftover) = self.leftovers.pop() {
            if !self.has_written(&self.turns.successor(&leftover)) {
                self.leftovers.push(leftover);
                return Ok(true);
            }
            for changes in self.turns.gone(&leftover, &store.reader)? {
                match self.write(store, &changes, 0) {
                    Written::All => {}
                    ended => {
                        self.leftovers.push(leftover);
                        return Ok(matches!(ended, Written::Lost));
                    }
                }
            }
            self.turns.cleared(&leftover)?;
        }
        Ok(true)
    }

    /// Writes a batch with its offsets; after a failure everything that is not committed is read again.
    fn transact(&mut self, topic: &mut TopicSink, batch: &[Record]) -> anyhow::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let proof = self.consumer.group_metadata().context("bug: a sink without a group")?;
        match topic.write(batch, &proof) {
            Ok(()) => {
                self.board.downstream.succeeded();
                self.metrics.written.inc_by(batch.len() as u64);
                self.pause = RETRY.start;
            }
            Err(error) => {
                self.fail(&error, "the topic does not take what is written; reading again what is not committed");
                self.back_at = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(RETRY.end);
            }
        }
        Ok(())
    }

    /// Goes back to what is committed once it is time to. Until then the group may tell that another has our partitions.
    fn go_back(&mut self, topic: &TopicSink, at: Instant) {
        if Instant::now() < at {
            return thread::park_timeout(LOOK_EVERY);
        }
        match self.rewind(&topic.producers) {
            Ok(()) => self.back_at = None,
            Err(error) => {
                self.fail(&error.into(), "Kafka does not say what is committed");
                self.back_at = Some(Instant::now() + self.pause);
            }
        }
    }

    fn fail(&self, error: &anyhow::Error, told: &str) {
        self.board.downstream.failed(format!("{error:#}"));
        self.metrics.failures.inc();
        tracing::warn!(error = format!("{error:#}"), "{told}");
    }

    /// Goes back to what is committed, under new producers: nothing that is under way can be committed after that.
    fn rewind(&self, producers: &Producers) -> Result<(), LogError> {
        let group = &self.group;
        let wrong = |error| failed("go back in", group, error);
        let given = self.consumer.assignment().map_err(wrong)?;
        producers.take_over(&inputs(&given))?;
        let committed = self.consumer.committed_offsets(given, REQUEST_TIME_MAX * 3).map_err(wrong)?;
        let mut back = TopicPartitionList::new();
        for place in committed.elements() {
            let from = if place.offset() == Offset::Invalid { Offset::Beginning } else { place.offset() };
            back.add_partition_offset(place.topic(), place.partition(), from).map_err(wrong)?;
        }
        self.consumer.seek_partitions(back, REQUEST_TIME_MAX).map(drop).map_err(wrong)
    }

    /// Fills a batch; whether everything taken before it belongs to a membership that is over.
    fn gather(&mut self, batch: &mut Vec<Record>) -> anyhow::Result<bool> {
        let (mut deadline, mut is_new) = (Instant::now() + LOOK_EVERY, std::mem::take(&mut self.is_new));
        batch.append(&mut self.early);
        let mut bytes = batch.iter().map(|record| record.value.len()).sum::<usize>();
        while batch.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            let polled = self.poll(deadline.saturating_duration_since(Instant::now()))?;
            if std::mem::take(&mut self.is_new) {
                batch.clear();
                is_new = true;
            }
            match polled {
                Polled::Nothing => break,
                Polled::Event => {}
                Polled::Record(record) => {
                    if batch.is_empty() {
                        deadline = deadline.min(Instant::now() + BATCH_GATHER);
                    }
                    bytes += record.value.len();
                    batch.push(record);
                }
            }
        }
        if self.board.joined.load(Ordering::Acquire) && !self.board.caught_up.load(Ordering::Acquire) {
            self.look_for_the_end();
        }
        Ok(is_new)
    }

    /// Reads a record and takes part in the group's affairs.
    fn poll(&mut self, wait: Duration) -> anyhow::Result<Polled> {
        let polled = self.consumer.poll(wait);
        let generation = self.consumer.context().generation.load(Ordering::Acquire);
        if generation != self.generation {
            (self.generation, self.unread, self.is_new) = (generation, Unread::default(), true);
            self.given_at = Instant::now();
            self.early.clear();
        }
        match polled {
            None => return Ok(Polled::Nothing),
            Some(Ok(message)) => {
                self.unread.read(&message);
                return Ok(Polled::Record(self.record(&message)));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => self.unread.ended(partition),
            Some(Err(error)) => endure(error)?,
        }
        Ok(Polled::Event)
    }

    /// A row that is not shown, because its table is another epoch's, is like a tombstone: it only moves the offset.
    fn record(&self, message: &BorrowedMessage<'_>) -> Record {
        let value = message.payload().unwrap_or_default();
        let is_shown = match self.topics.get(message.topic()) {
            Some(Input::Rows(epoch)) => match serde_json::from_slice::<Document<'_>>(value) {
                Ok(row) => self.turns.view.shows(*epoch, &row),
                Err(_) => true,
            },
            _ => true,
        };
        Record {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset() as u64,
            time: message.timestamp().to_millis().unwrap_or_default(),
            key: message.key().unwrap_or_default().to_vec(),
            value: if is_shown { value.to_vec() } else { Vec::new() },
        }
    }

    /// Notices that everything was read that was there when the partitions became ours. The offsets are those before this
    /// batch.
    fn look_for_the_end(&mut self) {
        if !self.unread.is_known() {
            // A broker that does not answer is asked again.
            drop(self.ask_what_is_there());
        }
        if self.unread.is_empty() {
            self.board.caught_up.store(true, Ordering::Release);
        }
    }

    fn ask_what_is_there(&mut self) -> KafkaResult<()> {
        let given = self.consumer.assignment()?;
        let places = given.elements().into_iter().map(|place| (place.topic().to_owned(), place.partition()));
        self.unread.ask(&self.consumer, places)?;
        for place in self.consumer.committed_offsets(given, REQUEST_TIME_MAX)?.elements() {
            let from = place.offset().to_raw().unwrap_or_default();
            self.unread.begins(place.topic(), place.partition(), from);
        }
        Ok(())
    }

    /// Moves the group's offsets; whether it could. What cannot be moved is read again: that changes nothing.
    fn commit(&self, offsets: &Offsets) -> bool {
        if offsets.is_empty() {
            return true;
        }
        let mut list = TopicPartitionList::new();
        for ((topic, partition), next) in offsets {
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*next as i64));
            added.expect("an offset behind a record is one");
        }
        let moved = self.consumer.commit(&list, CommitMode::Sync);
        if let Err(error) = &moved
            && is_news(&format!("commit: {error}"))
        {
            tracing::warn!(%error, "offsets are not moved; some records come again");
        }
        moved.is_ok()
    }
}

/// The offsets behind a batch.
fn behind(batch: &[Record]) -> Offsets {
    batch.iter().map(|record| ((record.topic.clone(), record.partition), record.offset + 1)).collect()
}

fn endure(error: KafkaError) -> anyhow::Result<()> {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => {
            Err(error).context("Kafka refuses to be read")
        }
        _ => {
            if is_news(&error.to_string()) {
                tracing::warn!(%error, "waiting for Kafka");
            }
            Ok(())
        }
    }
}
