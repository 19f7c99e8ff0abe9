//! What people see of a pipeline: the tables, the API over them, and the page, each through its front door.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod fixture;
mod server;
mod webdriver;

mod api;
mod browser;
mod query;
mod store;
