//! `clickstream run`: the whole pipeline in one process.
//!
//! ```text
//!  check manifest ─► data directory ─► log, checkpoints ─► driver threads ─► ingesters ─► pump, sinks, HTTP
//!                                                                                 │
//!  end: sources done (or Ctrl-C) ─► everything processed ─► flushed, checkpointed ┴─► tables written ─► summary
//! ```
//! Order matters at both ends: readers start before writers, and writers end before readers.

mod console;
mod data_dir;
mod lane;
pub(crate) mod lookups;
mod notify;
mod owner;
mod observed;
mod outlets;
mod progress;
mod pump;
mod recompute;
mod schedule;
mod sinks;
mod summary;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use crds::{Checked, spec::PipelineSpec};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use engine::{map::MapContext, plan::Plan};

use crate::{
    checkpoint::{CheckpointStore, CheckpointWriter, Snapshot},
    cli::Mistake,
    driver::{Driver, DriverOptions, Layout, Shared},
    ingest::{self, IngestOptions, Ingesters},
    log::{Fsync, Inlet, SharedLog, Syncer},
    metrics::{Metrics, ledger::Ledger},
    secrets::Secrets,
    serve::{Shown, background},
    store::TableStore,
    tell,
};
use console::ConsoleSink;
pub use data_dir::{DataDir, fingerprint};
use notify::Notifier;
use observed::Observed;
use outlets::Outlet;
pub use owner::{Owner, Unowned, visit};
use progress::Progress;
use pump::Pump;
pub use schedule::run_now;

/// How often the state of the run is looked at where nothing announces a change.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a run that was told to stop goes on processing what is already in the log.
const DRAIN_FOR: Duration = Duration::from_secs(10);

/// What a run was asked for.
#[derive(Debug)]
pub struct RunOptions {
    /// Directory of the manifest: paths in it start here.
    pub directory: PathBuf,
    /// Where everything is kept; a temporary directory if none.
    pub data_dir: Option<PathBuf>,
    /// Where to serve.
    pub listen: SocketAddr,
    /// End once every source is read and every window closed.
    pub until_done: bool,
    /// End endless sources after this.
    pub duration: Option<Duration>,
    /// Driver threads; as many as there are processors if none.
    pub threads: Option<usize>,
    /// When commits are forced to disk.
    pub fsync: Fsync,
    /// Show progress as a line that is written over.
    pub terminal: bool,
}

/// Why a run ended without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything was read and every window is closed.
    Done,
    /// Somebody asked for it, or the duration is over.
    Asked,
}

/// Runs the pipeline to its end.
///
/// # Errors
/// A [`Mistake`] where the user has to change something; else what failed in the world.
pub fn run(checked: &Checked, options: &RunOptions, signals: &Receiver<()>) -> anyhow::Result<()> {
    refuse_endless(&checked.manifest.spec, options)?;
    let data_dir = DataDir::open(options.data_dir.as_deref(), checked, options.fsync)?;
    data_dir.announce();
    announce_sinks(&checked.manifest.spec, &data_dir.path);
    let pipeline = Pipeline::start(checked, options, &data_dir)?;
    let end = pipeline.wait(options, signals);
    pipeline.stop(end?, options)
}

fn refuse_endless(spec: &PipelineSpec, options: &RunOptions) -> Result<(), Mistake> {
    let endless = ingest::endless(spec);
    if options.until_done && options.duration.is_none() && !endless.is_empty() {
        return Err(Mistake(format!(
            "--until-done: ingester {} never ends by itself; bound it with --duration 60s",
            endless.join(", ")
        )));
    }
    Ok(())
}

/// One line for each sink whose server is not part of this mode, and for files: where they are.
fn announce_sinks(spec: &PipelineSpec, data_dir: &Path) {
    for sink in &spec.sinks {
        if let Some(parquet) = &sink.parquet {
            let store = if parquet.path.contains("://") { "no object store in this mode; " } else { "" };
            let directory = outlets::directory(parquet, data_dir);
            tell::line(&format!("sink {}: {store}Parquet files in {}", sink.name, directory.display()));
        }
        if let Some(kafka) = &sink.kafka {
            let (name, topic) = (&sink.name, &kafka.topic);
            tell::line(&format!("sink {name}: no Kafka in this mode; topic {topic} of the embedded log"));
        }
        let server = match sink {
            sink if sink.couchbase.is_some() => "Couchbase",
            sink if sink.postgres.is_some() => "PostgreSQL",
            sink if sink.redis.is_some() => "Redis",
            _ => continue,
        };
        let kept = match (sink.tables.join(", "), sink.streams.join(", ")) {
            (tables, streams) if streams.is_empty() => format!("{tables}: in the embedded tables under the same names"),
            (_, streams) => format!("events of {streams}: in the embedded log only"),
        };
        tell::line(&format!("sink {}: no {server} in this mode; {kept}", sink.name));
    }
    for schedule in &spec.schedules {
        let (name, cron) = (&schedule.name, &schedule.cron);
        tell::line(&format!("schedule {name}: {cron} (a cluster runs it by the clock; here --now {name} does)"));
    }
}

/// Everything that runs.
struct Pipeline {
    log: SharedLog,
    shared: Arc<Shared>,
    driver: Driver,
    writer: CheckpointWriter,
    syncer: Syncer,
    ingesters: Ingesters,
    pump: Pump,
    consoles: Vec<ConsoleSink>,
    outlets: Vec<Outlet>,
    notifier: Option<Notifier>,
    server: Option<crate::run::server::Server>,
    reader: Arc<crate::store::Reader>,
    spec: PipelineSpec,
    started: Instant,
}

mod server;

impl Pipeline {
    fn start(checked: &Checked, options: &RunOptions, data_dir: &DataDir) -> anyhow::Result<Self> {
        let spec = &checked.manifest.spec;
        let plan = Arc::new(checked.plan.clone());
        let log = Arc::clone(&data_dir.log);
        let lookups = lookups::load(&plan, spec, &options.directory)?;
        let context = Arc::new(MapContext { lookups, hash_key: data_dir.hash_key });
        let store = TableStore::open(Some(&data_dir.path.join("tables.db")), &plan)?;
        let changes = store.changes();
        let reader = Arc::new(crate::store::Reader::open(store.path())?);
        let listener = background::bind(options.listen, "--listen")?;
        let syncer = Syncer::start(&log).context("failed to start the log's sync thread")?;
        let checkpoints = CheckpointStore::new(Arc::clone(&log), data_dir.fingerprint, data_dir.generation);
        let metrics = Arc::new(Metrics::default());
        let writer = start_checkpoints(&log, &plan, &checkpoints, Arc::clone(&metrics))?;
        let driver = Driver::start(DriverOptions {
            log: Arc::clone(&log),
            plan: Arc::clone(&plan),
            context,
            checkpoints,
            queue: writer.queue(),
            checkpoint_every: checkpoint_every(spec),
            threads: options.threads.unwrap_or_else(processors),
            metrics: Arc::clone(&metrics),
        })?;
        let shared = Arc::clone(&driver.shared);
        let pump = Pump::start(Arc::clone(&shared), store)?;
        let consoles = ConsoleSink::start_all(&shared, spec)?;
        let outlets = Outlet::start_all(&shared, spec, &data_dir.path)?;
        let notifier = Notifier::start(&shared, spec, &Secrets::from_environment())?;
        let tokens = data_dir.tokens(spec);
        for (ingester, token) in &tokens {
            tell::line(&format!(
                "ingester {ingester}: no secret in this mode; a token was made up: {}",
                token.join(", ")
            ));
        }
        let ingest_options = IngestOptions {
            directory: options.directory.clone(),
            tokens,
            listen: Some(options.listen),
            duration: options.duration,
            #[cfg(feature = "fleet")]
            upstreams: crate::kafka::upstream::upstreams(&spec.ingest, &Secrets::from_environment())?,
            ..IngestOptions::default()
        };
        let inlet_log = Arc::clone(&log);
        let ingesters = ingest::spawn(checked, &ingest_options, move || Box::new(Inlet::new(Arc::clone(&inlet_log))));
        let ingesters = ingesters.map_err(|error| match error.is_mistake() {
            true => anyhow::Error::new(Mistake(error.to_string())),
            false => error.into(),
        })?;
        for (ingester, address) in ingesters.addresses() {
            tell::line(&format!("ingester {ingester}: http://{address}"));
        }
        let live = server::RunningPipeline::new(Arc::clone(&shared), Arc::clone(&reader))?;
        metrics.register(Observed::new(Arc::clone(&shared), Arc::clone(&live.latest)));
        metrics.register(Ledger::new(Shown::new(Arc::clone(&reader), changes.clone())));
        let server =
            server::Server::start(listener, &plan, spec, Arc::clone(&reader), changes, live, ingesters.router())?;
        data_dir.publish(server.address)?;
        tell::line(&format!("dashboard: http://{}", server.address));
        let started = Instant::now();
        let server = Some(server);
        Ok(Self {
            log,
            shared,
            driver,
            writer,
            syncer,
            ingesters,
            pump,
            consoles,
            outlets,
            notifier,
            server,
            reader,
            spec: spec.clone(),
            started,
        })
    }

    /// Watches until the run is done, somebody asks for its end, or something fails.
    fn wait(&self, options: &RunOptions, signals: &Receiver<()>) -> anyhow::Result<End> {
        let mut progress = Progress::new(options.terminal);
        loop {
            match signals.recv_timeout(LOOK_EVERY) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(End::Asked),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.shared.has_failed() || self.pump.has_failed() || self.outlets.iter().any(Outlet::has_failed) {
                return Ok(End::Asked);
            }
            if let Some(server) = &self.server {
                let sinks = sinks::status(&self.shared, &self.spec, &self.pump, &self.consoles, &self.outlets);
                server.live.update(self.ingesters.progress(), sinks);
            }
            progress.show(&self.shared, &self.ingesters.progress());
            let ended = !self.ingesters.progress().is_empty() && self.ingesters.done();
            if options.until_done && (ended || self.ingesters.progress().is_empty()) {
                if !self.shared.ingest_done.swap(true, Ordering::AcqRel) {
                    self.log.nudge();
                }
                if self.shared.is_drained()? {
                    progress.end();
                    return Ok(End::Done);
                }
            } else if options.duration.is_some_and(|duration| self.started.elapsed() >= duration) {
                progress.end();
                return Ok(End::Asked);
            }
        }
    }

    /// Ends everything in order and tells what came of it.
    fn stop(self, end: End, options: &RunOptions) -> anyhow::Result<()> {
        self.ingesters.stop();
        let errors = self.ingesters.join();
        if end == End::Asked && !self.shared.has_failed() {
            self.shared.wait_for_input(DRAIN_FOR)?;
        }
        let driven = self.driver.stop();
        self.writer.finish().context("failed to write the last checkpoints")?;
        self.log.sync()?;
        self.pump.finish().context("failed to write the tables")?;
        self.consoles.into_iter().try_for_each(ConsoleSink::finish)?;
        self.outlets.into_iter().try_for_each(Outlet::finish)?;
        self.notifier.map_or(Ok(()), Notifier::finish)?;
        if let Some(server) = self.server {
            server.stop();
        }
        self.log.close_inlets();
        self.syncer.join();
        driven?;
        if end == End::Done || options.duration.is_some() {
            summary::print(&self.reader, self.started.elapsed())?;
        }
        match errors.into_iter().next() {
            Some((ingester, error)) => bail!(anyhow::Error::new(error).context(format!("ingester {ingester} failed"))),
            None => Ok(()),
        }
    }
}

/// Starts the checkpoint thread; once enough checkpoints are kept, what only older ones need is deleted.
fn start_checkpoints(
    log: &SharedLog,
    plan: &Arc<Plan>,
    checkpoints: &CheckpointStore,
    metrics: Arc<Metrics>,
) -> anyhow::Result<CheckpointWriter> {
    let layout = Layout::find(log, plan)?;
    let (log, checkpoints_read) = (Arc::clone(log), checkpoints.clone());
    let written = move |snapshot: &Snapshot, took: Duration| {
        let task = snapshot.task.as_str();
        metrics.checkpoint(task, snapshot.bytes.len(), took);
        let Some(partition) = task.strip_prefix("merge:").and_then(|number| number.parse().ok()) else { return };
        let trimmed = checkpoints_read.oldest(task).and_then(|oldest| match oldest {
            Some(oldest) => log.delete_below(layout.shuffle(partition), oldest),
            None => Ok(()),
        });
        if let Err(error) = trimmed {
            tracing::warn!(task, %error, "old shuffle messages stay for now");
        }
    };
    Ok(CheckpointWriter::start(checkpoints.clone(), written))
}

/// A third of the promised recovery: load and replay fit into what is left.
#[must_use]
pub fn checkpoint_every(spec: &PipelineSpec) -> Duration {
    let asked = spec.process.checkpoints.every.as_ref().map(|every| every.to_std());
    asked.unwrap_or(spec.process.recovery.to_std() / 3).max(Duration::from_secs(1))
}

/// How many processors there are.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Secrets by ingester, as [`IngestOptions::tokens`] wants them.
type Tokens = BTreeMap<String, Vec<String>>;

/// Resolves a path of the manifest.
fn resolve(directory: &Path, path: &str) -> PathBuf {
    directory.join(path)
}
