//! Topics over HTTP: which there are, and their events as they pass.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Shared, TopicsLook, limits, problem::Problem};
use crate::tail::{Tail, TailError, TopicEvent};

/// Parameters of a topic's events.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    last: Option<u64>,
    follow: Option<bool>,
}

/// `GET /api/v1/topics`.
pub async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let asked = tokio::task::spawn_blocking(move || shared.state.live.topics()).await;
    let topics = asked.map_err(|error| Problem::ours(&error))?.map_err(|error| Problem::ours(&error))?;
    Ok(Json(json!({ "topics": topics })))
}

/// `GET /api/v1/topics/differences`.
pub async fn differences(State(shared): State<Arc<Shared>>) -> Json<TopicsLook> {
    Json(shared.state.live.topics_look())
}

/// `GET /api/v1/topics/{topic}/events`: `events` events `{"events": […]}`, from the newest `last` of each partition on.
pub async fn events(
    State(shared): State<Arc<Shared>>,
    Path(topic): Path<String>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Parameters { last, follow }) = parameters.map_err(|refused| Problem::bad(refused.body_text()))?;
    let last = last.unwrap_or(limits::TAIL_LAST_DEFAULT);
    if last > limits::TAIL_LAST_MAX {
        return Err(Problem::bad(format!("last is at most {}", limits::TAIL_LAST_MAX)));
    }
    let place = shared.tails.clone().try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{} follow topics already", limits::TAILS_MAX))
    })?;
    let asking = Arc::clone(&shared);
    let asked = tokio::task::spawn_blocking(move || asking.state.live.tail(&topic, last)).await;
    let tail = asked.map_err(|error| Problem::ours(&error))?.map_err(|error| match error {
        TailError::Unknown { .. } => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
        TailError::Log(error) => Problem::ours(&error),
    })?;
    let follower = Follower { tail, follow: follow.unwrap_or(true), stopping: shared.stopping.clone(), _place: place };
    let events = stream::unfold(follower, |follower| async move {
        let (follower, events) = follower.next().await?;
        let data = json!({ "events": events }).to_string();
        Some((Ok::<Event, Infallible>(Event::default().event("events").data(data)), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(limits::KEEP_ALIVE)).into_response())
}

/// A client that reads a topic. It is read from only as fast as the client takes what it gets.
struct Follower {
    tail: Tail,
    follow: bool,
    stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// Waits for records; `None` at the end of those that are there (unless it follows), when the server stops, or the log fails.
    async fn next(mut self) -> Option<(Self, Vec<TopicEvent>)> {
        loop {
            if *self.stopping.borrow() || (!self.follow && self.tail.is_at_end()) {
                return None;
            }
            let waited = tokio::task::spawn_blocking(move || {
                let events = self.tail.next(limits::TAIL_WAIT);
                (self, events)
            });
            let (follower, events) = waited.await.ok()?;
            self = follower;
            let events = events.inspect_err(|error| tracing::warn!(%error, "a topic cannot be followed")).ok()?;
            if !events.is_empty() {
                return Some((self, events));
            }
        }
    }
}
