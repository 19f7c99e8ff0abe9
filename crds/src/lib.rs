//! The manifest language: types, schema, validation, and lowering to an [`engine::plan::Plan`].
//!
//! ```text
//! text ─► yaml (nodes with places) ─► overrides ─► shape (schema) ─► spec (types) ─► lower, validate ─► Plan
//!                  └──────────────────────┴──────────────┴───────────────┴──► Problems, all of them
//! ```
//!
//! The operator, `clickstream validate` and the worker at its start call the one function [`check`]. It never panics
//! on any text, opens no file and asks no server: what a manifest means depends on its text alone.

pub mod spec;
pub mod status;

mod check;
mod describe;
pub mod expression;
pub mod limits;
mod lower;
mod parts;
mod problem;
pub mod schema;
mod shape;
mod validate;
mod warnings;
mod yaml;

pub use check::{Checked, Manifest, check};
pub use describe::describe;
pub use parts::Definitions;
pub use problem::Problem;
pub use schema::crd_yaml;
pub use validate::{event_columns, generation_order};
