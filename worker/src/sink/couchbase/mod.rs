//! Couchbase by its official crate: a document for each row, a collection for each table. The one folder that knows the crate.
//!
//! ```text
//!  connect ─► door (who is there, and do they let us in) ─► the crate ─► make (bucket, scope, collections)
//!  write ─► newest change of each document ─► read, compare versions, add or replace by CAS ─► again, where it may pass
//! ```
//! A document holds absolute values and its version; it is replaced only by a newer one, checked by CAS. A deleted row stays
//! as a document of its identity, version and `deleted`, for a day. Every call has a deadline, because the crate has none.

mod document;
mod door;
mod make;
mod retry;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use couchbase::{
    authenticator::PasswordAuthenticator,
    cluster::Cluster,
    collection::Collection,
    durability_level::DurabilityLevel,
    error::{Error, ErrorKind},
    options::{
        cluster_options::{ClusterOptions, TlsOptions},
        kv_options::{InsertOptions, ReplaceOptions},
    },
};
use crds::spec::{self, Durability};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::value::RawValue;

pub use self::make::{Found, Step, decide};
use self::{
    document::{document, id_of, version_of},
    door::Door,
    retry::{Jittered, Verdict, judge, pause},
};
use super::{
    limits::{COUCHBASE_CALL, COUCHBASE_IN_FLIGHT, COUCHBASE_TRIES},
    row::{Change, Key, Target},
};
use crate::{cli::Mistake, secrets::Secrets};

/// How long a deletion is remembered.
const DELETION: Duration = Duration::from_secs(24 * 3_600);

/// Where to connect, and what should be there.
pub struct Connector {
    door: Door,
    authorities: Vec<CertificateDer<'static>>,
    spec: spec::Couchbase,
    tables: Vec<String>,
}

/// A connection; lives as long as the cluster's value.
pub struct Couchbase {
    _cluster: Cluster,
    collections: Vec<Collection>,
    durability: Option<DurabilityLevel>,
    ttl: Option<Duration>,
}

impl Connector {
    /// Reads `connectionString`, `username` and `password`, and `ca.crt`, from the secret.
    ///
    /// # Errors
    /// A [`Mistake`] where one is missing, or they do not go together.
    pub fn new(spec: &spec::Couchbase, targets: &[Target], secrets: &Secrets) -> Result<Self, Mistake> {
        let secret = &spec.connection_secret;
        let address = secrets.value(secret, "connectionString")?;
        let bad = |what: &str| Mistake(format!("secret {secret}: {what}"));
        let authorities = match secrets.optional(secret, "ca.crt")? {
            None => Vec::new(),
            Some(_) if !address.starts_with("couchbases://") => {
                return Err(bad(
                    "`ca.crt` is there, and `connectionString` asks for no TLS: begin it with couchbases://",
                ));
            }
            Some(pem) => {
                let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
                let read = read.ok().filter(|certificates| !certificates.is_empty());
                read.ok_or_else(|| bad("`ca.crt` is no certificate in PEM"))?
            }
        };
        let (username, password) = (secrets.value(secret, "username")?, secrets.value(secret, "password")?);
        let door = Door::new(address, username, password, &authorities).map_err(|what| bad(&what))?;
        let tables = targets.iter().map(|target| target.name.clone()).collect();
        Ok(Self { door, authorities, spec: spec.clone(), tables })
    }

    /// Connects; makes bucket, scope and collections that are missing, unless Couchbase's operator is to.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn connect(&self) -> anyhow::Result<Couchbase> {
        let cluster = self.cluster().await?;
        self.make(&cluster).await?;
        let scope = cluster.bucket(&self.spec.bucket.name).scope(&self.spec.scope);
        let collections = self.tables.iter().map(|table| scope.collection(table)).collect();
        let durability = match self.spec.durability {
            Durability::None => None,
            Durability::Majority => Some(DurabilityLevel::MAJORITY),
            Durability::PersistToMajority => Some(DurabilityLevel::PERSIST_TO_MAJORITY),
        };
        let ttl = self.spec.ttl.map(spec::values::Duration::to_std);
        Ok(Couchbase { _cluster: cluster, collections, durability, ttl })
    }

    /// Connects and makes what is missing: what `clickstream setup` does.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn set_up(&self) -> anyhow::Result<Vec<Step>> {
        let cluster = self.cluster().await?;
        self.make(&cluster).await
    }

    /// Connects and drops the collections of its tables, or with `dry_run` only looks; returns those that were there.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn delete(&self, dry_run: bool) -> anyhow::Result<Vec<String>> {
        make::drop_collections(&self.cluster().await?, &self.spec, &self.tables, dry_run).await
    }

    /// Connects and tells what is missing; changes nothing.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn look(&self) -> anyhow::Result<Vec<Step>> {
        let cluster = self.cluster().await?;
        let found = make::observe(&cluster, &self.spec.bucket.name, &self.spec.scope).await?;
        Ok(decide(&self.spec, &self.tables, &found))
    }

    async fn make(&self, cluster: &Cluster) -> anyhow::Result<Vec<Step>> {
        let found = make::observe(cluster, &self.spec.bucket.name, &self.spec.scope).await?;
        let steps = decide(&self.spec, &self.tables, &found);
        if self.spec.operator.is_some() && !steps.is_empty() {
            let told: Vec<String> = steps.iter().map(ToString::to_string).collect();
            bail!("Couchbase's operator has yet to make {}", told.join(", "));
        }
        for step in &steps {
            make::apply(cluster, &self.spec.bucket.name, step).await?;
        }
        make::wait_for(cluster, &self.spec.bucket.name).await?;
        Ok(steps)
    }

    async fn cluster(&self) -> anyhow::Result<Cluster> {
        // The crate tries for ever, and says why only in its log: ask ourselves first.
        self.door.knock().await?;
        let authenticator = PasswordAuthenticator::new(&self.door.username, &self.door.password);
        let mut options = ClusterOptions::new(authenticator.into()).default_retry_strategy(Arc::new(Jittered));
        if !self.authorities.is_empty() {
            options = options.tls_options(TlsOptions::new().add_ca_certificates(self.authorities.clone()));
        }
        let connecting = Cluster::connect(&self.door.address, options);
        let connected = tokio::time::timeout(COUCHBASE_CALL, connecting).await;
        connected
            .context("Couchbase lets nobody in at the address of the secret")?
            .context("failed to connect to Couchbase")
    }
}

impl Couchbase {
    /// Writes rows that are newer than what is there, many at a time; the rows of one document in their order.
    ///
    /// # Errors
    /// What the server says: any part may have been written.
    pub async fn write(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        // Only the newest of each document: the order among several would be lost in flight.
        let mut latest = BTreeMap::new();
        for change in changes {
            latest.insert((change.target, id_of(change)), change);
        }
        let this = &*self;
        let writes = stream::iter(latest.into_values().map(|change| this.put(change)));
        writes.buffer_unordered(COUCHBASE_IN_FLIGHT).try_collect::<Vec<()>>().await.map(drop)
    }

    /// Writes one document, unless a newer version is there.
    async fn put(&self, change: &Change) -> anyhow::Result<()> {
        let document = RawValue::from_string(document(change)?).context("a document is no JSON")?;
        let id = id_of(change);
        let mut last = None;
        for turn in 0..COUCHBASE_TRIES {
            let Err(trouble) = self.try_to_put(change, &document).await else { return Ok(()) };
            match judge(&trouble) {
                Verdict::Again => tracing::debug!(%trouble, id, "a document is written again"),
                Verdict::Never => return Err(trouble).with_context(|| format!("failed to write the document {id}")),
            }
            last = Some(trouble);
            tokio::time::sleep(pause(turn)).await;
        }
        let told = last.map(|trouble| trouble.to_string()).unwrap_or_default();
        bail!("failed to write the document {id} in {COUCHBASE_TRIES} tries: {told}")
    }

    async fn try_to_put(&self, change: &Change, document: &RawValue) -> Result<(), Trouble> {
        let (collection, id) = (&self.collections[change.target], id_of(change));
        let expiry = match change.key {
            Key::Gone { .. } => Some(DELETION),
            _ => self.ttl,
        };
        match call(collection.get(id, None)).await {
            Ok(found) => {
                let known = found.content_as().ok();
                if known.is_some_and(|known: document::Known| known.version() >= version_of(change)) {
                    return Ok(());
                }
                let mut options = ReplaceOptions::new().cas(found.cas());
                options.durability_level.clone_from(&self.durability);
                options.expiry = expiry;
                call(collection.replace(id, document, options)).await.map(drop)
            }
            Err(Trouble::Refused(error)) if *error.kind() == ErrorKind::DocumentNotFound => {
                let mut options = InsertOptions::new();
                options.durability_level.clone_from(&self.durability);
                options.expiry = expiry;
                call(collection.insert(id, document, options)).await.map(drop)
            }
            Err(trouble) => Err(trouble),
        }
    }
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("no answer within {} s", COUCHBASE_CALL.as_secs())]
    Late,
    #[error(transparent)]
    Refused(#[from] Error),
}

async fn call<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(COUCHBASE_CALL, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Trouble::Late),
    }
}
