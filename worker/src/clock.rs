//! The clock on the wall. Nobody else in the worker asks for the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use engine::time::Millis;

/// Milliseconds since 1970; 0 on a machine whose clock stands before.
#[must_use]
pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}
