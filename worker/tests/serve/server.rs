//! A server over the fixture, as the runtime starts one, and a client that does not flinch at errors.

use std::{
    error::Error,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use engine::plan::{Plan, TopicPlan};
use serde_json::Value as Json;
use tokio::{net::TcpListener, sync::oneshot};
use worker::{
    dead_letters::{
        DeadLetterDetail, DeadLetterError, DeadLetterPage, DeadLetterQuery, DeadLetterView, ReasonCount, ReplayReport,
        ReplayRequest,
    },
    driver::Layout,
    health::HealthServer,
    log::{EmbeddedLog, Fsync, SharedLog},
    ports::{Commit, Log, LogError, Records},
    serve::{
        AlertInfo, IngestStatus, Live, PartitionStatus, PipelineInfo, ServeState, Shown, SinkStatus, State, Status,
        StreamInfo, figures, serve,
    },
    store::{Reader, TableStore},
    tail::{self, Tail, TailError, TopicInfo},
};

use super::fixture;

/// A running server with the store behind it.
pub struct Server {
    pub url: String,
    pub store: Arc<Mutex<TableStore>>,
    health: Option<HealthServer>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// One that lets in who has one of `tokens`.
    pub fn start_with(tokens: Option<Vec<String>>) -> Self {
        let plan = fixture::plan();
        let store = TableStore::open(None, &plan).expect("a temporary store");
        let mut pipeline = PipelineInfo::new(&plan, Duration::from_secs(1), true);
        pipeline.streams.push(StreamInfo { name: "sales".into(), quality: None });
        pipeline.alerts.push(AlertInfo { name: "low".into(), table: "category_sales".into(), for_windows: 2 });
        let metrics = prometheus::Registry::new();
        let events = prometheus::IntCounter::new("clickstream_events_total", "Events.").expect("a metric");
        events.inc_by(7);
        metrics.register(Box::new(events)).expect("the only metric");
        let state = ServeState {
            pipeline,
            shown: Shown::new(Arc::new(Reader::open(store.path()).expect("the store is there")), store.changes()),
            live: Arc::new(Pipeline::new()),
            metrics,
            tokens,
        };
        let (anywhere, ready) = (([127, 0, 0, 1], 0).into(), Arc::new(|| Ok(())));
        let health = HealthServer::start_with(anywhere, ready, state.metrics.clone(), figures(state.clone()));
        let health = Some(health.expect("a free port"));
        let (stop, stopped) = oneshot::channel::<()>();
        let (say, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                say.send(listener.local_addr().expect("it is bound")).expect("the test waits");
                let extra = axum::Router::new();
                serve(listener, state, extra, async { _ = stopped.await }).await.expect("it serves");
            });
        });
        let address = address.recv().expect("the server starts");
        let store = Arc::new(Mutex::new(store));
        Self { url: format!("http://{address}"), store, health, stop: Some(stop), thread: Some(thread) }
    }

    /// Asks with GET.
    pub fn get(&self, path: &str) -> Answer {
        Answer::of(agent().get(format!("{}{path}", self.url)).call())
    }

    /// Asks the port of health with GET.
    pub fn get_of_health(&self, path: &str) -> Answer {
        let address = self.health.as_ref().expect("it runs until the end").address;
        Answer::of(agent().get(format!("http://{address}{path}")).call())
    }

    /// Asks with GET as somebody.
    pub fn get_as(&self, path: &str, authorization: &str) -> Answer {
        Answer::of(agent().get(format!("{}{path}", self.url)).header("authorization", authorization).call())
    }

    /// Sends a body with POST.
    pub fn post(&self, path: &str, ty: &str, body: &str) -> Answer {
        Answer::of(agent().post(format!("{}{path}", self.url)).header("content-type", ty).send(body))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.health.take().into_iter().for_each(HealthServer::stop);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends in order");
        }
    }
}

/// A client that takes every status for an answer.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(Duration::from_secs(30))).build().new_agent()
}

/// An answer, read.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    fn of(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Self {
        let mut answer = answer.expect("the server answers");
        let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
            (name.to_string(), value.to_str().expect("plain headers").to_owned())
        };
        Self {
            status: answer.status().as_u16(),
            headers: answer.headers().iter().map(header).collect(),
            body: answer.body_mut().read_to_string().expect("the body is text"),
        }
    }

    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }
}

/// A pipeline that is always in the same state, with a log of one topic.
struct Pipeline {
    log: SharedLog,
    plan: Arc<Plan>,
    _directory: tempfile::TempDir,
}

impl Pipeline {
    fn new() -> Self {
        let topics = vec![TopicPlan { name: "transactions".into(), partitions: 2 }];
        let plan = Plan { topics, ..fixture::plan() };
        let directory = tempfile::tempdir().expect("a directory");
        let log = EmbeddedLog::open(directory.path(), &Layout::specs(&plan), Fsync::Always).expect("a log");
        let mut records = Records::default();
        [&b"{\"event_type\":\"view\"}"[..], b"\xff"].iter().for_each(|payload| records.push(payload));
        let at = log.topic("transactions").expect("a topic").partition(1);
        log.commit(&Commit { appends: &[(at, &records)], position: None, progress: None }).expect("it is written");
        Self { log: Arc::new(log), plan: Arc::new(plan), _directory: directory }
    }
}

impl Live for Pipeline {
    fn status(&self) -> Status {
        Status {
            state: State::Running,
            started_at: "2025-11-21T00:00:00Z".into(),
            events: 1_234,
            events_per_second: 0.0,
            ingest: vec![IngestStatus {
                name: "checkout".into(),
                read: 1_234,
                total: Some(5_000),
                events_per_second: 1_000.0,
                done: false,
            }],
            partitions: vec![PartitionStatus { topic: "transactions".into(), partition: 0, position: 90, end: 100 }],
            sinks: vec![SinkStatus {
                name: "lake".into(),
                kind: "parquet".into(),
                written: 1_200,
                ..Default::default()
            }],
        }
    }

    fn dead_letters(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, Box<dyn Error + Send + Sync>> {
        if query.stream.as_deref() == Some("broken") {
            return Err("the log is gone".into());
        }
        let reason = |reason: &str, count| ReasonCount { stream: "sales".into(), reason: reason.into(), count };
        let letter = |offset: u64, reason: &str, detail: &str| DeadLetterView {
            id: format!("transactions/0/{offset}"),
            stream: "sales".into(),
            table: None,
            source: "transactions/0".into(),
            offset,
            arrival: "2025-11-21T00:03:20Z".into(),
            reason: reason.into(),
            detail: detail.into(),
            text: r#"{"transaction_id":"7","category":"<b>Toys</b>","amount":-3}"#.into(),
            truncated: false,
            replayed: false,
        };
        let letters = vec![
            letter(812, "amount-is-positive", "amount > 0 is false: amount is -3"),
            letter(640, "wrong-type", "amount: found a string, wanted a decimal"),
        ];
        let wanted = |it: &DeadLetterView| query.reason.as_deref().is_none_or(|reason| it.reason == reason);
        let letters = letters.into_iter().filter(wanted).take(query.limit).collect();
        Ok(DeadLetterPage { reasons: vec![reason("amount-is-positive", 31), reason("wrong-type", 4)], letters })
    }

    fn dead_letter(&self, id: u64) -> Result<Option<DeadLetterDetail>, DeadLetterError> {
        let view = DeadLetterView { id: id.to_string(), stream: "sales".into(), ..DeadLetterView::default() };
        Ok((id < 2).then(|| DeadLetterDetail::new(view, b"{\"amount\":\xff}")))
    }

    fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport, DeadLetterError> {
        match request.set.first() {
            Some(_) => Ok(ReplayReport { dry_run: request.dry_run, repaired: 1, ..ReplayReport::default() }),
            None => Err(DeadLetterError::Mistake("say how".into())),
        }
    }

    fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        tail::topics(&self.log, &self.plan)
    }

    fn tail(&self, topic: &str, last: u64) -> Result<Tail, TailError> {
        Tail::new(self.log.clone(), &self.plan, topic, last)
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}
