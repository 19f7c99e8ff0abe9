//! The operator against a real API server, under the roles of the chart: what is refused at the door, what is made, what is
//! put right, who leads, what goes with a pipeline, what the account needs, and that nothing is written when nothing
//! changes.
//!
//! The server has no controllers and no nodes: the test says when a Job is done and when pods are ready, which lets it
//! look at the cluster between the operator's steps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod cluster;
mod leave;
mod life;
mod many;
mod plugin;
mod promises;
mod rights;
mod schedules;
mod troubles;
mod watched;
