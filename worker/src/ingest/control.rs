//! What an ingester's thread and its owner share: a flag to stop, and numbers to show.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// One for each ingester. The thread writes the numbers, the owner the flag.
#[derive(Debug, Default)]
pub struct Control {
    stopped: Mutex<bool>,
    changed: Condvar,
    /// Events that were committed, of earlier runs too where the source is read by one at a time.
    pub read: AtomicU64,
    /// Whether `read` says so yet.
    pub begun: AtomicBool,
    /// Events there will be, or `u64::MAX` if nobody knows.
    pub total: AtomicU64,
    /// Events that wait where they are copied from, or `u64::MAX` if nobody knows.
    pub waiting: AtomicU64,
    /// Events that retention took there before they were copied.
    pub expired: AtomicU64,
    /// Compressed bytes of files that were read.
    pub bytes: Arc<AtomicU64>,
    /// Compressed bytes of all files.
    pub bytes_total: AtomicU64,
    /// Whether the thread has ended.
    pub done: AtomicBool,
    failed: Mutex<Option<String>>,
}

impl Control {
    /// Nothing read, and nobody knows how much there is.
    #[must_use]
    pub fn new() -> Self {
        let unknown = || AtomicU64::new(u64::MAX);
        Self { total: unknown(), waiting: unknown(), ..Self::default() }
    }

    /// Says that the thread has ended, and why if its source has not.
    pub fn end(&self, failure: Option<String>) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        self.done.store(true, Ordering::Release);
    }

    /// Why the thread ended before its source did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the thread to end at its next commit.
    pub fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether it was asked.
    #[must_use]
    pub fn stopped(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `deadline` and returns false, or returns true as soon as the thread is asked to end.
    #[must_use]
    pub fn stopped_before(&self, deadline: Instant) -> bool {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            stopped = self.changed.wait_timeout(stopped, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The source is read from here on, behind what earlier runs committed.
    pub fn begin(&self, committed: u64) {
        self.count(committed);
        self.begun.store(true, Ordering::Release);
    }

    /// Counts `events` more.
    pub fn count(&self, events: u64) {
        self.read.fetch_add(events, Ordering::Relaxed);
    }
}
