//! `clickstream serve`: the tables of a fleet, fed from the results topic, behind the API and the dashboard.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use super::{
    Mistake, manifest,
    run::{LogFormat, signals, start_logging},
};
use crate::{
    kafka::{client::Cluster, serving},
    secrets::Secrets,
};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The manifest.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Override a field of the manifest: `-s path=value`; items of a list by their name.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// Address of the dashboard and the API.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Address of health and metrics.
    #[arg(long, default_value = "127.0.0.1:9090", value_name = "ADDR")]
    pub health_listen: SocketAddr,
    /// How the program's own log is written.
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

/// Serves until somebody asks for the end.
///
/// # Errors
/// A [`Mistake`] where the manifest asks for what cannot be had; else what the world says.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    start_logging(args.log);
    let signals = signals()?;
    let checked = manifest::load(&args.manifest, &args.sets)?;
    if let Some(secret) = &checked.manifest.spec.serve.tokens_secret {
        let told = format!(
            "spec.serve.tokensSecret {secret}: tokens are not checked here yet; leave it out and let the ingress ask"
        );
        return Err(Mistake(told).into());
    }
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    serving::run(&checked, &cluster, args.listen, args.health_listen, &signals)?;
    Ok(ExitCode::SUCCESS)
}
