//! All pipelines that are watched, in whichever namespace: what one may use or own depends on the others.

use std::sync::Arc;

use crds::spec::ClickstreamPipeline;
use kube::{
    Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        controller::Action,
        events::{Event, EventType},
        reflector::Store,
    },
};
use serde_json::json;

use super::{Context, ReconcileError, key, leave, note};
use crate::desired::MANAGER;

/// A pipeline as the watch tells it. One that cannot be read must not end the watch of all others.
pub(super) type Watched = DeserializeGuard<ClickstreamPipeline>;

/// The pipelines of every namespace that is watched: filled by their controllers.
pub(super) struct Pipelines(Vec<Store<Watched>>);

/// A moment's view of them.
pub(super) struct Seen(Vec<Arc<Watched>>);

impl Pipelines {
    pub(super) fn of(stores: impl IntoIterator<Item = Store<Watched>>) -> Self {
        Self(stores.into_iter().collect())
    }

    /// All of them, once every namespace was listed: one that nobody has seen yet may use what another would delete.
    pub(super) async fn all(&self) -> Seen {
        for store in &self.0 {
            // The writer is gone only where the controller has ended, and the process with it.
            store.wait_until_ready().await.ok();
        }
        Seen(self.0.iter().flat_map(Store::state).collect())
    }
}

impl Seen {
    /// Those that can be read.
    pub(super) fn readable(&self) -> impl Iterator<Item = &ClickstreamPipeline> {
        self.0.iter().filter_map(|one| one.0.as_ref().ok())
    }

    /// One that cannot: nobody knows what it uses.
    pub(super) fn unreadable(&self) -> Option<String> {
        self.0.iter().find(|one| one.0.is_err()).map(|one| key(one.as_ref()))
    }
}

/// Tells of a pipeline that cannot be read, and leaves its objects as they are.
pub(super) async fn refuse(
    found: &Watched,
    invalid: &InvalidObject,
    context: &Context,
) -> Result<Action, ReconcileError> {
    if found.meta().deletion_timestamp.is_some() {
        context.metrics.blocked(&key(found), None);
        leave::let_go(found, context).await?;
        return Ok(Action::await_change());
    }
    context.metrics.blocked(&key(found), Some("Unreadable"));
    tracing::warn!(pipeline = key(found), error = invalid.error, "a pipeline cannot be read");
    let message = format!("this operator cannot read it: {}; what runs goes on; put the manifest right", invalid.error);
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    // By a manager of its own: what the status says beside this stays.
    let patch = json!({
        "apiVersion": ClickstreamPipeline::api_version(&()),
        "kind": ClickstreamPipeline::kind(&()),
        "status": { "conditions": [{
            "type": "Accepted", "status": "False", "reason": "Unreadable", "message": note(message.clone()),
            "lastTransitionTime": now, "observedGeneration": found.meta().generation,
        }] },
    });
    context.metrics.wrote("ClickstreamPipeline", "status");
    let params = PatchParams::apply(&format!("{MANAGER}-unreadable")).force();
    let api = super::api::<Watched>(&context.client, found.namespace().as_deref());
    if let Err(source) = api.patch_status(&found.name_any(), &params, &Patch::Apply(&patch)).await {
        return Err(ReconcileError::Api { action: "write the status".into(), source: Box::new(source) });
    }
    let (type_, reason) = (EventType::Warning, "Unreadable".into());
    let event = Event { type_, reason, note: Some(note(message)), action: "Validate".into(), secondary: None };
    context.metrics.wrote("Event", "create");
    if let Err(error) = context.recorder.publish(&event, &found.object_ref(&())).await {
        tracing::warn!(%error, "an event was not written");
    }
    Ok(Action::await_change())
}
