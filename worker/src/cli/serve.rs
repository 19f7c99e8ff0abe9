//! `clickstream serve`: the tables of a fleet, fed from the results topic, behind the API and the dashboard.

use std::{net::SocketAddr, process::ExitCode};

use super::role::RoleArgs;
use crate::kafka::serving;

/// Arguments of `clickstream serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    role: RoleArgs,
    /// Address of the dashboard and the API.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: SocketAddr,
}

/// Serves until somebody asks for the end.
///
/// # Errors
/// A [`Mistake`](super::Mistake) where the manifest asks for what cannot be had; else what the world says.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(role) = args.role.begin("the last answers")? else { return Ok(ExitCode::SUCCESS) };
    let secret = role.checked.manifest.spec.serve.tokens_secret.as_ref();
    let tokens = secret.map(|secret| role.secrets.values(secret)).transpose()?;
    let addresses = (args.listen, args.role.health_listen);
    serving::run(&role.checked, &role.cluster, tokens, addresses, &role.signals)?;
    Ok(ExitCode::SUCCESS)
}
