//! The threads of the ingesters, from the outside.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use axum::Router;
use tokio::sync::watch;

use super::{
    IngestError, IngestOptions,
    control::Control,
    error::chain,
    http::{self, Collector},
    jobs::{Job, Work},
    outbox::{Outbox, Topics},
};
use crate::{
    ports::{IngestLog, LogError},
    serve::connections,
};

/// Ingesters that were started.
pub struct Ingesters {
    running: Vec<Running>,
    collectors: Vec<Arc<Collector>>,
    listeners: Vec<Listener>,
}

/// How far an ingester is.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestProgress {
    /// Its name.
    pub name: String,
    /// Events in the log, of earlier runs too.
    pub read: u64,
    /// Whether that is known yet.
    pub begun: bool,
    /// Events that wait where they are copied from, if that is known.
    pub waiting: Option<u64>,
    /// Events that retention took there before they were copied.
    pub expired: u64,
    /// Events there will be, if that is known.
    pub total: Option<u64>,
    /// Share that is read, if that is known: of the events, or of the bytes of files.
    pub share: Option<f64>,
    /// Events a second, lately.
    pub rate: f64,
    /// Whether it has ended.
    pub done: bool,
    /// Why it ended before its source did.
    pub error: Option<String>,
}

struct Running {
    name: String,
    control: Arc<Control>,
    thread: JoinHandle<Result<(), IngestError>>,
    sample: Mutex<Sample>,
}

struct Sample {
    at: Instant,
    read: u64,
    rate: f64,
}

struct Listener {
    ingester: String,
    address: SocketAddr,
    /// Dropped to end it.
    ended: watch::Sender<()>,
    thread: JoinHandle<()>,
}

/// Shortest time over which a rate is taken.
const SAMPLE: Duration = Duration::from_millis(500);

/// Starts a thread for each job.
pub(super) fn start(
    jobs: Vec<Job>,
    options: &IngestOptions,
    make_log: impl Fn() -> Box<dyn IngestLog>,
) -> Result<Ingesters, IngestError> {
    // Ports first: the only thing that can still go wrong for a reason of the user's.
    let mut bound = Vec::new();
    for job in &jobs {
        if let Work::Collect { collector, port, .. } = &job.work
            && options.listen.is_none_or(|listen| listen.port() != *port)
        {
            let host = options.host.unwrap_or(Ipv4Addr::LOCALHOST.into());
            bound.push((collector.clone(), listen(&job.name, (host, *port).into())?));
        }
    }
    let mut ingesters = Ingesters { running: Vec::new(), collectors: Vec::new(), listeners: Vec::new() };
    for job in jobs {
        if let Work::Collect { collector, .. } = &job.work {
            ingesters.collectors.push(collector.clone());
        }
        let log = make_log();
        let topics = Topics::new(job.targets, job.routes, &*log);
        ingesters.running.push(Running::start(job.name, job.work, topics, log)?);
    }
    for (collector, listener) in bound {
        ingesters.listeners.push(Listener::start(&collector, listener)?);
    }
    Ok(ingesters)
}

fn listen(ingester: &str, address: SocketAddr) -> Result<TcpListener, IngestError> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|source| IngestError::Listen { ingester: ingester.into(), address, source })
}

impl Ingesters {
    /// How far each is.
    #[must_use]
    pub fn progress(&self) -> Vec<IngestProgress> {
        self.running.iter().map(Running::progress).collect()
    }

    /// Whether all have ended.
    #[must_use]
    pub fn done(&self) -> bool {
        self.running.iter().all(|running| running.control.done.load(Ordering::Acquire))
    }

    /// The routes of all collectors, for the main listener.
    #[must_use]
    pub fn router(&self) -> Option<Router> {
        (!self.collectors.is_empty()).then(|| http::router(&self.collectors))
    }

    /// Collectors with a listener of their own, and where.
    #[must_use]
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.listeners.iter().map(|listener| (listener.ingester.clone(), listener.address)).collect()
    }

    /// Asks all to end at their next commit; requests that wait are still committed.
    pub fn stop(&self) {
        self.running.iter().for_each(|running| running.control.stop());
    }

    /// Waits until all have ended, and returns why some ended before their source did.
    ///
    /// # Panics
    /// If one of them did: that is a bug.
    #[must_use]
    pub fn join(self) -> Vec<(String, IngestError)> {
        let mut errors = Vec::new();
        for Running { name, thread, .. } in self.running {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => errors.push((name, error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        for Listener { ended, thread, .. } in self.listeners {
            drop(ended);
            // It has no result, and what it could not answer its clients send again.
            let _ = thread.join();
        }
        errors
    }
}

impl Running {
    fn start(name: String, work: Work, mut topics: Topics, log: Box<dyn IngestLog>) -> Result<Self, IngestError> {
        let control = Arc::new(Control::new());
        let (own, mut outbox) = (control.clone(), Outbox::new(log, &name));
        let run = move || {
            let ended = match work {
                Work::Generate(feed) => feed.run(&mut topics, &mut outbox, &own),
                Work::Read(feed) => feed.run(&mut topics, &mut outbox, &own),
                Work::Copy(feed) => feed.run(&mut topics, &mut outbox, &own),
                Work::Collect { posted, until, .. } => http::commit(&posted, &mut topics, &mut outbox, &own, until),
            };
            // The pipeline stops: that is nobody's failure.
            let ended = match ended {
                Err(IngestError::Log(LogError::Closed)) => Ok(()),
                other => other,
            };
            own.end(ended.as_ref().err().map(|error| chain(error)));
            ended
        };
        let thread = thread::Builder::new().name(format!("ingest-{name}")).spawn(run);
        let thread = thread.map_err(|source| IngestError::Start { ingester: name.clone(), source })?;
        Ok(Self { name, control, thread, sample: Mutex::new(Sample { at: Instant::now(), read: 0, rate: 0.0 }) })
    }

    fn progress(&self) -> IngestProgress {
        let control = &self.control;
        let read = control.read.load(Ordering::Relaxed);
        let known = |number: &AtomicU64| Some(number.load(Ordering::Relaxed)).filter(|number| *number != u64::MAX);
        let total = known(&control.total);
        let bytes_total = control.bytes_total.load(Ordering::Relaxed);
        let bytes = || control.bytes.load(Ordering::Relaxed) as f64 / bytes_total as f64;
        let of_bytes = (bytes_total > 0).then(|| bytes().min(1.0));
        IngestProgress {
            name: self.name.clone(),
            read,
            begun: control.begun.load(Ordering::Acquire),
            waiting: known(&control.waiting),
            expired: control.expired.load(Ordering::Relaxed),
            total,
            share: total.map(|total| read as f64 / total.max(1) as f64).or(of_bytes),
            rate: self.rate(read),
            done: control.done.load(Ordering::Acquire),
            error: control.failure(),
        }
    }

    fn rate(&self, read: u64) -> f64 {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = sample.at.elapsed();
        if passed >= SAMPLE {
            let rate = (read - sample.read.min(read)) as f64 / passed.as_secs_f64();
            *sample = Sample { at: Instant::now(), read, rate };
        }
        sample.rate
    }
}

impl Listener {
    fn start(collector: &Arc<Collector>, listener: TcpListener) -> Result<Self, IngestError> {
        let ingester = collector.name.clone();
        let failed = |source| IngestError::Start { ingester: ingester.clone(), source };
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (ended, mut told) = watch::channel(());
        let router = http::own_router(collector);
        let run = move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let ended = async move { while told.changed().await.is_ok() {} };
                connections::accept(listener, router, ended, || {}).await
            });
            if let Err(error) = served {
                tracing::error!(%error, %address, "the collector's listener stopped");
            }
        };
        let thread = thread::Builder::new().name(format!("listen-{ingester}")).spawn(run).map_err(failed)?;
        Ok(Self { ingester, address, ended, thread })
    }
}
