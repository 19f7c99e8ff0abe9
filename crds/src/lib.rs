//! The manifest language: types, schema, validation, and lowering to an [`engine::plan::Plan`].
//!
//! ```text
//! text ─► yaml (nodes with positions) ─► overrides ─► schema ─► spec types ─► validate + lower ─► Plan
//!                  └───────────┴────────────┴────────────┴──────────────┴──► Problems, all of them
//! ```
//!
//! The operator, `clickstream validate` and the worker at its start call the one function [`check`]. It never panics
//! on any text, opens no file and asks no server: what a manifest means depends on its text alone.

pub mod spec;
pub mod status;

pub mod problem;
pub mod schema;

pub use problem::Problem;
pub use schema::crd_yaml;

/// A manifest: its name and what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// `metadata.name`.
    pub name: String,
    /// `spec`.
    pub spec: spec::PipelineSpec,
}

/// A manifest that makes sense, and what it lowers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The manifest, defaults filled in.
    pub manifest: Manifest,
    /// What the engine does.
    pub plan: engine::plan::Plan,
    /// What is accepted but probably not meant.
    pub warnings: Vec<Problem>,
}
