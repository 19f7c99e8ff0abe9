//! `clickstream ingest --name N`: one ingester of a manifest, writing to Kafka.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use anyhow::bail;
use crds::{
    Checked,
    spec::{Dataset, Ingester},
};
use crossbeam_channel::RecvTimeoutError;
use prometheus::{IntCounter, IntGauge, Registry};

use super::{
    Mistake,
    role::{Role, RoleArgs, host},
};
use crate::{
    health::{HealthServer, Ready, downstream::Downstream},
    ingest::{self, IngestOptions, IngestProgress, Ingesters, Remote},
    kafka::{
        client::Cluster,
        inlet::{KafkaInlet, Wire},
        names::Names,
        shares::KafkaShares,
        upstream::upstreams,
        watch::Watch,
    },
    objects::Objects,
    ports::{IngestLog, LogError},
    secrets::Secrets,
    tell,
};

/// Arguments of `ingest`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ingester.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    role: RoleArgs,
    /// Tells replicas of one collector apart; the name of the host and the collector's port do, where that is left out.
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// End once the source is read, instead of staying ready.
    #[arg(long)]
    until_done: bool,
}

/// How often the ingester is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Reads the source until it ends or somebody asks for the end. What was committed is in Kafka on all replicas in sync.
///
/// # Errors
/// A [`Mistake`] where the manifest has no such ingester or a secret is missing; else what the world says.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(Role { signals, checked, secrets, cluster }) = args.role.begin("the last commit")? else {
        return Ok(ExitCode::SUCCESS);
    };
    let ingester = find(&checked, &args.name)?;
    let progress = Arc::new(Mutex::new(None));
    let mut metrics = Metrics::new(&args.name)?;
    let names = Names::new(&checked.manifest.name);
    let watch = Watch::start(&cluster, [names.progress()].into_iter().chain(ingester.topic.clone()).collect())?;
    let wire = Wire::default();
    let ready = readiness(&progress, watch.downstream(), Arc::clone(&wire.downstream));
    let health = HealthServer::start(args.role.health_listen, ready, metrics.registry.clone())?;
    let log = log(&cluster, &names, ingester, args.instance.as_deref(), &wire)?;
    if let Some(topic) = ingester.topic.as_ref().filter(|topic| log.partitions(topic) == 0) {
        return Err(Mistake(format!("topic {topic} is not there; `clickstream setup` makes it")).into());
    }
    let ingesters = start(&checked, &args, ingester, &secrets, log)?;
    let mut told = false;
    let ended = loop {
        let now = ingesters.progress();
        *progress.lock().unwrap_or_else(PoisonError::into_inner) = now.first().cloned();
        now.iter().try_for_each(|now| metrics.show(now))?;
        match signals.recv_timeout(LOOK_EVERY) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(error) = now.iter().find_map(|now| now.error.clone()) {
            break Err(error);
        }
        if ingesters.done() {
            if !std::mem::replace(&mut told, true) {
                // Its last commit may have come after it was looked at.
                tell::line(&completion(&args, &ingesters.progress()[0]));
            }
            if args.until_done {
                break Ok(());
            }
        }
    };
    wire.stop.store(true, Ordering::Release);
    ingesters.stop();
    let errors = ingesters.join();
    health.stop();
    watch.stop();
    match (errors.into_iter().next(), ended) {
        (Some((_, error)), _) => Err(anyhow::Error::new(error).context(format!("ingester {} failed", args.name))),
        (None, Err(error)) => bail!("ingester {} failed: {error}", args.name),
        (None, Ok(())) => Ok(ExitCode::SUCCESS),
    }
}

fn completion(args: &Args, end: &IngestProgress) -> String {
    let stays = if args.until_done { "" } else { "; it stays ready" };
    let all = end.total.unwrap_or(end.read);
    let here = if all == end.read { String::new() } else { format!(", {} of them by this replica", end.read) };
    format!("ingester {}: complete, {all} events{here}{stays}", args.name)
}

fn find<'a>(checked: &'a Checked, name: &str) -> Result<&'a Ingester, Mistake> {
    let all = &checked.manifest.spec.ingest;
    all.iter().find(|ingester| ingester.name == name).ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|ingester| ingester.name.as_str()).collect();
        Mistake(format!("the manifest has no ingester {name}; it has {}", known.join(", ")))
    })
}

/// Replicas of a collector write side by side, those of a dataset by shares; of every other source one writes at a time, and
/// a second takes over. Collectors are told apart by what no two of them can have, a port of a host: whoever takes it after
/// a crash has the id of the dead, and ends what they left open.
fn log(
    cluster: &Cluster,
    names: &Names,
    ingester: &Ingester,
    instance: Option<&str>,
    wire: &Wire,
) -> Result<Box<dyn IngestLog>, LogError> {
    if ingester.dataset.as_ref().is_some_and(Dataset::has_shares) {
        return Ok(Box::new(KafkaShares::join(cluster, names, &ingester.name, wire.clone())?));
    }
    if let Some(http) = &ingester.http {
        let replica = instance.map_or_else(|| format!("{}-{}", host(), http.port), str::to_owned);
        return Ok(Box::new(KafkaInlet::connect_replica(cluster, names, (&ingester.name, &replica), wire.clone())?));
    }
    let id = names.ingest_transaction(&ingester.name);
    Ok(Box::new(KafkaInlet::connect(cluster, names, &id, wire.clone())?))
}

fn start(
    checked: &Checked,
    args: &Args,
    ingester: &Ingester,
    secrets: &Secrets,
    log: Box<dyn IngestLog>,
) -> anyhow::Result<Ingesters> {
    let mut tokens = BTreeMap::new();
    if let Some(secret) = ingester.http.as_ref().and_then(|http| http.tokens_secret.as_ref()) {
        tokens.insert(ingester.name.clone(), secrets.values(secret)?);
    }
    let mut remotes: BTreeMap<String, Arc<dyn Remote>> = BTreeMap::new();
    if let Some(dataset) = ingester.dataset.as_ref().filter(|dataset| Objects::is_url(&dataset.path)) {
        let objects = Objects::open(&dataset.path, dataset.credentials_secret.as_deref(), secrets)?;
        remotes.insert(ingester.name.clone(), Arc::new(objects));
    }
    let options = IngestOptions {
        upstreams: upstreams([ingester], secrets)?,
        directory: args.role.directory(),
        tokens,
        remotes,
        host: Some(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        only: Some(ingester.name.clone()),
        ..IngestOptions::default()
    };
    let log = Mutex::new(Some(log));
    let take = || log.lock().unwrap_or_else(PoisonError::into_inner).take();
    let started = ingest::spawn(checked, &options, || take().expect("one ingester asks for one log"));
    let ingesters = started.map_err(|error| match error.is_mistake() {
        true => anyhow::Error::new(Mistake(error.to_string())),
        false => error.into(),
    })?;
    for (name, address) in ingesters.addresses() {
        tell::line(&format!("ingester {name}: http://{address}"));
    }
    Ok(ingesters)
}

/// Ready once it runs, as long as Kafka answers and takes what is written; one that is complete stays ready.
fn readiness(
    progress: &Arc<Mutex<Option<IngestProgress>>>,
    brokers: Arc<Downstream>,
    written: Arc<Downstream>,
) -> Ready {
    let progress = Arc::clone(progress);
    Arc::new(move || {
        brokers.ready()?;
        written.ready()?;
        state(&progress)
    })
}

fn state(progress: &Mutex<Option<IngestProgress>>) -> Result<(), String> {
    match &*progress.lock().unwrap_or_else(PoisonError::into_inner) {
        None => Err("not connected to Kafka yet".into()),
        Some(IngestProgress { error: Some(error), .. }) => Err(error.clone()),
        Some(_) => Ok(()),
    }
}

/// What Prometheus sees of an ingester. What is not known yet is not shown: a counter that began at 0 and went on where an
/// earlier run had ended would be taken for that many events in a moment.
struct Metrics {
    registry: Registry,
    read: IntCounter,
    lag: IntGauge,
    expired: IntCounter,
    complete: IntGauge,
    shows: Shows,
}

#[derive(Default)]
struct Shows {
    read: bool,
    copies: bool,
}

impl Metrics {
    fn new(ingester: &str) -> prometheus::Result<Self> {
        let with = |name: &str, help: &str| prometheus::Opts::new(name, help).const_label("ingester", ingester);
        let waits = "Events of another Kafka's topic that are not copied yet.";
        let took = "Events of another Kafka's topic that retention took before they were copied.";
        let metrics = Self {
            registry: Registry::new(),
            read: IntCounter::with_opts(with("clickstream_ingest_events_total", "Events committed to Kafka."))?,
            lag: IntGauge::with_opts(with("clickstream_ingest_lag_events", waits))?,
            expired: IntCounter::with_opts(with("clickstream_ingest_expired_events_total", took))?,
            complete: IntGauge::with_opts(with("clickstream_ingest_complete", "1 once the source has ended."))?,
            shows: Shows::default(),
        };
        metrics.registry.register(Box::new(metrics.complete.clone()))?;
        Ok(metrics)
    }

    fn show(&mut self, progress: &IngestProgress) -> prometheus::Result<()> {
        self.complete.set(i64::from(progress.done && progress.error.is_none()));
        if progress.begun {
            self.read.inc_by(progress.read.saturating_sub(self.read.get()));
            if !std::mem::replace(&mut self.shows.read, true) {
                self.registry.register(Box::new(self.read.clone()))?;
            }
        }
        if let Some(waiting) = progress.waiting {
            self.lag.set(waiting.try_into().unwrap_or(i64::MAX));
            self.expired.inc_by(progress.expired.saturating_sub(self.expired.get()));
            if !std::mem::replace(&mut self.shows.copies, true) {
                self.registry.register(Box::new(self.lag.clone()))?;
                self.registry.register(Box::new(self.expired.clone()))?;
            }
        }
        Ok(())
    }
}
