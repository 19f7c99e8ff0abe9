//! Telling people of alerts in a fleet: rows of `_alerts` to webhooks, and to topics, each once or given up.
//!
//! Whatever is told is told at least once: offsets of the group move behind it. Webhooks come first, because a topic is tried until
//! it takes what it is given; a message that was posted is not posted again while its topic is waited for. What a receiver can never
//! take is given up, and counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use crds::{Checked, spec::PipelineSpec};
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};
use prometheus::{IntCounterVec, Opts};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{
    End, Member, Record, behind,
    board::{Board, Metrics},
    destination::Input,
    turns::Turns,
    writing::{Writer, Written},
};
use crate::{
    clock,
    kafka::{
        catalogue::View,
        client::{Cluster, REQUEST_TIME_MAX, failed},
        connection::Connection,
        context::{Deliveries, Logged, is_news},
        produce::{enqueue, flush},
        unread::watermarks_within,
    },
    limits::{NOTIFY_AT_ONCE, NOTIFY_BEHIND_MAX},
    metrics::{Delivery, NOTIFICATIONS},
    notify::{ALERTS_KEY, Alerts, Message, Webhooks},
    ports::{LogError, partition_of},
    secrets::Secrets,
    sink::limits::RETRY,
    store::Document,
};

/// Header of a record: of two with one key a reader takes the first.
const KEY: &str = "idempotency-key";

/// How long brokers may take to answer for what they were given.
const DELIVER_TIME_MAX: Duration = Duration::from_secs(15);

/// How often somebody who has nothing to read looks whether there is something.
const TURN_EVERY: Duration = Duration::from_secs(1);

/// Rows of alerts on their way to people.
pub(super) struct AlertSink {
    view: View,
    alerts: Alerts,
    /// Tables of alerts that somebody hears of.
    tables: BTreeSet<String>,
    topics: BTreeMap<String, Input>,
    outbox: Arc<Mutex<Outbox>>,
}

impl AlertSink {
    /// Of the epochs that are shown.
    pub(super) fn new(
        turns: &Turns,
        spec: &PipelineSpec,
        topics: BTreeMap<String, Input>,
        outbox: &Arc<Mutex<Outbox>>,
    ) -> Self {
        let (view, alerts) = (turns.view.clone(), Alerts::new(&turns.view.plan, spec));
        let tables = heard(spec);
        Self { view, alerts, tables, topics, outbox: Arc::clone(outbox) }
    }

    /// Whether there are others to be read now.
    pub(super) fn has_turned(&self, turns: &Turns) -> bool {
        !results(turns, &self.tables).keys().eq(self.topics.keys())
    }

    /// What there is to be told in a batch.
    ///
    /// # Errors
    /// On bytes that the engine did not write.
    pub(super) fn messages(&self, batch: &[Record]) -> anyhow::Result<Vec<Told>> {
        let mut messages = Vec::new();
        let is_alert = |record: &Record| record.key.starts_with(ALERTS_KEY) && !record.value.is_empty();
        for (at, record) in batch.iter().enumerate().filter(|(_, record)| is_alert(record)) {
            let Some(Input::Rows(epoch)) = self.topics.get(&record.topic) else { continue };
            let row: Document<'_> = serde_json::from_slice(&record.value).context("damaged results")?;
            let message = self.alerts.message((*epoch, record.offset), &record.value);
            let Some(message) = message.filter(|_| self.view.shows(*epoch, &row)) else { continue };
            let Some(receivers) = self.alerts.receivers(&message.alert) else { continue };
            let (webhooks, topics) = (receivers.webhooks.clone(), receivers.topics.clone());
            messages.push(Told { at, message, row: record.key.clone(), webhooks, topics });
        }
        Ok(messages)
    }
}

/// A message and who hears of it.
#[derive(Clone)]
pub(super) struct Told {
    /// Which record of the batch says it.
    pub at: usize,
    message: Message,
    /// The key of the row: records of one row are in order.
    row: Vec<u8>,
    webhooks: Vec<String>,
    topics: Vec<String>,
}

/// Tables of alerts that somebody hears of.
fn heard(spec: &PipelineSpec) -> BTreeSet<String> {
    spec.alerts.iter().filter(|alert| !alert.notify.is_empty()).map(|alert| alert.table.clone()).collect()
}

/// The results of epochs that are shown and have such tables. Of a table that is new to the pipeline those come once it has caught up:
/// until then it raises what was.
fn results(turns: &Turns, tables: &BTreeSet<String>) -> BTreeMap<String, Input> {
    let epochs = tables.iter().filter_map(|table| turns.view.tables.get(table));
    let ready = epochs.filter(|epoch| turns.ready_at(**epoch).is_some());
    ready.map(|epoch| (turns.names.epoch(*epoch).results(), Input::Rows(*epoch))).collect()
}

impl Writer for AlertSink {
    type Item = Told;

    const IS_SLOW: bool = true;

    fn is_idle(&self) -> bool {
        true
    }

    async fn write(&mut self, items: &[Told]) -> anyhow::Result<()> {
        let (outbox, items) = (Arc::clone(&self.outbox), items.to_vec());
        // Whoever gives up waiting drops it.
        let (_waiting, stopped) = bounded::<()>(0);
        let told = move || outbox.lock().unwrap_or_else(PoisonError::into_inner).tell(&items, &stopped);
        tokio::task::spawn_blocking(told).await.context("nobody tells")?
    }
}

/// Who is told, for as long as the process lives.
pub(super) struct Outbox {
    webhooks: Webhooks,
    cluster: Cluster,
    /// For topics, while nothing went wrong with it.
    producer: Option<Connection<BaseProducer<Deliveries>>>,
    /// Of a batch that is not told to all yet: keys of messages that were posted, and of those that a topic has, or never takes.
    posted: BTreeSet<String>,
    written: BTreeSet<(String, String)>,
    notifications: IntCounterVec,
}

impl Outbox {
    /// Finds the webhooks, and says of which alerts nobody is told.
    ///
    /// # Errors
    /// A [`Mistake`](crate::cli::Mistake) where a secret is no address.
    pub(super) fn open(
        checked: &Checked,
        cluster: &Cluster,
        secrets: &Secrets,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let webhooks = Webhooks::open(&checked.manifest.spec, secrets)?;
        let (name, help, label) = NOTIFICATIONS;
        let notifications = IntCounterVec::new(Opts::new(name, help), &[label])?;
        for outcome in Delivery::ALL {
            notifications.with_label_values(&[outcome.label()]);
        }
        metrics.registry.register(Box::new(notifications.clone()))?;
        Ok(Self {
            webhooks,
            cluster: cluster.clone(),
            producer: None,
            posted: BTreeSet::new(),
            written: BTreeSet::new(),
            notifications,
        })
    }

    pub(super) fn tell(&mut self, items: &[Told], stopped: &Receiver<()>) -> anyhow::Result<()> {
        for Told { message, webhooks, .. } in items {
            if self.posted.contains(&message.key) {
                continue;
            }
            let became = |delivery: Delivery| self.notifications.with_label_values(&[delivery.label()]).inc();
            self.webhooks.post(webhooks, message, stopped, became);
            // Then it may have been cut short.
            anyhow::ensure!(stopped.try_recv() != Err(TryRecvError::Disconnected), "nobody waits for it any more");
            self.posted.insert(message.key.clone());
        }
        let written = self.write(items);
        if written.is_err() {
            // What it still holds would come after what is tried again.
            self.producer = None;
        } else {
            self.posted.clear();
            self.written.clear();
        }
        written
    }

    /// Writes to topics, and waits until brokers have everything that they will ever take.
    fn write(&mut self, items: &[Told]) -> anyhow::Result<()> {
        let mut topics: Vec<&str> = items.iter().flat_map(|told| &told.topics).map(String::as_str).collect();
        topics.sort_unstable();
        topics.dedup();
        for topic in topics {
            let place = |told: &Told| (topic.to_owned(), told.message.key.clone());
            let is_wanted =
                |told: &&Told| told.topics.iter().any(|name| name == topic) && !self.written.contains(&place(told));
            let heard: Vec<&Told> = items.iter().filter(is_wanted).collect();
            if heard.is_empty() {
                continue;
            }
            let outcome = self.write_to(topic, &heard)?;
            self.written.extend(heard.iter().map(|told| place(told)));
            let delivery = if outcome.is_ok() { Delivery::Delivered } else { Delivery::Failed };
            self.notifications.with_label_values(&[delivery.label()]).inc_by(heard.len() as u64);
            if let Err(why) = outcome {
                tracing::warn!(topic, why, alerts = heard.len(), "nobody was told of alerts");
            }
        }
        Ok(())
    }

    /// Writes to one topic; why it never takes it, if it does not.
    fn write_to(&mut self, topic: &str, items: &[&Told]) -> anyhow::Result<Result<(), String>> {
        let wrong = |error| failed("write to", topic, error);
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => self.cluster.open(&self.cluster.producer(), Deliveries::default()).map_err(wrong)?,
        };
        let producer = self.producer.insert(producer);
        let told = producer.client().fetch_metadata(Some(topic), REQUEST_TIME_MAX).map_err(wrong)?;
        let found = told.topics().iter().find(|found| found.name() == topic);
        let partitions = match found.map(|found| (found.error().map(RDKafkaErrorCode::from), found.partitions().len()))
        {
            Some((None, count @ 1..)) => count as u32,
            Some((Some(error @ RDKafkaErrorCode::TopicAuthorizationFailed), _)) => return Ok(Err(error.to_string())),
            Some((Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition), _)) | None => {
                return Ok(Err("it is not there; `clickstream setup` makes it".to_owned()));
            }
            Some((error, _)) => {
                return Err(
                    wrong(KafkaError::MetadataFetch(error.unwrap_or(RDKafkaErrorCode::LeaderNotAvailable))).into()
                );
            }
        };
        for Told { message, row, .. } in items {
            let headers = OwnedHeaders::new_with_capacity(1).insert(Header { key: KEY, value: Some(&message.key) });
            let record = BaseRecord::to(topic).partition(partition_of(row, partitions) as i32);
            enqueue(producer, record.key(row).payload(&message.body).headers(headers)).map_err(wrong)?;
        }
        match flush(producer, DELIVER_TIME_MAX) {
            Ok(()) => Ok(Ok(())),
            Err(error) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::MessageSizeTooLarge
                    | RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::PolicyViolation,
                ) => Ok(Err(error.to_string())),
                _ => Err(wrong(error).into()),
            },
        }
    }
}

impl Member<'_> {
    /// Tells what there is to be told in a batch, a few alerts at a time: what was told counts, should it end amid them.
    pub(super) fn tell(&mut self, alerts: &mut AlertSink, batch: &[Record]) -> anyhow::Result<Written> {
        let messages = alerts.messages(batch)?;
        for few in messages.chunks(NOTIFY_AT_ONCE) {
            match self.write(alerts, few, batch.len()) {
                Written::All => {}
                ended => return Ok(ended),
            }
            let told = few.last().map_or(0, |last| last.at + 1);
            self.commit(&behind(&batch[..told]));
        }
        // Without anything to tell, nothing was found not to work.
        self.board.downstream.succeeded();
        Ok(Written::All)
    }
}

/// Waits until there is something to read, and it is written down where the group begins.
///
/// # Errors
/// As the catalogue says.
pub(super) fn ready(
    turns: &mut Turns,
    spec: &PipelineSpec,
    (cluster, group): (&Cluster, &str),
    board: &Board,
    signals: &Receiver<()>,
) -> anyhow::Result<ControlFlow<End, BTreeMap<String, Input>>> {
    let tables = heard(spec);
    loop {
        let topics = results(turns, &tables);
        // Where tables are new to the pipeline and have not caught up there is nothing to subscribe to yet.
        let begun = if topics.is_empty() { None } else { Some(begin(cluster, group, &topics, turns)) };
        let pause = match begun {
            Some(Ok(())) => {
                board.downstream.succeeded();
                return Ok(ControlFlow::Continue(topics));
            }
            Some(Err(error)) => {
                board.downstream.failed(error.to_string());
                if is_news(&format!("begin: {error}")) {
                    tracing::warn!(%error, "waiting for Kafka");
                }
                RETRY.end
            }
            None => TURN_EVERY,
        };
        if signals.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return Ok(ControlFlow::Break(End::Told));
        }
        turns.turn()?;
    }
}

/// Writes down where a group begins that has not read these results yet: with what was written within [`NOTIFY_BEHIND_MAX`], which is
/// all of it for a pipeline that is new. Later epochs raise again what was raised: of them only what they wrote since they had caught up.
///
/// # Errors
/// Where brokers do not say how far the results are, or somebody is still a member of the group.
fn begin(cluster: &Cluster, group: &str, topics: &BTreeMap<String, Input>, turns: &Turns) -> Result<(), LogError> {
    let wrong = |error| failed("begin to read in", group, error);
    let consumer: Connection<BaseConsumer<Logged>> = cluster.create(&cluster.consumer(group))?;
    let mut asked = TopicPartitionList::new();
    for topic in topics.keys() {
        asked.add_partition(topic, 0);
    }
    let told = consumer.committed_offsets(asked, REQUEST_TIME_MAX).map_err(wrong)?;
    told.elements().iter().try_for_each(|place| place.error()).map_err(wrong)?;
    let behind = clock::now() - NOTIFY_BEHIND_MAX.as_millis() as i64;
    let mut begins = TopicPartitionList::new();
    for place in told.elements().iter().filter(|place| place.offset() == Offset::Invalid) {
        let (topic, partition) = (place.topic(), place.partition());
        let ready_at = match topics.get(topic) {
            Some(Input::Rows(epoch)) => turns.ready_at(*epoch),
            _ => None,
        };
        let since = ready_at.unwrap_or_default().max(behind);
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(topic, partition, Offset::Offset(since)).map_err(wrong)?;
        let at = consumer.offsets_for_times(asked, REQUEST_TIME_MAX).map_err(wrong)?;
        let at = at.find_partition(topic, partition).and_then(|found| found.offset().to_raw());
        let at = match at.filter(|offset| *offset >= 0) {
            Some(offset) => offset,
            None => watermarks_within(&consumer, topic, partition, REQUEST_TIME_MAX).map_err(wrong)?.1,
        };
        begins.add_partition_offset(topic, partition, Offset::Offset(at)).map_err(wrong)?;
    }
    match begins.count() {
        0 => Ok(()),
        _ => consumer.commit(&begins, CommitMode::Sync).map_err(wrong),
    }
}
