//! PostgreSQL: a table for each table or stream, made and widened from the plan; a batch is one transaction.
//!
//! A deletion leaves a line in `_clickstream_deleted`, so that an older version that comes again does not bring the row
//! back; lines older than a week go.

mod layout;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use crds::spec;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio_postgres::{Client, Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::layout::{Layout, TOMBSTONES};
use super::{
    database::{CONNECT_TIME_MAX, WRITE_TIME_MAX},
    row::{Change, Key, Target},
};
use crate::{cli::Mistake, secrets::Secrets};

/// Where to connect, and which tables there are.
pub struct Connector {
    config: Config,
    authorities: Arc<RootCertStore>,
    schema: String,
    layouts: Vec<Layout>,
}

/// A connection.
pub struct Postgres {
    client: Client,
    schema: String,
    layouts: Vec<Layout>,
    /// Statements that keep others from writing the same tables until the transaction ends.
    locks: String,
}

/// What the server itself bounds: a client whose machine is gone would hold its locks until TCP gives up, after hours, and
/// whoever waits for them would too, one connection for each try.
fn limits(time: Duration) -> String {
    let ms = time.as_millis();
    format!("set local statement_timeout = {ms}; set local idle_in_transaction_session_timeout = {ms}")
}

fn lock_of(schema: &str, table: &str) -> i64 {
    xxhash_rust::xxh3::xxh3_64(format!("clickstream {schema}.{table}").as_bytes()).cast_signed()
}

impl Connector {
    /// Reads `url`, or `host`, `port`, `database`, `username` and `password`, and `ca.crt`, from the secret.
    ///
    /// # Errors
    /// A [`Mistake`] where they are missing or no address.
    pub fn new(spec: &spec::Postgres, targets: &[Target], secrets: &Secrets) -> Result<Self, Mistake> {
        let secret = &spec.connection_secret;
        let mut config = match secrets.optional(secret, "url")? {
            // The parser's complaint may quote what it read: a password must not get into a log.
            Some(url) => url.parse::<Config>().map_err(|_| {
                Mistake(format!(
                    "secret {secret}: `url` is no address like postgres://user:password@host:5432/database"
                ))
            })?,
            None => {
                let mut config = Config::new();
                config.host(secrets.value(secret, "host")?).dbname(secrets.value(secret, "database")?);
                config.user(secrets.value(secret, "username")?).password(secrets.value(secret, "password")?);
                if let Some(port) = secrets.optional(secret, "port")? {
                    let bad = || Mistake(format!("secret {secret}: `port` is no port"));
                    config.port(port.parse().map_err(|_| bad())?);
                }
                config
            }
        };
        config.connect_timeout(std::time::Duration::from_secs(10)).application_name("clickstream");
        let mut authorities = RootCertStore::empty();
        match secrets.optional(secret, "ca.crt")? {
            None => authorities.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                // Whoever names an authority wants its servers and no others.
                config.ssl_mode(SslMode::Require);
                let bad = || Mistake(format!("secret {secret}: `ca.crt` is no certificate in PEM"));
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|_| bad())?;
                    authorities.add(certificate).map_err(|_| bad())?;
                }
            }
        }
        let layouts = targets.iter().map(|target| Layout::new(&spec.schema, spec.table.as_deref(), target)).collect();
        Ok(Self { config, authorities: Arc::new(authorities), schema: spec.schema.clone(), layouts })
    }

    /// Connects; makes schema, tables and columns that are missing.
    ///
    /// # Errors
    /// What the server says.
    pub async fn connect(&self) -> anyhow::Result<Postgres> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = tls.with_root_certificates(Arc::clone(&self.authorities)).with_no_client_auth();
        let connected = self.config.connect(MakeRustlsConnect::new(tls)).await;
        let (client, connection) = connected.context("failed to connect to PostgreSQL")?;
        // Ends with the client; what it ends with, the client's calls say too.
        tokio::spawn(async move { drop(connection.await) });
        let layouts = self.layouts.clone();
        let mut locks: Vec<i64> = layouts.iter().map(|layout| lock_of(&self.schema, &layout.table)).collect();
        // Whoever takes several takes them in the same order.
        locks.sort_unstable();
        let locks: Vec<String> = locks.iter().map(|lock| format!("select pg_advisory_xact_lock({lock})")).collect();
        let mut postgres = Postgres { client, schema: self.schema.clone(), layouts, locks: locks.join("; ") };
        postgres.make_tables().await.context("failed to make tables in PostgreSQL")?;
        Ok(postgres)
    }
}

impl Postgres {
    /// Two sinks may start at once: a lock keeps them from making the same table.
    async fn make_tables(&mut self) -> anyhow::Result<()> {
        let transaction = self.client.transaction().await?;
        let lock = format!("{}; select pg_advisory_xact_lock(8316577)", limits(CONNECT_TIME_MAX));
        transaction.batch_execute(&lock).await?;
        let exists = "select 1 from pg_namespace where nspname = $1";
        if transaction.query_opt(exists, &[&self.schema]).await?.is_none() {
            transaction.batch_execute(&format!("create schema {}", layout::quote(&self.schema))).await?;
        }
        transaction.batch_execute(&layout::create_tombstones(&self.schema)).await?;
        for layout in &self.layouts {
            transaction.batch_execute(&layout.create).await?;
            let found = "select column_name::text from information_schema.columns \
                         where table_schema = $1 and table_name = $2";
            let found = transaction.query(found, &[&self.schema, &layout.table]).await?;
            let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
            for (column, add) in &layout.add {
                if !found.contains(column) {
                    transaction.batch_execute(add).await?;
                }
            }
            transaction.batch_execute(&layout.index).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Writes the batch in one transaction.
    ///
    /// # Errors
    /// What the server says: then nothing of the batch is there.
    pub async fn write(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        let transaction = self.client.transaction().await?;
        // Statements of a snapshot from before another's deletion would bring the row back.
        transaction.batch_execute(&format!("{}; {}", limits(WRITE_TIME_MAX), self.locks)).await?;
        for (at, layout) in self.layouts.iter().enumerate() {
            let batch = Batch::of(changes.iter().filter(|change| change.target == at));
            if let Some(gone) = batch.gone() {
                let tombstones = format!("{}.{TOMBSTONES}", layout::quote(&self.schema));
                let (delete, keep) = (layout.delete(), layout.bury(&tombstones));
                transaction.execute(&keep, &[&gone, &layout.table]).await.context("failed to keep deletions")?;
                transaction.execute(&delete, &[&gone]).await.context("failed to delete rows")?;
                let old = format!("delete from {tombstones} where at < now() - interval '7 days'");
                transaction.execute(&old, &[]).await?;
            }
            if let Some(rows) = batch.rows() {
                let written = transaction.execute(&layout.write, &[&rows]).await;
                written.with_context(|| format!("failed to write rows of {}", layout.table))?;
            }
        }
        Ok(transaction.commit().await?)
    }
}

/// Changes of one table: the newest of each row.
#[derive(Default)]
struct Batch<'a> {
    latest: BTreeMap<Cow<'a, str>, &'a Change>,
    events: Vec<&'a Change>,
}

impl<'a> Batch<'a> {
    fn of(changes: impl Iterator<Item = &'a Change>) -> Self {
        let mut batch = Self::default();
        for change in changes {
            match &change.key {
                Key::Row { id, .. } | Key::Gone { id, .. } => {
                    batch.latest.insert(layout::without_zero(id), change);
                }
                Key::Event { .. } => batch.events.push(change),
            }
        }
        batch
    }

    /// Deleted rows as a JSON array.
    fn gone(&self) -> Option<String> {
        let gone = self.latest.values().filter(|change| matches!(change.key, Key::Gone { .. }));
        array(gone.copied())
    }

    /// Rows and events as a JSON array.
    fn rows(&self) -> Option<String> {
        let rows = self.latest.values().filter(|change| matches!(change.key, Key::Row { .. }));
        array(rows.copied().chain(self.events.iter().copied()))
    }
}

fn array<'a>(changes: impl Iterator<Item = &'a Change>) -> Option<String> {
    let objects: Vec<String> = changes.map(layout::object).collect();
    (!objects.is_empty()).then(|| format!("[{}]", objects.join(",")))
}
