//! The commands as a person types them, against real pipelines in real directories.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod program;

mod cases;
mod dead_letters;
mod metrics;
mod pipes;
mod schedules;
mod tail;
mod webhooks;
