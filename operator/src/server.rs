//! Health and metrics of the operator.

use std::net::SocketAddr;

use anyhow::Context;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use prometheus::{Encoder as _, TextEncoder};

use crate::metrics::Metrics;

/// Answers `/healthz`, `/readyz` and `/metrics` until the process ends.
///
/// # Errors
/// Where the port is taken.
pub async fn serve(listen: SocketAddr, metrics: Metrics) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("failed to listen on {listen}; if the port is taken, choose another with --listen"))?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(|| async { "ok" }))
        .route("/metrics", get(scrape))
        .with_state(metrics);
    axum::serve(listener, router).await.context("the health server stopped")
}

async fn scrape(State(metrics): State<Metrics>) -> Result<String, StatusCode> {
    let mut text = Vec::new();
    let encoded = TextEncoder::new().encode(&metrics.registry.gather(), &mut text);
    encoded.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    String::from_utf8(text).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
