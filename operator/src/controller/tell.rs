//! Events of a pipeline: what was done, what was refused, what fails. Each is told once, when it begins.

use crds::{spec::ClickstreamPipeline, status::PipelineStatus};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Resource, ResourceExt as _,
    runtime::events::{Event, EventType},
};

use super::{Context, ReconcileError, failures, key, trouble_of, watched::Watched};
use crate::{
    choice::Refusal,
    desired::api_version,
    schedules::{self, Failed},
    status,
    steps::Step,
    trouble::{self, Trouble},
};

/// Events for people: what was refused, and what was made or removed.
pub(super) async fn announce(
    pipeline: &ClickstreamPipeline,
    context: &Context,
    steps: impl IntoIterator<Item = &Step>,
    refused: Option<&Refusal>,
) {
    let reference = pipeline.object_ref(&());
    let before = pipeline.status.as_ref();
    let known = |message: &str| {
        before.is_some_and(|status| {
            status.conditions.iter().any(|one| one.type_ == "Accepted" && one.message.starts_with(message))
        })
    };
    let mut events = Vec::new();
    if let Some(refusal) = refused.filter(|refusal| !known(&refusal.message)) {
        events.push((EventType::Warning, "Refused", "Validate", refusal.message.clone(), reference.clone()));
    }
    for step in steps {
        let (reason, action) = step.event();
        events.push((EventType::Normal, reason, action, step.to_string(), related(pipeline, step)));
    }
    for (type_, reason, action, text, related) in events {
        // The recorder counts events that differ in their note only as one, under the first note: what they are about tells
        // them apart.
        let secondary = Some(related);
        let event = Event { type_, reason: reason.into(), note: Some(note(text)), action: action.into(), secondary };
        publish(pipeline, context, event).await;
    }
}

/// An event for schedules whose last run failed, once: the condition knows them from then on.
pub(super) async fn warn(pipeline: &ClickstreamPipeline, context: &Context, failed: &[Failed]) {
    let before = pipeline.status.iter().flat_map(|status| &status.conditions);
    let told: Vec<&str> =
        before.filter(|one| one.type_ == schedules::CONDITION).map(|one| one.message.as_str()).collect();
    let news = failed.iter().filter(|failed| !told.iter().any(|told| told.contains(&failed.told)));
    for Failed { told, .. } in news {
        let (reason, action) = (schedules::FAILED.into(), "Replay".into());
        let note = Some(note(told.clone()));
        publish(pipeline, context, Event { type_: EventType::Warning, reason, note, action, secondary: None }).await;
    }
}

/// What the status begins to say of topics that are no more as the spec says.
pub(super) fn topics_begin_to_differ(pipeline: &ClickstreamPipeline, now: &PipelineStatus) -> Option<String> {
    let differ = |status: &PipelineStatus| {
        let found = status.conditions.iter().find(|one| one.type_ == "TopicsReady" && one.reason == status::DIFFER);
        found.map(|one| one.message.clone())
    };
    let before = pipeline.status.as_ref().and_then(differ);
    differ(now).filter(|_| before.is_none())
}

/// An event for them, once they are in the status.
pub(super) async fn warn_of_topics(pipeline: &ClickstreamPipeline, context: &Context, differ: Option<String>) {
    let Some(differ) = differ else { return };
    let (reason, action) = (status::DIFFER.into(), "Observe".into());
    let event = Event { type_: EventType::Warning, reason, note: Some(note(differ)), action, secondary: None };
    publish(pipeline, context, event).await;
}

/// Events for fields that others have the last word on, once each: no condition, because whoever set a webhook up wants it so.
pub(super) async fn warn_of_overruled(
    pipeline: &ClickstreamPipeline,
    context: &Context,
    steps: &[Step],
    overruled: Vec<(usize, String)>,
) {
    for (at, told) in overruled {
        tracing::warn!(pipeline = key(pipeline), told, "the cluster makes an object otherwise");
        let (type_, reason, action) = (EventType::Warning, "Overruled".into(), "Apply".into());
        let (note, secondary) = (Some(note(told)), Some(related(pipeline, &steps[at])));
        publish(pipeline, context, Event { type_, reason, note, action, secondary }).await;
    }
}

/// An event for a step that fails, once: the condition knows it from then on.
pub(super) async fn warn_of(pipeline: &ClickstreamPipeline, context: &Context, step: &Step, trouble: &Trouble) {
    if !failures(context).entry(key(pipeline)).or_default().is_news(trouble) {
        return;
    }
    let mut before = pipeline.status.iter().flat_map(|status| &status.conditions);
    if before.any(|one| one.type_ == "Degraded" && one.reason == trouble::REASON && trouble.is_about(&one.message)) {
        return;
    }
    let (reason, action) = (trouble::REASON.into(), step.event().1.into());
    let (note, secondary) = (Some(note(trouble.to_string())), Some(related(pipeline, step)));
    publish(pipeline, context, Event { type_: EventType::Warning, reason, note, action, secondary }).await;
}

/// An event for what failed outside of the steps of a pipeline that runs (its finalizer, its deletion, its status, the time that
/// all of it may take), once in a row of failures: no condition can be trusted to be written then.
pub(super) async fn warn_of_error(pipeline: &Watched, context: &Context, error: &ReconcileError) {
    let key = key(pipeline);
    let action = match error {
        ReconcileError::Api { action, .. } => action.clone(),
        ReconcileError::Taken { kind, name, .. } => format!("apply {kind} {name}"),
        ReconcileError::Late => "reconcile".into(),
    };
    let Some(trouble) = trouble_of(&key, context, action, error) else { return };
    if !failures(context).entry(key).or_default().is_news(&trouble) {
        return;
    }
    let (reason, action) = (trouble::REASON.into(), "Reconcile".into());
    let note = Some(note(trouble.to_string()));
    publish(pipeline, context, Event { type_: EventType::Warning, reason, note, action, secondary: None }).await;
}

async fn publish(pipeline: &impl Resource<DynamicType = ()>, context: &Context, event: Event) {
    context.metrics.wrote("Event", "create");
    if let Err(error) = context.recorder.publish(&event, &pipeline.object_ref(&())).await {
        tracing::warn!(%error, "an event was not written");
    }
}

/// As long as an event may be.
pub(super) fn note(mut text: String) -> String {
    text.truncate((0..=1_000.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
    text
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
