//! The fleet: the same engine over a real Kafka, by as many processes as one likes.
//!
//! ```text
//!  ingest ──txn──► raw topics ─► process: threads, each with a consumer (group) and a transactional producer
//!   (records +                    │  MAP ──txn──► shuffle ─► MERGE ──txn──► results ─► serve, sinks
//!    progress)                    └► checkpoints (compacted, beside the transactions)
//! ```
//! Invariants:
//! - Outputs of a thread's tasks and the offsets of their inputs are one Kafka transaction, fenced by the group's generation.
//!   A task whose transaction failed is dropped and recovered, never patched.
//! - Everybody reads `read_committed`. Offsets are sparse: markers of transactions take places too.
//! - `unsafe` stands in [`batches`], [`connection`] and `settings` alone.
//!
//! What is absent and why: decisions about windows, lateness and recovery (they are pure, in `engine`), and brokers.

mod aside;
pub mod client;
pub mod connection;
pub mod tokens;
pub mod context;
pub mod knock;
pub mod waiting;
pub mod names;
pub mod topics;
pub mod steps;
pub mod upkeep;
mod settings;
pub mod admin;

pub mod watch;
mod marks;
pub mod inlet;
pub mod shares;
pub mod upstream;
mod courier;

pub mod batches;
pub mod compacted;
pub mod catalogue;
pub mod checkpoints;
pub mod process;
pub mod epochs;

pub mod facts;
mod unread;
pub mod history;
pub mod feed;
pub mod feeding;
pub mod tailing;
mod tails;
pub mod overview;
pub mod letters;
pub mod serving;

mod produce;
pub mod sinking;
