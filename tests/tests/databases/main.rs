//! Databases as they are: PostgreSQL and Redis from Debian's packages. What they hold in the end is what the SQLite tables
//! hold, however often anything was written, and in whatever order.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod postgres;
mod redis;
