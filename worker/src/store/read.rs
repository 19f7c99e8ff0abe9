//! Reading: connections that cannot write, and queries bounded in time, rows and bytes.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
};
use serde::Serialize;

use super::{
    describe::TableInfo,
    encode::{Encoder, Format, Outcome, unique_columns},
    error::{Part, QueryError, StoreError},
    limits,
    query::TableQuery,
    suggest,
};

/// The tables, open for reading, by any number of threads. Blocking: async code calls it from a blocking thread.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// Connections nobody uses at the moment. Taken and given back by every query; as many as queries ran at once.
    idle: Mutex<Vec<Connection>>,
}

/// A table in the list of tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// What it looks like.
    #[serde(flatten)]
    pub info: TableInfo,
    /// How many rows it has.
    pub rows: u64,
}

/// Bounds of one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Rows of the answer.
    pub rows: u64,
    /// Bytes of the answer.
    pub bytes: usize,
    /// How long it may take.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { rows: limits::PAGE_ROWS_MAX, bytes: limits::ANSWER_BYTES_MAX, time: limits::QUERY_TIME_MAX }
    }
}

impl Bounds {
    /// No bounds: for a person with a data directory, who may wait and press Ctrl-C.
    #[must_use]
    pub fn none() -> Self {
        Self { rows: u64::MAX - 1, bytes: usize::MAX, time: Duration::from_secs(1 << 30) }
    }
}

impl Reader {
    /// Opens the tables at `path`, which a [`super::TableStore`] made, in this process or another, running or not.
    ///
    /// # Errors
    /// When there are none, or they come from a newer program.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.is_file() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let reader = Self { path: path.to_owned(), idle: Mutex::default() };
        let connection = reader.connect().map_err(|source| reader.failed(source))?;
        reader.give_back(connection);
        Ok(reader)
    }

    /// Name of the pipeline whose tables these are.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn pipeline(&self) -> Result<String, StoreError> {
        self.with(|connection| {
            connection.query_row("SELECT value FROM _store WHERE name = 'pipeline'", [], |row| row.get(0))
        })
    }

    /// All tables in the manifest's order, the system's last.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tables(&self) -> Result<Vec<Listed>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT info, rows FROM _store_tables ORDER BY position")?;
            let listed = statement.query_map([], |row| listed(&row.get::<_, String>(0)?, row.get(1)?))?;
            listed.collect()
        })
    }

    /// One table.
    ///
    /// # Errors
    /// When there is no such table, or the file cannot be read.
    pub fn table(&self, name: &str) -> Result<Listed, QueryError> {
        let found = self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT info, rows FROM _store_tables WHERE name = ?1")?;
            statement.query_row([name], |row| listed(&row.get::<_, String>(0)?, row.get(1)?)).optional()
        })?;
        if let Some(found) = found {
            return Ok(found);
        }
        let tables = self.tables()?;
        let names = tables.iter().map(|table| &*table.info.name).filter(|name| !name.starts_with('_'));
        Err(QueryError::UnknownTable { name: name.into(), suggestions: suggest::nearest_or_all(name, names) })
    }

    /// Answers a question about one table.
    ///
    /// # Errors
    /// When the question is wrong, or the answer passes the bounds.
    pub fn query(&self, query: &TableQuery, format: Format, bounds: Bounds) -> Result<Outcome, QueryError> {
        let info = self.table(&query.table)?.info;
        let query = TableQuery { limit: query.limit.min(bounds.rows), ..query.clone() };
        let statement = query.statement(&info)?;
        let bounds = Bounds { rows: query.limit, ..bounds };
        self.select(&statement.sql, format, bounds, Some(&info)).map_err(|error| match error {
            QueryError::BadText { message, position, .. } => {
                let length = query.filter.as_ref().map_or(0, String::len);
                let position = position.and_then(|at| at.checked_sub(statement.filter_at)).filter(|at| *at <= length);
                QueryError::BadText { part: Part::Where, message: with_near_column(message, &info), position }
            }
            other => other,
        })
    }

    /// Answers a statement of SQL.
    ///
    /// # Errors
    /// When the statement is wrong or not a question, or the answer passes the bounds.
    pub fn sql(&self, sql: &str, format: Format, bounds: Bounds) -> Result<Outcome, QueryError> {
        self.select(sql, format, bounds, None)
    }

    /// Runs one statement. With a table, its columns are those of the answer and `_exact` follows them.
    fn select(
        &self,
        sql: &str,
        format: Format,
        bounds: Bounds,
        table: Option<&TableInfo>,
    ) -> Result<Outcome, QueryError> {
        if sql.len() > limits::SQL_BYTES_MAX {
            let message = format!("longer than {} kB", limits::SQL_BYTES_MAX >> 10);
            return Err(QueryError::BadText { part: Part::Sql, message, position: None });
        }
        let mut connection = self.take().map_err(|source| self.failed(source))?;
        let deadline = Instant::now() + bounds.time;
        let answer = connection
            .progress_handler(limits::PROGRESS_INSTRUCTIONS, Some(move || Instant::now() > deadline))
            .map_err(Refusal::from)
            .and_then(|()| run(&connection, sql, format, bounds, table));
        let cleared = connection.progress_handler(0, None::<fn() -> bool>);
        if cleared.is_ok() {
            self.give_back(connection);
        }
        answer.map_err(|refusal| match refusal {
            Refusal::NoQuestion => {
                let message = "there is no statement that gives rows".into();
                QueryError::BadText { part: Part::Sql, message, position: None }
            }
            Refusal::TooLarge => QueryError::TooLarge,
            Refusal::Sqlite(source) => self.explain(source, bounds),
        })
    }

    /// Tells the user's mistakes from ours.
    fn explain(&self, source: rusqlite::Error, bounds: Bounds) -> QueryError {
        let bad = |message: String, position| QueryError::BadText { part: Part::Sql, message, position };
        match source {
            rusqlite::Error::SqlInputError { msg, offset, .. } => bad(msg, usize::try_from(offset).ok()),
            rusqlite::Error::MultipleStatement => bad("one statement at a time".into(), None),
            rusqlite::Error::SqliteFailure(code, message) => match code.code {
                ErrorCode::OperationInterrupted => QueryError::TooSlow { seconds: bounds.time.as_secs() },
                ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly => {
                    bad("only questions are answered here: select, with, values, explain".into(), None)
                }
                ErrorCode::Unknown | ErrorCode::TooBig | ErrorCode::TypeMismatch => {
                    bad(message.unwrap_or_else(|| code.to_string()), None)
                }
                _ => self.failed(rusqlite::Error::SqliteFailure(code, message)).into(),
            },
            source => self.failed(source).into(),
        }
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let connection = self.take().map_err(|source| self.failed(source))?;
        let answer = read(&connection);
        self.give_back(connection);
        answer.map_err(|source| self.failed(source))
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| self.connect(), Ok)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < limits::QUERIES_AT_ONCE {
            idle.push(connection);
        }
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite { path: self.path.clone(), source }
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        let mut connection = match is_readable(&connection) {
            Ok(()) => connection,
            // A directory that cannot be written has no place for the log's index; nobody writes there, either.
            Err(_) => {
                let uri = format!("file:{}?immutable=1", escape_path(&self.path));
                let connection = Connection::open_with_flags(uri, flags)?;
                is_readable(&connection)?;
                connection
            }
        };
        connection.busy_timeout(limits::BUSY_TIME_MAX)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "mmap_size", 1_i64 << 30)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, limits::VALUE_BYTES_MAX)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        connection.authorizer(Some(authorize))?;
        Ok(connection)
    }
}

/// Why a statement has no answer.
enum Refusal {
    NoQuestion,
    TooLarge,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sqlite(source)
    }
}

fn run(
    connection: &Connection,
    sql: &str,
    format: Format,
    bounds: Bounds,
    table: Option<&TableInfo>,
) -> Result<Outcome, Refusal> {
    let mut statement = connection.prepare(sql)?;
    if statement.column_count() == 0 {
        return Err(Refusal::NoQuestion);
    }
    let columns = match table {
        Some(info) => info.columns.clone(),
        None => unique_columns(statement.column_names()),
    };
    let exact_at = table.map(|_| columns.len());
    let mut encoder = Encoder::new(format, columns);
    let mut rows = statement.query([])?;
    let mut more = false;
    while let Some(row) = rows.next()? {
        if encoder.rows == bounds.rows {
            more = true;
            break;
        }
        let exact = exact_at.map(|at| row.get_ref(at)).transpose()?;
        encoder.row(row, exact.and_then(|value| value.as_str().ok()))?;
        if encoder.out.len() > bounds.bytes {
            return Err(Refusal::TooLarge);
        }
    }
    Ok(encoder.finish(more))
}

/// A file of this program, in a format that it knows.
fn is_readable(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("SELECT count(*) FROM _store", [], |_| Ok(()))
}

fn listed(info: &str, rows: i64) -> rusqlite::Result<Listed> {
    let info = serde_json::from_str(info)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))?;
    Ok(Listed { info, rows: rows as u64 })
}

/// Lets questions pass and nothing else. The connection could not write anyway; this gives the better message, and
/// keeps settings and other files out of reach.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

/// Adds what a wrong column name may have meant.
fn with_near_column(message: String, info: &TableInfo) -> String {
    let Some(name) = message.strip_prefix("no such column: ") else { return message };
    match suggest::nearest(name, info.columns.iter().map(|column| &*column.name)) {
        Some(near) => format!("{message}; did you mean {near}?"),
        None => {
            let names: Vec<&str> = info.columns.iter().map(|column| &*column.name).collect();
            format!("{message}; there is {}", names.join(", "))
        }
    }
}

/// Escapes what has a meaning in a `file:` URI.
fn escape_path(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}
