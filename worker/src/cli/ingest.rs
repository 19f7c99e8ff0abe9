//! `clickstream ingest --name N`: one ingester of a manifest, writing to Kafka.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use crds::{Checked, spec::Ingester};
use crossbeam_channel::RecvTimeoutError;
use prometheus::{IntCounter, IntGauge, Registry};

use super::{
    Mistake, manifest,
    run::{LogFormat, signals, start_logging},
};
use crate::{
    health::{HealthServer, Ready},
    ingest::{self, IngestOptions, IngestProgress, Ingesters},
    kafka::{client::Cluster, inlet::KafkaInlet, names::Names},
    secrets::Secrets,
};

/// Arguments of `ingest`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ingester.
    #[arg(long)]
    pub name: String,
    /// The manifest.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Override a field of the manifest: `-s path=value`; items of a list by their name.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// Tells replicas of one collector apart; a pod's name does.
    #[arg(long, env = "HOSTNAME", default_value = "0")]
    pub instance: String,
    /// Address of health and metrics.
    #[arg(long, default_value = "127.0.0.1:9090", value_name = "ADDR")]
    pub health_listen: SocketAddr,
    /// End once the source is read, instead of staying ready.
    #[arg(long)]
    pub until_done: bool,
    /// How the program's own log is written.
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

/// How often the ingester is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Reads the source until it ends or somebody asks for the end. What was committed is in Kafka on all replicas in sync.
///
/// # Errors
/// A [`Mistake`] where the manifest has no such ingester or a secret is missing; else what the world says.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    start_logging(args.log);
    let signals = signals()?;
    let checked = manifest::load(&args.manifest, &args.sets)?;
    let ingester = find(&checked, &args.name)?;
    let secrets = Secrets::from_environment();
    let cluster = Cluster::of(&checked.manifest.spec, &secrets)?;
    let progress = Arc::new(Mutex::new(None));
    let counted = metrics(&args.name)?;
    let health = HealthServer::start(args.health_listen, readiness(&progress), counted.registry.clone())?;
    let stop = Arc::new(AtomicBool::new(false));
    let names = Names::new(&checked.manifest.name);
    let inlet = KafkaInlet::connect(&cluster, &names, &writer(&names, ingester, &args.instance), Arc::clone(&stop));
    let ingesters = start(&checked, &args, ingester, &secrets, inlet?)?;
    let mut told = false;
    let ended = loop {
        let now = ingesters.progress();
        *progress.lock().unwrap_or_else(PoisonError::into_inner) = now.first().cloned();
        now.iter().for_each(|now| counted.show(now));
        match signals.recv_timeout(LOOK_EVERY) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(error) = now.iter().find_map(|now| now.error.clone()) {
            break Err(error);
        }
        if ingesters.done() {
            if args.until_done {
                break Ok(());
            }
            if !std::mem::replace(&mut told, true) {
                eprintln!("ingester {}: complete, {} events; it stays ready", args.name, now[0].read);
            }
        }
    };
    stop.store(true, Ordering::Release);
    ingesters.stop();
    let errors = ingesters.join();
    health.stop();
    match (errors.into_iter().next(), ended) {
        (Some((_, error)), _) => Err(anyhow::Error::new(error).context(format!("ingester {} failed", args.name))),
        (None, Err(error)) => bail!("ingester {} failed: {error}", args.name),
        (None, Ok(())) => Ok(ExitCode::SUCCESS),
    }
}

fn find<'a>(checked: &'a Checked, name: &str) -> Result<&'a Ingester, Mistake> {
    let all = &checked.manifest.spec.ingest;
    all.iter().find(|ingester| ingester.name == name).ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|ingester| ingester.name.as_str()).collect();
        Mistake(format!("the manifest has no ingester {name}; it has {}", known.join(", ")))
    })
}

/// Replicas of a collector write side by side; of every other source one writes at a time, and a second takes over.
fn writer(names: &Names, ingester: &Ingester, instance: &str) -> String {
    let id = names.ingest_transaction(&ingester.name);
    if ingester.http.is_some() { format!("{id}.{instance}") } else { id }
}

fn start(
    checked: &Checked,
    args: &Args,
    ingester: &Ingester,
    secrets: &Secrets,
    inlet: KafkaInlet,
) -> anyhow::Result<Ingesters> {
    let mut tokens = BTreeMap::new();
    if let Some(secret) = ingester.http.as_ref().and_then(|http| http.tokens_secret.as_ref()) {
        tokens.insert(ingester.name.clone(), secrets.values(secret)?);
    }
    let options = IngestOptions {
        directory: manifest::directory(&args.manifest),
        tokens,
        host: Some(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        only: Some(ingester.name.clone()),
        ..IngestOptions::default()
    };
    let inlet = Mutex::new(Some(inlet));
    let take = || inlet.lock().unwrap_or_else(PoisonError::into_inner).take();
    let started = ingest::spawn(checked, &options, || Box::new(take().expect("one ingester asks for one log")));
    let ingesters = started.map_err(|error| match error.is_mistake() {
        true => anyhow::Error::new(Mistake(error.to_string())),
        false => error.into(),
    })?;
    ingesters.addresses().iter().for_each(|(name, address)| eprintln!("ingester {name}: http://{address}"));
    Ok(ingesters)
}

/// Ready once it runs; one that is complete stays ready.
fn readiness(progress: &Arc<Mutex<Option<IngestProgress>>>) -> Ready {
    let progress = Arc::clone(progress);
    Arc::new(move || match &*progress.lock().unwrap_or_else(PoisonError::into_inner) {
        None => Err("not connected to Kafka yet".into()),
        Some(IngestProgress { error: Some(error), .. }) => Err(error.clone()),
        Some(_) => Ok(()),
    })
}

/// What Prometheus sees of an ingester.
struct Metrics {
    registry: Registry,
    read: IntCounter,
    complete: IntGauge,
}

fn metrics(ingester: &str) -> anyhow::Result<Metrics> {
    let registry = Registry::new();
    let with = |name: &str, help: &str| prometheus::Opts::new(name, help).const_label("ingester", ingester);
    let read = IntCounter::with_opts(with("clickstream_ingest_events_total", "Events committed to Kafka."))?;
    let complete = IntGauge::with_opts(with("clickstream_ingest_complete", "1 once the source has ended."))?;
    registry.register(Box::new(read.clone()))?;
    registry.register(Box::new(complete.clone()))?;
    Ok(Metrics { registry, read, complete })
}

impl Metrics {
    fn show(&self, progress: &IngestProgress) {
        self.read.inc_by(progress.read.saturating_sub(self.read.get()));
        self.complete.set(i64::from(progress.done && progress.error.is_none()));
    }
}
