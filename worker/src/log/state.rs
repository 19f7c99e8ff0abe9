//! The small things that the log remembers beside its records: positions, progress, where partitions begin.

use engine::codec::Corrupt;

/// Key of a consumer's position.
pub(super) fn position_key(consumer: &str, topic: &str, partition: u32) -> String {
    format!("position/{consumer}/{topic}/{partition}")
}

/// Key of an ingester's progress.
pub(super) fn progress_key(ingester: &str) -> String {
    format!("progress/{ingester}")
}

/// Key of the offset at which a partition begins, once something was deleted.
pub(super) fn start_key(topic: &str, partition: u32) -> String {
    format!("start/{topic}/{partition}")
}

/// Reads a number that was written big-endian.
pub(super) fn number(bytes: &[u8]) -> Result<u64, Corrupt> {
    Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| Corrupt("number of another length"))?))
}
