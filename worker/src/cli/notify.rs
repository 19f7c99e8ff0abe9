//! `clickstream notify`: tells people of a fleet's alerts.

use std::process::ExitCode;

use super::{Mistake, role::RoleArgs};
use crate::kafka::sinking::{self, Task};

/// Arguments of `clickstream notify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    role: RoleArgs,
}

/// Tells people of alerts until it is told to stop.
///
/// # Errors
/// A [`Mistake`] where the user has to change something; else what failed in the world.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(role) = args.role.begin("the last alerts")? else { return Ok(ExitCode::SUCCESS) };
    if role.checked.manifest.spec.alerts.iter().all(|alert| alert.notify.is_empty()) {
        anyhow::bail!(Mistake("spec.alerts: none of them says whom to `notify`".into()));
    }
    sinking::run(&role.checked, Task::Alerts, &role.cluster, &role.secrets, args.role.health_listen, &role.signals)?;
    Ok(ExitCode::SUCCESS)
}
