//! `clickstream plan FILE`: what a manifest makes the machine do, without doing it.

use std::{path::PathBuf, process::ExitCode};

use super::manifest;
use crate::tell;

/// Arguments of `clickstream plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The manifest.
    pub file: PathBuf,
    /// Overrides a field of the manifest: `-s process.replicas=4`.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

/// Prints streams, shuffles and why, state and its bound, topics and documents.
///
/// # Errors
/// Where the manifest cannot be read or is wrong.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = manifest::load(&args.file, &args.set)?;
    tell::out(crds::describe(&checked).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
