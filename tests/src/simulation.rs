//! The simulator: a seeded world on virtual time in which everything goes wrong, around the real engine.
//!
//! ```text
//!   raw records appear as time passes
//!        │             ┌── coordinator: who owns what, in which generation ──┐
//!        ▼             ▼                                                     │
//!   workers: MapTask, MergeTask ──commit (output + position, fenced)──► log ─┴─► sink, which fails half-way
//!        │  crash, pause, go on as zombies                               │
//!        └──► checkpoints: torn, corrupt, lost ◄── recovery decides ─────┘
//! ```
//!
//! At the end the faults stop, every source ends, and the tables in the sink must equal the reference, with nothing
//! unaccounted. One seed gives one run, always the same.

pub mod checkpoints;
pub mod log;
pub mod sink;
pub mod worker;
pub mod world;

pub use world::{Report, run};
