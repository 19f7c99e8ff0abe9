//! The collector: browsers and servers post events, and hear what became of each.
//!
//! ```text
//! request ─► token, size, type ─► cut into events ─► each checked as the stream's decoder will ─► queue ─► committer ─► log
//!                                                                                               (full: 503)    (200 only now)
//! ```
//!
//! A 200 means that the accepted events are durably in the log. Rejected events are answered with a reason and are
//! not written. No lock is held and no event is parsed between the queue and the log.

mod answer;
mod body;
mod check;
mod committer;
mod read;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    routing::post,
};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

pub use check::Check;
pub use committer::{Posted, run as commit};

use crate::ingest::limits::{BODIES_KIB_MAX, COMMIT_TIMEOUT, REQUESTS_WAITING_MAX};
use body::{BodyError, Form};

/// One collector, as requests see it.
pub struct Collector {
    /// Its name in the manifest.
    pub name: String,
    /// Who may post; without a list everybody.
    pub tokens: Option<Vec<String>>,
    /// Its path on a listener of its own.
    pub path: String,
    /// How long a body may take.
    pub timeout: Duration,
    /// Longest body.
    pub body_bytes_max: usize,
    /// Origins whose pages may post; `*` is all.
    pub origins: Vec<String>,
    /// What makes an event acceptable.
    pub check: Check,
    /// Room for bodies, in KiB: see [`BODIES_KIB_MAX`].
    pub room: Semaphore,
    /// To the committer.
    pub posted: Sender<Posted>,
}

/// Makes the bounded way from the requests of a collector to its committer.
#[must_use]
pub fn queue() -> (Sender<Posted>, Receiver<Posted>) {
    crossbeam_channel::bounded(REQUESTS_WAITING_MAX)
}

type Collectors = Arc<BTreeMap<String, Arc<Collector>>>;

/// Makes the routes of `collectors`: `/v1/events/{name}`, and `/v1/events` where there is only one.
pub fn router(collectors: &[Arc<Collector>]) -> Router {
    let by_name: Collectors = Arc::new(collectors.iter().map(|one| (one.name.clone(), one.clone())).collect());
    let named = post(post_named).options(preflight_named);
    let mut router = Router::new().route("/v1/events/{ingest}", named);
    if collectors.len() == 1 {
        router = router.route("/v1/events", post(post_only).options(preflight_only));
    }
    router.with_state(by_name)
}

/// Makes the routes of a collector on a listener of its own: its path, and those of [`router`].
pub fn own_router(collector: &Arc<Collector>) -> Router {
    let one = [collector.clone()];
    let by_name: Collectors = Arc::new([(collector.name.clone(), collector.clone())].into());
    let own = Router::new().route(&collector.path, post(post_only).options(preflight_only)).with_state(by_name);
    match collector.path == "/v1/events" {
        true => router(&one),
        false => router(&one).merge(own),
    }
}

async fn post_named(State(all): State<Collectors>, Path(name): Path<String>, request: Request) -> Response<Body> {
    match all.get(&name) {
        Some(collector) => answer_post(collector, request).await,
        None => answer::refused(StatusCode::NOT_FOUND, &format!("there is no collector {name:?}")),
    }
}

async fn post_only(State(all): State<Collectors>, request: Request) -> Response<Body> {
    match all.values().next() {
        Some(collector) => answer_post(collector, request).await,
        None => answer::refused(StatusCode::NOT_FOUND, "there is no collector"),
    }
}

async fn preflight_named(
    State(all): State<Collectors>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    preflight(all.get(&name), &headers)
}

async fn preflight_only(State(all): State<Collectors>, headers: HeaderMap) -> Response<Body> {
    preflight(all.values().next(), &headers)
}

fn preflight(collector: Option<&Arc<Collector>>, headers: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Some(collector) = collector {
        collector.allow_origin(headers, &mut response);
    }
    response
}

async fn answer_post(collector: &Arc<Collector>, request: Request) -> Response<Body> {
    let headers = request.headers().clone();
    let mut response = match collector.take(request).await {
        Ok(rejected) => answer::events(&rejected),
        Err((status, why)) => answer::refused(status, &why),
    };
    collector.allow_origin(&headers, &mut response);
    response
}

/// The status and the reason for which nothing was taken.
type Refused = (StatusCode, String);

impl Collector {
    /// Takes a request up to the commit, and returns why each event was rejected, if it was.
    async fn take(&self, request: Request) -> Result<Vec<Option<String>>, Refused> {
        let (head, body) = request.into_parts();
        let form = match self.admit(&head.headers) {
            Ok(form) => form,
            // A client that is still sending would not hear the answer.
            Err(refused) => return read::drain(body, self.timeout).await.and(Err(refused)),
        };
        let Some(_room) = self.room(&body) else { return read::drain(body, self.timeout).await.and(Err(busy())) };
        let body = read::read(body, self.body_bytes_max, self.timeout).await?;
        let encoding = text(&head.headers, header::CONTENT_ENCODING);
        let body = body::decompress(body, encoding.as_deref(), self.body_bytes_max).map_err(refused)?;
        let mut events = body::events(&body, form).map_err(refused)?;
        let rejected = self.check.events(&body, &events);
        let mut reasons = rejected.iter();
        events.retain(|_| reasons.next().is_some_and(Option::is_none));
        if !events.is_empty() {
            self.store(body, events).await?;
        }
        Ok(rejected)
    }

    fn admit(&self, headers: &HeaderMap) -> Result<Form, Refused> {
        if !crate::auth::allowed(self.tokens.as_deref(), headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes))
        {
            return Err((StatusCode::UNAUTHORIZED, "send the collector's token as `Authorization: Bearer …`".into()));
        }
        Form::of(text(headers, header::CONTENT_TYPE).as_deref()).map_err(refused)
    }

    /// Reserves memory for a body: as much as it says, or as much as it may have.
    fn room(&self, body: &Body) -> Option<SemaphorePermit<'_>> {
        let most = self.body_bytes_max as u64;
        let bytes = body.size_hint().exact().unwrap_or(most).min(most);
        let wanted = u32::try_from(bytes / 1_024 + 1).unwrap_or(u32::MAX).min(BODIES_KIB_MAX);
        self.room.try_acquire_many(wanted).ok()
    }

    async fn store(&self, body: Vec<u8>, events: Vec<std::ops::Range<usize>>) -> Result<(), Refused> {
        let unavailable = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, why.to_owned());
        let (stored, told) = oneshot::channel();
        self.posted.try_send(Posted { body, events, stored }).map_err(|error| match error {
            TrySendError::Full(_) => busy(),
            TrySendError::Disconnected(_) => unavailable("the collector has ended"),
        })?;
        match tokio::time::timeout(COMMIT_TIMEOUT, told).await {
            Ok(Ok(told)) => told.map_err(|why| (StatusCode::PAYLOAD_TOO_LARGE, why)),
            Ok(Err(_)) => Err(unavailable("the events could not be stored; send them again")),
            Err(_) => Err(unavailable("the events may not be stored; send them again, with the same ids")),
        }
    }

    fn allow_origin(&self, headers: &HeaderMap, response: &mut Response<Body>) {
        let Some(origin) = headers.get(header::ORIGIN) else { return };
        let known = self.origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes());
        if !known {
            return;
        }
        let allow = response.headers_mut();
        allow.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        allow.insert(header::VARY, HeaderValue::from_static("Origin"));
        allow.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        let names = HeaderValue::from_static("Authorization, Content-Type, Content-Encoding");
        allow.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        allow.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    }
}

fn refused(error: BodyError) -> Refused {
    let status = match error {
        BodyError::TooLong(_) | BodyError::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Type(_) | BodyError::Encoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        BodyError::Gzip | BodyError::Empty | BodyError::NotJson(_) => StatusCode::BAD_REQUEST,
    };
    (status, error.to_string())
}

fn busy() -> Refused {
    (StatusCode::SERVICE_UNAVAILABLE, "the collector is busy; send it again after Retry-After".into())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?").to_owned())
}
