//! All pipelines that are watched, in whichever namespace: what one may use or own depends on the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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

/// How long the first look at a namespace is waited for. One that is gone, or closed to us, must not stop the others.
const LIST_TIME_MAX: Duration = Duration::from_secs(20);

/// The pipelines of every namespace that is watched, none means all: filled by their controllers.
pub(super) struct Pipelines {
    stores: Vec<(Option<String>, Store<Watched>)>,
    started: tokio::time::Instant,
    /// Of those that cannot be read, the generation and the error that were told.
    told: Mutex<BTreeMap<String, (Option<i64>, String)>>,
}

/// A moment's view of them.
pub(super) struct Seen {
    all: Vec<Arc<Watched>>,
    /// Namespaces that could not be listed yet.
    unlisted: Vec<String>,
}

impl Pipelines {
    pub(super) fn of<'a>(stores: impl IntoIterator<Item = (Option<&'a str>, Store<Watched>)>) -> Self {
        let named = |(namespace, store): (Option<&str>, Store<Watched>)| (namespace.map(str::to_owned), store);
        let stores = stores.into_iter().map(named).collect();
        Self { stores, started: tokio::time::Instant::now(), told: Mutex::default() }
    }

    /// All of them, once every namespace was listed, or could not be for long: one that nobody has seen yet may use what another
    /// would delete.
    pub(super) async fn all(&self) -> Seen {
        let (mut all, mut unlisted) = (Vec::new(), Vec::new());
        for (namespace, store) in &self.stores {
            // The writer is gone only where the controller has ended, and the process with it.
            if tokio::time::timeout_at(self.started + LIST_TIME_MAX, store.wait_until_ready()).await.is_err() {
                unlisted.push(namespace.clone().unwrap_or_default());
            }
            all.extend(store.state());
        }
        Seen { all, unlisted }
    }

    pub(super) fn forget(&self, key: &str) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Whether this was not told of a pipeline before.
    fn is_news(&self, found: &Watched, error: &str) -> bool {
        let what = (found.meta().generation, error.to_owned());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(key(found), what.clone()) != Some(what)
    }
}

impl Seen {
    /// Those that can be read.
    pub(super) fn readable(&self) -> impl Iterator<Item = &ClickstreamPipeline> {
        self.all.iter().filter_map(|one| one.0.as_ref().ok())
    }

    /// One that cannot, or all of a namespace: nobody knows what they use.
    pub(super) fn unreadable(&self) -> Option<String> {
        let one = self.all.iter().find(|one| one.0.is_err()).map(|one| key(one.as_ref()));
        one.or_else(|| self.unlisted.first().map(|namespace| format!("{namespace}/*")))
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
    if !context.pipelines.is_news(found, &invalid.error) {
        return Ok(Action::await_change());
    }
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
        context.pipelines.forget(&key(found));
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
