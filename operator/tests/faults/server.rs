//! An API server behind kube's client, without a socket: lists, watches, server-side apply, deletion, and on demand the
//! faults of real ones.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::store::{Change, Key, Store};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operator dies before the write arrives.
    CrashBefore,
    /// The operator dies after the write, before the answer arrives.
    CrashAfter,
    /// The write is refused.
    Refused(u16),
    /// The write is done, and the answer says that it may not have been.
    AnswerLost,
    /// A list fails.
    ListFails(u16),
    /// A list is some changes old.
    ListStale(usize),
    /// A change is not told to those who watch.
    WatchDrops,
    /// A change is told twice.
    WatchRepeats,
}

impl Fault {
    fn point(self) -> Point {
        match self {
            Self::CrashBefore | Self::CrashAfter | Self::Refused(_) | Self::AnswerLost => Point::Write,
            Self::ListFails(_) | Self::ListStale(_) => Point::List,
            Self::WatchDrops | Self::WatchRepeats => Point::Watch,
        }
    }
}

/// Where something may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    Write,
    List,
    Watch,
}

/// How often each point was passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    pub writes: usize,
    pub lists: usize,
    pub watched: usize,
}

#[derive(Default)]
struct Inner {
    store: Store,
    passed: Passed,
    /// What goes wrong, and at which passing of its point.
    fault: Option<(Fault, usize)>,
    /// Of which kind every write is refused, and how.
    forbidden: Option<(String, u16)>,
    /// How often that happened.
    refused: usize,
    /// Warnings that were told in events, by reason.
    warnings: Vec<String>,
}

/// The server.
#[derive(Clone, Default)]
pub struct Server {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
    crashed: Arc<Notify>,
}

/// A request, read.
struct Asked {
    method: Method,
    plural: String,
    name: Option<String>,
    is_status: bool,
    is_merge: bool,
    query: Vec<(String, String)>,
    body: Value,
}

impl Asked {
    fn parse(method: Method, uri: &http::Uri, is_merge: bool, body: Value) -> Self {
        let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let from = parts.iter().position(|part| *part == "namespaces").map_or(parts.len() - 1, |at| at + 2);
        let query = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        Self {
            method,
            plural: parts[from].to_owned(),
            name: parts.get(from + 1).map(|name| (*name).to_owned()),
            is_status: parts.get(from + 2) == Some(&"status"),
            is_merge,
            query: query.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body,
        }
    }

    fn get(&self, name: &str) -> &str {
        self.query.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// Whether a list shows the object: its labels are those of the selector, its name that of the field selector.
    fn selects(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let terms = |name: &str| self.get(name).replace("%2F", "/").replace("%3D", "=").replace("%2C", ",");
        let (labels, fields) = (terms("labelSelector"), terms("fieldSelector"));
        let has = |term: &str| match term.split_once('=') {
            Some((label, value)) => metadata["labels"][label] == value,
            None => term.is_empty() || !metadata["labels"][term].is_null(),
        };
        let name = fields.strip_prefix("metadata.name=");
        labels.split(',').all(has) && name.is_none_or(|name| metadata["name"] == name)
    }

    fn key(&self) -> Key {
        (self.plural.clone(), self.name.clone().unwrap_or_default())
    }

    fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

impl Server {
    pub fn new(store: Store) -> Self {
        let server = Self::default();
        server.lock().store = store;
        server
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the objects, or changes them as somebody else.
    pub fn with<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        let result = act(&mut self.lock().store);
        self.changed.notify_waiters();
        result
    }

    /// Counts from zero, and lets something go wrong at the given passing.
    pub fn arm(&self, fault: Option<(Fault, usize)>) {
        let mut inner = self.lock();
        inner.passed = Passed::default();
        inner.fault = fault;
    }

    /// Refuses every write of a kind from now on, or none any more.
    pub fn forbid(&self, forbidden: Option<(&str, u16)>) {
        self.lock().forbidden = forbidden.map(|(plural, code)| (plural.to_owned(), code));
    }

    /// How many writes were refused for their kind, and which warnings were told.
    pub fn refused(&self) -> (usize, Vec<String>) {
        let inner = self.lock();
        (inner.refused, inner.warnings.clone())
    }

    pub fn passed(&self) -> Passed {
        self.lock().passed
    }

    /// Waits until the operator was to die.
    pub async fn crashed(&self) {
        self.crashed.notified().await;
    }

    /// A client of this server.
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        kube::Client::new(service, "shop")
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("bodies of requests are in memory").to_bytes();
        let is_merge = head.headers.get("content-type").is_some_and(|kind| kind == "application/merge-patch+json");
        let asked = Asked::parse(head.method, &head.uri, is_merge, serde_json::from_slice(&body).unwrap_or_default());
        if asked.get("watch") == "true" {
            return self.watch(&asked);
        }
        let fault = self.pass(if asked.is_write() { Point::Write } else { Point::List });
        match fault {
            Some(Fault::CrashBefore) => return self.die().await,
            Some(Fault::Refused(code) | Fault::ListFails(code)) => return refusal(code),
            _ => {}
        }
        if let Some(code) = self.forbids(&asked) {
            return refusal(code);
        }
        let answer = self.act(&asked, fault);
        self.changed.notify_waiters();
        match fault {
            Some(Fault::CrashAfter) => self.die().await,
            Some(Fault::AnswerLost) => refusal(504),
            _ => answer,
        }
    }

    /// The operator never hears of anything again.
    async fn die(&self) -> Answer {
        self.crashed.notify_one();
        std::future::pending().await
    }

    /// Passes a point; returns what goes wrong there.
    fn pass(&self, point: Point) -> Option<Fault> {
        let mut inner = self.lock();
        let count = match point {
            Point::Write => &mut inner.passed.writes,
            Point::List => &mut inner.passed.lists,
            Point::Watch => &mut inner.passed.watched,
        };
        *count += 1;
        let at = *count - 1;
        let hits = inner.fault.is_some_and(|(fault, when)| fault.point() == point && when == at);
        if hits { inner.fault.take().map(|(fault, _)| fault) } else { None }
    }

    fn forbids(&self, asked: &Asked) -> Option<u16> {
        let inner = &mut *self.lock();
        if asked.body["type"] == "Warning" {
            inner.warnings.push(asked.body["reason"].as_str().unwrap_or_default().to_owned());
        }
        let (_, code) = inner.forbidden.as_ref().filter(|(plural, _)| asked.is_write() && *plural == asked.plural)?;
        inner.refused += 1;
        Some(*code)
    }

    fn act(&self, asked: &Asked, fault: Option<Fault>) -> Answer {
        let store = &mut self.lock().store;
        match (&asked.method, &asked.name) {
            (&Method::GET, None) => list(store, asked, fault),
            (&Method::GET, Some(_)) => store.objects.get(&asked.key()).map_or_else(|| refusal(404), found),
            // Events are for people: they are taken and forgotten.
            _ if asked.plural == "events" => found(&asked.body),
            (&Method::PATCH, Some(_)) if asked.is_merge => match store.merge(&asked.key(), &asked.body) {
                Ok(merged) => found(&merged),
                Err(code) => refusal(code),
            },
            (&Method::PATCH, Some(_)) => {
                let manager = asked.get("fieldManager");
                // Without force nobody gets the fields of others. Where somebody else made the object, it has all of them.
                if asked.get("force") != "true" && store.is_of_others(&asked.key(), manager) {
                    return refusal(409);
                }
                let applied = store.apply(&asked.key(), manager, &asked.body, asked.is_status);
                applied.as_ref().map_or_else(|| refusal(404), found)
            }
            (&Method::DELETE, Some(_)) if store.delete(&asked.key()) => {
                found(&json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 200}))
            }
            _ => refusal(404),
        }
    }

    fn watch(&self, asked: &Asked) -> Answer {
        let state = (self.clone(), asked.plural.clone(), asked.get("resourceVersion").parse().unwrap_or(0));
        let lines = stream::unfold(state, |(server, plural, seen)| async move {
            let changed = Arc::clone(&server.changed);
            loop {
                let news = changed.notified();
                let next = server.next(&plural, seen);
                if let Some(change) = next {
                    let times = match server.pass(Point::Watch) {
                        Some(Fault::WatchDrops) => 0,
                        Some(Fault::WatchRepeats) => 2,
                        _ => 1,
                    };
                    let line = format!("{}\n", json!({"type": change.type_, "object": change.object})).repeat(times);
                    let frame = http_body::Frame::data(Bytes::from(line));
                    drop(news);
                    return Some((Ok::<_, Infallible>(frame), (server, plural, change.version)));
                }
                news.await;
            }
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }

    fn next(&self, plural: &str, seen: u64) -> Option<Change> {
        self.lock().store.log.iter().find(|change| change.version > seen && change.plural == *plural).cloned()
    }
}

fn list(store: &Store, asked: &Asked, fault: Option<Fault>) -> Answer {
    let (version, all) = match fault {
        Some(Fault::ListStale(changes)) => store.stale(changes),
        _ => (store.version, store.objects.clone().into_iter().collect()),
    };
    let items = all.into_iter().filter(|((plural, _), _)| *plural == asked.plural).map(|(_, object)| object);
    let items: Vec<Value> = items.filter(|object| asked.selects(object)).collect();
    let version = version.to_string();
    found(&json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version}, "items": items}))
}

fn found(object: &Value) -> Answer {
    answer(200, object)
}

fn refusal(code: u16) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "Injected",
        "message": format!("injected {code}"),
    });
    answer(code, &status)
}

fn answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).expect("a code and a body are a response")
}
