//! `clickstream sink`: one destination of a fleet.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use super::{
    Mistake, manifest,
    run::{LogFormat, signals, start_logging},
};
use crate::{
    kafka::{client::Cluster, sinking},
    secrets::Secrets,
};

/// Arguments of `clickstream sink`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the sink in the manifest.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The manifest.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Override a field of the manifest: `-s path=value`; items of a list by their name.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// Address of `/healthz`, `/readyz` and `/metrics`.
    #[arg(long, default_value = "127.0.0.1:9090", value_name = "ADDR")]
    pub health_listen: SocketAddr,
    /// How the program's own log is written.
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

/// Writes until it is told to stop.
///
/// # Errors
/// A [`Mistake`] where the user has to change something; else what failed in the world.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    start_logging(args.log);
    let signals = signals()?;
    let checked = manifest::load(&args.manifest, &args.sets)?;
    let sinks = &checked.manifest.spec.sinks;
    let sink = sinks.iter().find(|sink| sink.name == args.name).ok_or_else(|| {
        let there: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
        Mistake(format!("--name {}: the manifest has no such sink; it has {}", args.name, there.join(", ")))
    })?;
    let secrets = Secrets::from_environment();
    let cluster = Cluster::of(&checked.manifest.spec, &secrets)?;
    sinking::run(&checked, sink, &cluster, &secrets, args.health_listen, &signals)?;
    Ok(ExitCode::SUCCESS)
}
