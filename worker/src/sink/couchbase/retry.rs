//! When to try again, and after how long. Pauses double and are drawn at random, so that writers that failed together do
//! not come back together.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use couchbase::{
    error::ErrorKind,
    retry::{RetryAction, RetryReason, RetryRequest, RetryStrategy},
};

use super::{super::limits::COUCHBASE_PAUSE, Trouble};

/// What a failure means for the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Read and compare again: somebody was faster, the server has no time, or nobody knows what became of the write. As
    /// versions are compared first, a write that did happen is not done twice.
    Again,
    /// The same would come of it again: the sink has to connect anew, or a person to look.
    Never,
}

pub(super) fn judge(trouble: &Trouble) -> Verdict {
    match trouble {
        // It had its time; whoever connects anew finds out more than another wait.
        Trouble::Late => Verdict::Never,
        Trouble::Refused(error) => match error.kind() {
            ErrorKind::AuthenticationFailure
            | ErrorKind::BucketNotFound
            | ErrorKind::ClusterDropped
            | ErrorKind::CollectionNotFound
            | ErrorKind::DurabilityImpossible
            | ErrorKind::DurabilityLevelNotAvailable
            | ErrorKind::EncodingFailure(_)
            | ErrorKind::FeatureNotAvailable(_)
            | ErrorKind::InvalidArgument(_)
            | ErrorKind::ScopeNotFound
            | ErrorKind::UnsupportedOperation
            | ErrorKind::ValueTooLarge => Verdict::Never,
            _ => Verdict::Again,
        },
    }
}

/// The pause before the next try, after so many.
pub(super) fn pause(turn: u32) -> Duration {
    let longest = (COUCHBASE_PAUSE.start * 2_u32.saturating_pow(turn.min(16))).min(COUCHBASE_PAUSE.end);
    longest / 2 + (longest / 2).mul_f64(f64::from(draw()) / f64::from(u32::MAX))
}

/// A number that no other process draws: the standard library seeds its hashers from the system.
fn draw() -> u32 {
    static SEED: OnceLock<RandomState> = OnceLock::new();
    static TURN: AtomicU64 = AtomicU64::new(0);
    SEED.get_or_init(RandomState::new).hash_one(TURN.fetch_add(1, Ordering::Relaxed)) as u32
}

/// What the crate does by itself below a call of ours, until that call's deadline: as its best effort, with jitter.
#[derive(Debug)]
pub(super) struct Jittered;

impl RetryStrategy for Jittered {
    fn retry_after(&self, request: &RetryRequest, reason: &RetryReason) -> Option<RetryAction> {
        let may = request.is_idempotent() || reason.allows_non_idempotent_retry();
        may.then(|| RetryAction::new(pause(request.retry_attempts())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        for turn in 0..40 {
            let (first, second) = (pause(turn), pause(turn));
            assert!(first >= COUCHBASE_PAUSE.start / 2 && first <= COUCHBASE_PAUSE.end && first != second);
        }
        assert!(pause(10) > pause(0));
    }
}
