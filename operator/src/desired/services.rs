//! Addresses: of the dashboard, of collectors, and of the dashboard from outside.

use crds::spec::PipelineSpec;
use serde_json::{Value, json};

use super::{Object, Owner, Role, deployments::component, labels, object, parts};
use crate::observed::Kind;

/// Services of the dashboard and of every collector.
pub(super) fn services(owner: &Owner, spec: &PipelineSpec) -> Vec<Object> {
    let mut all = Vec::new();
    for part in parts(spec) {
        let target = match part.role {
            Role::Serve => "http",
            Role::Ingest if is_collector(spec, part.item.as_deref()) => "events",
            _ => continue,
        };
        let component = component(&part);
        let rest = json!({ "spec": {
            "type": "ClusterIP",
            "selector": labels(owner, &component),
            "ports": [{ "name": "http", "port": 80, "targetPort": target, "protocol": "TCP" }],
        }});
        all.push(object(owner, Kind::Service, part.object_name(&owner.name), &component, rest));
    }
    all
}

fn is_collector(spec: &PipelineSpec, name: Option<&str>) -> bool {
    spec.ingest.iter().any(|ingester| Some(&*ingester.name) == name && ingester.http.is_some())
}

/// The Ingress of the dashboard, if the spec wants one.
pub(super) fn ingress(owner: &Owner, spec: &PipelineSpec) -> Option<Object> {
    let wanted = spec.serve.ingress.as_ref()?;
    let backend = json!({ "service": { "name": format!("{}-serve", owner.name), "port": { "name": "http" } } });
    let mut rest = json!({ "spec": { "rules": [{
        "host": wanted.host,
        "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] },
    }]}});
    if let Some(class) = &wanted.class_name {
        rest["spec"]["ingressClassName"] = Value::from(class.clone());
    }
    if let Some(secret) = &wanted.tls_secret {
        rest["spec"]["tls"] = json!([{ "hosts": [wanted.host], "secretName": secret }]);
    }
    Some(object(owner, Kind::Ingress, format!("{}-serve", owner.name), "serve", rest))
}
