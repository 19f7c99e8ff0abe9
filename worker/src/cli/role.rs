//! What every role of the fleet is told, and what it begins with.

use std::{net::SocketAddr, path::PathBuf};

use crds::Checked;
use crossbeam_channel::Receiver;

use super::{
    manifest::{self, ManifestArgs},
    run::{LogFormat, signals, start_logging},
};
use crate::{
    kafka::{
        client::Cluster,
        names::Names,
        waiting::{Begin, wait_for_brokers},
    },
    secrets::Secrets,
};

/// Arguments of every role.
#[derive(Debug, clap::Args)]
pub struct RoleArgs {
    /// What it is about.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Address of `/healthz`, `/readyz` and `/metrics`.
    #[arg(long, default_value = "127.0.0.1:9090", value_name = "ADDR")]
    pub health_listen: SocketAddr,
    /// How the program's own log is written.
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

/// What a role begins with.
pub struct Role {
    /// A message for the first SIGTERM or Ctrl-C.
    pub signals: Receiver<()>,
    /// The manifest.
    pub checked: Checked,
    /// Where secrets come from.
    pub secrets: Secrets,
    /// Where Kafka is: it has let us in.
    pub cluster: Cluster,
}

impl RoleArgs {
    /// Starts the log, listens for signals, which end the role within [`super::run::END_TIME_MAX`] even if `last` does not
    /// happen by then, reads the manifest and the secrets of Kafka, and waits until brokers answer;
    /// none where somebody asked for the end before they did.
    ///
    /// # Errors
    /// A [`super::Mistake`] where the manifest is wrong, a secret is missing, or the brokers do not let us in.
    pub fn begin(&self, last: &'static str) -> anyhow::Result<Option<Role>> {
        start_logging(self.log);
        let signals = signals(Some(last))?;
        let checked = self.manifest.load()?;
        let secrets = Secrets::from_environment();
        let cluster = Cluster::of(&checked.manifest.spec, &secrets)?;
        let names = Names::new(&checked.manifest.name);
        match wait_for_brokers(&cluster, &names, self.health_listen, &signals)? {
            Begin::Now => Ok(Some(Role { signals, checked, secrets, cluster })),
            Begin::Never => Ok(None),
        }
    }

    /// The directory that paths in the manifest start from.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        manifest::directory(&self.manifest.file)
    }
}

/// The name of this host; a pod and a container have their own.
pub(super) fn host() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = std::env::var("HOSTNAME").unwrap_or(host);
    let host: String = host.trim().chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    if host.is_empty() { "host".into() } else { host }
}
