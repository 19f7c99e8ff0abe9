//! Deployments of the parts, and how many of their pods may be missing.

use crds::spec::{PipelineSpec, Resources, Sink, Volume};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    MADE_FOR_ANNOTATION, Object, Owner, Part, Role, labels, object,
    pods::{self, HEALTH_PORT, MANIFEST_PATH, Pod},
    secrets,
};
use crate::{accepted::Accepted, observed::Kind};

/// Port of the dashboard and the API.
pub const SERVE_PORT: u16 = 8080;

/// Name of a part in labels.
pub(super) fn component(part: &Part) -> String {
    match &part.item {
        Some(item) => format!("{}-{item}", part.role.name()),
        None => part.role.name().into(),
    }
}

/// The Deployment of a part.
pub(super) fn deployment(owner: &Owner, accepted: &Accepted, part: &Part) -> Object {
    let spec = &accepted.spec;
    let component = component(part);
    let pod = pod(spec, part, &component);
    // A pod of processing that is replaced hands its partitions over once, not twice.
    let rolling = match part.role {
        Role::Process | Role::Sink | Role::Ingest => json!({ "maxSurge": 0, "maxUnavailable": 1 }),
        Role::Serve => json!({ "maxSurge": 1, "maxUnavailable": 0 }),
    };
    let rest = json!({ "spec": {
        "replicas": part.replicas,
        "revisionHistoryLimit": 3,
        "selector": { "matchLabels": labels(owner, &component) },
        "strategy": { "type": "RollingUpdate", "rollingUpdate": rolling },
        "template": pods::template(owner, accepted, &pod),
    }});
    let mut deployment = object(owner, Kind::Deployment, part.object_name(&owner.name), &component, rest);
    say_made_for(&mut deployment, accepted, pod.resources);
    deployment
}

/// Says beside the pods of a Deployment or CronJob what in the manifest made them as they are.
pub(super) fn say_made_for(object: &mut Object, accepted: &Accepted, resources: Option<&Resources>) {
    let resources = serde_json::to_vec(&resources).expect("resources are plain maps of texts");
    let made_for = format!("{}-{:08x}", accepted.hash, xxh3_64(&resources) as u32);
    object.body["metadata"]["annotations"][MADE_FOR_ANNOTATION] = Value::from(made_for);
}

fn pod<'a>(spec: &'a PipelineSpec, part: &Part, component: &'a str) -> Pod<'a> {
    let mut args = vec![part.role.name().to_owned()];
    if let Some(item) = &part.item {
        args.extend(["--name".into(), item.clone()]);
    }
    args.extend(["--manifest".into(), MANIFEST_PATH.into()]);
    args.extend(["--health-listen".into(), format!("0.0.0.0:{HEALTH_PORT}"), "--log".into(), "json".into()]);
    let mut pod = Pod {
        component,
        args,
        ports: Vec::new(),
        resources: None,
        secrets: secrets::of_kafka(spec),
        volumes: Vec::new(),
        has_health: true,
    };
    match part.role {
        Role::Ingest => ingest(spec, part, &mut pod),
        Role::Process => process(spec, &mut pod),
        Role::Sink => sink(spec, part, &mut pod),
        Role::Serve => {
            pod.args.extend(["--listen".into(), format!("0.0.0.0:{SERVE_PORT}")]);
            pod.ports.push(("http", SERVE_PORT));
            pod.resources = spec.serve.resources.as_ref();
            pod.secrets.extend(spec.serve.tokens_secret.clone());
        }
    }
    pod
}

fn ingest<'a>(spec: &'a PipelineSpec, part: &Part, pod: &mut Pod<'a>) {
    let Some(ingester) = spec.ingest.iter().find(|ingester| Some(&ingester.name) == part.item.as_ref()) else { return };
    pod.resources = ingester.resources.as_ref();
    pod.secrets = secrets::of_ingester(spec, ingester);
    pod.ports.extend(ingester.http.iter().map(|http| ("events", http.port)));
    if let Some(dataset) = &ingester.dataset {
        mount(pod, &format!("ingest.{}.dataset.path", ingester.name), dataset.volume.as_ref(), &dataset.path);
    }
    lookups(spec, pod);
}

fn process<'a>(spec: &'a PipelineSpec, pod: &mut Pod<'a>) {
    pod.resources = spec.process.resources.as_ref();
    pod.secrets = secrets::of_process(spec);
    if let Some(threads) = spec.process.threads {
        pod.args.extend(["--threads".into(), threads.to_string()]);
    }
    lookups(spec, pod);
}

fn sink<'a>(spec: &'a PipelineSpec, part: &Part, pod: &mut Pod<'a>) {
    let Some(sink) = spec.sinks.iter().find(|sink| Some(&sink.name) == part.item.as_ref()) else { return };
    pod.resources = sink.resources.as_ref();
    pod.secrets = secrets::of_sink(spec, sink);
    archive(sink, pod);
}

/// Mounts where the files of a sink are.
pub(super) fn archive<'a>(sink: &'a Sink, pod: &mut Pod<'a>) {
    if let Some(parquet) = &sink.parquet {
        mount(pod, &format!("sinks.{}.parquet.path", sink.name), parquet.volume.as_ref(), &parquet.path);
    }
}

pub(super) fn lookups<'a>(spec: &'a PipelineSpec, pod: &mut Pod<'a>) {
    for lookup in &spec.lookups {
        if let Some(file) = &lookup.file {
            mount(pod, &format!("lookups.{}.file", lookup.name), lookup.volume.as_ref(), file);
        }
    }
}

/// Mounts a volume, and tells the worker where its file is now.
fn mount<'a>(pod: &mut Pod<'a>, field: &str, volume: Option<&'a Volume>, path: &str) {
    let Some(volume) = volume else { return };
    pod.args.extend(["-s".into(), format!("{field}={}", pods::volume_path(volume, path))]);
    if !pod.volumes.contains(&volume) {
        pod.volumes.push(volume);
    }
}

/// A budget where there is more than one pod: one may be missing.
pub(super) fn budget(owner: &Owner, part: &Part) -> Option<Object> {
    let component = component(part);
    let rest = json!({ "spec": {
        "maxUnavailable": 1,
        "selector": { "matchLabels": labels(owner, &component) },
    }});
    (part.replicas > 1)
        .then(|| object(owner, Kind::PodDisruptionBudget, part.object_name(&owner.name), &component, rest))
}
