//! What Kubernetes and Prometheus ask every role: `/healthz`, `/readyz`, `/metrics`, on a port of their own. Serving adds what the
//! operator asks.
//!
//! A process that answers is alive; whether it is ready it decides itself, by facts, at each question.

pub mod downstream;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde_json::json;

use crate::serve::{
    background::{self, Background},
    connections,
};

/// Whether a role is ready, or why it is not.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The thread that answers.
pub struct HealthServer {
    /// Where it listens.
    pub address: SocketAddr,
    server: Background,
}

#[derive(Clone)]
struct Shared {
    ready: Ready,
    metrics: Registry,
}

impl HealthServer {
    /// Takes the port and answers from now on.
    ///
    /// # Errors
    /// Where the port is taken.
    pub fn start(listen: SocketAddr, ready: Ready, metrics: Registry) -> anyhow::Result<Self> {
        Self::start_with(listen, ready, metrics, Router::new())
    }

    /// The same, with `more` paths that the role answers there.
    ///
    /// # Errors
    /// Where the port is taken.
    pub fn start_with(listen: SocketAddr, ready: Ready, metrics: Registry, more: Router) -> anyhow::Result<Self> {
        let listener = background::bind(listen, "--health-listen")?;
        let router = Router::new()
            .route("/healthz", get(|| async { Json(json!({"status": "alive"})) }))
            .route("/readyz", get(readiness))
            .route("/metrics", get(scrape))
            .with_state(Shared { ready, metrics })
            .merge(more);
        let server = Background::start("health", 1, listener, move |listener, stopped| {
            connections::accept(listener, router, stopped, || {})
        })?;
        Ok(Self { address: server.address, server })
    }

    /// Ends it.
    pub fn stop(self) {
        self.server.stop();
    }
}

async fn readiness(State(shared): State<Shared>) -> Response {
    match (shared.ready)() {
        Ok(()) => Json(json!({"status": "ready"})).into_response(),
        Err(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "reason": why}))).into_response()
        }
    }
}

async fn scrape(State(shared): State<Shared>) -> Response {
    let (encoder, mut text) = (TextEncoder::new(), Vec::new());
    match encoder.encode(&shared.metrics.gather(), &mut text) {
        Ok(()) => ([(CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_role_says_why_it_is_not_ready() {
        let is_ready = Arc::new(AtomicBool::new(false));
        let fact = Arc::clone(&is_ready);
        let ready: Ready = Arc::new(move || match fact.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err("no partitions yet".into()),
        });
        let metrics = Registry::new();
        metrics.register(Box::new(prometheus::IntCounter::new("events_total", "Events.").unwrap())).unwrap();
        let server = HealthServer::start(([127, 0, 0, 1], 0).into(), ready, metrics).unwrap();
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let ask = |path: &str| {
            let mut answer = agent.get(format!("http://{}{path}", server.address)).call().unwrap();
            (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
        };
        assert_eq!(ask("/healthz").0, 200);
        let (status, body) = ask("/readyz");
        assert!(status == 503 && body.contains("no partitions yet"), "{status} {body}");
        is_ready.store(true, Ordering::Release);
        assert_eq!(ask("/readyz").0, 200);
        assert!(ask("/metrics").1.contains("events_total 0"));
        server.stop();
    }
}
