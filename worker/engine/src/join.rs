//! Interval joins: left rows at a time, right rows valid from a start to an end. The state of one join on one shuffle
//! partition. Rows are bytes; what is in them is the caller's business.
//!
//! A left row waits until the right side's watermark has passed it, because until then a right row may come that
//! began before it. A right row is kept until the left side's watermark has passed its end and no left row waits
//! that it could pair with. So *which* pairs there are is a function of the rows alone. One call of
//! [`JoinState::advance`] hands them over by (time, id, row) of the left and (start, id, row) of the right row; how
//! much one call hands over depends on the watermarks it was given.

mod kept;
mod snapshot;
#[cfg(test)]
mod tests;
mod waiting;

use xxhash_rust::xxh3::xxh3_64;

use self::{kept::Kept, waiting::Waiting};
use crate::{plan::JoinPlan, time::Millis};

/// A left row and a right row that was valid at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair<'a> {
    /// Time of the left row.
    pub time: Millis,
    /// Id of the left row.
    pub id: &'a [u8],
    /// The left row.
    pub left: &'a [u8],
    /// The right row.
    pub right: &'a [u8],
}

/// The state of one join on one shuffle partition.
#[derive(Clone, Debug)]
pub struct JoinState {
    waiting: Waiting,
    kept: Kept,
}

impl JoinState {
    /// Makes the state before the first row.
    #[must_use]
    pub fn new(plan: &JoinPlan) -> Self {
        Self { waiting: Waiting::default(), kept: Kept::new(plan.within_ms) }
    }

    /// Takes a left row. It waits for [`JoinState::advance`] even if the right side is already past it.
    pub fn left(&mut self, key: &[u8], time: Millis, id: &[u8], row: &[u8]) {
        self.waiting.push(xxh3_64(key), key, time, id, row);
    }

    /// Takes a right row, valid from `start` to `end`, which is no further away than the plan's bound.
    pub fn right(&mut self, key: &[u8], start: Millis, end: Millis, id: &[u8], row: &[u8]) {
        self.kept.insert(xxh3_64(key), key, start, end, id, row);
    }

    /// Pairs the left rows before the right side's watermark, then lets go of the right rows that no left row can
    /// meet any more.
    pub fn advance(&mut self, left_watermark: Millis, right_watermark: Millis, emit: &mut impl FnMut(Pair<'_>)) {
        let kept = &self.kept;
        self.waiting.release_before(right_watermark, &mut |left| {
            kept.valid_at(left.hash, left.key, left.time, &mut |right| {
                emit(Pair { time: left.time, id: left.id, left: left.row, right });
            });
        });
        // Rows that wait on are not before the right side's watermark, because the others were just released.
        let waiting = self.waiting.not_before().map_or(left_watermark, |time| time.max(right_watermark));
        self.kept.free_before(waiting.min(left_watermark));
    }

    /// The number of left rows that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The number of right rows that are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// The memory behind the rows, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.waiting.bytes() + self.kept.bytes()
    }
}
