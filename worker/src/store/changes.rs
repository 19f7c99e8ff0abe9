//! News of the store for those who listen: which tables changed, and the changed rows themselves.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use tokio::sync::broadcast;

use super::limits::CHANGES_KEPT;

/// One commit: how many rows of which tables changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Results offset behind the commit.
    pub offset: u64,
    /// Changed rows by table.
    pub tables: BTreeMap<String, u64>,
}

/// Changed rows of one table in one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedRows {
    /// The table.
    pub table: String,
    /// Results offset behind the commit.
    pub offset: u64,
    /// JSON objects, separated by commas.
    pub rows: String,
    /// Rows in `rows`.
    pub count: usize,
    /// Changed rows beyond [`super::limits::CHANGE_ROWS_MAX`] that are not in `rows`.
    pub left_out: u64,
}

/// Where listeners subscribe. The writer of the store sends; it never waits, and a listener that falls more than
/// [`CHANGES_KEPT`] commits behind is told that it lagged.
#[derive(Clone, Debug)]
pub struct Changes {
    summaries: broadcast::Sender<Arc<Summary>>,
    rows: broadcast::Sender<Arc<ChangedRows>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { summaries: broadcast::channel(CHANGES_KEPT).0, rows: broadcast::channel(CHANGES_KEPT).0 }
    }
}

impl Changes {
    /// Listens to which tables change.
    #[must_use]
    pub fn summaries(&self) -> broadcast::Receiver<Arc<Summary>> {
        self.summaries.subscribe()
    }

    /// Listens to changed rows.
    #[must_use]
    pub fn rows(&self) -> broadcast::Receiver<Arc<ChangedRows>> {
        self.rows.subscribe()
    }

    /// Whether anybody wants rows; writing them out for nobody would be waste.
    pub(super) fn rows_wanted(&self) -> bool {
        self.rows.receiver_count() > 0
    }

    /// Sends what a commit changed. That nobody listens is no error.
    pub(super) fn send(&self, summary: Summary, rows: Vec<ChangedRows>) {
        if summary.tables.is_empty() {
            return;
        }
        for changed in rows {
            let _nobody = self.rows.send(Arc::new(changed));
        }
        let _nobody = self.summaries.send(Arc::new(summary));
    }
}
