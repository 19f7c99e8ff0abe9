//! `clickstream sink`: one destination of a fleet.

use std::process::ExitCode;

use super::{Mistake, role::RoleArgs};
use crate::kafka::sinking::{self, Task};

/// Arguments of `clickstream sink`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the sink in the manifest.
    #[arg(long, value_name = "NAME")]
    name: String,
    #[command(flatten)]
    role: RoleArgs,
}

/// Writes until it is told to stop.
///
/// # Errors
/// A [`Mistake`] where the user has to change something; else what failed in the world.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(role) = args.role.begin("the last batch")? else { return Ok(ExitCode::SUCCESS) };
    let sinks = &role.checked.manifest.spec.sinks;
    let sink = sinks.iter().find(|sink| sink.name == args.name).ok_or_else(|| {
        let there: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
        Mistake(format!("--name {}: the manifest has no such sink; it has {}", args.name, there.join(", ")))
    })?;
    sinking::run(
        &role.checked,
        Task::Sink(sink),
        &role.cluster,
        &role.secrets,
        args.role.health_listen,
        &role.signals,
    )?;
    Ok(ExitCode::SUCCESS)
}
