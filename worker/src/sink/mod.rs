//! Destinations: what leaves the log for files, topics and databases.
//!
//! ```text
//!  results ─────┐   position of the sink ◄── only after ──┐
//!  accepted ────┼─► records in order ─► filter ─► written, newer versions only ─┘
//!  raw topics ──┘
//! ```
//! Invariants:
//! - Each sink is a consumer of its own: one that waits for its server holds nobody else back.
//! - A sink moves its position only behind what is safely written. Whatever is written again after a kill changes nothing:
//!   rows carry their version (epoch, offset) and only newer ones count; files carry the offsets of their records.
//!
//! What is absent and why: the threads that read (`run` over the embedded log, `kafka` in a fleet).

pub mod cells;
pub mod console;
pub mod limits;
pub mod row;
pub mod select;

pub mod parquet;

#[cfg(feature = "couchbase")]
pub mod couchbase;
#[cfg(feature = "fleet")]
pub mod database;
#[cfg(feature = "fleet")]
pub mod postgres;
#[cfg(feature = "fleet")]
pub mod redis;
