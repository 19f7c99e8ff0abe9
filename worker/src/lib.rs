//! The worker: drivers that put the pure engine to work, and everything around it that touches the world.
//!
//! ```text
//!   thread for each ingester          N worker threads, tasks shared out among them         a thread for each reader
//!  ┌───────────────────────┐         ┌────────────────────────────────────────────┐        ┌────────────────────────┐
//!  │ ingest: http, files,  │         │ driver: MAP tasks, one per raw partition   │        │ pump: results → SQLite │
//!  │ generator             │         │         MERGE tasks, one per shuffle part. │        │ sinks: Parquet, console│
//!  └──────────┬────────────┘         └──┬───────────────▲──────────────────┬──────┘        └───────▲────────────────┘
//!             │ commit(records,         │ commit(output,│ read             │ snapshots             │ read, only what
//!             ▼ progress)               ▼ position)     │                  ▼ (bounded channel)     │ an fsync covers
//!  ┌──────────────────────────────────────────────────────────┐   ┌──────────────────┐             │
//!  │ log: raw topics, shuffle, results, dead letters, silver  │◄──┤ checkpoint thread│   ┌─────────┴──┐
//!  │ (one fjall database; every commit is atomic)             │   └──────────────────┘   │ serve: tokio, axum │
//!  └──────────────────────────────────────────────────────────┘                          └────────────┘
//!     + a syncer (fsync) and a housekeeper (retention) thread inside the log
//! ```
//! The log is the only thing that threads share, apart from the [`metrics`], the checkpoint channel and the stop
//! signal in [`run`]. Whoever waits for the log waits on its one condition variable, which every commit wakes.
//!
//! Invariants:
//! - Output and input position of a task are one commit; a task whose commit failed is dropped, never patched.
//! - What a reader outside the log sees was fsynced first, so that a power cut can take nothing back from it.
//! - Nothing is read ahead without a bound: ingesters wait for MAP, MAP waits for MERGE ([`limits`]).
//!
//! What is absent and why: decisions about windows, lateness and recovery (they are pure, in `engine`), manifests
//! (`crds`), Kubernetes (`operator`). The fleet's drivers, over Kafka, stand in `kafka`.

#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod clock;
pub mod health;
pub mod limits;
mod low;
pub mod metrics;
pub mod ports;
pub mod tell;
pub mod secrets;
pub mod auth;

pub mod log;
pub mod checkpoint;
pub mod driver;
pub mod dead_letters;
pub mod tail;
pub mod serve;
pub mod store;
pub mod sink;
pub mod notify;

pub mod ingest;

#[cfg(feature = "fleet")]
pub mod objects;
#[cfg(feature = "fleet")]
pub mod kafka;

pub mod history;
pub mod memory;
pub mod cases;

pub mod run;
pub mod cli;
