//! Bounds of the store, each with its reason.

use std::time::Duration;

/// Rows a page of the API may ask for. At about 300 bytes a row this is 30 MB of JSON, below [`ANSWER_BYTES_MAX`].
pub const PAGE_ROWS_MAX: u64 = 100_000;

/// Rows of a page when nobody says.
pub const PAGE_ROWS_DEFAULT: u64 = 1_000;

/// Bytes of one answer: four queries at once hold at most 256 MB.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Longest SQL text, and longest `where`. SQLite's own limit is a million times what a person types.
pub const SQL_BYTES_MAX: usize = 64 << 10;

/// Largest single value that SQL may make (`randomblob`, `printf`, `group_concat`).
pub const VALUE_BYTES_MAX: i32 = 16 << 20;

/// How long a query may run before it is interrupted.
pub const QUERY_TIME_MAX: Duration = Duration::from_secs(5);

/// SQLite instructions between two looks at the clock: about 20 µs of work.
pub const PROGRESS_INSTRUCTIONS: i32 = 4_000;

/// Queries that run at once over HTTP; more wait. Two cores, and the engine needs them too.
pub const QUERIES_AT_ONCE: usize = 4;

/// How long a connection waits for another process that holds the file (opening, recovering a log).
pub const BUSY_TIME_MAX: Duration = Duration::from_secs(5);

/// Commits that a slow listener may fall behind before it is told to start anew.
pub const CHANGES_KEPT: usize = 256;

/// Rows of one table in one change; the rest is announced as a number, and the listener reads the table.
pub const CHANGE_ROWS_MAX: usize = 500;

/// Pages (4 KiB) in the log before SQLite folds it into the file: 16 MB.
pub const LOG_PAGES: u32 = 4_000;
