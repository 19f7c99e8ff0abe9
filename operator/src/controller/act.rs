//! Doing what was decided, in its order, until the server says no.

use super::{Context, ReconcileError};
use crate::{
    apply::{self, Holder},
    desired::{Object, Owner},
    observed::{Objects, Reading},
    steps::Step,
};

/// Does the steps that were decided from `observed`. Returns how many were done, and what stopped the next one.
pub(super) async fn carry_out(
    context: &Context,
    owner: &Owner,
    observed: &Reading<Objects>,
    steps: &[Step],
) -> (usize, Option<ReconcileError>) {
    for (done, step) in steps.iter().enumerate() {
        if let Err(error) = do_one(context, owner, observed, step).await {
            return (done, Some(error));
        }
    }
    (steps.len(), None)
}

async fn do_one(
    context: &Context,
    owner: &Owner,
    observed: &Reading<Objects>,
    step: &Step,
) -> Result<(), ReconcileError> {
    let done = match step {
        Step::Apply(object) if !is_known(observed, object) => match apply::holder(&context.client, owner, object).await
        {
            Ok(Holder::Other) => {
                let (kind, name) = (object.kind.api().2, object.name.clone());
                return Err(ReconcileError::Taken { kind, name, namespace: owner.namespace.clone() });
            }
            Ok(Holder::Nobody) => apply::create(&context.client, &owner.namespace, object, &context.metrics).await,
            Ok(Holder::Pipeline) => apply::carry_out(&context.client, &owner.namespace, step, &context.metrics).await,
            Err(error) => Err(error),
        },
        _ => apply::carry_out(&context.client, &owner.namespace, step, &context.metrics).await,
    };
    done.map_err(|source| ReconcileError::Api { action: step.to_string(), source: Box::new(source) })
}

/// Whether the object was seen among the pipeline's own.
fn is_known(observed: &Reading<Objects>, object: &Object) -> bool {
    matches!(observed, Reading::Known(live) if live.contains_key(&(object.kind, object.name.clone())))
}
