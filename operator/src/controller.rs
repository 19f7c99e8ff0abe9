//! The loop: observe, judge, decide, apply, report; for one pipeline at a time, however often it is asked.

mod act;
mod leave;
mod tell;
mod watched;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crds::{spec::ClickstreamPipeline, status::PipelineStatus};
use futures_util::StreamExt as _;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Service},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        Controller,
        controller::{self, Action},
        events::{Recorder, Reporter},
        watcher,
    },
};
use serde_json::json;
use tokio::sync::Semaphore;

use self::{
    act::{Acted, carry_out},
    tell::{announce, note, topics_begin_to_differ, warn, warn_of, warn_of_error, warn_of_overruled, warn_of_topics},
    watched::{Pipelines, Watched},
};
use crate::{
    accepted::Accepted,
    apply,
    choice::choose,
    desired::{MANAGER, Owner, PIPELINE_LABEL, couchbase::asking, monitoring::Monitoring},
    discovery::Discovery,
    figures::Figures,
    metrics::Metrics,
    observed::{Objects, Reading},
    overruled::Overruled,
    pulse::{LOOK_EVERY, Memory, Pulse},
    schedules,
    scrape::Scraper,
    status::{Facts, status},
    steps::{Step, Steps, decide},
    trouble::{Answer, Failures, Trouble},
};

/// Pipelines that are looked at side by side, in all namespaces.
const CONCURRENCY: usize = 16;

/// Longest that one reconcile may take.
const RECONCILE_TIME_MAX: Duration = Duration::from_secs(60);

/// Longest that the event about a failed one may take.
const EVENT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long is waited for what.
#[derive(Clone, Debug)]
pub struct Pace {
    /// A pipeline is looked at again after this, whatever the watches say.
    pub look_every: Duration,
    /// The same while something is under way that no watch may announce.
    pub look_soon: Duration,
    /// First and longest pause after an error.
    pub backoff: Range<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(300),
            look_soon: Duration::from_secs(5),
            backoff: Duration::from_secs(1)..Duration::from_secs(120),
        }
    }
}

/// What the loop is told from outside.
#[derive(Clone)]
pub struct Setting {
    /// The API server.
    pub client: Client,
    /// Pipelines of these namespaces; of the cluster without one.
    pub namespaces: Vec<String>,
    /// Image of the workers.
    pub image: String,
    /// What is made for Prometheus, where the cluster knows it.
    pub monitoring: Monitoring,
    /// Whether resources of Couchbase's operator may be made.
    pub couchbase_operator: bool,
    /// Who this is, in events.
    pub identity: String,
    /// What is counted.
    pub metrics: Metrics,
    /// How long is waited for what.
    pub pace: Pace,
}

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server said no.
    #[error("failed to {action}")]
    Api {
        /// What was tried.
        action: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The name of an object is taken.
    #[error("{kind} {name} in namespace {namespace} is not of this pipeline, and stays as it is")]
    Taken {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where it is.
        namespace: String,
    },
    /// It took too long.
    #[error("the reconcile took longer than {} s", RECONCILE_TIME_MAX.as_secs())]
    Late,
}

/// What every reconcile shares.
pub struct Context {
    client: Client,
    image: String,
    monitoring: Monitoring,
    couchbase_operator: bool,
    discovery: Discovery,
    metrics: Metrics,
    pace: Pace,
    recorder: Recorder,
    scraper: Scraper,
    pipelines: Pipelines,
    /// Permits to look at a pipeline. Whoever waits for one is the queue: kube's own cannot be seen.
    slots: Semaphore,
    /// Errors in a row by pipeline: written by reconciles and their errors.
    failures: Mutex<BTreeMap<String, Failures>>,
    /// What is known of the pipelines' work: written by their reconciles, of which there is one at a time for each.
    memories: Mutex<BTreeMap<String, Memory>>,
    /// What the cluster has the last word on: written by the pipelines' reconciles, as the memories are.
    overruled: Mutex<BTreeMap<String, Overruled>>,
}

/// Reconciles all pipelines of the namespaces, or of the cluster, until the process ends.
pub async fn run(setting: Setting) {
    let Setting { client, namespaces, image, monitoring, couchbase_operator, identity, metrics, pace } = setting;
    let watched = || match namespaces.is_empty() {
        true => vec![None],
        false => namespaces.iter().map(|name| Some(name.as_str())).collect(),
    };
    let recorder = Recorder::new(client.clone(), Reporter { controller: MANAGER.into(), instance: Some(identity) });
    let controllers: Vec<Controller<Watched>> = watched()
        .into_iter()
        .map(|namespace| Controller::new(api(&client, namespace), watcher::Config::default()))
        .collect();
    let context = Arc::new(Context {
        client: client.clone(),
        image,
        monitoring,
        couchbase_operator,
        discovery: Discovery::default(),
        metrics,
        pace,
        recorder,
        scraper: Scraper::default(),
        pipelines: Pipelines::of(watched().into_iter().zip(controllers.iter().map(Controller::store))),
        slots: Semaphore::new(CONCURRENCY),
        failures: Mutex::default(),
        memories: Mutex::default(),
        overruled: Mutex::default(),
    });
    let loops = controllers.into_iter().zip(watched());
    let loops = loops.map(|(controller, namespace)| run_one(controller, &client, namespace, Arc::clone(&context)));
    futures_util::future::join_all(loops).await;
}

async fn run_one(controller: Controller<Watched>, client: &Client, namespace: Option<&str>, context: Arc<Context>) {
    let ours = watcher::Config::default().labels(&format!("{PIPELINE_LABEL},app.kubernetes.io/managed-by={MANAGER}"));
    let known = Arc::clone(&context);
    controller
        .owns(api::<Deployment>(client, namespace), ours.clone())
        .owns(api::<Job>(client, namespace), ours.clone())
        .owns(api::<CronJob>(client, namespace), ours.clone())
        .owns(api::<ConfigMap>(client, namespace), ours.clone())
        .owns(api::<Service>(client, namespace), ours)
        .run(reconcile, on_error, context)
        .for_each(|ended| {
            // What a reconcile says is told where it fails.
            match ended {
                Err(error @ (controller::Error::QueueError(_) | controller::Error::RunnerError(_))) => {
                    tracing::warn!(namespace, %error, "the cluster is not watched as it should be");
                }
                // It went while it waited for another try, and one of the same name is another one.
                Err(controller::Error::ObjectNotFound(gone)) => {
                    let key = format!("{}/{}", gone.namespace.unwrap_or_default(), gone.name);
                    failures(&known).remove(&key);
                    forget(&known, &key);
                }
                _ => {}
            }
            std::future::ready(())
        })
        .await;
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn reconcile(pipeline: Arc<Watched>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let queued = context.metrics.queues();
    let slot = context.slots.acquire().await.expect("nobody closes it");
    drop(queued);
    let in_progress = context.metrics.begins(jiff::Timestamp::now().as_second());
    let worked = tokio::time::timeout(RECONCILE_TIME_MAX, work(&pipeline, &context)).await;
    let result = worked.unwrap_or(Err(ReconcileError::Late));
    in_progress.ended(result.is_ok());
    drop(slot);
    match &result {
        Ok(_) => drop(failures(&context).remove(&key(pipeline.as_ref()))),
        // The server that was too slow may be so now.
        Err(error) => drop(tokio::time::timeout(EVENT_TIME_MAX, warn_of_error(&pipeline, &context, error)).await),
    }
    result
}

/// Tells nothing more of a pipeline that is gone, or goes.
fn forget(context: &Context, key: &str) {
    context.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    act::forget(context, key);
    context.pipelines.forget(key);
    context.metrics.schedules_failed(key, 0);
    context.metrics.blocked(key, None);
}

fn failures(context: &Context) -> MutexGuard<'_, BTreeMap<String, Failures>> {
    context.failures.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on_error(pipeline: Arc<Watched>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let key = key(pipeline.as_ref());
    let count = failures(&context).entry(key.clone()).or_default().add();
    let pause = backoff(&context.pace.backoff, count, RandomState::new().hash_one(()));
    // The rest goes on, and is looked after as ever.
    let pause = if act::is_refused(error) { pause.min(LOOK_EVERY) } else { pause };
    tracing::warn!(pipeline = key, error = told(error), retry_in_ms = pause.as_millis() as u64, "reconcile failed");
    Action::requeue(pause)
}

/// Doubles with every failure in a row; a random half of it is left out, so that many do not come back together.
fn backoff(bounds: &Range<Duration>, failures: u32, random: u64) -> Duration {
    let whole = (bounds.start * 2_u32.saturating_pow(failures.saturating_sub(1).min(10))).min(bounds.end);
    whole / 2 + whole.mul_f64(0.5 * (random % 1_000) as f64 / 1_000.0)
}

fn told(error: &ReconcileError) -> String {
    match error {
        ReconcileError::Api { action, source } => format!("failed to {action}: {source}"),
        ReconcileError::Taken { .. } | ReconcileError::Late => error.to_string(),
    }
}

fn key(pipeline: &impl ResourceExt) -> String {
    format!("{}/{}", pipeline.namespace().unwrap_or_default(), pipeline.name_any())
}

async fn work(known: &Watched, context: &Context) -> Result<Action, ReconcileError> {
    // What the watch told may be old by now, and a change of it may never have been told.
    let api = api::<Watched>(&context.client, known.namespace().as_deref());
    let asked = api.get_opt(&known.name_any()).await;
    let asked =
        asked.map_err(|source| ReconcileError::Api { action: "read the pipeline".into(), source: source.into() });
    let asked = asked?;
    let pipeline = match &asked {
        Some(found) => match &found.0 {
            Ok(pipeline) => Some(pipeline),
            Err(invalid) => return watched::refuse(found, invalid, context).await,
        },
        None => None,
    };
    let Some(pipeline) = pipeline.filter(|pipeline| pipeline.metadata.deletion_timestamp.is_none()) else {
        forget(context, &key(known));
        // Owner references take everything away but what holds data.
        return match pipeline {
            Some(pipeline) => leave::leave(pipeline, context).await,
            None => Ok(Action::await_change()),
        };
    };
    leave::keep_finalizer(pipeline, context).await?;
    let owner = owner(pipeline, context).await;
    // Pods may take seconds to answer, and what others change meanwhile, as an autoscaler does, is to be seen before it is written.
    let figures = ask(pipeline, context).await;
    let mut observed = apply::observe(&context.client, &owner).await;
    act::accept(context, &owner, &mut observed);
    let pods = apply::pods(&context.client, &owner).await;
    context.metrics.called("api", matches!((&observed, &pods), (Reading::Known(_), Reading::Known(_))));
    let others = context.pipelines.all().await;
    let mut choice = choose(pipeline, others.readable(), &owner, &observed);
    context.metrics.blocked(&key(pipeline), choice.blocked());
    let pulse = feel(pipeline, context, choice.runs.as_mut(), &observed, figures);
    let steps = match &choice.runs {
        Some(accepted) if !choice.is_paused => {
            let steps = decide(&owner, accepted, &observed, &pods);
            steps.or_mend(&owner, accepted, &observed, pulse.differences.as_ref(), jiff::Timestamp::now())
        }
        _ => Steps::default(),
    };
    let Acted { done, overruled, stopped: refused } = carry_out(context, &owner, &observed, &steps.now).await;
    announce(pipeline, context, done.iter().map(|at| &steps.now[*at]), choice.refused.as_ref()).await;
    warn_of_overruled(pipeline, context, &steps.now, overruled).await;
    let trouble = match &refused {
        Some((at, error)) => failing(pipeline, context, &steps.now[*at], error).await,
        None => None,
    };
    if trouble.is_none()
        && let Some((_, error)) = refused
    {
        return Err(error);
    }
    let failed = choice.runs.as_ref().map(|accepted| schedules::failed(&owner.name, accepted, &observed));
    context.metrics.schedules_failed(&key(pipeline), failed.as_ref().map_or(0, Vec::len));
    warn(pipeline, context, &failed.unwrap_or_default()).await;
    let facts = Facts {
        name: &owner.name,
        couchbase: owner.couchbase,
        generation: pipeline.metadata.generation,
        accepted: choice.runs.as_ref(),
        refused: choice.refused.as_ref(),
        plan: choice.plan.as_ref(),
        is_paused: choice.is_paused,
        pulse: &pulse,
        observed: &observed,
        steps: &steps,
        trouble: trouble.as_ref(),
    };
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let status = status(&facts, pipeline.status.as_ref(), &now);
    let differ = topics_begin_to_differ(pipeline, &status);
    report(pipeline, context, &owner, status).await?;
    warn_of_topics(pipeline, context, differ).await;
    if let Some((_, error)) = refused {
        return Err(error);
    }
    let settled = steps.now.is_empty() && steps.waits_for.is_none() && matches!(observed, Reading::Known(_));
    let works = choice.runs.is_some_and(|accepted| !accepted.spec.suspend);
    Ok(Action::requeue(match settled {
        true if works => context.pace.look_every.min(LOOK_EVERY),
        true => context.pace.look_every,
        false => context.pace.look_soon,
    }))
}

/// What people are to know of a step that fails, once it is clear that it will not pass by itself.
async fn failing(
    pipeline: &ClickstreamPipeline,
    context: &Context,
    step: &Step,
    error: &ReconcileError,
) -> Option<Trouble> {
    let trouble = trouble_of(&key(pipeline), context, step.to_string(), error)?;
    warn_of(pipeline, context, step, &trouble).await;
    Some(trouble)
}

/// What people are to know of an error, once it is clear that it will not pass by itself.
fn trouble_of(key: &str, context: &Context, action: String, error: &ReconcileError) -> Option<Trouble> {
    let text = told(error);
    let answer = match error {
        ReconcileError::Api { source, .. } => match source.as_ref() {
            kube::Error::Api(status) => Answer::Said { code: status.code, text: &status.message },
            _ => Answer::Nothing { text: &text },
        },
        ReconcileError::Taken { .. } => Answer::Taken { text: &text },
        ReconcileError::Late => Answer::Nothing { text: &text },
    };
    failures(context).entry(key.to_owned()).or_default().tell(Instant::now(), action, answer)
}

async fn owner(pipeline: &ClickstreamPipeline, context: &Context) -> Owner {
    let monitoring = context.discovery.monitoring(&context.client, &context.monitoring).await;
    let is_asked = asking(&pipeline.spec).next().is_some();
    let couchbase = context.discovery.couchbase(&context.client, is_asked, context.couchbase_operator).await;
    Owner::of(pipeline, &context.image, monitoring, couchbase)
}

/// Asks the pods how they are doing, if that is due. Of a pipeline of which nothing was ever accepted there are none.
async fn ask(pipeline: &ClickstreamPipeline, context: &Context) -> Option<Figures> {
    let hash = pipeline.status.as_ref()?.accepted_hash.as_deref()?;
    if !memory(pipeline, context).is_due(Instant::now()) {
        return None;
    }
    let (namespace, name) = (pipeline.namespace().unwrap_or_default(), pipeline.name_any());
    let figures = context.scraper.figures(&context.client, (&namespace, &name), hash).await;
    context.metrics.called("pods", matches!(figures.processing, Reading::Known(_)));
    Some(figures)
}

/// What is known of a pipeline's work.
fn memory(pipeline: &ClickstreamPipeline, context: &Context) -> Memory {
    let memories = context.memories.lock().unwrap_or_else(PoisonError::into_inner);
    memories.get(&key(pipeline)).cloned().unwrap_or_else(|| Memory::of(pipeline.status.as_ref()))
}

/// What follows from what the pods said: the number of processors is put into the spec.
fn feel(
    pipeline: &ClickstreamPipeline,
    context: &Context,
    runs: Option<&mut Accepted>,
    observed: &Reading<Objects>,
    figures: Option<Figures>,
) -> Pulse {
    let Some(accepted) = runs else { return Pulse::default() };
    let (mut memory, name) = (memory(pipeline, context), pipeline.name_any());
    if let Reading::Known(live) = observed {
        let now = Instant::now();
        if let Some(figures) = figures.filter(|_| !accepted.spec.suspend) {
            memory.look(now, figures);
        }
        memory.consider(now, accepted, live, &name);
        let mut memories = context.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.insert(key(pipeline), memory.clone());
        accepted.spec.process.replicas = memory.replicas(&accepted.spec, live, &name);
    }
    memory.pulse(accepted)
}

/// Writes the status, if it says anything new.
async fn report(
    pipeline: &ClickstreamPipeline,
    context: &Context,
    owner: &Owner,
    status: PipelineStatus,
) -> Result<(), ReconcileError> {
    if pipeline.status.as_ref() == Some(&status) {
        return Ok(());
    }
    context.metrics.wrote("ClickstreamPipeline", "status");
    let patch = json!({
        "apiVersion": ClickstreamPipeline::api_version(&()),
        "kind": ClickstreamPipeline::kind(&()),
        "status": status,
    });
    let api: Api<ClickstreamPipeline> = Api::namespaced(context.client.clone(), &owner.namespace);
    let params = PatchParams::apply(&format!("{MANAGER}-status")).force();
    let written = api.patch_status(&owner.name, &params, &Patch::Apply(&patch)).await;
    match written {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(gone)) if gone.code == 404 => Ok(()),
        Err(source) => Err(ReconcileError::Api { action: "write the status".into(), source: Box::new(source) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let bounds = Pace::default().backoff;
        for failures in 1..40 {
            let (least, most) = (backoff(&bounds, failures, 0), backoff(&bounds, failures, 999));
            assert!(least >= bounds.start / 2 && most <= bounds.end && least < most, "{failures}: {least:?} {most:?}");
        }
        assert!(backoff(&bounds, 5, 0) > backoff(&bounds, 2, 999));
    }
}
