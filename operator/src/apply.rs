//! Reading and writing a pipeline's objects: the only place with a client, and no opinion.

use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, Patch, PatchParams,
        TypeMeta,
    },
};
use serde_json::Value;

use crate::{
    desired::{COMPONENT_LABEL, MANAGER, Object, Owner, PIPELINE_LABEL, api_version},
    metrics::Metrics,
    observed::{Kind, Objects, Pods, Reading},
};

/// The API of a kind in a namespace.
fn api(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    let (group, version, name, plural) = kind.api();
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, name), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Reads every object of a pipeline. One kind that cannot be read makes the whole unknown.
pub async fn observe(client: &Client, owner: &Owner) -> Reading<Objects> {
    let Owner { namespace, name: pipeline, .. } = owner;
    let selector = format!("{PIPELINE_LABEL}={pipeline},app.kubernetes.io/managed-by={MANAGER}");
    let params = ListParams::default().labels(&selector);
    let mut objects = Objects::new();
    for kind in Kind::OWN.into_iter().chain(owner.monitoring.kinds()).chain(owner.couchbase.kinds()) {
        match api(client, kind, namespace).list(&params).await {
            Ok(list) => {
                for mut object in list.items {
                    // Items of a list do not repeat what they are; without it every object would differ for ever.
                    let (group, version, kind_name, _) = kind.api();
                    object.types.get_or_insert_with(|| TypeMeta {
                        api_version: api_version(group, version),
                        kind: kind_name.to_owned(),
                    });
                    let name = object.metadata.name.clone().unwrap_or_default();
                    // On its way out already: its replacement is made once it is gone.
                    if object.metadata.deletion_timestamp.is_some() && kind == Kind::Job {
                        return Reading::Unknown(format!("job {name} is being deleted"));
                    }
                    match serde_json::to_value(&object) {
                        Ok(value) => drop(objects.insert((kind, name), value)),
                        Err(error) => return Reading::Unknown(error.to_string()),
                    }
                }
            }
            Err(error) => return Reading::Unknown(format!("failed to list {}: {error}", kind.api().3)),
        }
    }
    Reading::Known(objects)
}

/// How long after its time was up a pod may still be there before nobody counts on it: whoever should end it, its node, does not
/// answer, and its process, if it lives, is fenced by the next.
const LOST_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Counts the pods of a pipeline that have not ended.
pub async fn pods(client: &Client, owner: &Owner) -> Reading<Pods> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Pod"), "pods");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &owner.namespace, &resource);
    let selector = format!("{PIPELINE_LABEL}={}", owner.name);
    let params = ListParams::default().labels(&selector).fields("status.phase!=Succeeded,status.phase!=Failed");
    let list = match api.list_metadata(&params).await {
        Ok(list) => list,
        Err(error) => return Reading::Unknown(format!("failed to list pods: {error}")),
    };
    let mut pods = Pods::new();
    let now = Timestamp::now();
    let there = list.items.into_iter().filter(|pod| !is_lost(&pod.metadata, now));
    for labels in there.filter_map(|pod| pod.metadata.labels) {
        *pods.entry(labels.get(COMPONENT_LABEL).cloned().unwrap_or_default()).or_default() += 1;
    }
    Reading::Known(pods)
}

/// Whether a pod was to be gone long ago: the time of deletion is the one at which it is ended if it has not.
fn is_lost(pod: &ObjectMeta, now: Timestamp) -> bool {
    pod.deletion_timestamp.as_ref().is_some_and(|until| now.duration_since(until.0) > LOST_AFTER)
}

/// Whose an object is that the list of its pipeline's objects does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// There is none of its name: it may be created.
    Nobody,
    /// It is the pipeline's all the same: the list was old, or somebody took the labels off. It may be applied.
    Pipeline,
    /// Somebody else made it: it must stay as it is.
    Other,
}

/// Looks whose the name of an object is.
///
/// # Errors
/// What the API server says.
pub async fn holder(client: &Client, owner: &Owner, object: &Object) -> Result<Holder, kube::Error> {
    // A list of one name: of these kinds the operator may read nothing one by one.
    let params = ListParams::default().fields(&format!("metadata.name={}", object.name));
    let found = api(client, object.kind, &owner.namespace).list_metadata(&params).await?;
    Ok(match found.items.first() {
        None => Holder::Nobody,
        Some(one) if owner.has(&one.metadata) => Holder::Pipeline,
        Some(_) => Holder::Other,
    })
}

/// Creates an object that was not there a moment ago.
///
/// By server-side apply, so that what is applied later owns the same fields; a POST would leave a second owner of each, and
/// no field could ever be taken out again. Without force: where somebody made one of the name meanwhile, the server says
/// 409 instead of giving us its fields.
///
/// Returns the object as it is from then on.
///
/// # Errors
/// What the API server says.
pub async fn create(
    client: &Client,
    namespace: &str,
    object: &Object,
    metrics: &Metrics,
) -> Result<Value, kube::Error> {
    send(client, namespace, object, &PatchParams::apply(MANAGER), metrics).await
}

/// Puts right what differs of an object of the pipeline, and returns it as it is from then on.
///
/// # Errors
/// What the API server says.
pub async fn apply(client: &Client, namespace: &str, object: &Object, metrics: &Metrics) -> Result<Value, kube::Error> {
    // Force: what others changed of our fields is put right; their fields stay theirs.
    send(client, namespace, object, &PatchParams::apply(MANAGER).force(), metrics).await
}

async fn send(
    client: &Client,
    namespace: &str,
    object: &Object,
    params: &PatchParams,
    metrics: &Metrics,
) -> Result<Value, kube::Error> {
    metrics.wrote(object.kind.api().2, "apply");
    let patch: Patch<&Value> = Patch::Apply(&object.body);
    let answer = api(client, object.kind, namespace).patch(&object.name, params, &patch).await?;
    serde_json::to_value(&answer).map_err(kube::Error::SerdeError)
}

/// Deletes an object. What is gone already counts as deleted.
///
/// # Errors
/// What the API server says.
pub async fn delete(
    client: &Client,
    namespace: &str,
    kind: Kind,
    name: &str,
    metrics: &Metrics,
) -> Result<(), kube::Error> {
    metrics.wrote(kind.api().2, "delete");
    match api(client, kind, namespace).delete(name, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_pod_that_nobody_ends_is_not_waited_for() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let pod = |until: Option<&str>| ObjectMeta {
            deletion_timestamp: until.map(|until| Time(until.parse().unwrap())),
            ..ObjectMeta::default()
        };
        assert!(!is_lost(&pod(None), now));
        assert!(!is_lost(&pod(Some("2026-01-01T00:10:30Z")), now), "it has time");
        assert!(!is_lost(&pod(Some("2026-01-01T00:09:30Z")), now), "it is being ended");
        assert!(is_lost(&pod(Some("2026-01-01T00:08:30Z")), now));
    }
}
