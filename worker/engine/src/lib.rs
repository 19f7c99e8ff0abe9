//! The engine: a pipeline as a machine runs it. Pure, deterministic, without I/O.
//!
//! ```text
//!            ┌────────────── MapTask, one per raw partition ──────────────┐
//! RawBatch ─►│ decode → rules → deduplicate → enrich, derive → per table: │─► MapOutput: shuffle messages,
//!            │ filter, lateness, window, partial aggregate                │   dead letters, silver, ledger
//!            └────────────────────────────────────────────────────────────┘
//!            ┌────────────── MergeTask, one per shuffle partition ────────┐
//! message ──►│ merged watermark; windows, sessions, funnels, joins;       │─► MergeOutput: rows, next-stage
//!            │ alerts; closing                                            │   shuffle messages, ledger
//!            └────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - A task's state is a pure function of the prefix of its one input partition. How that prefix was cut
//!   into batches, and when it was flushed, changes which early rows are seen, never the final tables.
//! - Nothing here reads a clock, opens a file or a socket, starts a thread, awaits, or draws a random
//!   number. Time comes in as an argument or inside the data.
//! - No output depends on the iteration order of a hash table: whatever leaves is sorted first.
//! - Sums are exact ([`decimal::Decimal`], scale 9); approximations merge order-free.
//! - Every event is accounted for in the [`ledger`].
//!
//! What is absent and why: SQL parsing (`crds` lowers text to [`expr::Expr`]), logs (drivers log), files
//! and frames of checkpoints (drivers store the bytes that a task's `snapshot` makes).

pub mod limits;
pub mod time;
pub mod decimal;
pub mod value;
pub mod expr;
pub mod plan;
pub mod batch;
pub mod column;
pub mod codec;
pub mod output;
pub mod map;
pub mod merge;
pub mod shuffle;
pub mod watermark;
pub mod window;
pub mod ledger;
pub mod recovery;
pub mod repaired;
pub mod decode;
pub mod kernel;
pub mod dedup;
pub mod lookup;
pub mod hashing;
pub mod bots;
pub mod funnel;
pub mod join;
pub mod alert;
pub mod ddsketch;
pub mod hll;
mod aggregate;
mod feed;
mod group;
mod table;
