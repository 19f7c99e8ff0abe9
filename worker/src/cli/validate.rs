//! `clickstream validate FILE…`: every problem of every manifest, where it stands and what would be accepted.

use std::{fs, path::PathBuf, process::ExitCode};

use crds::Checked;

use super::manifest;
use crate::tell;

/// Arguments of `clickstream validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifests.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Overrides a field of the manifests: `-s process.replicas=4`.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

/// Prints all problems to the standard error, and a line for each manifest that is valid to the standard output.
///
/// # Errors
/// Where an override is malformed. Files that cannot be read are told and end with exit code 1, unless a manifest is
/// wrong, which ends with 2.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let overrides = manifest::overrides(&args.set)?;
    let mut code = 0;
    for file in &args.files {
        let name = file.display();
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                tell::line(&format!("{name}: failed to read the manifest: {error}"));
                code = code.max(1);
                continue;
            }
        };
        match crds::check(&String::from_utf8_lossy(&bytes), &overrides) {
            Ok(checked) => {
                checked.warnings.iter().for_each(|warning| tell::line(&format!("warning: {name}:{warning}")));
                tell::result(&format!("{name}: valid: {}", summary(&checked)))?;
            }
            Err(problems) => {
                problems.iter().for_each(|problem| tell::line(&format!("{name}:{problem}")));
                tell::line(&format!("{name}: {}", counted(problems.len(), "problem")));
                code = 2;
            }
        }
    }
    Ok(ExitCode::from(code))
}

fn summary(checked: &Checked) -> String {
    let plan = &checked.plan;
    let parts = [
        counted(plan.streams.len() + plan.joins.len(), "stream"),
        counted(plan.tables.len(), "table"),
        counted(plan.alerts.len(), "alert"),
        counted(checked.manifest.spec.sinks.len(), "sink"),
    ];
    parts.join(", ")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
