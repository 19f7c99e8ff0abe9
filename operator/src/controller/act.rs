//! Doing what was decided, in its order. What the server refuses holds up what needs it, and nothing else.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
    time::Instant,
};

use super::{Context, ReconcileError};
use crate::{
    apply::{self, Holder},
    desired::{Object, Owner},
    observed::{Kind, Objects, Reading},
    overruled::Overruled,
    steps::Step,
};

/// What came of the steps.
#[derive(Debug, Default)]
pub(super) struct Acted {
    /// Numbers of those that were done.
    pub done: Vec<usize>,
    /// What the cluster made otherwise than it was said, where that is news, with the number of its step.
    pub overruled: Vec<(usize, String)>,
    /// The first that was not, and why.
    pub stopped: Option<(usize, ReconcileError)>,
}

/// Does the steps that were decided from `observed`.
pub(super) async fn carry_out(context: &Context, owner: &Owner, observed: &Reading<Objects>, steps: &[Step]) -> Acted {
    let mut acted = Acted::default();
    let mut refused: Vec<&Step> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        if is_held_up(step, &refused) {
            continue;
        }
        let done = match step {
            Step::Apply(object) => apply(context, owner, observed, object).await,
            Step::Delete { kind, name } => {
                let deleted = apply::delete(&context.client, &owner.namespace, *kind, name, &context.metrics).await;
                deleted.map(|()| None).map_err(|source| failed(step, source))
            }
        };
        match done {
            Ok(overruled) => {
                acted.overruled.extend(overruled.map(|told| (at, told)));
                acted.done.push(at);
            }
            Err(error) => {
                let goes_on = is_refused(&error) && !is_needed(step);
                match &acted.stopped {
                    None => acted.stopped = Some((at, error)),
                    Some(_) => tracing::warn!(%step, %error, "this as well"),
                }
                if !goes_on {
                    break;
                }
                refused.push(step);
            }
        }
    }
    acted
}

/// Whether it is this object that the server does not take, and not the server that fails.
pub(super) fn is_refused(error: &ReconcileError) -> bool {
    match error {
        ReconcileError::Taken { .. } => true,
        ReconcileError::Api { source, .. } => {
            matches!(source.as_ref(), kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422))
        }
        ReconcileError::Late => false,
    }
}

/// Whether everything that comes after it needs what it makes.
fn is_needed(step: &Step) -> bool {
    matches!(step, Step::Apply(object) if matches!(object.kind, Kind::ConfigMap | Kind::Job))
}

/// Whether a step must not be done now that others were refused.
fn is_held_up(step: &Step, refused: &[&Step]) -> bool {
    let may_not_be = |kind: Kind, name: &str| {
        refused.iter().any(|step| matches!(step, Step::Apply(object) if object.kind == kind && object.name == name))
    };
    match step {
        // What is somebody else's would be scaled, or shown to the world.
        Step::Apply(object) => match object.kind {
            Kind::HorizontalPodAutoscaler => may_not_be(Kind::Deployment, &object.name),
            Kind::Ingress => may_not_be(Kind::Service, &object.name),
            _ => false,
        },
        // It may stand in for what could not be made, or be mounted by what could not be deleted.
        Step::Delete { kind: Kind::HorizontalPodAutoscaler, .. } => false,
        Step::Delete { kind: Kind::ConfigMap | Kind::Job, .. } => !refused.is_empty(),
        Step::Delete { .. } => refused.iter().any(|step| matches!(step, Step::Apply(_))),
    }
}

/// Has the cluster's last words on a pipeline's objects stand as if they were ours.
pub(super) fn accept(context: &Context, owner: &Owner, observed: &mut Reading<Objects>) {
    if let (Reading::Known(live), Some(overruled)) = (observed, overruled(context).get_mut(&key(owner))) {
        overruled.show_as_said(Instant::now(), live);
    }
}

/// Forgets them with their pipeline.
pub(super) fn forget(context: &Context, key: &str) {
    overruled(context).remove(key);
}

/// Applies an object, and returns what the cluster made otherwise, where that is news.
async fn apply(
    context: &Context,
    owner: &Owner,
    observed: &Reading<Objects>,
    object: &Object,
) -> Result<Option<String>, ReconcileError> {
    let Context { client, metrics, .. } = context;
    let failed = |source| failed(&Step::Apply(object.clone()), source);
    let holder = match is_known(observed, object) {
        true => Holder::Pipeline,
        false => apply::holder(client, owner, object).await.map_err(failed)?,
    };
    let answer = match holder {
        Holder::Other => {
            let (kind, name) = (object.kind.api().2, object.name.clone());
            return Err(ReconcileError::Taken { kind, name, namespace: owner.namespace.clone() });
        }
        Holder::Nobody => apply::create(client, &owner.namespace, object, metrics).await,
        Holder::Pipeline => apply::apply(client, &owner.namespace, object, metrics).await,
    };
    let answer = answer.map_err(failed)?;
    Ok(overruled(context).entry(key(owner)).or_default().answered(Instant::now(), object, &answer))
}

fn overruled(context: &Context) -> MutexGuard<'_, BTreeMap<String, Overruled>> {
    context.overruled.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(owner: &Owner) -> String {
    format!("{}/{}", owner.namespace, owner.name)
}

fn failed(step: &Step, source: kube::Error) -> ReconcileError {
    ReconcileError::Api { action: step.to_string(), source: Box::new(source) }
}

/// Whether the object was seen among the pipeline's own.
fn is_known(observed: &Reading<Objects>, object: &Object) -> bool {
    matches!(observed, Reading::Known(live) if live.contains_key(&(object.kind, object.name.clone())))
}
