//! `clickstream run FILE`: the whole pipeline in one process.

use std::{path::PathBuf, process::ExitCode};

/// Arguments of `clickstream run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The manifest.
    pub file: PathBuf,
}

/// Runs the pipeline until it ends or is told to.
///
/// # Errors
/// When the world fails: a port is taken, the data directory cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.file.exists(), "there is no file {}", args.file.display());
    Ok(ExitCode::SUCCESS)
}
