//! Bounds of the sinks, with their arithmetic.

use std::time::Duration;

/// Bytes of records that wait in memory for their row group. Cells take about twice their JSON: some 20 MiB a source.
pub const ROW_GROUP_BYTES: usize = 8 << 20;

/// Days or hours that have an open file; with more, all files are closed. Each costs a descriptor and some KiB.
pub const OPEN_FILES_MAX: usize = 64;

/// Bytes that a sink reads at a time.
pub const READ_BYTES: usize = 2 << 20;

/// Records that are written to a database at a time.
pub const BATCH_RECORDS_MAX: usize = 2_000;

/// Their bytes, but for the last: a statement of some megabytes.
pub const BATCH_BYTES_MAX: usize = 2 << 20;

/// How long a batch is gathered once it has its first record.
pub const BATCH_GATHER: Duration = Duration::from_millis(50);

/// First and longest pause before a database is tried again.
pub const RETRY: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_secs(10);

/// How long a sink waits before it looks whether it should end or close a file.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a request to a bucket is tried again before the sink looks after its group, and tries again itself.
pub const OBJECT_RETRY_MAX: Duration = Duration::from_secs(10);

/// How long a call to Couchbase may take: its crate waits for ever. A third of the time that a batch has.
pub const COUCHBASE_CALL: Duration = Duration::from_secs(10);

/// How long a host of Couchbase may take to let us in: a handshake and four short answers.
pub const COUCHBASE_KNOCK: Duration = Duration::from_secs(5);

/// Documents in flight: a few for each connection and processor of a small cluster, 64 × 1 KiB of memory.
pub const COUCHBASE_IN_FLIGHT: usize = 64;

/// How often a document is tried. With the pauses below some 2.5 s: a node that is gone for longer fails the batch.
pub const COUCHBASE_TRIES: u32 = 8;

/// First and longest pause before a document is tried again.
pub const COUCHBASE_PAUSE: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_secs(1);
