//! Addresses: of the dashboard, of collectors, and of the dashboard from outside.

use crds::spec::PipelineSpec;
use serde_json::{Value, json};

use super::{Object, Owner, Part, Role, labels, object, parts};
use crate::observed::Kind;

/// Parts that have a Service, and the port of their pods that it leads to: the dashboard, and every collector.
pub(crate) fn addressed(spec: &PipelineSpec) -> impl Iterator<Item = (Part, &'static str)> {
    let is_collector = |part: &Part| {
        spec.ingest.iter().any(|ingester| part.item.as_ref() == Some(&ingester.name) && ingester.http.is_some())
    };
    parts(spec).into_iter().filter_map(move |part| match part.role {
        Role::Serve => Some((part, "http")),
        Role::Ingest if is_collector(&part) => Some((part, "events")),
        _ => None,
    })
}

/// Services of the dashboard and of every collector.
pub(super) fn services(owner: &Owner, spec: &PipelineSpec) -> Vec<Object> {
    addressed(spec)
        .map(|(part, target)| {
            let component = part.component();
            let rest = json!({ "spec": {
                "type": "ClusterIP",
                "selector": labels(owner, &component),
                "ports": [{ "name": "http", "port": 80, "targetPort": target, "protocol": "TCP" }],
            }});
            object(owner, Kind::Service, part.object_name(&owner.name), &component, rest)
        })
        .collect()
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
