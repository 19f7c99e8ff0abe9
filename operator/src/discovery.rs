//! Which kinds of others the cluster has: asked seldom, remembered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::Client;

use crate::{
    desired::{couchbase::CouchbaseOperator, monitoring::Monitoring},
    observed::Kind,
};

/// How old an answer may be.
const ASK_EVERY: Duration = Duration::from_secs(20);

const MONITORING: &str = "monitoring.coreos.com/v1";
const COUCHBASE: &str = "couchbase.com/v2";

/// What the cluster answered last, by group and version: written by reconciles, each of which may ask.
#[derive(Default)]
pub struct Discovery {
    known: Mutex<BTreeMap<&'static str, (Instant, BTreeSet<String>)>>,
}

impl Discovery {
    /// What is wished and can be made. A cluster that does not answer has what it had before.
    pub async fn monitoring(&self, client: &Client, wished: &Monitoring) -> Monitoring {
        if wished.kinds().next().is_none() {
            return Monitoring::default();
        }
        let kinds = self.kinds(client, MONITORING).await;
        let has = |kind: &str| kinds.contains(kind);
        Monitoring {
            monitors: wished.monitors && has("PodMonitor"),
            rules: wished.rules && has("PrometheusRule"),
            labels: wished.labels.clone(),
        }
    }

    /// Whether what is asked for can be made.
    pub async fn couchbase(&self, client: &Client, is_asked: bool, is_allowed: bool) -> CouchbaseOperator {
        if !is_asked {
            return CouchbaseOperator::Unasked;
        }
        let kinds = if is_allowed { self.kinds(client, COUCHBASE).await } else { BTreeSet::new() };
        match Kind::COUCHBASE.iter().all(|kind| kinds.contains(kind.api().2)) {
            true => CouchbaseOperator::There,
            false => CouchbaseOperator::Missing,
        }
    }

    async fn kinds(&self, client: &Client, group: &'static str) -> BTreeSet<String> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = lock().get(group).cloned();
        if let Some((_, kinds)) = before.as_ref().filter(|(asked, _)| asked.elapsed() < ASK_EVERY) {
            return kinds.clone();
        }
        let kinds: BTreeSet<String> = match client.list_api_group_resources(group).await {
            Ok(list) => list.resources.into_iter().map(|resource| resource.kind).collect(),
            Err(kube::Error::Api(status)) if status.code == 404 => BTreeSet::new(),
            Err(error) => {
                tracing::warn!(%error, "the cluster does not say which kinds it has");
                return before.map(|(_, kinds)| kinds).unwrap_or_default();
            }
        };
        lock().insert(group, (Instant::now(), kinds.clone()));
        kinds
    }
}
