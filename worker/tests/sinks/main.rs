//! Databases as they are: PostgreSQL and Redis from Debian's packages, Couchbase where there is one. What they hold in the
//! end is what the SQLite tables hold, however often anything was written, and in whatever order.
#![cfg(feature = "fleet")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[cfg(feature = "couchbase")]
mod couchbase;
mod postgres;
mod redis;
mod rows;
mod servers;
