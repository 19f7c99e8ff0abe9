//! Server-sent events: which tables changed, and changed rows. A listener that falls behind is told to start anew.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
        watch,
    },
    time,
};

use super::{Shared, limits, problem::Problem, queries};
use crate::store::{ChangedRows, Summary};

/// `GET /api/v1/changes`: `changes` events `{"offset", "tables": {name: rows}}`, gathered over a moment.
pub async fn all(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let listener = Listener::new(&shared, shared.state.shown.changes().summaries())?;
    Ok(answer(stream::unfold(listener, |mut listener| async move {
        let event = match listener.next().await? {
            News::Hello => hello(),
            News::Behind => behind(),
            News::Got(first) => {
                time::sleep(limits::GATHER_TIME).await;
                gathered(&first, &mut listener.news)
            }
        };
        Some((Ok(event), listener))
    })))
}

/// `GET /api/v1/tables/{name}/changes`: `rows` events `{"offset", "rows": […], "left_out"}`.
pub async fn table(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Result<Response, Problem> {
    let wanted = name.clone();
    queries::ask(&shared, move |reader| reader.table(&wanted).map(|_| ())).await?;
    let listener = Listener::new(&shared, shared.state.shown.changes().rows())?;
    Ok(answer(stream::unfold((listener, name), |(mut listener, name)| async move {
        let event = loop {
            match listener.next().await? {
                News::Hello => break hello(),
                News::Behind => break behind(),
                News::Got(changed) if changed.table == name => break rows_event(&changed),
                News::Got(_) => {}
            }
        };
        Some((Ok(event), (listener, name)))
    })))
}

/// A subscription with its place among the listeners.
struct Listener<T> {
    news: Receiver<Arc<T>>,
    stopping: watch::Receiver<bool>,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl<T> Listener<T> {
    fn new(shared: &Shared, news: Receiver<Arc<T>>) -> Result<Self, Problem> {
        let place = shared.listeners.clone().try_acquire_owned();
        let place = place.map_err(|_| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{} listeners are here already", limits::LISTENERS_MAX),
            )
        })?;
        Ok(Self { news, stopping: shared.stopping.clone(), greeted: false, _place: place })
    }

    /// Waits for news; `None` when the server stops.
    async fn next(&mut self) -> Option<News<T>> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(News::Hello);
        }
        let received = tokio::select! {
            received = self.news.recv() => received,
            _ = self.stopping.wait_for(|stopping| *stopping) => return None,
        };
        match received {
            Ok(news) => Some(News::Got(news)),
            Err(RecvError::Lagged(_)) => Some(News::Behind),
            Err(RecvError::Closed) => None,
        }
    }
}

/// What a listener hears.
enum News<T> {
    /// It is listening now.
    Hello,
    /// Something changed.
    Got(Arc<T>),
    /// It missed something.
    Behind,
}

/// Sent first, so that a listener knows from when on it misses nothing.
fn hello() -> Event {
    Event::default().event("hello").retry(Duration::from_secs(1)).data("{}")
}

/// The listener missed something: read the table again.
fn behind() -> Event {
    Event::default().event("behind").data("{}")
}

/// Adds up what has come in meanwhile.
fn gathered(first: &Summary, news: &mut Receiver<Arc<Summary>>) -> Event {
    let mut sum = first.clone();
    loop {
        match news.try_recv() {
            Ok(next) => {
                sum.offset = next.offset;
                next.tables.iter().for_each(|(name, rows)| *sum.tables.entry(name.clone()).or_default() += rows);
            }
            Err(TryRecvError::Lagged(_)) => return behind(),
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    Event::default().event("changes").id(sum.offset.to_string()).data(json!(sum).to_string())
}

fn rows_event(changed: &ChangedRows) -> Event {
    let ChangedRows { offset, rows, left_out, .. } = changed;
    let data = format!("{{\"offset\":{offset},\"rows\":[{rows}],\"left_out\":{left_out}}}");
    Event::default().event("rows").id(offset.to_string()).data(data)
}

fn answer(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(limits::KEEP_ALIVE)).into_response()
}
