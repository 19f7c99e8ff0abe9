//! The operator: keeps what a `ClickstreamPipeline` asks for true in a cluster.
//!
//! ```text
//!  watch ─► observe ─► choose ─► scale ─► desired ─► steps ─► apply ─► status
//!           (reads)    └──────── pure: no client, no clock ───────┘    (writes)
//! ```
//! Invariants:
//! - The middle is a pure function: `plan` prints it without a cluster, tests call it without one.
//! - A reading is `Known` or `Unknown`. From `Unknown` nothing is deleted, scaled down or called ready.
//! - The pods run the spec that was accepted last: an invalid change is told in the status and changes nothing.
//! - Pods restart when the hash of the accepted spec changes, never because the operator is another version.
//! - What is as it should be is not written again: an idle cluster sees no write but the Lease. What a webhook overwrites in the
//!   answer to an apply counts as it should be ([`overruled`]).
//! - What somebody else made is never taken over: a name that is taken is told ([`apply::holder`]).
//! - Nothing that holds data is deleted here. Topics and buckets belong to `clickstream setup`, which deletes only what a manifest asks
//!   to have deleted with its pipeline ([`deletion`]).
//!
//! What is absent and why: Kafka and Couchbase clients (the Job of [`desired::setup`] runs `clickstream setup`, so that the
//! operator needs neither the network nor the secrets of the stores), and any knowledge of how workers work inside: what they
//! say of themselves is asked of their own API and metrics ([`scrape`]).

pub mod accepted;
pub mod choice;
mod consequences;
pub mod deletion;
pub mod desired;
pub mod figures;
pub mod waiting;
pub mod observed;
pub mod overruled;
mod quantity;
pub mod scaling;
pub mod schedules;
pub mod steps;
pub mod trouble;
pub mod status;

pub mod apply;
pub mod discovery;
pub mod pulse;
pub mod scrape;
pub mod controller;
pub mod leader;
pub mod farewell;
pub mod metrics;
pub mod server;

pub mod plan;
pub mod plugin;
