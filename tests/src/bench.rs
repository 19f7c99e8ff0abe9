//! The yardstick: W2, five million shop events, and a hand-written program that sets the limit.
//!
//! Every figure is CPU seconds per million events, which hold on a noisy machine, and every run is checked: a
//! benchmark that measures a wrong answer stops.

pub mod collector;
pub mod drive;
pub mod fleet;
pub mod generator;
pub mod latency;
pub mod limit;
pub mod load;
pub mod meter;
pub mod product;
pub mod state;
pub mod verify;
