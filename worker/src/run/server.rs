//! The HTTP side of a run: a small runtime of its own, and what it may ask the running pipeline.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use crds::spec::PipelineSpec;
use engine::plan::Plan;

use super::observed::Latest;
use crate::{
    clock,
    dead_letters::{
        self, DeadLetterDetail, DeadLetterError, DeadLetterPage, DeadLetterQuery, DeadLetters, ReplayReport,
        ReplayRequest,
    },
    driver::Shared,
    ingest::IngestProgress,
    ports::{Log, LogError, PROCESS},
    serve::{
        self, IngestStatus, Live, PartitionStatus, PipelineInfo, ServeState, Shown, SinkStatus, State, Status,
        background::Background,
    },
    store::{Changes, Reader},
    tail::{self, Tail, TailError, TopicInfo},
};

/// Dead letters that are looked through, from the newest back.
const LETTERS_MAX: u64 = 10_000;

/// The HTTP server's thread.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// What it asks.
    pub(super) live: Arc<RunningPipeline>,
    http: Background,
}

impl Server {
    pub(super) fn start(
        listener: std::net::TcpListener,
        plan: &Plan,
        spec: &PipelineSpec,
        reader: Arc<Reader>,
        changes: Changes,
        live: Arc<RunningPipeline>,
        collectors: Option<axum::Router>,
    ) -> anyhow::Result<Self> {
        let refresh = spec.serve.dashboard.refresh.to_std();
        let state = ServeState {
            pipeline: PipelineInfo::new(plan, refresh, !spec.serve.dashboard.disabled),
            shown: Shown::new(reader, changes),
            live: Arc::clone(&live) as Arc<dyn Live>,
            metrics: live.shared.metrics.registry.clone(),
            // The laptop's page is for whoever sits before it: it listens on loopback unless somebody says otherwise.
            tokens: None,
        };
        let http = Background::start("http", 2, listener, move |listener, stopped| {
            serve::serve(listener, state, collectors.unwrap_or_default(), stopped)
        })?;
        Ok(Self { address: http.address, live, http })
    }

    /// Finishes the requests under way and ends.
    pub(super) fn stop(self) {
        self.http.stop();
    }
}

/// What the server may ask the pipeline.
pub(super) struct RunningPipeline {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    dead_letters: DeadLetters,
    topics: Vec<(String, u32)>,
    started_at: String,
    /// What the run's loop tells.
    pub(super) latest: Arc<Latest>,
    rate: Mutex<Rate>,
}

struct Rate {
    at: Instant,
    events: u64,
    per_second: f64,
}

impl RunningPipeline {
    pub(super) fn new(shared: Arc<Shared>, reader: Arc<Reader>) -> Result<Arc<Self>, LogError> {
        let plan = Arc::clone(&shared.plan);
        Ok(Arc::new(Self {
            dead_letters: DeadLetters::new(Arc::clone(&shared.log), Arc::clone(&plan))?,
            shared,
            reader,
            topics: plan.topics.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect(),
            started_at: engine::time::rfc3339(clock::now()),
            latest: Arc::default(),
            rate: Mutex::new(Rate { at: Instant::now(), events: 0, per_second: 0.0 }),
        }))
    }

    /// Hears how far the ingesters and the sinks are.
    pub(super) fn update(&self, ingest: Vec<IngestProgress>, sinks: Vec<SinkStatus>) {
        *self.latest.ingest.lock().unwrap_or_else(PoisonError::into_inner) = ingest;
        *self.latest.sinks.lock().unwrap_or_else(PoisonError::into_inner) = sinks;
    }

    fn ingest(&self) -> Vec<IngestStatus> {
        let status = |each: &IngestProgress| IngestStatus {
            name: each.name.clone(),
            read: each.read,
            total: each.total,
            events_per_second: each.rate,
            done: each.done,
        };
        self.latest.ingest.lock().unwrap_or_else(PoisonError::into_inner).iter().map(status).collect()
    }

    fn rate(&self) -> f64 {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = rate.at.elapsed();
        if passed >= Duration::from_secs(1) {
            let events = self.shared.processed.load(Ordering::Relaxed);
            rate.per_second = (events - rate.events) as f64 / passed.as_secs_f64();
            (rate.events, rate.at) = (events, Instant::now());
        }
        rate.per_second
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        let status = |name: &str, partition| {
            let at = self.shared.log.topic(name).ok()?.partition(partition);
            let position = self.shared.log.position(PROCESS, at).ok()?.unwrap_or(0);
            Some(PartitionStatus { topic: name.into(), partition, position, end: self.shared.log.offsets(at).end })
        };
        let all = self.topics.iter().flat_map(|(name, count)| (0..*count).map(move |partition| (name, partition)));
        all.filter_map(|(name, partition)| status(name, partition)).collect()
    }
}

impl Live for RunningPipeline {
    fn status(&self) -> Status {
        let partitions = self.partitions();
        Status {
            state: if self.shared.ingest_done.load(Ordering::Acquire) { State::Draining } else { State::Running },
            started_at: self.started_at.clone(),
            events: partitions.iter().map(|partition| partition.position).sum(),
            events_per_second: self.rate(),
            ingest: self.ingest(),
            partitions,
            sinks: self.latest.sinks.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn dead_letters(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, Box<dyn Error + Send + Sync>> {
        Ok(self.dead_letters.list(query, LETTERS_MAX)?)
    }

    fn dead_letter(&self, id: u64) -> Result<Option<DeadLetterDetail>, DeadLetterError> {
        self.dead_letters.get(id)
    }

    fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport, DeadLetterError> {
        // Tables that cannot be read now only leave the report without what comes too late.
        let marks = dead_letters::watermarks(&self.reader).unwrap_or_default();
        self.dead_letters.replay(request, &marks)
    }

    fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        tail::topics(&self.shared.log, &self.shared.plan)
    }

    fn tail(&self, topic: &str, last: u64) -> Result<Tail, TailError> {
        Tail::new(Arc::clone(&self.shared.log), &self.shared.plan, topic, last)
    }

    fn ready(&self) -> Result<(), String> {
        if self.shared.has_failed() { Err("processing has stopped; see the log".into()) } else { Ok(()) }
    }
}
