//! Every bound of the drivers, with its arithmetic. What is not bounded here is bounded by the manifest.

use std::time::Duration;

/// Unprocessed bytes of one raw topic above which its ingesters wait. 64 MiB is 0.1 s of reading ahead for a disk, 0.5 s
/// of work for two cores, and keeps what was just written in the page cache until it is read.
pub const RAW_BACKLOG_BYTES_MAX: u64 = 64 << 20;

/// Unmerged bytes of the shuffle above which MAP tasks wait for MERGE tasks.
pub const SHUFFLE_BACKLOG_BYTES_MAX: u64 = 64 << 20;

/// Bytes of one entry of the log before compression; a commit with more makes several. Entries are what retention deletes
/// and what a reader takes at least: smaller wastes keys, larger wastes memory.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Records of one entry: their lengths stand in its head.
pub const ENTRY_RECORDS_MAX: usize = 1 << 16;

/// Memory that the log may fill with writes of one topic before they go to a file of their own.
pub const MEMTABLE_BYTES: u64 = 16 << 20;

/// Size of the log's journals before the oldest is folded into files. Opening a log reads all of it once: 128 MiB take
/// about a second.
pub const JOURNAL_BYTES_MAX: u64 = 128 << 20;

/// Blocks of the log's files that stay in memory. Nearly everything is read once, right after it was written.
pub const BLOCK_CACHE_BYTES: u64 = 8 << 20;

/// The shortest time between two fsyncs: what a power cut can take, and what the slowest reader outside waits.
pub const FSYNC_EVERY: Duration = Duration::from_millis(100);

/// Commits wait while an fsync runs, so the time between two is at least this many times the last one's length.
pub const FSYNC_PAUSE_FACTOR: u32 = 4;

/// Entries that one deletion takes away: bounds the memory of the batch.
pub const DELETE_ENTRIES_MAX: usize = 1_000;

/// Bytes of raw records that a task takes at a time: enough to forget the cost of a call, small enough to take turns.
pub const MAP_READ_BYTES: usize = 2 << 20;

/// Bytes of shuffle messages that a task takes at a time.
pub const MERGE_READ_BYTES: usize = 2 << 20;

/// Raw bytes after which a task commits even if it is not yet time: an eighth of what ingesters may run ahead.
pub const COMMIT_BYTES_MAX: usize = 8 << 20;

/// Milliseconds between two commits of a task that has something to say.
pub const COMMIT_EVERY_MS: i64 = 500;

/// Milliseconds between two idle marks of a partition that stays idle: a live stream's clock moves by them.
pub const MARK_IDLE_EVERY_MS: i64 = 1_000;

/// Bytes of one part of a large object; what is smaller is written at once. S3 wants at least 5 MiB, and 10,000 parts at
/// most: 160 GiB.
pub const OBJECT_PART_BYTES: usize = 16 << 20;

/// Bytes of the first piece of an object that is read, and of the largest: a header needs little, and a request takes some
/// milliseconds.
pub const OBJECT_PIECE_BYTES: std::ops::Range<u64> = (256 << 10)..(8 << 20);

/// How long a request to an object store is tried again before whoever reads a dataset or an archive of it gives up.
pub const OBJECT_RETRY_MAX: Duration = Duration::from_secs(120);

/// Bytes of one chunk of a checkpoint: below the message limit of a Kafka broker.
pub const CHECKPOINT_CHUNK_BYTES: usize = 900 << 10;

/// Checkpoints kept for each task: the newest may be torn, the one before unreadable.
pub const CHECKPOINTS_KEPT: usize = 3;

/// Snapshots that wait to be written; a task waits behind the second.
pub const CHECKPOINT_QUEUE: usize = 2;

/// How long a task waits to hand a snapshot over: one that is not taken is left out, and the task goes on.
pub const CHECKPOINT_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long a store of checkpoints that failed is left alone: a store that is away costs one try, not one for each task.
pub const CHECKPOINT_REST: Duration = Duration::from_secs(5);

/// How long old messages of the shuffle stay after some could not be deleted: no checkpoint should wait for that twice.
pub const SHUFFLE_REST: Duration = Duration::from_secs(30);

/// How long a request for a checkpoint's object is tried again. A sink has more patience: nothing else would write its file.
pub const CHECKPOINT_RETRY_MAX: Duration = Duration::from_secs(5);

/// Bytes of results that the store and each sink take at a time.
pub const RESULTS_READ_BYTES: usize = 4 << 20;

/// Dead letters that one replay takes: some seconds of work, and a commit of a few MiB.
pub const REPLAY_LETTERS_MAX: usize = 10_000;

/// Bytes of letters after which a replay takes no more.
pub const REPLAY_BYTES_MAX: usize = 64 << 20;

/// Letters that a replay tells about one by one.
pub const REPLAY_LETTERS_SHOWN: usize = 100;

/// Keys of records, besides declared fields, that repairs may name.
pub const REPLAY_KEYS_MAX: usize = 256;

/// Records of a partition that a follower of a topic gets at a time.
pub const TAIL_RECORDS_MAX: u64 = 500;

/// Bytes of a partition that a follower of a topic gets at a time.
pub const TAIL_READ_BYTES: usize = 1 << 20;

/// Bytes of a record that a follower of a topic sees.
pub const TAIL_EVENT_BYTES: usize = 64 << 10;

/// How long a webhook may take to answer.
pub const NOTIFY_TIME_MAX: Duration = Duration::from_secs(10);

/// How often a post is tried: with pauses of 1, 2, 4 and 8 s it is over within 65 s even if every try times out.
pub const NOTIFY_ATTEMPTS_MAX: u32 = 5;

/// The first pause between two tries; each is twice as long as the one before.
pub const NOTIFY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// How long a webhook that did not answer is left alone: alerts of that time are in the table only.
pub const NOTIFY_REST: Duration = Duration::from_secs(60);

/// How far back a fleet hears of alerts that begins to tell people of them.
pub const NOTIFY_BEHIND_MAX: Duration = Duration::from_secs(3600);

/// Alerts that a fleet tells people of before it writes down that it has.
pub const NOTIFY_AT_ONCE: usize = 20;
