//! Reads and checks the manifest that a subcommand was given.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use crds::{Checked, Problem};

use super::Mistake;
use crate::tell;

/// Arguments of everything that takes `--manifest FILE`.
#[derive(clap::Args, Debug)]
pub struct ManifestArgs {
    /// The manifest.
    #[arg(long = "manifest", value_name = "FILE")]
    pub file: PathBuf,
    /// Override a field of the manifest: `-s path=value`; items of a list by their name.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
}

impl ManifestArgs {
    /// Reads and checks it.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self) -> anyhow::Result<Checked> {
        load(&self.file, &self.sets)
    }
}

/// Reads `file`, applies `sets` (`path=value` each) and checks the whole. Warnings go to the standard error.
///
/// # Errors
/// A [`Mistake`] with every problem, or why the file cannot be read.
pub fn load(file: &Path, sets: &[String]) -> anyhow::Result<Checked> {
    let text = fs::read_to_string(file).with_context(|| format!("failed to read the manifest {}", file.display()))?;
    let checked = crds::check(&text, &overrides(sets)?).map_err(|problems| mistake(file, &problems))?;
    checked.warnings.iter().for_each(|warning| tell::line(&format!("warning: {}:{warning}", file.display())));
    Ok(checked)
}

/// The directory that paths in the manifest start from.
#[must_use]
pub fn directory(file: &Path) -> PathBuf {
    file.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Reads `path=value` arguments.
///
/// # Errors
/// A [`Mistake`] where one has no equals sign.
pub fn overrides(sets: &[String]) -> Result<Vec<(String, String)>, Mistake> {
    sets.iter().map(|set| overriding(set)).collect()
}

fn overriding(set: &str) -> Result<(String, String), Mistake> {
    let split = set.split_once('=').ok_or_else(|| Mistake(format!("-s {set}: expected path=value")))?;
    Ok((split.0.trim().into(), split.1.into()))
}

fn mistake(file: &Path, problems: &[Problem]) -> Mistake {
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let count = problems.len();
    let plural = if count == 1 { "" } else { "s" };
    Mistake(format!("{} has {count} problem{plural}\n{}", file.display(), told.join("\n")))
}
