//! Databases behind one face: connect, make what is needed, write newer versions.

use std::time::Duration;

use crds::spec::Sink;

#[cfg(feature = "couchbase")]
use super::couchbase::{self, Couchbase};
use super::{
    postgres::Postgres,
    redis::Redis,
    row::{Change, Target},
};
use crate::{cli::Mistake, secrets::Secrets};

/// How long connecting, with everything that must be made first, may take.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(60);

/// How long writing a batch may take: a database that needs longer for so little is as good as down.
pub const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// Where to connect, secrets included: never shown.
pub enum Connector {
    /// PostgreSQL.
    Postgres(super::postgres::Connector),
    /// Redis.
    Redis(super::redis::Connector),
    /// Couchbase.
    #[cfg(feature = "couchbase")]
    Couchbase(couchbase::Connector),
}

/// A connected database.
pub enum Database {
    /// PostgreSQL.
    Postgres(Postgres),
    /// Redis.
    Redis(Redis),
    /// Couchbase.
    #[cfg(feature = "couchbase")]
    Couchbase(Couchbase),
}

impl Connector {
    /// Reads the sink's secrets; `None` for a sink that is no database.
    ///
    /// # Errors
    /// A [`Mistake`] where a secret is missing or says something else.
    pub fn of(sink: &Sink, targets: &[Target], secrets: &Secrets) -> Result<Option<Self>, Mistake> {
        if let Some(spec) = &sink.postgres {
            return Ok(Some(Self::Postgres(super::postgres::Connector::new(spec, targets, secrets)?)));
        }
        if let Some(spec) = &sink.redis {
            return Ok(Some(Self::Redis(super::redis::Connector::new(spec, secrets)?)));
        }
        #[cfg(feature = "couchbase")]
        if let Some(spec) = &sink.couchbase {
            return Ok(Some(Self::Couchbase(couchbase::Connector::new(spec, targets, secrets)?)));
        }
        #[cfg(not(feature = "couchbase"))]
        if sink.couchbase.is_some() {
            let told = format!(
                "sink {}: this program was built without Couchbase: leave out --no-default-features",
                sink.name
            );
            return Err(Mistake(told));
        }
        Ok(None)
    }

    /// Connects and makes what is missing, within [`CONNECT_TIME_MAX`].
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn connect(&self) -> anyhow::Result<Database> {
        let connected = async {
            Ok(match self {
                Self::Postgres(connector) => Database::Postgres(connector.connect().await?),
                Self::Redis(connector) => Database::Redis(connector.connect().await?),
                #[cfg(feature = "couchbase")]
                Self::Couchbase(connector) => Database::Couchbase(connector.connect().await?),
            })
        };
        let late = |_| anyhow::anyhow!("no answer within {} s", CONNECT_TIME_MAX.as_secs());
        tokio::time::timeout(CONNECT_TIME_MAX, connected).await.map_err(late)?
    }
}

impl Database {
    /// Writes what is newer than what is there, within [`WRITE_TIME_MAX`]. Once it returns, all of it is safe; after an
    /// error any part may be there, and writing all of it again is right.
    ///
    /// # Errors
    /// What the server says, or that it says nothing: connect anew.
    pub async fn write(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        let written = async {
            match self {
                Self::Postgres(database) => database.write(changes).await,
                Self::Redis(database) => database.write(changes).await,
                #[cfg(feature = "couchbase")]
                Self::Couchbase(database) => database.write(changes).await,
            }
        };
        let late = |_| anyhow::anyhow!("no answer within {} s", WRITE_TIME_MAX.as_secs());
        tokio::time::timeout(WRITE_TIME_MAX, written).await.map_err(late)?
    }
}
