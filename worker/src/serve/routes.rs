//! Which path does what, and what holds for all of them.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
        header::{
            AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, WWW_AUTHENTICATE,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use tokio::time;

use super::{Shared, answers, assets, dead_letters, events, limits, problem::Problem, queries, topics};
use crate::{auth, store};

/// The API, described: OpenAPI 3.1, kept by hand and compared with the routes by a test.
pub const OPENAPI: &str = include_str!("../../assets/openapi.json");

type Routes = Vec<(&'static str, MethodRouter<Arc<Shared>>)>;

fn api() -> Routes {
    vec![
        ("/api/v1/tables", get(queries::tables)),
        ("/api/v1/tables/{name}", get(queries::table)),
        ("/api/v1/tables/{name}/changes", get(events::table)),
        ("/api/v1/changes", get(events::all)),
        ("/api/v1/sql", post(queries::sql)),
        ("/api/v1/ledger", get(answers::ledger)),
        ("/api/v1/alerts", get(answers::alerts)),
        ("/api/v1/dead-letters", get(dead_letters::list)),
        ("/api/v1/dead-letters/{id}", get(dead_letters::show)),
        ("/api/v1/dead-letters/replay", post(dead_letters::replay)),
        ("/api/v1/topics", get(topics::list)),
        ("/api/v1/topics/differences", get(topics::differences)),
        ("/api/v1/topics/{topic}/events", get(topics::events)),
        ("/api/v1/status", get(answers::status)),
        ("/api/v1/dashboard", get(answers::dashboard)),
        ("/api/v1/openapi.json", get(openapi)),
        ("/metrics", get(answers::metrics)),
        ("/healthz", get(answers::healthz)),
        ("/readyz", get(answers::readyz)),
    ]
}

/// Paths of the API, for whoever compares them with [`OPENAPI`].
#[must_use]
pub fn paths() -> Vec<&'static str> {
    api().into_iter().map(|(path, _)| path).collect()
}

/// Everything, with other parts' routes.
pub fn router(shared: Arc<Shared>, extra: Router) -> Router {
    let mut router = Router::new();
    for (path, methods) in api() {
        router = router.route(path, methods);
    }
    if shared.state.pipeline.dashboard {
        for asset in assets::ASSETS {
            router =
                router.route(asset.path, get(move |headers: HeaderMap| async move { assets::answer(asset, &headers) }));
        }
    }
    let guard = middleware::from_fn_with_state(Arc::clone(&shared), with_token);
    // The statement may come in JSON, where every character may be an escape of six.
    router
        .layer(DefaultBodyLimit::max(store::limits::SQL_BYTES_MAX * 6))
        .with_state(shared)
        .merge(extra)
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(guard)
        .layer(middleware::from_fn(with_headers))
        .layer(middleware::from_fn(in_time))
}

/// What the operator asks: three paths of the API, as they are there.
pub fn figures(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v1/ledger", get(answers::ledger))
        .route("/api/v1/status", get(answers::status))
        .route("/api/v1/topics/differences", get(topics::differences))
        .with_state(shared)
        .layer(middleware::from_fn(in_time))
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn unknown(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}; /api/v1/openapi.json says what there is", uri.path()),
    )
}

async fn wrong_method(uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not answer this method", uri.path()))
}

/// Lets those in who have a token; a browser asks for it as a password. Probes need none.
async fn with_token(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let is_probe = ["/healthz", "/readyz"].contains(&request.uri().path());
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    if is_probe || auth::allowed(shared.state.tokens.as_deref(), header) {
        return next.run(request).await;
    }
    let told = "this needs a token: send `Authorization: Bearer <token>`, or the token as the password of any user";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, told).into_response();
    let how = HeaderValue::from_static("Basic realm=\"clickstream\", charset=\"UTF-8\", Bearer");
    response.headers_mut().insert(WWW_AUTHENTICATE, how);
    response
}

/// Ends requests that take too long; the body's arrival counts, events that are sent afterwards do not.
async fn in_time(request: Request, next: Next) -> Response {
    match time::timeout(limits::REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response(),
    }
}

/// What the browser must not do with our answers: load anything from elsewhere, guess types, frame them, keep them.
async fn with_headers(request: Request, next: Next) -> Response {
    const POLICY: &str =
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    set(CACHE_CONTROL, "no-store");
    response
}
