//! Accounts and state: ledger, alerts, status, what the page is about, metrics, health.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use prometheus::{Encoder, TextEncoder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{Shared, limits, problem::Problem, queries};
use crate::store::{Bounds, Format, QueryError, Reader};

/// Rows of a statement of ours.
fn rows<T: for<'de> Deserialize<'de>>(reader: &Reader, sql: &str) -> Result<Vec<T>, QueryError> {
    let outcome = reader.sql(sql, Format::JsonLines, Bounds::default())?;
    let lines = outcome.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(|line| serde_json::from_slice(line).expect("the statement names these columns")).collect())
}

/// Sums of a stream: read = accepted + duplicate + invalid + expired.
const STREAMS: &str = "
    select stream, sum(read) as read, sum(accepted) as accepted, sum(duplicate) as duplicate, sum(invalid) as invalid,
      sum(expired) as expired,
      sum(read) - sum(accepted) - sum(duplicate) - sum(invalid) - sum(expired) as unaccounted
    from _ledger_streams group by stream order by stream";

/// Sums of a table: accepted = counted + late + filtered.
const TABLES: &str = "
    select \"table\", sum(accepted) as accepted, sum(filtered) as filtered, sum(late) as late, sum(counted) as counted,
      sum(accepted) - sum(counted) - sum(late) - sum(filtered) as unaccounted
    from _ledger_tables group by \"table\" order by \"table\"";

/// `GET /api/v1/ledger`.
///
/// What MAP accepted and MERGE has not counted yet is on its way: a table's `unaccounted` is 0 whenever nothing is.
pub async fn ledger(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let (streams, tables) =
        queries::ask(&shared, |reader| Ok((rows::<Value>(reader, STREAMS)?, rows::<Value>(reader, TABLES)?))).await?;
    let unaccounted: i64 = streams.iter().chain(&tables).filter_map(|sums| sums["unaccounted"].as_i64()).sum();
    Ok(Json(json!({ "streams": streams, "tables": tables, "unaccounted": unaccounted })))
}

/// Parameters of alerts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertParameters {
    state: Option<String>,
    alert: Option<String>,
    limit: Option<u64>,
}

/// A row of `_alerts`.
#[derive(Deserialize)]
struct AlertRow {
    window_start: Option<String>,
    window_end: Option<String>,
    alert: String,
    group: String,
    state: String,
    for_windows: Option<i64>,
    detail: Option<String>,
    version: u64,
}

/// An alert as people see it.
#[derive(Serialize)]
struct AlertView {
    alert: String,
    state: String,
    window_start: Option<String>,
    window_end: Option<String>,
    for_windows: Option<i64>,
    group: Box<RawValue>,
    row: Box<RawValue>,
    version: u64,
}

/// `GET /api/v1/alerts`: the newest first.
pub async fn alerts(
    State(shared): State<Arc<Shared>>,
    parameters: Result<Query<AlertParameters>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters.map_err(|refused| Problem::bad(refused.body_text()))?;
    let AlertParameters { state, alert, limit } = parameters;
    let limit = limit.unwrap_or(100).min(limits::ALERTS_MAX);
    let quoted = |text: String| format!("'{}'", text.replace('\'', "''"));
    let state = state.map_or("state".into(), quoted);
    let alert = alert.map_or("alert".into(), quoted);
    let sql = format!(
        "select * from _alerts where state = {state} and alert = {alert} order by window_start desc, version desc \
         limit {limit}"
    );
    let (found, counts) = queries::ask(&shared, move |reader| {
        let counts = "select alert, state, count(*) as count from _alerts group by alert, state order by alert, state";
        Ok((rows::<AlertRow>(reader, &sql)?, rows::<Value>(reader, counts)?))
    })
    .await?;
    let alerts: Vec<AlertView> = found.into_iter().map(AlertView::from).collect();
    Ok(Json(json!({ "counts": counts, "alerts": alerts })).into_response())
}

impl From<AlertRow> for AlertView {
    fn from(row: AlertRow) -> Self {
        let AlertRow { window_start, window_end, alert, group, state, for_windows, detail, version } = row;
        let row = detail.map_or_else(|| raw("null".into()), raw);
        Self { alert, state, window_start, window_end, for_windows, group: raw(group), row, version }
    }
}

/// JSON as it is; text that is none as a string.
fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text.clone()).unwrap_or_else(|_| {
        let quoted = serde_json::to_string(&text).expect("text is JSON when quoted");
        RawValue::from_string(quoted).expect("it was just written")
    })
}

/// `GET /api/v1/status`.
pub async fn status(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let watermarks = "
        select stream, case when count(watermark) = count(*) then min(watermark) end as watermark, count(*) as tasks
        from _watermarks group by stream order by stream";
    let watermarks = queries::ask(&shared, move |reader| rows::<Value>(reader, watermarks)).await?;
    let status = shared.state.live.status();
    let lag: u64 = status.partitions.iter().map(|partition| partition.end.saturating_sub(partition.position)).sum();
    let mut answer = serde_json::to_value(&status).map_err(|error| Problem::ours(&error))?;
    answer["pipeline"] = shared.state.pipeline.name.clone().into();
    answer["program"] = env!("CARGO_PKG_VERSION").into();
    answer["lag"] = lag.into();
    answer["watermarks"] = watermarks.into();
    Ok(Json(answer))
}

/// `GET /api/v1/dashboard`: what the page is about.
pub async fn dashboard(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let tables = queries::ask(&shared, |reader| Ok(reader.tables()?)).await?;
    let mut answer = serde_json::to_value(&shared.state.pipeline).map_err(|error| Problem::ours(&error))?;
    answer["program"] = env!("CARGO_PKG_VERSION").into();
    answer["tables"] = serde_json::to_value(tables).map_err(|error| Problem::ours(&error))?;
    Ok(Json(answer))
}

/// `GET /metrics`, in Prometheus' text format.
pub async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let registry = shared.state.metrics.clone();
    // Some figures are read off the log and the tables.
    let families = tokio::task::spawn_blocking(move || registry.gather()).await;
    let encoder = TextEncoder::new();
    let mut body = Vec::new();
    let families = families.map_err(|died| Problem::ours(&died))?;
    encoder.encode(&families, &mut body).map_err(|error| Problem::ours(&error))?;
    Ok(([(CONTENT_TYPE, encoder.format_type().to_owned())], body).into_response())
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: questions get sensible answers.
pub async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.state.live.ready() {
        Ok(()) => Json(json!({ "status": "ready" })).into_response(),
        Err(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "why": why }))).into_response()
        }
    }
}
