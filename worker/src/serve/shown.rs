//! The tables that are shown. A fleet replaces them as a whole, when an epoch that was rebuilt has caught up.

use std::sync::{Arc, PoisonError, RwLock};

use crate::store::{Changes, Reader};

struct Tables {
    reader: Arc<Reader>,
    changes: Changes,
}

/// What is shown now. Read by every request, for a moment; written by whoever feeds the tables.
#[derive(Clone)]
pub struct Shown(Arc<RwLock<Tables>>);

impl Shown {
    /// Shows these.
    #[must_use]
    pub fn new(reader: Arc<Reader>, changes: Changes) -> Self {
        Self(Arc::new(RwLock::new(Tables { reader, changes })))
    }

    /// Shows others from now on. Who listens to news of the old ones is told that they ended, and asks again.
    pub fn replace(&self, reader: Arc<Reader>, changes: Changes) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Tables { reader, changes };
    }

    /// The tables.
    #[must_use]
    pub fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).reader)
    }

    /// News of them.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.0.read().unwrap_or_else(PoisonError::into_inner).changes.clone()
    }
}
