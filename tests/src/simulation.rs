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

use std::{ops::Range, panic};

pub use world::{Report, run};

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Many {
    /// Sums over all seeds.
    pub total: Report,
    /// What went wrong, each with its seed.
    pub failures: Vec<String>,
}

/// Runs many seeds and goes on after a failure.
#[must_use]
pub fn many(seeds: Range<u64>) -> Many {
    let mut many = Many::default();
    for seed in seeds {
        let outcome = panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| Err("panicked, see above".to_owned()));
        match outcome {
            Ok(report) => many.total.add(report),
            Err(what) => many.failures.push(format!("seed {seed} (simulate --seed {seed}): {what}")),
        }
    }
    many
}
