//! Ingesters: what brings events into the raw topics of a pipeline.
//!
//! ```text
//! synthetic: model ─► columns ─► JSON ───────┐
//! dataset:   files ─► rows ─► routes ────────┼─► records by key ─► IngestLog::commit(records, progress)
//! http:      requests ─► checked ─► queue ───┤
//! kafka:     partitions ─► by arrival ───────┘
//! ```
//!
//! Invariants:
//! - Records and progress are committed together, so that a restart repeats nothing and leaves nothing out.
//! - One thread for each ingester; a full log blocks its commit, and that is all the back-pressure there is.
//! - What a source holds becomes a record or an error with its place; nothing is skipped.
//! - Whether an event is valid is the decoder's business, behind the log. Only the collector asks before, because
//!   there is somebody to tell.

mod control;
pub mod dataset;
mod error;
mod expressions;
pub mod http;
mod jobs;
pub mod json;
mod layout;
pub mod limits;
pub mod mirror;
#[cfg(test)]
mod memory;
mod outbox;
mod routes;
mod running;
pub mod synthetic;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crds::{Checked, spec::PipelineSpec};
use engine::time::Millis;

pub use control::Control;
pub use dataset::files::Remote;
pub use error::IngestError;
pub use jobs::generator;
pub use outbox::{Outbox, Target, Topics};
pub use routes::Routes;
pub use running::{IngestProgress, Ingesters};

use crate::ports::IngestLog;

/// What the ingesters need besides the manifest.
#[derive(Clone, Debug, Default)]
pub struct IngestOptions {
    /// The directory that paths in the manifest start from.
    pub directory: PathBuf,
    /// Accepted bearer tokens of collectors that have a `tokensSecret`, by ingester. A collector that has one and is not
    /// in here takes nothing.
    pub tokens: BTreeMap<String, Vec<String>>,
    /// Where the files of datasets lie that are on no disk, by ingester.
    pub remotes: BTreeMap<String, Arc<dyn Remote>>,
    /// Topics of other Kafka clusters, by ingester.
    pub upstreams: BTreeMap<String, Arc<dyn mirror::Upstream>>,
    /// Where the router of [`Ingesters::router`] is served: a collector of the same port has no listener of its own.
    pub listen: Option<SocketAddr>,
    /// The address that collectors with a port of their own listen on; loopback if none.
    pub host: Option<IpAddr>,
    /// Start this ingester only.
    pub only: Option<String>,
    /// Ends sources that would never end by themselves.
    pub duration: Option<Duration>,
}

/// Starts all ingesters of a manifest: a thread each, and one more for each collector that has a port of its own.
///
/// # Errors
/// Where one cannot start: files that are not there, a port that is taken, a field that cannot be made. None has
/// written anything then.
pub fn spawn(
    checked: &Checked,
    options: &IngestOptions,
    make_log: impl Fn() -> Box<dyn IngestLog>,
) -> Result<Ingesters, IngestError> {
    let jobs = jobs::prepare(checked, options)?;
    running::start(jobs, options, make_log)
}

/// Names the ingesters that never end by themselves.
#[must_use]
pub fn endless(spec: &PipelineSpec) -> Vec<&str> {
    let endless = spec.ingest.iter().filter(|ingester| {
        let synthetic = ingester.synthetic.as_ref().is_some_and(|way| way.count.is_none() && way.duration.is_none());
        let dataset = ingester.dataset.as_ref().is_some_and(|dataset| dataset.repeat);
        synthetic || dataset || ingester.http.is_some() || ingester.kafka.is_some()
    });
    endless.map(|ingester| ingester.name.as_str()).collect()
}

/// The clock on the wall.
#[must_use]
pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}
