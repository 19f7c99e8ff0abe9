//! Serving a fleet: results into SQLite by one thread, facts about the group by another, topics looked at by a third; HTTP over all.

use std::{
    collections::BTreeMap,
    error::Error,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;
use crds::Checked;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use prometheus::{IntGauge, Registry};

use super::{
    catalogue::{self, CatalogueFeed, agree, settle},
    client::Cluster,
    context::is_news,
    facts::Facts,
    feeding::Feeding,
    letters::KafkaLetters,
    names::Names,
    tailing::Fleet,
    tails::Tails,
    upkeep::Upkeep,
};
use crate::{
    clock,
    dead_letters::{
        self, DeadLetterDetail, DeadLetterError, DeadLetterPage, DeadLetterQuery, DeadLetters, ReplayReport,
        ReplayRequest,
    },
    health::HealthServer,
    metrics::ledger::Ledger,
    ports::LogError,
    serve::{
        self, Live, PartitionStatus, PipelineInfo, ServeState, Shown, State, Status, TopicsLook,
        background::{self, Background},
    },
    tail::{Tail, TailError, TopicInfo},
    tell,
};

/// How often the brokers are asked how far processing is.
const FACTS_EVERY: Duration = Duration::from_secs(2);

/// How long a thread waits before it looks whether it should end.
const WAIT: Duration = Duration::from_millis(200);

/// Dead letters that are looked through, from the newest back.
const LETTERS_MAX: u64 = 10_000;

/// What the threads share.
struct Board {
    /// Set by the owner, read by the threads.
    stop: AtomicBool,
    /// Set by the feeding thread once the tables have caught up.
    caught_up: AtomicBool,
    /// Raw topics that each epoch reads that is shown: written by the feeding thread, read by that of facts.
    topics: Mutex<BTreeMap<u32, Vec<String>>>,
    /// Written by the thread of facts, read by requests.
    status: Mutex<Status>,
    /// Written by the thread that looks at the topics, read by requests.
    topics_look: Mutex<TopicsLook>,
    /// The first thread that failed says why.
    failure: Mutex<Option<String>>,
}

impl Board {
    fn fail(&self, error: &anyhow::Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(format!("{error:#}"));
    }

    fn ready(&self) -> Result<(), String> {
        if let Some(failure) = &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(failure.clone());
        }
        match self.caught_up.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err("reading the results so far".into()),
        }
    }
}

/// Serves until a signal comes or a thread fails.
///
/// # Errors
/// Where a port is taken, a topic is missing, or the tables cannot be written.
pub fn run(
    checked: &Checked,
    cluster: &Cluster,
    tokens: Option<Vec<String>>,
    (listen, health_listen): (SocketAddr, SocketAddr),
    signals: &Receiver<()>,
) -> anyhow::Result<()> {
    let names = Names::new(&checked.manifest.name);
    let there = catalogue::read(cluster, &names)?;
    let checked = settle(&there, checked.clone());
    agree(&there, &checked)?;
    let mut catalogue = CatalogueFeed::open(cluster, &names)?;
    catalogue.whole()?;
    let (plan, spec) = (&checked.plan, &checked.manifest.spec);
    let feeding = Feeding::open(cluster, &names, checked.clone(), catalogue)?;
    let started_at = engine::time::rfc3339(clock::now());
    let board = Arc::new(Board {
        stop: AtomicBool::new(false),
        caught_up: AtomicBool::new(false),
        status: Mutex::new(Status { started_at, ..Status::default() }),
        topics: Mutex::new(feeding.view().topics.clone()),
        topics_look: Mutex::new(TopicsLook::Unknown("nobody has looked yet".into())),
        failure: Mutex::new(None),
    });
    let (shown, streams) = (feeding.shown(), Arc::new(feeding.view().streams.clone()));
    let metrics = Registry::new();
    let threads = [
        spawn("results", &board, {
            let lag = gauge(&metrics, "clickstream_serve_lag_rows", "Results that are not in the tables yet.")?;
            move |board| feed_tables(feeding, &lag, board)
        })?,
        spawn("facts", &board, {
            let (cluster, names) = (cluster.clone(), names.clone());
            let lag = gauge(&metrics, "clickstream_process_lag_events", "Raw records that are not processed yet.")?;
            move |board| gather_facts(&cluster, &names, &lag, board)
        })?,
        spawn("topics", &board, {
            let upkeep = Upkeep::open(cluster, &names, checked.clone())?;
            let help = "What is otherwise about topics than the manifest says.";
            let count = gauge(&metrics, "clickstream_topic_differences", help)?;
            move |board| {
                upkeep.run(&board.topics_look, &count, &board.stop);
                Ok(())
            }
        })?,
    ];
    let fleet = Fleet { cluster: cluster.clone(), names, plan: Arc::new(plan.clone()), streams };
    let live = FleetPipeline {
        board: Arc::clone(&board),
        letters: DeadLetters::over(KafkaLetters(fleet.clone()), Arc::clone(&fleet.plan)),
        fleet,
        shown: shown.clone(),
    };
    metrics.register(Box::new(Ledger::new(shown.clone())))?;
    let state = ServeState {
        pipeline: PipelineInfo::new(plan, spec.serve.dashboard.refresh.to_std(), !spec.serve.dashboard.disabled),
        shown,
        live: Arc::new(live),
        metrics,
        tokens,
    };
    let (ready, figures) = (Arc::clone(&board), serve::figures(state.clone()));
    let ready = Arc::new(move || ready.ready());
    let health = HealthServer::start_with(health_listen, ready, state.metrics.clone(), figures)?;
    let http = Background::start("http", 2, background::bind(listen, "--listen")?, |listener, stopped| {
        serve::serve(listener, state, axum::Router::new(), stopped)
    })?;
    tell::line(&format!("dashboard: http://{}", http.address));
    while signals.recv_timeout(WAIT) == Err(RecvTimeoutError::Timeout) && !threads.iter().any(JoinHandle::is_finished) {
    }
    board.stop.store(true, Ordering::Release);
    http.stop();
    health.stop();
    threads.into_iter().for_each(|thread| drop(thread.join()));
    match board.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(failure) => Err(anyhow::anyhow!(failure)),
        None => Ok(()),
    }
}

fn gauge(registry: &Registry, name: &str, help: &str) -> anyhow::Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn spawn(
    name: &str,
    board: &Arc<Board>,
    body: impl FnOnce(&Board) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let board = Arc::clone(board);
    let run = move || body(&board).unwrap_or_else(|error| board.fail(&error));
    thread::Builder::new().name(name.into()).spawn(run).context("no thread is left")
}

/// From the results into the tables, from the first record that is still there.
fn feed_tables(mut feeding: Feeding, lag: &IntGauge, board: &Board) -> anyhow::Result<()> {
    let mut looked_at = Instant::now();
    while !board.stop.load(Ordering::Acquire) {
        feeding.step(WAIT)?;
        if feeding.turn()? {
            *board.topics.lock().unwrap_or_else(PoisonError::into_inner) = feeding.view().topics.clone();
        }
        if feeding.is_caught_up() {
            board.caught_up.store(true, Ordering::Release);
        }
        if looked_at.elapsed() >= FACTS_EVERY {
            looked_at = Instant::now();
            // A broker that does not answer leaves the last figure.
            feeding.behind().into_iter().for_each(|behind| lag.set(behind as i64));
        }
    }
    Ok(())
}

fn gather_facts(cluster: &Cluster, names: &Names, lag: &IntGauge, board: &Board) -> anyhow::Result<()> {
    let mut last: Option<(Instant, u64)> = None;
    let mut facts: BTreeMap<u32, Facts> = BTreeMap::new();
    let mut tails = Tails::new(cluster);
    while !board.stop.load(Ordering::Acquire) {
        let topics = board.topics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !facts.keys().eq(topics.keys()) {
            let open = |(epoch, topics)| anyhow::Ok((epoch, Facts::new(cluster, &names.epoch(epoch), topics)?));
            facts = topics.into_iter().map(open).collect::<anyhow::Result<_>>()?;
            last = None;
        }
        match Facts::furthest_behind(facts.values()) {
            Ok(mut partitions) => {
                tails.settle(&mut partitions);
                tell_status(partitions, &mut last, lag, board);
            }
            Err(error) => {
                // Whoever scales by these figures must not take the last ones for a lull.
                board.status.lock().unwrap_or_else(PoisonError::into_inner).state = State::Starting;
                if is_news(&format!("facts: {error}")) {
                    tracing::warn!(%error, "the brokers do not say how far processing is");
                }
            }
        }
        let until = Instant::now() + FACTS_EVERY;
        while Instant::now() < until && !board.stop.load(Ordering::Acquire) {
            thread::park_timeout(WAIT);
        }
    }
    Ok(())
}

fn tell_status(partitions: Vec<PartitionStatus>, last: &mut Option<(Instant, u64)>, lag: &IntGauge, board: &Board) {
    let events: u64 = partitions.iter().map(|partition| partition.position).sum();
    lag.set(partitions.iter().map(|at| at.end.saturating_sub(at.position)).sum::<u64>() as i64);
    let rate =
        last.map_or(0.0, |(at, before)| events.saturating_sub(before) as f64 / at.elapsed().as_secs_f64().max(0.001));
    *last = Some((Instant::now(), events));
    let mut status = board.status.lock().unwrap_or_else(PoisonError::into_inner);
    let started_at = status.started_at.clone();
    let state = State::Running;
    *status = Status { state, started_at, events, events_per_second: rate, partitions, ..Status::default() };
}

/// What requests may ask of a fleet.
struct FleetPipeline {
    board: Arc<Board>,
    fleet: Fleet,
    letters: DeadLetters,
    shown: Shown,
}

impl Live for FleetPipeline {
    fn status(&self) -> Status {
        self.board.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn dead_letters(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, Box<dyn Error + Send + Sync>> {
        Ok(self.letters.list(query, LETTERS_MAX)?)
    }

    fn dead_letter(&self, id: u64) -> Result<Option<DeadLetterDetail>, DeadLetterError> {
        self.letters.get(id)
    }

    fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport, DeadLetterError> {
        // Tables that cannot be read now only leave the report without what comes too late.
        let marks = dead_letters::watermarks(&self.shown.reader()).unwrap_or_default();
        self.letters.replay(request, &marks)
    }

    fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.fleet.topics()
    }

    fn topics_look(&self) -> TopicsLook {
        self.board.topics_look.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tail(&self, topic: &str, last: u64) -> Result<Tail, TailError> {
        self.fleet.tail(topic, last)
    }

    fn ready(&self) -> Result<(), String> {
        self.board.ready()
    }
}
