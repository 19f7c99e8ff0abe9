//! `clickstream process`: one processor of a fleet.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use crds::{Checked, spec::PipelineSpec};
use crossbeam_channel::RecvTimeoutError;
use engine::{hashing::keyed_hash, map::MapContext};
use prometheus::Registry;

use super::{
    Mistake,
    role::{Role, RoleArgs, host},
};
use crate::{
    clock,
    health::{HealthServer, Ready},
    kafka::{
        admin::Admin,
        catalogue::{self, Epoch},
        checkpoints::Checkpoints,
        client::Cluster,
        epochs::Epochs,
        names::Names,
        process::{ProcessOptions, Processor},
        steps::{Step, decide},
        topics::{Care, wishes},
        watch::Watch,
    },
    limits,
    objects::Objects,
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
    let Some(Role { signals, checked, secrets, cluster }) = args.role.begin("the last commit and checkpoint")? else {
        return Ok(ExitCode::SUCCESS);
    };
    let names = Names::new(&checked.manifest.name);
    let catalogue = catalogue::read(&cluster, &names)?;
    let checked = catalogue::settle(&catalogue, checked);
    catalogue::agree(&catalogue, &checked)?;
    let registry = Registry::new();
    let needed = [names.progress(), names.repaired(), names.dead_letters()];
    let needed = needed.into_iter().chain(checked.plan.topics.iter().map(|topic| topic.name.clone()));
    let watch = Watch::start(&cluster, needed.collect())?;
    let begin = |current: &Checked, epoch: &Epoch| start(epoch, &args, &cluster, current, &secrets, &registry);
    let mut epochs = Epochs::start(&cluster, &names, checked.clone(), Box::new(begin))?;
    let (ready, brokers) = (epochs.ready(), watch.downstream());
    let ready: Ready = Arc::new(move || brokers.ready().and_then(|()| ready()));
    let health = HealthServer::start(args.role.health_listen, ready, registry.clone())?;
    tell::line(&format!("health: http://{}", health.address));
    let mut turned = Ok(());
    while turned.is_ok()
        && !epochs.has_failed()
        && matches!(signals.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Timeout))
    {
        turned = epochs.turn();
    }
    let ended = epochs.stop();
    health.stop();
    watch.stop();
    turned?;
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the threads of one epoch.
fn start(
    epoch: &Epoch,
    args: &Args,
    cluster: &Cluster,
    current: &Checked,
    secrets: &Secrets,
    registry: &Registry,
) -> anyhow::Result<Processor> {
    check_topics(cluster, current, std::slice::from_ref(epoch))?;
    let (plan, spec) = (&epoch.checked.plan, &epoch.checked.manifest.spec);
    let directory = args.files.clone().unwrap_or_else(|| args.role.directory());
    let lookups = run::lookups::load(plan, spec, &directory)?;
    let threads = args.threads.or(spec.process.threads.map(|threads| threads as usize));
    Ok(Processor::start(ProcessOptions {
        // The store that counts is today's, whatever the epoch's manifest said when it began.
        checkpoints: checkpoints(cluster, epoch, &current.manifest.spec, secrets)?,
        checkpoint_every: run::checkpoint_every(spec),
        instance: instance(),
        threads: threads.unwrap_or_else(run::processors),
        cluster: cluster.clone(),
        context: Arc::new(MapContext { lookups, hash_key: hash_key(spec, secrets)? }),
        epoch: epoch.clone(),
        registry: registry.clone(),
    })?)
}

/// Where the checkpoints of an epoch lie that has its topics; `spec` is today's.
///
/// # Errors
/// Where no broker answers; a [`Mistake`] where the bucket cannot be used.
pub(super) fn checkpoints(
    cluster: &Cluster,
    epoch: &Epoch,
    spec: &PipelineSpec,
    secrets: &Secrets,
) -> anyhow::Result<Checkpoints> {
    let topic = epoch.names.checkpoints();
    let facts = Admin::new(cluster)?.facts(&[&topic])?;
    let partitions = facts.get(&topic).context("the checkpoints have no topic")?.partitions;
    let generation = clock::now().unsigned_abs();
    let checkpoints = Checkpoints::new(cluster, &epoch.names, partitions, epoch.identity, generation);
    Ok(bucket(spec, secrets)?.iter().fold(checkpoints, Checkpoints::in_bucket))
}

/// Where checkpoints are kept instead of a topic.
fn bucket(spec: &PipelineSpec, secrets: &Secrets) -> Result<Option<Objects>, Mistake> {
    let wanted = &spec.process.checkpoints;
    let open = |store: &String| {
        let secret = wanted.credentials_secret.as_deref();
        Objects::open_for(limits::CHECKPOINT_RETRY_MAX, store, secret, secrets)
    };
    wanted.store.as_ref().map(open).transpose()
}

/// Makes sure that every topic is there and right. Settings of a raw topic that have drifted hold nobody
/// up, as a processor that runs would not stop for them either: they are told, and `setup` puts them right.
fn check_topics(cluster: &Cluster, checked: &Checked, epochs: &[Epoch]) -> anyhow::Result<()> {
    let mut wishes = wishes(checked, epochs);
    // Those concern whoever writes to them.
    wishes.retain(|wish| wish.care != Care::Shared);
    let names: Vec<&str> = wishes.iter().map(|wish| wish.name.as_str()).collect();
    let facts = Admin::new(cluster)?.facts(&names)?;
    let is_own = |name: &String| wishes.iter().any(|wish| wish.name == *name && wish.care == Care::Own);
    let drifted = |step: &Step| match step {
        Step::Alter { name, .. } => !is_own(name),
        Step::Copy { .. } => true,
        _ => false,
    };
    let (drifted, wrong): (Vec<Step>, Vec<Step>) = decide(&wishes, &facts).into_iter().partition(drifted);
    for step in drifted {
        match step {
            Step::Copy { .. } => tracing::warn!("raw topic {step}"),
            _ => tracing::warn!(
                "settings of a raw topic are others than the manifest says; `clickstream setup` can {step}"
            ),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = wrong.iter().map(Step::to_string).collect();
    let told = told.join("\n");
    Err(Mistake(format!("topics are not as they should be; `clickstream setup` can:\n{told}")).into())
}

/// The key that hides personal fields, from the one secret that they name.
pub(super) fn hash_key(spec: &PipelineSpec, secrets: &Secrets) -> Result<[u8; 32], Mistake> {
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
    format!("{}-{}", host(), std::process::id())
}
