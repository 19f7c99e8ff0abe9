//! Dead letters over HTTP: listed, shown, replayed.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
};
use serde::Deserialize;

use super::{Live, Shared, limits, problem::Problem};
use crate::dead_letters::{
    DeadLetterDetail, DeadLetterError, DeadLetterPage, DeadLetterQuery, ReplayReport, ReplayRequest,
};

/// Parameters of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    stream: Option<String>,
    reason: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/dead-letters`: the newest first.
pub async fn list(
    State(shared): State<Arc<Shared>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Json<DeadLetterPage>, Problem> {
    let Query(Parameters { stream, reason, limit }) =
        parameters.map_err(|refused| Problem::bad(refused.body_text()))?;
    let limit = limit.unwrap_or(limits::DEAD_LETTERS_DEFAULT).min(limits::DEAD_LETTERS_MAX);
    let query = DeadLetterQuery { stream, reason, limit };
    let page = ask(&shared, move |live| live.dead_letters(&query)).await?;
    page.map(Json).map_err(|error| Problem::ours(&*error))
}

/// `GET /api/v1/dead-letters/{id}`.
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<DeadLetterDetail>, Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, format!("there is no dead letter {id}"));
    let number = id.parse().map_err(|_| unknown())?;
    let found = ask(&shared, move |live| live.dead_letter(number)).await?.map_err(problem)?;
    found.map(Json).ok_or_else(unknown)
}

/// `POST /api/v1/dead-letters/replay`: repaired letters go through the pipeline as corrections.
pub async fn replay(
    State(shared): State<Arc<Shared>>,
    request: Result<Json<ReplayRequest>, JsonRejection>,
) -> Result<Json<ReplayReport>, Problem> {
    let Json(request) = request.map_err(|refused| Problem::new(refused.status(), refused.body_text()))?;
    ask(&shared, move |live| live.replay(&request)).await?.map(Json).map_err(problem)
}

async fn ask<T: Send + 'static>(
    shared: &Shared,
    question: impl FnOnce(&dyn Live) -> T + Send + 'static,
) -> Result<T, Problem> {
    let live = Arc::clone(&shared.state.live);
    tokio::task::spawn_blocking(move || question(&*live)).await.map_err(|died| Problem::ours(&died))
}

fn problem(error: DeadLetterError) -> Problem {
    match error {
        DeadLetterError::Mistake(told) => Problem::bad(told),
        error => Problem::ours(&error),
    }
}
