//! One file for each subcommand: `Args` for clap, `run` to do it.
//!
//! Exit codes: 0 done, 1 the world failed (disk, port, network), 2 the user's mistake (manifest, arguments).

pub mod dead_letters;
#[cfg(feature = "fleet")]
mod delete;
pub mod generate;
pub mod manifest;
pub mod place;
pub mod plan;
pub mod run;
#[cfg(feature = "fleet")]
pub mod ingest;
#[cfg(feature = "fleet")]
pub mod notify;
#[cfg(feature = "fleet")]
pub mod process;
#[cfg(feature = "fleet")]
pub mod replay;
#[cfg(feature = "fleet")]
pub mod role;
#[cfg(feature = "fleet")]
pub mod serve;
pub mod query;
#[cfg(feature = "fleet")]
pub mod setup;
#[cfg(feature = "fleet")]
pub mod sink;
pub mod tail;
#[cfg(feature = "fleet")]
pub mod topics;
pub mod test;
pub mod validate;

use std::process::ExitCode;

/// What the user has to change: printed as it is, with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub String);

/// Prints why a subcommand gave up, causes included, and returns its exit code.
#[must_use]
pub fn report(error: &anyhow::Error) -> ExitCode {
    crate::tell::error(&format!("{error:#}"));
    if error.is::<Mistake>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}
