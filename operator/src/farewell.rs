//! The operator goes for good: its release is uninstalled, or its namespace is deleted. Who would take the finalizers away then?
//! Every pipeline that waits for it is let go; its data stays, to be deleted by hand or by an operator that comes later.

use std::time::Duration;

use crds::spec::ClickstreamPipeline;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::deletion::finalizers;

/// Pods of the operator that do not go in this time are on a node that is gone.
const PODS_GO_IN: Duration = Duration::from_secs(60);

/// How often is tried what failed, as where somebody else changed it in between.
const TRIES: usize = 5;

/// Whether a namespace is being deleted.
///
/// # Errors
/// What the API server says.
pub async fn is_going(client: &Client, namespace: &str) -> Result<bool, kube::Error> {
    let found = Api::<Namespace>::all(client.clone()).get_opt(namespace).await?;
    Ok(found.is_some_and(|found| found.metadata.deletion_timestamp.is_some()))
}

/// Takes our finalizer from all pipelines of these namespaces, of the cluster where none is named; returns
/// `namespace/name` of each that had it.
///
/// # Errors
/// What the API server says; the others were let go all the same.
pub async fn let_go(client: &Client, namespaces: &[String]) -> Result<Vec<String>, kube::Error> {
    let apis = match namespaces {
        [] => vec![Api::all(client.clone())],
        some => some.iter().map(|one| Api::namespaced(client.clone(), one)).collect(),
    };
    let (mut gone, mut failed) = (Vec::new(), None);
    for api in apis {
        if let Err(error) = let_go_of(client, &api, &mut gone).await {
            tracing::warn!(%error, "pipelines were not let go");
            failed = Some(error);
        }
    }
    failed.map_or(Ok(gone), Err)
}

/// By their metadata alone: a manifest that nobody can read has it as well.
async fn let_go_of(client: &Client, all: &Api<ClickstreamPipeline>, gone: &mut Vec<String>) -> Result<(), kube::Error> {
    let mut failed = None;
    for _ in 0..TRIES {
        let listed = match all.list_metadata(&ListParams::default()).await {
            Ok(listed) => listed,
            // The definition is gone, and every pipeline with it.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error),
        };
        failed = None;
        for pipeline in listed.items {
            let Some(without) = finalizers(&pipeline, false) else { continue };
            let namespace = pipeline.namespace().unwrap_or_default();
            let api: Api<ClickstreamPipeline> = Api::namespaced(client.clone(), &namespace);
            // With the version: what others added to the list meanwhile must not be lost.
            let patch = json!({"metadata": {"finalizers": without, "resourceVersion": pipeline.resource_version()}});
            match api.patch_metadata(&pipeline.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => {
                    let name = format!("{namespace}/{}", pipeline.name_any());
                    tracing::warn!(pipeline = name, "let go: what it asked to be deleted with it stays");
                    gone.push(name);
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                // One that may not be written, because its spec is none by now, keeps no other.
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_none() {
            break;
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Stops an operator: its Deployment wants no pods, and none is there any more. One that runs would put the finalizers back.
///
/// # Errors
/// What the API server says.
pub async fn stop(client: &Client, namespace: &str, deployment: &str) -> Result<(), kube::Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let Some(found) = deployments.get_opt(deployment).await? else { return Ok(()) };
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch_scale(deployment, &PatchParams::default(), &none).await?;
    let labels = found.spec.and_then(|spec| spec.selector.match_labels).unwrap_or_default();
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_it = ListParams::default().labels(&labels.join(","));
    let gone = async {
        while !pods.list_metadata(&of_it).await?.items.is_empty() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    };
    tokio::time::timeout(PODS_GO_IN, gone).await.unwrap_or_else(|_| {
        tracing::warn!(deployment, "its pods do not go; its pipelines are let go all the same");
        Ok(())
    })
}
