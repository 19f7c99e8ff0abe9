//! Bucket, scope and collections: what is there, what is missing, making it. For `setup` and the sink alike.

use std::{collections::BTreeSet, fmt};

use anyhow::Context;
use couchbase::{
    cluster::Cluster,
    error::ErrorKind,
    management::buckets::bucket_settings::{BucketSettings, BucketType},
};
use crds::spec;

use super::{Trouble, call};

/// What a cluster has of a sink's wishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The bucket is there.
    pub has_bucket: bool,
    /// The scope is there.
    pub has_scope: bool,
    /// Collections of the scope.
    pub collections: BTreeSet<String>,
}

/// Something to make. In the order of [`decide`] each finds what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The bucket.
    Bucket(spec::Bucket),
    /// A scope of the bucket.
    Scope(String),
    /// A collection of a scope.
    Collection {
        /// Scope.
        scope: String,
        /// Name.
        name: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(bucket) => {
                write!(out, "bucket {} with {} MiB a node, {} replicas", bucket.name, quota_mb(bucket), bucket.replicas)
            }
            Self::Scope(scope) => write!(out, "scope {scope}"),
            Self::Collection { scope, name } => write!(out, "collection {scope}.{name}"),
        }
    }
}

/// What is missing. Nothing is ever dropped or changed.
#[must_use]
pub fn decide(wish: &spec::Couchbase, tables: &[String], found: &Found) -> Vec<Step> {
    let mut steps = Vec::new();
    if !found.has_bucket {
        steps.push(Step::Bucket(wish.bucket.clone()));
    }
    // Every bucket is born with this scope.
    if !found.has_scope && wish.scope != "_default" {
        steps.push(Step::Scope(wish.scope.clone()));
    }
    let missing = tables.iter().filter(|table| !found.collections.contains(*table));
    steps.extend(missing.map(|table| Step::Collection { scope: wish.scope.clone(), name: table.clone() }));
    steps
}

/// Looks what is there.
pub(super) async fn observe(cluster: &Cluster, bucket: &str, scope: &str) -> anyhow::Result<Found> {
    match call(cluster.buckets().get_bucket(bucket, None)).await {
        Err(Trouble::Refused(error)) if *error.kind() == ErrorKind::BucketNotFound => return Ok(Found::default()),
        found => drop(found.with_context(|| format!("failed to look for the bucket {bucket}"))?),
    }
    let scopes = call(cluster.bucket(bucket).collections().get_all_scopes(None)).await;
    let scopes = scopes.with_context(|| format!("failed to list the scopes of the bucket {bucket}"))?;
    let found = scopes.iter().find(|found| found.name() == scope);
    let collections = found.into_iter().flat_map(|scope| scope.collections());
    let collections = collections.map(|collection| collection.name().to_owned()).collect();
    Ok(Found { has_bucket: true, has_scope: found.is_some(), collections })
}

/// Makes one thing; what somebody else made meanwhile is as good.
pub(super) async fn apply(cluster: &Cluster, bucket: &str, step: &Step) -> anyhow::Result<()> {
    let (made, fine) = match step {
        Step::Bucket(wish) => {
            (call(cluster.buckets().create_bucket(settings(wish), None)).await, ErrorKind::BucketExists)
        }
        Step::Scope(scope) => {
            (call(cluster.bucket(bucket).collections().create_scope(scope, None)).await, ErrorKind::ScopeExists)
        }
        Step::Collection { scope, name } => {
            let making = cluster.bucket(bucket);
            (call(making.collections().create_collection(scope, name, None, None)).await, ErrorKind::CollectionExists)
        }
    };
    match made {
        Err(Trouble::Refused(error)) if *error.kind() == fine => {}
        made => made.with_context(|| format!("failed to make the {step}"))?,
    }
    // A new bucket takes no scopes until its nodes know it.
    if matches!(step, Step::Bucket(_)) { wait_for(cluster, bucket).await } else { Ok(()) }
}

/// Drops collections of a scope, with everything in them; those that are not there are fine. Returns those that were.
pub(super) async fn drop_collections(
    cluster: &Cluster,
    wish: &spec::Couchbase,
    tables: &[String],
    dry_run: bool,
) -> anyhow::Result<Vec<String>> {
    let (bucket, scope) = (&wish.bucket.name, &wish.scope);
    let found = observe(cluster, bucket, scope).await?;
    let there: Vec<String> = tables.iter().filter(|table| found.collections.contains(*table)).cloned().collect();
    for table in there.iter().filter(|_| !dry_run) {
        let inside = cluster.bucket(bucket).collections();
        match call(inside.drop_collection(scope, table, None)).await {
            Err(Trouble::Refused(error)) if *error.kind() == ErrorKind::CollectionNotFound => {}
            dropped => dropped.with_context(|| format!("failed to drop collection {bucket}.{scope}.{table}"))?,
        }
    }
    Ok(there)
}

/// Waits until all nodes serve the bucket.
pub(super) async fn wait_for(cluster: &Cluster, bucket: &str) -> anyhow::Result<()> {
    let ready = call(cluster.bucket(bucket).wait_until_ready(None)).await;
    ready.with_context(|| format!("the bucket {bucket} does not get ready"))
}

/// The server takes no less than 100 MiB.
fn quota_mb(bucket: &spec::Bucket) -> u64 {
    (bucket.ram_quota.bytes >> 20).max(100)
}

fn settings(bucket: &spec::Bucket) -> BucketSettings {
    let kind = match bucket.bucket_type {
        spec::BucketType::Couchbase => BucketType::COUCHBASE,
        spec::BucketType::Ephemeral => BucketType::EPHEMERAL,
    };
    BucketSettings::new(&bucket.name)
        .bucket_type(kind)
        .ram_quota_mb(quota_mb(bucket))
        .num_replicas(bucket.replicas.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(scope: &str) -> spec::Couchbase {
        let text = format!(r#"{{"connectionSecret":"c","bucket":{{"name":"shop"}},"scope":"{scope}"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn shown(scope: &str, found: &Found) -> Vec<String> {
        let tables = ["sales".to_owned(), "carts".to_owned()];
        decide(&wish(scope), &tables, found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_missing_is_made_in_order_and_nothing_else() {
        let bucket = "bucket shop with 256 MiB a node, 0 replicas";
        let all = [bucket, "scope live", "collection live.sales", "collection live.carts"];
        assert_eq!(shown("live", &Found::default()), all);
        let found = Found { has_bucket: true, has_scope: true, collections: ["sales".to_owned()].into() };
        assert_eq!(shown("live", &found), ["collection live.carts"]);
        assert_eq!(shown("_default", &Found::default()).len(), 3, "the default scope comes with the bucket");
    }
}
