//! Why an ingester cannot start, or ends before its source does.

use std::{error::Error, io, net::SocketAddr};

use engine::codec::Corrupt;

use super::dataset::DatasetError;
use crate::ports::LogError;

/// Why an ingester cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The log does not take or give what it should.
    #[error("failed to write to the log")]
    Log(#[from] LogError),
    /// The topic that is copied does not give what it should.
    #[error("failed to copy")]
    Upstream(#[source] LogError),
    /// A file of a dataset is not as it should be.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The manifest asks for what cannot be made; `path` leads to it.
    #[error("{path}: {message}")]
    Manifest {
        /// The field's path in the manifest.
        path: String,
        /// What is wrong, and what would be accepted.
        message: String,
    },
    /// The progress in the log is not that of such an ingester.
    #[error("the progress of ingester {ingester} in the log is of another kind or version; use a fresh --data-dir")]
    Progress {
        /// Its name.
        ingester: String,
        /// What was found.
        source: Corrupt,
    },
    /// The collector's port cannot be had.
    #[error("failed to listen on {address} for ingester {ingester}; is the port taken? Set its `http.port` to another")]
    Listen {
        /// Its name.
        ingester: String,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A thread or runtime cannot be had.
    #[error("failed to start ingester {ingester}")]
    Start {
        /// Its name.
        ingester: String,
        /// What the system says.
        source: io::Error,
    },
}

impl IngestError {
    /// Whether the user can mend it in the manifest.
    #[must_use]
    pub fn is_mistake(&self) -> bool {
        matches!(self, Self::Manifest { .. } | Self::Dataset(DatasetError::NoFiles { .. }))
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
