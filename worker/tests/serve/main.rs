//! What people see of a pipeline: the tables, the API over them, and the page, each through its front door.

mod fixture;
mod server;

mod api;
mod store;
