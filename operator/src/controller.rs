//! The loop: observe, judge, decide, apply, report; for one pipeline at a time, however often it is asked.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crds::{spec::ClickstreamPipeline, status::PipelineStatus};
use futures_util::StreamExt as _;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, ObjectReference, Service},
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{
        Controller,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        watcher,
    },
};
use serde_json::json;

use crate::{
    accepted::{self, Accepted, Verdict, judge},
    apply,
    desired::{MANAGER, MANIFEST_KEY, Owner, PIPELINE_LABEL, api_version, config_map_name},
    metrics::Metrics,
    observed::{Kind, Objects, Reading},
    status::{Facts, status},
    steps::{Step, decide},
};

/// Longest that one reconcile may take.
const RECONCILE_TIME_MAX: Duration = Duration::from_secs(60);

/// A pipeline is looked at again after this, whatever the watches say.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// The same while something is under way that no watch may announce.
const LOOK_SOON: Duration = Duration::from_secs(5);

/// First and longest pause after an error.
const BACKOFF: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(120);

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
    /// It took too long.
    #[error("the reconcile took longer than {} s", RECONCILE_TIME_MAX.as_secs())]
    Late,
}

/// What every reconcile shares.
pub struct Context {
    client: Client,
    image: String,
    metrics: Metrics,
    recorder: Recorder,
    /// Errors in a row by pipeline: written by reconciles and their errors.
    failures: Mutex<BTreeMap<String, u32>>,
}

/// Reconciles all pipelines of `namespace`, or of the cluster, until the process ends.
pub async fn run(client: Client, namespace: Option<&str>, image: &str, identity: &str, metrics: Metrics) {
    let reporter = Reporter { controller: MANAGER.into(), instance: Some(identity.into()) };
    let recorder = Recorder::new(client.clone(), reporter);
    let context = Arc::new(Context {
        client: client.clone(),
        image: image.into(),
        metrics,
        recorder,
        failures: Mutex::default(),
    });
    let ours = watcher::Config::default().labels(&format!("{PIPELINE_LABEL},app.kubernetes.io/managed-by={MANAGER}"));
    let pipelines: Api<ClickstreamPipeline> = api(&client, namespace);
    Controller::new(pipelines, watcher::Config::default())
        .owns(api::<Deployment>(&client, namespace), ours.clone())
        .owns(api::<Job>(&client, namespace), ours.clone())
        .owns(api::<ConfigMap>(&client, namespace), ours.clone())
        .owns(api::<Service>(&client, namespace), ours)
        .run(reconcile, on_error, context)
        .for_each(|_| std::future::ready(()))
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

async fn reconcile(pipeline: Arc<ClickstreamPipeline>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let in_progress = context.metrics.begins(jiff::Timestamp::now().as_second());
    let worked = tokio::time::timeout(RECONCILE_TIME_MAX, work(&pipeline, &context)).await;
    let result = worked.unwrap_or(Err(ReconcileError::Late));
    in_progress.ended(result.is_ok());
    if result.is_ok() {
        context.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(&pipeline));
    }
    result
}

fn on_error(pipeline: Arc<ClickstreamPipeline>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let mut failures = context.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let count = failures.entry(key(&pipeline)).or_default();
    *count += 1;
    let pause = backoff(*count, RandomState::new().hash_one(()));
    tracing::warn!(
        pipeline = key(&pipeline),
        error = told(error),
        retry_in_ms = pause.as_millis() as u64,
        "reconcile failed"
    );
    Action::requeue(pause)
}

/// Doubles with every failure in a row; a random half of it is left out, so that many do not come back together.
fn backoff(failures: u32, random: u64) -> Duration {
    let whole = (BACKOFF.start * 2_u32.saturating_pow(failures.saturating_sub(1).min(10))).min(BACKOFF.end);
    whole / 2 + whole.mul_f64(0.5 * (random % 1_000) as f64 / 1_000.0)
}

fn told(error: &ReconcileError) -> String {
    match error {
        ReconcileError::Api { action, source } => format!("failed to {action}: {source}"),
        ReconcileError::Late => error.to_string(),
    }
}

fn key(pipeline: &ClickstreamPipeline) -> String {
    format!("{}/{}", pipeline.namespace().unwrap_or_default(), pipeline.name_any())
}

async fn work(pipeline: &ClickstreamPipeline, context: &Context) -> Result<Action, ReconcileError> {
    if pipeline.metadata.deletion_timestamp.is_some() {
        // Owner references take everything away but what holds data.
        return Ok(Action::await_change());
    }
    let owner = Owner {
        namespace: pipeline.namespace().unwrap_or_default(),
        name: pipeline.name_any(),
        uid: pipeline.uid().unwrap_or_default(),
        image: context.image.clone(),
    };
    let observed = apply::observe(&context.client, &owner.namespace, &owner.name).await;
    let (accepted, refused) = choose(pipeline, &owner, &observed);
    let steps = accepted.as_ref().map(|accepted| decide(&owner, accepted, &observed)).unwrap_or_default();
    for step in &steps.now {
        apply::carry_out(&context.client, &owner.namespace, step, &context.metrics)
            .await
            .map_err(|source| ReconcileError::Api { action: step.to_string(), source: Box::new(source) })?;
    }
    announce(pipeline, context, &steps.now, refused.as_deref()).await;
    let facts = Facts {
        name: &owner.name,
        generation: pipeline.metadata.generation,
        accepted: accepted.as_ref(),
        refused: refused.as_deref(),
        observed: &observed,
        steps: &steps,
    };
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    report(pipeline, context, &owner, status(&facts, pipeline.status.as_ref(), &now)).await?;
    let settled = steps.now.is_empty() && steps.waits_for.is_none() && matches!(observed, Reading::Known(_));
    Ok(Action::requeue(if settled { LOOK_EVERY } else { LOOK_SOON }))
}

/// The spec that runs: the present one if it is valid, else the last that was.
fn choose(
    pipeline: &ClickstreamPipeline,
    owner: &Owner,
    observed: &Reading<Objects>,
) -> (Option<Accepted>, Option<String>) {
    match judge(&owner.name, &pipeline.spec) {
        Verdict::Accept(accepted) => (Some(*accepted), None),
        Verdict::Refuse { message } => (last_accepted(pipeline, owner, observed), Some(message)),
    }
}

fn last_accepted(pipeline: &ClickstreamPipeline, owner: &Owner, observed: &Reading<Objects>) -> Option<Accepted> {
    let Reading::Known(live) = observed else { return None };
    let hash = pipeline.status.as_ref()?.accepted_hash.as_ref()?;
    let config_map = live.get(&(Kind::ConfigMap, config_map_name(&owner.name, hash)))?;
    let last = accepted::read(&owner.name, config_map["data"][MANIFEST_KEY].as_str()?)?;
    Some(last.with_numbers_of(&pipeline.spec))
}

/// Events for people: what was refused, and what was made or removed.
async fn announce(pipeline: &ClickstreamPipeline, context: &Context, steps: &[Step], refused: Option<&str>) {
    let reference = pipeline.object_ref(&());
    let before = pipeline.status.as_ref();
    let known = |message: &str| {
        before.is_some_and(|status| {
            status.conditions.iter().any(|one| one.type_ == "Accepted" && one.message.starts_with(message))
        })
    };
    let mut events = Vec::new();
    if let Some(message) = refused.filter(|message| !known(message)) {
        events.push((EventType::Warning, "Refused", "Validate", message.to_owned(), reference.clone()));
    }
    for step in steps {
        let (reason, action) = step.event();
        events.push((EventType::Normal, reason, action, step.to_string(), related(pipeline, step)));
    }
    for (type_, reason, action, mut note, related) in events {
        note.truncate((0..=1_000.min(note.len())).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0));
        // The recorder counts events that differ in their note only as one, under the first note: what they are about tells
        // them apart.
        let secondary = Some(related);
        let event = Event { type_, reason: reason.into(), note: Some(note), action: action.into(), secondary };
        context.metrics.wrote("Event", "create");
        if let Err(error) = context.recorder.publish(&event, &reference).await {
            tracing::warn!(%error, "an event was not written");
        }
    }
}

/// What a step is about.
fn related(pipeline: &ClickstreamPipeline, step: &Step) -> ObjectReference {
    let (kind, name) = step.object();
    let (group, version, kind_name, _) = kind.api();
    ObjectReference {
        api_version: Some(api_version(group, version)),
        kind: Some(kind_name.into()),
        name: Some(name.into()),
        namespace: pipeline.namespace(),
        ..ObjectReference::default()
    }
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
        for failures in 1..40 {
            let (least, most) = (backoff(failures, 0), backoff(failures, 999));
            assert!(
                least >= BACKOFF.start / 2 && most <= BACKOFF.end && least < most,
                "{failures}: {least:?} {most:?}"
            );
        }
        assert!(backoff(5, 0) > backoff(2, 999));
    }
}
