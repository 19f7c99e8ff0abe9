//! The tables that people look at, in SQLite: fed from the results, read by the API, the page and `query`.
//!
//! ```text
//!  results ──► TableStore (one writer) ──► tables.db (WAL) ──► Reader (read-only connections, bounded)
//!                     └──► Changes (broadcast, bounded) ──► server-sent events
//! ```
//!
//! Invariants:
//! - The store is a cache of the results log: `apply` commits rows and the results offset in one transaction, and
//!   what lies below the offset is ignored, so that a repeat changes nothing.
//! - A table shows one epoch, the newest seen. Within it a row's `version` is its results offset.
//! - What users read is a view under the table's name. The rows behind it carry the record key, which also tells
//!   null groups apart, and the exact text of the decimals that a double cannot hold.
//! - Readers never write, never block the writer (WAL), and are bounded in time, rows and bytes.
//!
//! What is absent and why: retention (the results decide what exists), and any knowledge of windows or watermarks.

mod changes;
mod describe;
mod document;
mod encode;
mod error;
mod layout;
pub mod limits;
mod query;
mod read;
mod suggest;
mod write;

pub use self::{
    changes::{ChangedRows, Changes, Summary},
    describe::{ColumnInfo, Role, TableInfo, TableKind, WindowInfo, describe},
    document::{Document, Pairs},
    encode::{Format, Outcome},
    error::{Part, QueryError, StoreError},
    query::TableQuery,
    read::{Bounds, Listed, Reader},
    write::{ResultRecord, TableStore},
};
