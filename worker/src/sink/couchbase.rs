//! Couchbase by its official crate: a document for each row, a collection for each table. The one module that knows the crate.
//!
//! A document holds absolute values and its version; it is replaced only by a newer one, checked by CAS. A deleted row stays
//! as a document of its identity, version and `deleted`, for a day. Every call has a deadline, because the crate has none.

use std::{future::Future, time::Duration};

use anyhow::{Context, bail};
use couchbase::{
    authenticator::PasswordAuthenticator,
    bucket::Bucket,
    cluster::Cluster,
    collection::Collection,
    durability_level::DurabilityLevel,
    error::{Error, ErrorKind},
    management::buckets::bucket_settings::{BucketSettings, BucketType},
    options::{
        cluster_options::ClusterOptions,
        kv_options::{InsertOptions, ReplaceOptions},
    },
};
use crds::spec::{self, Durability};
use engine::value::write_json_string;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::row::{Change, Key, Target, Version};
use crate::{cli::Mistake, secrets::Secrets};

/// How long a call may take.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Writes in flight: a few for each connection and processor of a small cluster.
const IN_FLIGHT_MAX: usize = 64;

/// How often a write is tried again when others write the same document, or the server says that it has no time.
const TRIES_MAX: u32 = 8;

/// First pause before a write is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a deletion is remembered.
const DELETION: Duration = Duration::from_secs(24 * 3_600);

/// Where to connect, and what there is.
pub struct Connector {
    address: String,
    username: String,
    password: String,
    spec: spec::Couchbase,
    tables: Vec<String>,
}

/// A connection; lives as long as the cluster's value.
pub struct Couchbase {
    _cluster: Cluster,
    collections: Vec<Collection>,
    durability: Option<DurabilityLevel>,
}

/// What was missing, and is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made(pub String);

/// What a document says of its version.
#[derive(Deserialize)]
struct Known {
    #[serde(rename = "_epoch")]
    epoch: u32,
    #[serde(rename = "_version")]
    offset: u64,
}

impl Connector {
    /// Reads `connectionString`, `username` and `password` from the secret.
    ///
    /// # Errors
    /// A [`Mistake`] where one is missing.
    pub fn new(spec: &spec::Couchbase, targets: &[Target], secrets: &Secrets) -> Result<Self, Mistake> {
        let secret = &spec.connection_secret;
        Ok(Self {
            address: secrets.value(secret, "connectionString")?,
            username: secrets.value(secret, "username")?,
            password: secrets.value(secret, "password")?,
            spec: spec.clone(),
            tables: targets.iter().map(|target| target.name.clone()).collect(),
        })
    }

    /// Connects; makes bucket, scope and collections that are missing.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn connect(&self) -> anyhow::Result<Couchbase> {
        let cluster = self.cluster().await?;
        self.make(&cluster).await?;
        let bucket = cluster.bucket(&self.spec.bucket.name);
        let scope = bucket.scope(&self.spec.scope);
        let collections = self.tables.iter().map(|table| scope.collection(table)).collect();
        let durability = match self.spec.durability {
            Durability::None => None,
            Durability::Majority => Some(DurabilityLevel::MAJORITY),
            Durability::PersistToMajority => Some(DurabilityLevel::PERSIST_TO_MAJORITY),
        };
        Ok(Couchbase { _cluster: cluster, collections, durability })
    }

    /// Connects and makes what is missing: what `clickstream setup` does.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn set_up(&self) -> anyhow::Result<Vec<Made>> {
        let cluster = self.cluster().await?;
        self.make(&cluster).await
    }

    async fn cluster(&self) -> anyhow::Result<Cluster> {
        let authenticator = PasswordAuthenticator::new(&self.username, &self.password);
        let connecting = Cluster::connect(&self.address, ClusterOptions::new(authenticator.into()));
        // On a refused port, a bad mechanism or a failed handshake this never returns by itself.
        let connected = tokio::time::timeout(CALL_TIME_MAX, connecting).await;
        connected
            .context("no Couchbase answers at the address of the secret")?
            .context("failed to connect to Couchbase")
    }

    async fn make(&self, cluster: &Cluster) -> anyhow::Result<Vec<Made>> {
        let (name, mut made) = (&self.spec.bucket.name, Vec::new());
        match call(cluster.buckets().get_bucket(name, None)).await {
            Err(Trouble::Refused(error)) if *error.kind() == ErrorKind::BucketNotFound => {
                let created = call(cluster.buckets().create_bucket(settings(&self.spec.bucket), None)).await;
                unless(created, |kind| *kind == ErrorKind::BucketExists)
                    .with_context(|| format!("failed to make the bucket {name}"))?;
                made.push(Made(format!("bucket {name}")));
            }
            found => drop(found.with_context(|| format!("failed to look for the bucket {name}"))?),
        }
        let bucket = cluster.bucket(name);
        call(bucket.wait_until_ready(None)).await.with_context(|| format!("the bucket {name} does not get ready"))?;
        self.make_collections(&bucket, &mut made).await?;
        Ok(made)
    }

    async fn make_collections(&self, bucket: &Bucket, made: &mut Vec<Made>) -> anyhow::Result<()> {
        let (scope, manager) = (&self.spec.scope, bucket.collections());
        let scopes = call(manager.get_all_scopes(None)).await.context("failed to list scopes")?;
        let found = scopes.iter().find(|found| found.name() == scope);
        if found.is_none() {
            let created = call(manager.create_scope(scope, None)).await;
            unless(created, |kind| *kind == ErrorKind::ScopeExists)
                .with_context(|| format!("failed to make the scope {scope}"))?;
            made.push(Made(format!("scope {scope}")));
        }
        let there: Vec<&str> =
            found.into_iter().flat_map(|scope| scope.collections()).map(|collection| collection.name()).collect();
        for table in self.tables.iter().filter(|table| !there.contains(&table.as_str())) {
            let created = call(manager.create_collection(scope, table, None, None)).await;
            unless(created, |kind| *kind == ErrorKind::CollectionExists)
                .with_context(|| format!("failed to make the collection {scope}.{table}"))?;
            made.push(Made(format!("collection {scope}.{table}")));
        }
        Ok(())
    }
}

fn settings(bucket: &spec::Bucket) -> BucketSettings {
    let kind = match bucket.bucket_type {
        spec::BucketType::Couchbase => BucketType::COUCHBASE,
        spec::BucketType::Ephemeral => BucketType::EPHEMERAL,
    };
    BucketSettings::new(&bucket.name)
        .bucket_type(kind)
        .ram_quota_mb((bucket.ram_quota.bytes >> 20).max(100))
        .num_replicas(bucket.replicas.into())
}

impl Couchbase {
    /// Writes rows that are newer than what is there, many at a time; the rows of one document in their order.
    ///
    /// # Errors
    /// What the server says: any part may have been written.
    pub async fn write(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        // Only the newest of each document: the order among several would be lost in flight.
        let mut latest = std::collections::BTreeMap::new();
        for change in changes {
            latest.insert((change.target, id_of(change)), change);
        }
        let this = &*self;
        let writes = stream::iter(latest.into_values().map(|change| this.put(change)));
        writes.buffer_unordered(IN_FLIGHT_MAX).try_collect::<Vec<()>>().await.map(drop)
    }

    /// Writes one document, unless a newer version is there.
    async fn put(&self, change: &Change) -> anyhow::Result<()> {
        let collection = &self.collections[change.target];
        let (id, version, expiry) = match &change.key {
            Key::Row { id, version } => (id, *version, None),
            Key::Gone { id, version } => (id, *version, Some(DELETION)),
            Key::Event { .. } => bail!("bug: events for Couchbase; the manifest's check refuses them"),
        };
        let document = RawValue::from_string(document(change, version)).context("a document is no JSON")?;
        let mut pause = PAUSE;
        for _ in 0..TRIES_MAX {
            let ended = match call(collection.get(id, None)).await {
                Ok(found) => {
                    let known: Option<Known> = found.content_as().ok();
                    if known.is_some_and(|Known { epoch, offset }| Version { epoch, offset } >= version) {
                        return Ok(());
                    }
                    let mut options = ReplaceOptions::new().cas(found.cas());
                    options.durability_level.clone_from(&self.durability);
                    options.expiry = expiry;
                    call(collection.replace(id, &document, options)).await.map(drop)
                }
                Err(Trouble::Refused(error)) if *error.kind() == ErrorKind::DocumentNotFound => {
                    let mut options = InsertOptions::new();
                    options.durability_level.clone_from(&self.durability);
                    options.expiry = expiry;
                    call(collection.insert(id, &document, options)).await.map(drop)
                }
                Err(trouble) => Err(trouble),
            };
            match ended {
                Ok(()) => return Ok(()),
                Err(Trouble::Refused(error)) if passes(error.kind()) => {
                    tracing::debug!(%error, "a write is tried again");
                    // Writers of one document must not meet again.
                    let jitter = Duration::from_micros(u64::from(version.offset as u8) * 50);
                    tokio::time::sleep(pause + jitter).await;
                    pause *= 2;
                }
                Err(trouble) => return Err(trouble).with_context(|| format!("failed to write the document {id}")),
            }
        }
        bail!("failed to write the document {id} in {TRIES_MAX} tries")
    }
}

fn id_of(change: &Change) -> &str {
    match &change.key {
        Key::Row { id, .. } | Key::Gone { id, .. } => id,
        Key::Event { .. } => "",
    }
}

/// Whether another try may help: somebody else was faster, or the server has no time just now.
fn passes(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::CasMismatch
            | ErrorKind::DocumentExists
            | ErrorKind::DocumentNotFound
            | ErrorKind::DocumentLocked
            | ErrorKind::TemporaryFailure
            | ErrorKind::DurabilityWriteInProgress
            | ErrorKind::DurabilityAmbiguous
            | ErrorKind::RequestCanceled
    )
}

/// `{"_key":…,"_epoch":1,"_version":42,…columns}`; `"deleted":true` where the row is gone.
fn document(change: &Change, version: Version) -> String {
    let mut out = b"{\"_key\":".to_vec();
    write_json_string(id_of(change), &mut out);
    let (epoch, offset) = (version.epoch, version.offset);
    out.extend_from_slice(format!(",\"_epoch\":{epoch},\"_version\":{offset}").as_bytes());
    for (name, literal) in &change.columns {
        out.push(b',');
        write_json_string(name, &mut out);
        out.push(b':');
        out.extend_from_slice(literal.as_bytes());
    }
    if matches!(change.key, Key::Gone { .. }) {
        out.extend_from_slice(b",\"deleted\":true");
    }
    out.push(b'}');
    String::from_utf8(out).expect("JSON of texts is UTF-8")
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("no answer within {} s", CALL_TIME_MAX.as_secs())]
    Late,
    #[error(transparent)]
    Refused(#[from] Error),
}

async fn call<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(CALL_TIME_MAX, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Trouble::Late),
    }
}

/// Something that somebody else made meanwhile is as good.
fn unless(made: Result<(), Trouble>, fine: impl Fn(&ErrorKind) -> bool) -> Result<(), Trouble> {
    match made {
        Err(Trouble::Refused(error)) if fine(error.kind()) => Ok(()),
        made => made,
    }
}
