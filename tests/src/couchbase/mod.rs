//! A double of Couchbase Server for tests: what the sink and `clickstream setup` ask for through the official crate, and
//! faults that no server shows on demand.
//!
//! ```text
//!  sink ──► official crate ─┬─► key-value port of a node (protocol, keyvalue, scram) ─┬─► world: buckets, documents
//!                           └─► management port of a node (management, topology) ─────┘
//!                                         faults ──┘
//! ```
//! Key-value: `HELLO`, `SASL_LIST_MECHS`, `SASL_AUTH` and `SASL_STEP` (SCRAM-SHA512), `GET_ERROR_MAP`, `SELECT_BUCKET`,
//! `GET_CLUSTER_CONFIG`, `GET_COLLECTION_ID`, `NOOP`, `GET`, `ADD`, `REPLACE` with its CAS; durability and expiry are taken
//! and remembered, not acted upon. Everything else is refused as unknown.
//! With TLS, `SASL_AUTH` by PLAIN too.
//! Management: `GET` and `POST /pools/default/buckets`, `GET /pools/default/buckets/{bucket}`, `GET` and `POST …/scopes`,
//! `POST …/scopes/{scope}/collections`, `GET /pools/default/b/{bucket}`, `GET /pools/default/nodeServices`.
//!
//! All nodes share one world; which of them serves a vbucket is the topology's to say, and a node that does not answers
//! `NOT_MY_VBUCKET` with the newest topology, as a cluster that rebalances does. Nothing is compressed, nothing lasts.

mod faults;
mod keyvalue;
mod management;
mod node;
mod protocol;
mod scram;
mod tls;
mod topology;
mod world;

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::ServerConfig;

pub(crate) use self::tls::config as loopback_tls;
pub use self::{
    faults::Fault,
    tls::AUTHORITY,
    world::{Collection, Document},
};
use self::{faults::Faults, node::Node, topology::Topology, world::World};

/// Who may come in.
pub const USER: &str = "Administrator";

/// With which password.
pub const PASSWORD: &str = "password";

/// What all nodes and connections share.
pub(crate) struct Shared {
    /// Written by requests of both ports, read by tests.
    world: Mutex<World>,
    /// Written by tests, read by every request.
    topology: Mutex<Topology>,
    /// Written by tests, taken by requests.
    faults: Faults,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topology(&self) -> MutexGuard<'_, Topology> {
        self.topology.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cluster on loopback; it ends with this value.
pub struct Double {
    shared: Arc<Shared>,
    nodes: Vec<Node>,
}

impl Double {
    /// Starts so many nodes, on free ports.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start(nodes: usize) -> io::Result<Self> {
        Self::begin(nodes, None)
    }

    /// Starts so many nodes that speak TLS only, by a certificate of [`AUTHORITY`].
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start_secured(nodes: usize) -> io::Result<Self> {
        Self::begin(nodes, Some(&tls::config()?))
    }

    fn begin(nodes: usize, tls: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        let topology = Topology::new(tls.is_some());
        let shared = Arc::new(Shared {
            world: Mutex::new(World::default()),
            topology: Mutex::new(topology),
            faults: Faults::default(),
        });
        let nodes = (0..nodes).map(|at| Node::start(at, &shared, tls)).collect::<io::Result<Vec<Node>>>()?;
        shared.topology().share_out(nodes.iter().map(|node| node.ports).collect());
        Ok(Self { shared, nodes })
    }

    /// Where the official crate finds it.
    #[must_use]
    pub fn connection_string(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.ports.key_value)).collect();
        let scheme = if self.shared.topology().is_secured { "couchbases" } else { "couchbase" };
        format!("{scheme}://{}", hosts.join(","))
    }

    /// Writes its secret of that name, as it would be mounted, but for an authority.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_secret(&self, secrets: &Path, name: &str) -> io::Result<()> {
        write_secret(secrets, name, &self.connection_string(), USER, PASSWORD)
    }

    /// The next so many requests for documents meet this fault; faults follow one another in the order of these calls.
    pub fn inject(&self, fault: Fault, times: u32) {
        self.shared.faults.push(fault, times);
    }

    /// How many faults were not met yet.
    #[must_use]
    pub fn faults_left(&self) -> u32 {
        self.shared.faults.left()
    }

    /// Ends a node as a power cut does: its connections break and its ports are closed. Documents stay.
    pub fn stop(&mut self, node: usize) {
        self.nodes[node].stop();
    }

    /// Brings a node back on the ports that it had.
    ///
    /// # Errors
    /// If somebody else took its ports.
    pub fn resume(&mut self, node: usize) -> io::Result<()> {
        self.nodes[node].resume()
    }

    /// Moves every vbucket to the next node. Nobody is told: clients find out by `NOT_MY_VBUCKET`.
    pub fn rebalance(&self) {
        self.shared.topology().rotate();
    }

    /// Documents of a collection with what came with them; `None` where there is no such collection.
    #[must_use]
    pub fn documents(&self, bucket: &str, scope: &str, collection: &str) -> Option<BTreeMap<String, Document>> {
        self.shared.world().collection(bucket, scope, collection).map(|found| found.documents.clone())
    }

    /// Buckets, scopes and collections that were made, as `bucket.scope.collection`.
    #[must_use]
    pub fn collections(&self) -> Vec<String> {
        self.shared.world().names()
    }
}

/// Writes a secret for Couchbase into a directory of secrets.
///
/// # Errors
/// If it cannot be written.
pub fn write_secret(secrets: &Path, name: &str, url: &str, user: &str, password: &str) -> io::Result<()> {
    let folder = secrets.join(name);
    fs::create_dir_all(&folder)?;
    for (key, value) in [("connectionString", url), ("username", user), ("password", password)] {
        fs::write(folder.join(key), value)?;
    }
    Ok(())
}
