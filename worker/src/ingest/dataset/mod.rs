//! Datasets: files of rows, replayed into topics.
//!
//! ```text
//! files ─► bytes (decompressed) ─► splitter: lines, array elements, CSV ─► block of rows
//!                                          ─► times (shift) ─► routes ─► pace ─► log, with the position behind
//! ```
//!
//! A row is a record in the log or an error with its file and line; nothing is skipped. Progress is (pass, file, byte,
//! line) behind the last row of a commit, so that a restart goes on exactly there. Where replicas divide the rows among
//! them, each share has a progress of its own (`shares`).

pub mod block;
pub mod csv;
mod feed;
pub mod files;
pub mod header;
pub mod pace;
mod progress;
mod shares;
pub mod splitter;
#[cfg(test)]
mod tests;
pub mod times;

use std::io;

pub use feed::{Feed, Format};
pub use times::time;

/// Why a dataset cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The path leads to no file.
    #[error("dataset {path}: {wanted}")]
    NoFiles {
        /// The path in the manifest.
        path: String,
        /// What was looked for.
        wanted: String,
    },
    /// A file or directory cannot be opened.
    #[error("failed to open {file}")]
    Open {
        /// Its path.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be read on: a disk that fails, a compressed file that was cut short.
    #[error("{file}:{line}: failed to read on; every row before it was taken")]
    Read {
        /// Its path.
        file: String,
        /// The line that could not be read.
        line: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The bytes of a file are no rows.
    #[error("{file}:{line}: {message}")]
    Row {
        /// Its path.
        file: String,
        /// The line.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// A file is no longer the one that was read before.
    #[error("{file} has {bytes} bytes, but {position} of them were read before the restart; was it replaced?")]
    Shorter {
        /// Its path.
        file: String,
        /// The committed position.
        position: u64,
        /// What there is.
        bytes: u64,
    },
    /// The file that was being read is gone.
    #[error("{file} was being read before the restart and is no longer there")]
    Gone {
        /// Its path.
        file: String,
    },
    /// No file has a row.
    #[error("dataset {path} is empty; expected at least one row")]
    Empty {
        /// The path in the manifest.
        path: String,
    },
}
