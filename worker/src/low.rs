//! How records say how far all are that write a topic: by their key, which events have none of, so that asking costs nothing. An
//! archive keeps it, so that history is told the same.
//!
//! `clickstream-low created_at 1763700000000`: of all events with a `created_at` up to this time none is still to come, unless it
//! is out of order in the dataset too ([`engine::batch::Bound`]).

use engine::{batch::field_id, time::Millis};

use crate::ports::Low;

const PREFIX: &[u8] = b"clickstream-low ";

/// The key that says it.
#[must_use]
pub fn write(low: Low<'_>) -> Vec<u8> {
    [PREFIX, low.field.as_bytes(), b" ", low.time.to_string().as_bytes()].concat()
}

/// What a key says, of which field; nothing if it is another's key.
#[must_use]
pub fn read(key: &[u8]) -> Option<(u64, Millis)> {
    let said = std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?;
    let (field, time) = said.rsplit_once(' ')?;
    Some((field_id(field), time.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (field, time) in [("at", 0), ("user.seen at", -5), ("", i64::MIN), ("t", i64::MAX)] {
            assert_eq!(read(&write(Low { field, time })), Some((field_id(field), time)));
        }
        for foreign in [&b""[..], b"u1", b"clickstream-low", b"clickstream-low at", b"clickstream-low at x", b"\xff"] {
            assert_eq!(read(foreign), None);
        }
    }
}
