//! Which kinds of others the cluster has: asked seldom, remembered.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::Client;

use crate::desired::monitoring::Monitoring;

/// How old an answer may be.
const ASK_EVERY: Duration = Duration::from_secs(20);

const MONITORING: &str = "monitoring.coreos.com/v1";

/// What the cluster answered last: written by reconciles, each of which may ask.
#[derive(Default)]
pub struct Discovery {
    known: Mutex<Option<(Instant, BTreeSet<String>)>>,
}

impl Discovery {
    /// What is wished and can be made. A cluster that does not answer has what it had before.
    pub async fn monitoring(&self, client: &Client, wished: &Monitoring) -> Monitoring {
        if wished.kinds().next().is_none() {
            return Monitoring::default();
        }
        let kinds = self.kinds(client).await;
        let has = |kind: &str| kinds.contains(kind);
        Monitoring {
            monitors: wished.monitors && has("PodMonitor"),
            rules: wished.rules && has("PrometheusRule"),
            labels: wished.labels.clone(),
        }
    }

    async fn kinds(&self, client: &Client) -> BTreeSet<String> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = lock().clone();
        if let Some((_, kinds)) = before.as_ref().filter(|(asked, _)| asked.elapsed() < ASK_EVERY) {
            return kinds.clone();
        }
        let kinds = match client.list_api_group_resources(MONITORING).await {
            Ok(list) => list.resources.into_iter().map(|resource| resource.kind).collect(),
            Err(kube::Error::Api(status)) if status.code == 404 => BTreeSet::new(),
            Err(error) => {
                tracing::warn!(%error, "the cluster does not say which kinds it has");
                return before.map(|(_, kinds)| kinds).unwrap_or_default();
            }
        };
        *lock() = Some((Instant::now(), kinds));
        lock().as_ref().map(|(_, kinds)| kinds.clone()).unwrap_or_default()
    }
}
