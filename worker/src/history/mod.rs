//! Tables computed again from raw records that were kept: by the very engine that makes the live ones, in one thread.
//!
//! ```text
//!  archive: whole files of a sink ─► records: a partition in order ─► recompute: MAP ─► MERGE ([`stage`]) ─► rows: SQLite file
//!                                                                               │   live rows, from the results topic ─►┘ compared
//!                                                                               └─► or what an epoch begins with (`kafka::process::seed`)
//! ```
//! Invariants: nothing is written here but into a temporary directory. A row is compared only once neither side can still
//! change it ([`reach`]). Memory is what the tasks hold and a row group of each partition, whatever the archive's size.
//!
//! What is absent: Kafka. What brokers know stands in `kafka::history`.

pub mod stage;

#[cfg(feature = "fleet")]
pub mod archive;
#[cfg(feature = "fleet")]
pub mod records;
#[cfg(feature = "fleet")]
pub mod recompute;
#[cfg(feature = "fleet")]
pub mod reach;
#[cfg(feature = "fleet")]
pub mod rows;
