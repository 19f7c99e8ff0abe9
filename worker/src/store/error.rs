//! What can go wrong: the store's errors, and what a query may be told.

use std::path::PathBuf;

/// The store could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, read or written.
    #[error("failed to use the tables in {path}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The directory for a temporary store cannot be made.
    #[error("failed to make a temporary directory for the tables")]
    Temporary(#[source] std::io::Error),
    /// The file was written by a newer version of this program.
    #[error("the tables in {path} have format {found}, this program reads up to {known}: use the newer program")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest this program knows.
        known: i64,
    },
    /// There is no store here.
    #[error("no tables at {path}: is this the data directory of a pipeline that has run?")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A result record does not say what it should: a bug of the writer, or a damaged log.
    #[error("failed to read the result at offset {offset}: {reason}")]
    BadRecord {
        /// Its offset.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Which of a user's texts a position points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The SQL statement.
    Sql,
    /// The `where` condition.
    Where,
    /// The `order` list.
    Order,
}

impl Part {
    /// The name of the parameter.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sql => "sql",
            Self::Where => "where",
            Self::Order => "order",
        }
    }
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no such table.
    #[error("there is no table {name:?}{}", did_you_mean(.suggestions))]
    UnknownTable {
        /// What was asked for.
        name: String,
        /// Near names, or all of them where none is near.
        suggestions: Vec<String>,
    },
    /// The user's text is wrong.
    #[error("{message}")]
    BadText {
        /// Which text.
        part: Part,
        /// What is wrong with it.
        message: String,
        /// Where, in bytes from its start, if SQLite knows.
        position: Option<usize>,
    },
    /// It took too long.
    #[error("the query was stopped after {seconds} s: narrow it with a condition or a limit")]
    TooSlow {
        /// The bound.
        seconds: u64,
    },
    /// The answer is too large.
    #[error("the answer passes {} MB: ask for fewer rows", super::limits::ANSWER_BYTES_MAX >> 20)]
    TooLarge,
    /// The store could not do its work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn did_you_mean(suggestions: &[String]) -> String {
    match suggestions {
        [] => "; there are no tables yet".into(),
        [one] => format!("; did you mean {one:?}?"),
        many => format!("; there are {}", many.join(", ")),
    }
}
