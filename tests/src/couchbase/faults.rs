//! Faults on their way to requests for documents: first injected, first met.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// What may happen to a request for a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `ETMPFAIL`: nothing is done.
    TemporaryFailure,
    /// Durable writes: somebody else's is in progress on this document. Nothing is done.
    WriteInProgress,
    /// The answer to a durable write that may or may not have happened; here it did.
    Ambiguous,
    /// Done and answered, so much later.
    Slow(Duration),
    /// Done, and the connection breaks before the answer.
    DropAfter,
    /// The connection breaks before anything is done.
    DropBefore,
    /// Done and answered; then somebody else writes the same document. What is not there is made by an older writer.
    Race,
}

#[derive(Default)]
pub(super) struct Faults {
    queue: Mutex<VecDeque<(Fault, u32)>>,
    /// Sum of the queue; requests look here first.
    left: AtomicU32,
}

impl Faults {
    pub(super) fn push(&self, fault: Fault, times: u32) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back((fault, times));
        self.left.fetch_add(times, Ordering::AcqRel);
    }

    pub(super) fn left(&self) -> u32 {
        self.left.load(Ordering::Acquire)
    }

    /// The fault of the next request.
    pub(super) fn take(&self) -> Option<Fault> {
        if self.left() == 0 {
            return None;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (fault, times) = queue.front_mut()?;
        let fault = *fault;
        *times -= 1;
        if *times == 0 {
            queue.pop_front();
        }
        self.left.fetch_sub(1, Ordering::AcqRel);
        Some(fault)
    }
}
