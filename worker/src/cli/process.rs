//! `clickstream process`: one processor of a fleet.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use crds::spec::PipelineSpec;
use crossbeam_channel::RecvTimeoutError;
use engine::{hashing::keyed_hash, map::MapContext};

use super::{
    Mistake,
    role::{Role, RoleArgs},
};
use crate::{
    clock,
    health::{HealthServer, Ready},
    kafka::{
        admin::{Admin, Step, decide},
        checkpoints::Checkpoints,
        client::Cluster,
        names::Names,
        owner,
        process::{ProcessOptions, Processor},
        topics::wishes,
        watch::Watch,
    },
    run,
    secrets::Secrets,
    tell,
};

/// How often the threads are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Arguments of `clickstream process`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    role: RoleArgs,
    /// Processing threads; what the manifest says, or as many as there are processors.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where lookup files lie; the manifest's directory by default.
    #[arg(long, value_name = "DIR")]
    pub files: Option<PathBuf>,
}

/// Processes until it is told to stop.
///
/// # Errors
/// A [`Mistake`] where the user has to change something; else what failed in the world.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Role { signals, checked, secrets, cluster } = args.role.begin()?;
    let spec = &checked.manifest.spec;
    let names = Names::new(&checked.manifest.name);
    refuse_object_store(spec)?;
    let checkpoint_partitions = check_topics(&cluster, &checked)?;
    let fingerprint = run::fingerprint(&checked.plan);
    owner::claim(&cluster, &names, fingerprint)?;
    let plan = Arc::new(checked.plan.clone());
    let directory = args.files.clone().unwrap_or_else(|| args.role.directory());
    let lookups = run::lookups::load(&plan, spec, &directory)?;
    let context = Arc::new(MapContext { lookups, hash_key: hash_key(spec, &secrets)? });
    let generation = clock::now().unsigned_abs();
    let threads = args.threads.or(spec.process.threads.map(|threads| threads as usize));
    let watch = Watch::start(&cluster, names.progress())?;
    let processor = Processor::start(ProcessOptions {
        checkpoints: Checkpoints::new(&cluster, &names, checkpoint_partitions, fingerprint, generation),
        checkpoint_every: run::checkpoint_every(spec),
        instance: instance(),
        threads: threads.unwrap_or_else(run::processors),
        cluster,
        plan,
        context,
    })?;
    let shared = Arc::clone(&processor.shared);
    let (ready, brokers) = (Arc::clone(&shared), watch.downstream());
    let ready: Ready = Arc::new(move || brokers.ready().and_then(|()| ready.ready()));
    let health = HealthServer::start(args.role.health_listen, ready, shared.metrics.registry.clone())?;
    tell::line(&format!("health: http://{}", health.address));
    while matches!(signals.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Timeout)) && !processor.has_failed() {}
    let ended = processor.stop();
    health.stop();
    watch.stop();
    ended?;
    Ok(ExitCode::SUCCESS)
}

fn refuse_object_store(spec: &PipelineSpec) -> Result<(), Mistake> {
    match &spec.process.checkpoints.store {
        None => Ok(()),
        Some(store) => Err(Mistake(format!(
            "spec.process.checkpoints.store: {store}: checkpoints are kept in a Kafka topic in this version; leave it out"
        ))),
    }
}

/// Makes sure that every topic is there and right; tells how many partitions the checkpoints have.
fn check_topics(cluster: &Cluster, checked: &crds::Checked) -> anyhow::Result<u32> {
    let wishes = wishes(checked);
    let names: Vec<&str> = wishes.iter().map(|wish| wish.name.as_str()).collect();
    let facts = Admin::new(cluster)?.facts(&names)?;
    let told: Vec<String> = decide(&wishes, &facts).iter().map(Step::to_string).collect();
    if !told.is_empty() {
        let told = told.join("\n");
        return Err(Mistake(format!("topics are not as they should be; `clickstream setup` can:\n{told}")).into());
    }
    let checkpoints = Names::new(&checked.manifest.name).checkpoints();
    facts.get(&checkpoints).map(|fact| fact.partitions).context("the checkpoints have no topic")
}

/// The key that hides personal fields, from the one secret that they name.
fn hash_key(spec: &PipelineSpec, secrets: &Secrets) -> Result<[u8; 32], Mistake> {
    let fields = spec.streams.iter().flat_map(|stream| &stream.fields).filter_map(|field| field.pii.as_ref());
    let named: std::collections::BTreeSet<&str> = fields.map(|pii| pii.hash.key_secret.as_str()).collect();
    let mut named = named.into_iter();
    let (Some(secret), other) = (named.next(), named.next()) else { return Ok([0; 32]) };
    if let Some(other) = other {
        let told = format!("personal fields name the secrets {secret} and {other}: this version hashes under one key");
        return Err(Mistake(told));
    }
    Ok(keyed_hash(&[0; 32], secrets.value(secret, "key")?.as_bytes()))
}

/// What tells this process from others: its host (a pod has its own) and its number there.
fn instance() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = std::env::var("HOSTNAME").unwrap_or(host);
    let host: String = host.trim().chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    format!("{}-{}", if host.is_empty() { "host" } else { &host }, std::process::id())
}
