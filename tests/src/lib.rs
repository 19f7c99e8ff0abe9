//! The harness: what proves the product. A naive reference, an in-memory driver, a simulator, benchmarks.
//!
//! ```text
//!   records ─┬─► reference: obvious loops over everything at once ──────────┐
//!            └─► MapTask ─► in-memory log ─► MergeTask ─► latest rows ──────┴─► must be equal
//!                 (random batches, flushes, snapshots, crashes, faults)
//! ```
//!
//! Dependencies point from here to everything and from nothing to here.

pub mod reference;

pub mod events;
pub mod golden;
pub mod manifests;
pub mod memory;
pub mod outcome;
pub mod pipeline;
pub mod random;
pub mod simulation;

pub mod api_server;
pub mod bench;
pub mod binary;
pub mod bucket;
pub mod chart;
pub mod changes;
pub mod couchbase;
pub mod damage;
pub mod kafka;
pub mod lake;
pub mod sales;
pub mod secured;
pub mod servers;
pub mod tokens;
pub mod roles;
pub mod torture;
pub mod writers;
