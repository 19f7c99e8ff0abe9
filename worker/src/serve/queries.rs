//! Questions to the tables: one table with a condition, or any SQL.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use tokio::time;

use super::{Shared, limits, problem::Problem};
use crate::store::{self, Bounds, Format, Outcome, QueryError, Reader, TableQuery};

/// Asks the tables on a blocking thread, a few at once.
pub async fn ask<T: Send + 'static>(
    shared: &Arc<Shared>,
    question: impl FnOnce(&Reader) -> Result<T, QueryError> + Send + 'static,
) -> Result<T, Problem> {
    ask_with_text(shared, question, |_| None).await
}

/// As [`ask`]; `text` is the user's text of a part, so that positions are counted in its characters.
async fn ask_with_text<T: Send + 'static>(
    shared: &Arc<Shared>,
    question: impl FnOnce(&Reader) -> Result<T, QueryError> + Send + 'static,
    text: impl Fn(&str) -> Option<String>,
) -> Result<T, Problem> {
    let turn = time::timeout(limits::TURN_TIME_MAX, Arc::clone(&shared.queries).acquire_owned()).await;
    let turn = turn
        .map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many queries run at the moment; try again"))?;
    let reader = shared.state.shown.reader();
    let answer = tokio::task::spawn_blocking(move || {
        // Whoever asked may be gone: its turn lasts as long as its query does.
        let _turn = turn;
        question(&reader)
    })
    .await;
    answer.map_err(|died| Problem::ours(&died))?.map_err(|error| Problem::of_query(error, text))
}

/// `GET /api/v1/tables`.
pub async fn tables(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let tables = ask(&shared, |reader| Ok(reader.tables()?)).await?;
    Ok(axum::Json(json!({ "pipeline": shared.state.pipeline.name, "tables": tables })).into_response())
}

/// Parameters of a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableParameters {
    #[serde(rename = "where")]
    filter: Option<String>,
    order: Option<String>,
    limit: Option<u64>,
    #[serde(default)]
    offset: u64,
    format: Option<String>,
}

/// `GET /api/v1/tables/{name}`.
pub async fn table(
    State(shared): State<Arc<Shared>>,
    Path(table): Path<String>,
    parameters: Result<Query<TableParameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters.map_err(|refused| Problem::bad(refused.body_text()))?;
    let TableParameters { filter, order, limit, offset, format } = parameters;
    let format = parse_format(format.as_deref())?;
    let limit = limit.unwrap_or(store::limits::PAGE_ROWS_DEFAULT);
    if limit > store::limits::PAGE_ROWS_MAX {
        return Err(Problem::bad(format!("limit is at most {}; page with offset", store::limits::PAGE_ROWS_MAX)));
    }
    let texts = BTreeMap::from([("where", filter.clone()), ("order", order.clone())]);
    let query = TableQuery { table, filter, order, limit, offset };
    let question = move |reader: &Reader| {
        let listed = reader.table(&query.table)?;
        Ok((reader.query(&query, format, Bounds::default())?, listed))
    };
    let (outcome, listed) = ask_with_text(&shared, question, |part| texts.get(part).cloned().flatten()).await?;
    let head = json!({
        "table": listed.info.name, "epoch": listed.info.epoch, "columns": listed.info.columns, "total": listed.rows,
        "limit": limit, "offset": offset,
    });
    Ok(answer(&head, &outcome, format))
}

/// A statement in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    sql: String,
    format: Option<String>,
}

/// Parameters of SQL.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlParameters {
    format: Option<String>,
}

/// `POST /api/v1/sql`: the body is the statement, or `{"sql": …}` as `application/json`.
pub async fn sql(
    State(shared): State<Arc<Shared>>,
    parameters: Result<Query<SqlParameters>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters.map_err(|refused| Problem::bad(refused.body_text()))?;
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|ty| ty.as_bytes().starts_with(b"application/json"));
    let statement = match is_json {
        true => serde_json::from_slice(&body).map_err(|error| Problem::bad(format!("the body is wrong: {error}")))?,
        false => {
            let sql = String::from_utf8(body.into()).map_err(|_| Problem::bad("the statement is not UTF-8"))?;
            Statement { sql, format: None }
        }
    };
    let format = parse_format(statement.format.as_deref().or(parameters.format.as_deref()))?;
    let text = statement.sql.clone();
    let question = move |reader: &Reader| reader.sql(&statement.sql, format, Bounds::default());
    let outcome = ask_with_text(&shared, question, |_| Some(text.clone())).await?;
    Ok(answer(&json!({ "columns": outcome.columns }), &outcome, format))
}

fn parse_format(text: Option<&str>) -> Result<Format, Problem> {
    text.unwrap_or("json").parse().map_err(Problem::bad)
}

/// The rows as they are, or within an object that tells about them. Rows are spliced in as text: parsing them would
/// turn exact decimals into doubles.
fn answer(head: &serde_json::Value, outcome: &Outcome, format: Format) -> Response {
    let ty = match format {
        Format::Json => "application/json",
        Format::JsonLines => "application/x-ndjson",
        Format::Csv => "text/csv; charset=utf-8",
    };
    if format != Format::Json {
        return ([(CONTENT_TYPE, ty)], outcome.body.clone()).into_response();
    }
    let mut body = head.to_string().into_bytes();
    body.pop();
    body.extend_from_slice(format!(",\"count\":{},\"more\":{},\"rows\":[", outcome.rows, outcome.more).as_bytes());
    body.extend_from_slice(&outcome.body);
    body.extend_from_slice(b"]}");
    ([(CONTENT_TYPE, ty)], body).into_response()
}
