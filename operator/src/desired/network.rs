//! Who may reach the pods: health and metrics, the dashboard, collectors; nothing else.

use crds::spec::PipelineSpec;
use serde_json::json;

use super::{Object, Owner, PIPELINE_LABEL, deployments::SERVE_PORT, object, pods::HEALTH_PORT};
use crate::observed::Kind;

/// One policy for all pods of the pipeline. What they may reach is left to the cluster: brokers and stores may be anywhere.
pub(super) fn policy(owner: &Owner, spec: &PipelineSpec) -> Object {
    let mut ports = vec![HEALTH_PORT, SERVE_PORT];
    ports.extend(spec.ingest.iter().filter_map(|ingester| Some(ingester.http.as_ref()?.port)));
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<_> = ports.into_iter().map(|port| json!({ "protocol": "TCP", "port": port })).collect();
    let rest = json!({ "spec": {
        "podSelector": { "matchLabels": { PIPELINE_LABEL: owner.name } },
        "policyTypes": ["Ingress"],
        "ingress": [{ "ports": ports }],
    }});
    object(owner, Kind::NetworkPolicy, owner.name.clone(), "network", rest)
}
