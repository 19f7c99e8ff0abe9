//! Every bound of the ingesters, with its arithmetic.

use std::time::Duration;

/// Bytes that an ingester gathers before it commits. Eight MiB are about 30,000 events of 260 bytes: a commit to Kafka
/// that takes 100 ms still lets 300,000 a second through, and a few such batches per ingester stay far below the 600 MB
/// of the whole process.
pub const BATCH_BYTES: usize = 8 << 20;

/// Events that an ingester gathers before it commits, however small they are: 16 bytes of position each.
pub const BATCH_EVENTS: usize = 1 << 16;

/// Bytes of one row or line of a dataset. The engine refuses records over 8 MiB as dead letters, so that a row of
/// twice that still becomes one; beyond it something is wrong with the file (a quote that is never closed).
pub const ROW_BYTES_MAX: usize = 16 << 20;

/// Bytes read from a file at a time: large enough for the disk, small enough for the cache.
pub const READ_BYTES: usize = 2 << 20;

/// Shares that replicas of a dataset ingester divide among them: more than there are replicas, so that each has about as
/// much as another. Each costs its owner a producer: some threads and buffers. Fixed, because progress is kept by share.
pub const SHARES: u32 = 16;

/// Rows of a block, which belongs to one share as a whole. A commit each; those of different shares are under way at once.
pub const SHARE_BLOCK_ROWS: u64 = 2_048;

/// Blocks that a replica may be ahead of the slowest share: what is written out of order at most, 65,536 rows.
pub const SHARE_BLOCKS_AHEAD: u64 = 32;

/// How often a replica that is ahead, or has written everything that is its own, looks at the others.
pub const SHARE_LOOK_EVERY: Duration = Duration::from_millis(50);

/// The longest time between two looks at whose the shares are, while rows are committed. Taking part in the group is due
/// every five minutes; whoever joins waits for it.
pub const SHARE_LOOK_MAX: Duration = Duration::from_secs(1);

/// How long a replica waits for shares before it believes that all rows are written because the shares say so: others may have
/// them all.
pub const SHARES_GIVEN_MAX: Duration = Duration::from_secs(120);

/// The longest an ingester with a pace sleeps before it looks at the clock again.
pub const PACE_STEP: Duration = Duration::from_millis(50);

/// The shortest time between two commits of an ingester with a pace, but for full ones: what becomes due meanwhile is
/// committed together. Brokers pay for each commit about the same, however small it is.
pub const PACE_GATHER: Duration = Duration::from_millis(20);

/// Events the generator makes at a time: columns of so many rows stay in the second-level cache.
pub const GENERATE_ROWS: usize = 2_048;

/// How far back a synthetic duplicate may reach, in records. Their bytes are kept: 64 × 300 bytes.
pub const DUPLICATE_REACH: u64 = 64;

/// Values of `oneOf` that are written out beforehand; more are formatted each time. 2^16 × 16 bytes is one MiB.
pub const VALUES_KEPT_MAX: u64 = 1 << 16;

/// Restarts that the clock of a generator remembers. An older one only matters to a session that has lasted since.
pub const CLOCK_SEGMENTS_MAX: usize = 1_000;

/// Bytes of a body that are read although they are not wanted, because a client that is still sending does not hear
/// the answer. They are not kept.
pub const BODY_BYTES_DRAINED: usize = 64 << 20;

/// Bodies of one collector that are in memory at once, in KiB: 64 MiB. A request for which there is no room is answered
/// 503, whatever the number of connections.
pub const BODIES_KIB_MAX: u32 = 64 << 10;

/// Events of one request: one MiB of `{}` and commas would be 350,000 answers.
pub const REQUEST_EVENTS_MAX: usize = 50_000;

/// Requests that wait for the committer of one collector; with bodies of one MiB at most 64 MiB.
pub const REQUESTS_WAITING_MAX: usize = 64;

/// How long the committer gathers requests before it commits them together.
pub const GATHER: Duration = Duration::from_millis(2);

/// A commit that takes longer than this is answered 503: whether it happens is not known.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// First and longest pause before a Kafka that is copied is asked again.
pub const UPSTREAM_RETRY: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(15);
