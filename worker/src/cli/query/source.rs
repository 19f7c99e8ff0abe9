//! Who answers: the file in a data directory, or a running pipeline over HTTP. Both give the same rows.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::{
    cli::{Mistake, place},
    store::{Bounds, Format, QueryError, Reader, StoreError, TableQuery, limits},
};

/// How long an answer over HTTP may take: longer than the server lets a query run.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Largest answer that is read over HTTP: what the server sends at most, and room for the envelope.
const ANSWER_BYTES_MAX: u64 = 2 * limits::ANSWER_BYTES_MAX as u64;

/// The list of tables, as a statement.
const TABLES: &str = "select name, json_extract(info, '$.kind') as kind,
    coalesce(json_extract(info, '$.window.kind'), 'none') as window, json_extract(info, '$.epoch') as epoch, rows
    from _store_tables where substr(name, 1, 1) <> '_' order by position";

/// Who answers.
pub enum Source {
    /// A file.
    Directory(Reader),
    /// A server.
    Server(String),
}

/// What is asked.
pub enum Question {
    /// Which tables there are.
    Tables,
    /// Rows of a table.
    Table { table: String, condition: Option<String>, order: Option<String>, limit: u64, offset: u64 },
    /// A statement.
    Sql { sql: String, limit: u64 },
}

/// Rows, as JSON objects one a line.
pub struct Answer {
    /// The rows.
    pub lines: Vec<u8>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

impl Source {
    /// Opens the tables in a data directory.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let file = directory.join("tables.db");
        if !directory.is_dir() {
            bail!(Mistake(format!("there is no directory {}", directory.display())));
        }
        match Reader::open(&file) {
            Ok(reader) => Ok(Self::Directory(reader)),
            Err(missing @ StoreError::Missing { .. }) => bail!(Mistake(missing.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Names a server; the first question connects.
    pub fn connect(url: &str) -> Self {
        Self::Server(url.trim_end_matches('/').to_owned())
    }

    /// Asks for rows one a line.
    pub fn lines(&self, question: &Question) -> anyhow::Result<Answer> {
        match self {
            Self::Directory(reader) => ask_reader(reader, question, Format::JsonLines),
            Self::Server(url) => ask_server(url, question),
        }
    }

    /// Asks for CSV.
    pub fn csv(&self, question: &Question) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Directory(reader) => Ok(ask_reader(reader, question, Format::Csv)?.lines),
            Self::Server(url) => {
                page(url, question, question.limit().min(limits::PAGE_ROWS_MAX), question.offset(), "csv")
            }
        }
    }
}

impl Question {
    fn limit(&self) -> u64 {
        match self {
            Self::Tables => u64::MAX - 1,
            Self::Table { limit, .. } | Self::Sql { limit, .. } => *limit,
        }
    }

    fn offset(&self) -> u64 {
        match self {
            Self::Table { offset, .. } => *offset,
            Self::Tables | Self::Sql { .. } => 0,
        }
    }

    /// The user's text of a part, to point into.
    fn text(&self, part: &str) -> Option<&str> {
        match (self, part) {
            (Self::Table { condition, .. }, "where") => condition.as_deref(),
            (Self::Table { order, .. }, "order") => order.as_deref(),
            (Self::Sql { sql, .. }, "sql") => Some(sql),
            _ => None,
        }
    }

    /// A complaint with a caret under the place.
    fn mistake(&self, message: &str, part: Option<&str>, position: Option<usize>) -> anyhow::Error {
        let text = part.and_then(|part| Some((part, self.text(part)?)));
        let (Some((part, text)), Some(position)) = (text, position) else { return Mistake(message.into()).into() };
        let before: String = text.chars().take(position).collect();
        let row = before.matches('\n').count();
        let line = text.lines().nth(row).unwrap_or_default();
        let indent = before.chars().rev().take_while(|character| *character != '\n').count();
        let label = format!("  {part}: ");
        Mistake(format!("{message}\n{label}{line}\n{}^", " ".repeat(label.len() + indent))).into()
    }
}

/// Asks the file, with no bounds but the user's patience.
fn ask_reader(reader: &Reader, question: &Question, format: Format) -> anyhow::Result<Answer> {
    let outcome = match question {
        Question::Tables => reader.sql(TABLES, format, Bounds::none()),
        Question::Sql { sql, limit } => reader.sql(sql, format, Bounds { rows: *limit, ..Bounds::none() }),
        Question::Table { table, condition, order, limit, offset } => {
            let (filter, order) = (condition.clone(), order.clone());
            let query = TableQuery { table: table.clone(), filter, order, limit: *limit, offset: *offset };
            reader.query(&query, format, Bounds::none())
        }
    };
    match outcome {
        Ok(outcome) => Ok(Answer { lines: outcome.body, more: outcome.more }),
        Err(QueryError::BadText { part, message, position }) => {
            let characters = |at: usize| {
                let text = question.text(part.name()).unwrap_or_default();
                text.char_indices().take_while(|(start, _)| *start < at).count()
            };
            Err(question.mistake(&message, Some(part.name()), position.map(characters)))
        }
        Err(error @ QueryError::UnknownTable { .. }) => Err(Mistake(error.to_string()).into()),
        Err(error) => Err(error.into()),
    }
}

/// Asks the server, page by page; one row more than asked for tells whether there are more.
fn ask_server(url: &str, question: &Question) -> anyhow::Result<Answer> {
    let wanted = question.limit().saturating_add(1);
    let mut lines = Vec::new();
    let mut rows = 0_u64;
    loop {
        let size = (wanted - rows).min(limits::PAGE_ROWS_MAX);
        let body = page(url, question, size, question.offset() + rows, "jsonl")?;
        let came = body.iter().filter(|byte| **byte == b'\n').count() as u64;
        lines.extend_from_slice(&body);
        rows += came;
        // Statements have one page: the server bounds it, the user's own limit is in the statement.
        if came < size || rows >= wanted || !matches!(question, Question::Table { .. }) {
            break;
        }
    }
    let more = rows >= wanted;
    if more {
        let ends: Vec<usize> = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        lines.truncate(ends[(wanted - 2) as usize] + 1);
    }
    Ok(Answer { lines, more })
}

/// One request.
fn page(url: &str, question: &Question, limit: u64, offset: u64, format: &str) -> anyhow::Result<Vec<u8>> {
    let agent = place::agent(Some(ANSWER_TIME_MAX));
    let sent = match question {
        Question::Tables => agent.post(format!("{url}/api/v1/sql?format={format}")).send(TABLES),
        Question::Sql { sql, .. } => agent.post(format!("{url}/api/v1/sql?format={format}")).send(sql),
        Question::Table { table, condition, order, .. } => {
            let mut request = agent.get(format!("{url}/api/v1/tables/{}", escape(table))).query("format", format);
            request = request.query("limit", limit.to_string()).query("offset", offset.to_string());
            for (name, text) in [("where", condition), ("order", order)] {
                if let Some(text) = text {
                    request = request.query(name, text);
                }
            }
            request.call()
        }
    };
    let mut response = sent.with_context(|| {
        format!(
            "no pipeline answers at {url}: start one with `clickstream run`, or read a data directory with --data-dir"
        )
    })?;
    let status = response.status();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    let body = body.with_context(|| format!("failed to read the answer of {url}"))?;
    if status.is_success() {
        return Ok(body);
    }
    Err(refusal(question, &body).unwrap_or_else(|| anyhow::anyhow!("{url} answers with status {status}")))
}

/// An error as the API writes it.
#[derive(Deserialize)]
struct Problem {
    error: String,
    part: Option<String>,
    position: Option<usize>,
}

fn refusal(question: &Question, body: &[u8]) -> Option<anyhow::Error> {
    let problem: Problem = serde_json::from_slice(body).ok()?;
    Some(question.mistake(&problem.error, problem.part.as_deref(), problem.position))
}

/// A name as a segment of a path.
fn escape(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
