//! Raw records of one source partition, as a driver hands them over: bytes side by side, positions apart.

use crate::time::Millis;

/// Records of one source partition in offset order. Offsets may have gaps (transactions, compaction).
///
/// `bytes` is also the arena of the batch: decoding appends unescaped strings, and expressions append the strings
/// they make, so that every [`crate::column::Span`] of the batch points into this one buffer. A driver keeps one
/// batch for each task and calls [`RawBatch::clear`] between fills, so that nothing is allocated once warm.
#[derive(Clone, Debug, Default)]
pub struct RawBatch {
    /// Record payloads first, then whatever was appended while processing. Less than 4 GiB.
    pub bytes: Vec<u8>,
    /// The records.
    pub records: Vec<RawRecord>,
    /// What some of the records say of those that are still to come, in their order; nearly always nothing.
    pub bounds: Vec<Bound>,
}

/// What a record says of those that are still to come: where several write one partition, and one of them is behind, the
/// newest event says nothing about how far they all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Offset of the record.
    pub offset: u64,
    /// The field whose times are meant: see [`field_id`].
    pub field: u64,
    /// Events up to this one were written by all; of later ones some may be missing.
    pub low: Millis,
}

/// One record of a [`RawBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// Where the payload begins in [`RawBatch::bytes`].
    pub start: u32,
    /// Length of the payload in bytes.
    pub len: u32,
    /// Offset of the record in its partition.
    pub offset: u64,
    /// When the record arrived in the log (the log's own stamp, so that a replay sees it too).
    pub arrival: Millis,
}

/// A number for a field, by its path with dots.
#[must_use]
pub fn field_id(path: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(path.as_bytes())
}

impl RawBatch {
    /// Appends a record.
    ///
    /// # Panics
    /// If the batch would pass 4 GiB: drivers bound their batches far below.
    pub fn push(&mut self, payload: &[u8], offset: u64, arrival: Millis) {
        let start = u32::try_from(self.bytes.len()).expect("drivers bound a batch far below 4 GiB");
        let len = u32::try_from(payload.len()).expect("drivers bound a record far below 4 GiB");
        self.bytes.extend_from_slice(payload);
        self.records.push(RawRecord { start, len, offset, arrival });
    }

    /// Notes what the last record says of those that are still to come: see [`Bound::low`].
    pub fn bound(&mut self, field: u64, low: Millis) {
        let last = self.records.last();
        self.bounds.extend(last.map(|record| Bound { offset: record.offset, field, low }));
    }

    /// Returns the payload of `record`.
    #[must_use]
    pub fn payload(&self, record: &RawRecord) -> &[u8] {
        &self.bytes[record.start as usize..(record.start + record.len) as usize]
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.bounds.clear();
    }
}
