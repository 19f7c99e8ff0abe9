//! The last reconciles of a pipeline, and the finalizer that makes them happen.

use std::time::Duration;

use crds::spec::ClickstreamPipeline;
use kube::{
    Api, Resource as _, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use serde_json::json;

use super::{Context, ReconcileError, act, announce, watched::Watched};
use crate::{
    apply,
    choice::choose,
    deletion::{self, DELETION_TIME_MAX, FINALIZER, Facts, Next, Told, decide, finalizers, used},
    desired::Owner,
    observed::{Objects, Reading},
    steps::Step,
};

/// Adds the finalizer where the manifest asks for something to be deleted, and takes it away where it does no more.
pub(super) async fn keep_finalizer(pipeline: &ClickstreamPipeline, context: &Context) -> Result<(), ReconcileError> {
    set_finalizer(pipeline, context, pipeline.spec.asks_to_delete()).await
}

/// Lets a pipeline go that nobody can read: what it wished to be deleted is not known, and stays.
pub(super) async fn let_go(pipeline: &Watched, context: &Context) -> Result<(), ReconcileError> {
    tracing::warn!(pipeline = super::key(pipeline), "it cannot be read: its data stays");
    set_finalizer(pipeline, context, false).await
}

async fn set_finalizer(pipeline: &impl ResourceExt, context: &Context, is_wanted: bool) -> Result<(), ReconcileError> {
    let Some(all) = finalizers(pipeline, is_wanted) else { return Ok(()) };
    context.metrics.wrote("ClickstreamPipeline", "finalizer");
    let api: Api<ClickstreamPipeline> =
        Api::namespaced(context.client.clone(), &pipeline.namespace().unwrap_or_default());
    // With the version: what others added to the list meanwhile must not be lost.
    let patch = json!({"metadata": {"finalizers": all, "resourceVersion": pipeline.resource_version()}});
    match api.patch(&pipeline.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(gone)) if gone.code == 404 => Ok(()),
        Err(source) => Err(ReconcileError::Api { action: "write the finalizer".into(), source: Box::new(source) }),
    }
}

/// Deletes what goes with the pipeline, and lets it go.
pub(super) async fn leave(pipeline: &ClickstreamPipeline, context: &Context) -> Result<Action, ReconcileError> {
    if !pipeline.finalizers().iter().any(|one| one == FINALIZER) {
        return Ok(Action::await_change());
    }
    let owner = super::owner(pipeline, context).await;
    let observed = apply::observe(&context.client, &owner).await;
    let pods = apply::pods(&context.client, &owner).await;
    let others = context.pipelines.all().await;
    let since = pipeline.metadata.deletion_timestamp.as_ref();
    let since = since.map(|time| jiff::Timestamp::now().duration_since(time.0)).unwrap_or_default();
    // A clock that runs ahead of ours is no reason to hurry.
    let since = Duration::try_from(since).unwrap_or_default();
    let next = decide(&Facts {
        owner: &owner,
        spec: &pipeline.spec,
        choice: &choose(pipeline, others.readable(), &owner, &observed),
        used: &used(pipeline, others.readable()),
        unreadable: others.unreadable().as_deref(),
        observed: &observed,
        pods: &pods,
        since,
    });
    match next {
        Next::Work(steps) => match carry_out(&steps.now, context, &owner, &observed).await {
            Err(error) if is_terminating(&error) => {
                let message =
                    format!("the namespace {} is being deleted; no Job can delete data there", owner.namespace);
                release(pipeline, context, &Told { is_left: true, message }).await
            }
            done => {
                done?;
                announce(pipeline, context, &steps.now, None).await;
                Ok(Action::requeue(context.pace.look_soon))
            }
        },
        Next::Release { steps, told } => {
            match carry_out(&steps, context, &owner, &observed).await {
                // What cannot be taken away must not hold it for ever.
                Err(error) if since >= DELETION_TIME_MAX => {
                    tracing::warn!(pipeline = super::key(pipeline), %error, "what deleted its data stays");
                }
                done => done?,
            }
            release(pipeline, context, &told).await
        }
    }
}

async fn carry_out(
    steps: &[Step],
    context: &Context,
    owner: &Owner,
    observed: &Reading<Objects>,
) -> Result<(), ReconcileError> {
    act::carry_out(context, owner, observed, steps).await.stopped.map_or(Ok(()), |(_, error)| Err(error))
}

async fn release(pipeline: &ClickstreamPipeline, context: &Context, told: &Told) -> Result<Action, ReconcileError> {
    set_finalizer(pipeline, context, false).await?;
    let key = super::key(pipeline);
    act::forget(context, &key);
    let (type_, reason) = match told.is_left {
        true => (EventType::Warning, "DataLeft"),
        false => (EventType::Normal, "DataDeleted"),
    };
    tracing::info!(pipeline = key, reason, told.message, "the pipeline may go");
    let note = Some(super::note(told.message.clone()));
    let event = Event { type_, reason: reason.into(), note, action: "Delete".into(), secondary: None };
    context.metrics.wrote("Event", "create");
    // In a namespace that is being deleted no event can be written: the log has it.
    if let Err(error) = context.recorder.publish(&event, &pipeline.object_ref(&())).await {
        tracing::warn!(%error, "an event was not written");
    }
    Ok(Action::await_change())
}

fn is_terminating(error: &ReconcileError) -> bool {
    let ReconcileError::Api { source, .. } = error else { return false };
    let kube::Error::Api(status) = source.as_ref() else { return false };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    status.code == 403 && causes.iter().any(|cause| cause.reason == deletion::NAMESPACE_TERMINATING)
}
