//! HTTP: the query API, server-sent events, metrics, and the page. It reads; the one thing that it may ask of a pipeline
//! is to take repaired dead letters.
//!
//! ```text
//!  listener ─► connection (bounded, header time-out) ─► time-out, headers ─► route ─┬─► Reader (blocking threads, few at once)
//!                                                                                   ├─► Live: what only the running pipeline knows
//!                                                                                   └─► Changes ─► server-sent events
//! ```
//!
//! Invariants: every answer under `/api` is JSON unless another format was asked for, errors too; no request waits
//! without a bound; the page and the API send no cookie, allow no other origin and name no other host; what changes
//! something takes JSON only, so that no other site's page can send it without being asked first.
//!
//! Where there are tokens, only probes are answered without one; what the operator asks is answered on the health port ([`figures`]).
//!
//! What is absent and why: TLS and accounts (the ingress in a cluster, the loopback address on a laptop).

mod answers;
mod assets;
pub mod background;
pub(crate) mod connections;
mod dead_letters;
mod events;
pub mod limits;
mod live;
mod pipeline;
mod problem;
mod queries;
mod routes;
mod shown;
mod topics;

use std::{future::Future, io, sync::Arc};

use axum::Router;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

pub use self::{
    live::{IngestStatus, Live, PartitionStatus, SinkStatus, State, Status, TopicDifference, TopicsLook},
    pipeline::{AlertInfo, PipelineInfo, QualityInfo, StreamInfo},
    routes::{OPENAPI, paths},
    shown::Shown,
};
pub use crate::dead_letters::{DeadLetterPage, DeadLetterQuery, DeadLetterView, ReasonCount};

/// What is served.
#[derive(Clone)]
pub struct ServeState {
    /// What the page needs to know of the manifest.
    pub pipeline: PipelineInfo,
    /// The tables, and news of them.
    pub shown: Shown,
    /// What only the running pipeline knows.
    pub live: Arc<dyn Live>,
    /// Metrics to print.
    pub metrics: prometheus::Registry,
    /// Accepted tokens; without a list everybody may read.
    pub tokens: Option<Vec<String>>,
}

/// [`ServeState`] as requests share it.
pub(crate) struct Shared {
    state: ServeState,
    /// One permit for each query that may run; requests take one and wait for it, with a bound.
    queries: Arc<Semaphore>,
    /// One permit for each listener to events.
    listeners: Arc<Semaphore>,
    /// One permit for each client that follows a topic.
    tails: Arc<Semaphore>,
    /// True once the server stops; event streams read it and end, for they would keep it waiting for ever.
    stopping: watch::Receiver<bool>,
}

/// Where every event went, how far processing is and whether topics are as they should be, as the same paths of the API tell it, for the health port: the operator
/// asks there, and has no token. It says no more than the metrics on that port do. Its one query at a time is none of those
/// that readers share.
pub fn figures(state: ServeState) -> Router {
    let (_, stopping) = watch::channel(false);
    let none = || Arc::new(Semaphore::new(0));
    let shared = Shared { state, queries: Arc::new(Semaphore::new(1)), listeners: none(), tails: none(), stopping };
    routes::figures(Arc::new(shared))
}

/// Answers requests until `stop` is done, then finishes those under way. `extra` is other parts' routes: collectors.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: ServeState,
    extra: Router,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let (stopped, stopping) = watch::channel(false);
    let shared = Shared {
        state,
        queries: Arc::new(Semaphore::new(crate::store::limits::QUERIES_AT_ONCE)),
        listeners: Arc::new(Semaphore::new(limits::LISTENERS_MAX)),
        tails: Arc::new(Semaphore::new(limits::TAILS_MAX)),
        stopping,
    };
    let router = routes::router(Arc::new(shared), extra);
    connections::accept(listener, router, stop, || {
        let _nobody_listens = stopped.send(true);
    })
    .await
}
