//! What a role writes to, as checks found it: three failures in a row make the role not ready.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// Failures in a row after which a role is not ready.
pub const FAILURES_UNREADY: u64 = 3;

/// Written by whoever checks or writes, read at each question for readiness.
#[derive(Debug, Default)]
pub struct Downstream {
    failures: AtomicU64,
    /// The last failure.
    problem: Mutex<String>,
}

impl Downstream {
    /// It took what it was given.
    pub fn succeeded(&self) {
        self.failures.store(0, Ordering::Release);
    }

    /// It did not.
    pub fn failed(&self, why: String) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.failures.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether it failed less often than counts.
    ///
    /// # Errors
    /// The last failure.
    pub fn ready(&self) -> Result<(), String> {
        match self.failures.load(Ordering::Acquire) {
            few if few < FAILURES_UNREADY => Ok(()),
            _ => Err(self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_count() {
        let downstream = Downstream::default();
        let failed = |times: u64| (0..times).for_each(|time| downstream.failed(format!("failure {time}")));
        failed(FAILURES_UNREADY - 1);
        assert_eq!(downstream.ready(), Ok(()));
        downstream.succeeded();
        failed(FAILURES_UNREADY - 1);
        assert_eq!(downstream.ready(), Ok(()));
        failed(1);
        assert_eq!(downstream.ready(), Err("failure 0".into()));
        downstream.succeeded();
        assert_eq!(downstream.ready(), Ok(()));
    }
}
