//! Deployments of the parts, and how many of their pods may be missing.

use crds::spec::{Ingester, PipelineSpec, Resources, Sink, Volume};
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

/// The Deployment of a part.
pub(super) fn deployment(owner: &Owner, accepted: &Accepted, part: &Part) -> Object {
    let spec = &accepted.spec;
    let component = part.component();
    let pod = pod(spec, part, &component);
    let is_asked = match part.role {
        Role::Ingest => ingester(spec, part).is_some_and(|ingester| ingester.http.is_some()),
        Role::Process | Role::Sink | Role::Notify => false,
        Role::Serve => true,
    };
    // Whoever asks finds somebody; a pod of processing that is replaced hands its partitions over once, not twice.
    let rolling = match is_asked {
        true => json!({ "maxSurge": 1, "maxUnavailable": 0 }),
        false => json!({ "maxSurge": 0, "maxUnavailable": 1 }),
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
        secrets_if_there: Vec::new(),
        volumes: Vec::new(),
        has_health: true,
    };
    match part.role {
        Role::Ingest => ingest(spec, part, &mut pod),
        Role::Process => process(spec, &mut pod),
        Role::Sink => sink(spec, part, &mut pod),
        Role::Notify => pod.secrets_if_there = secrets::of_webhooks(spec),
        Role::Serve => {
            pod.args.extend(["--listen".into(), format!("0.0.0.0:{SERVE_PORT}")]);
            pod.ports.push(("http", SERVE_PORT));
            pod.resources = spec.serve.resources.as_ref();
            pod.secrets.extend(spec.serve.tokens_secret.clone());
        }
    }
    pod
}

pub(super) fn ingester<'a>(spec: &'a PipelineSpec, part: &Part) -> Option<&'a Ingester> {
    spec.ingest.iter().find(|ingester| Some(&ingester.name) == part.item.as_ref())
}

fn ingest<'a>(spec: &'a PipelineSpec, part: &Part, pod: &mut Pod<'a>) {
    let Some(ingester) = ingester(spec, part) else { return };
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

/// A budget: one pod may be missing. It keeps no pod on its node that is not ready anyhow: while brokers
/// are away none is, and a node that is drained would wait for them.
pub(super) fn budget(owner: &Owner, part: &Part) -> Object {
    let component = part.component();
    let rest = json!({ "spec": {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": { "matchLabels": labels(owner, &component) },
    }});
    object(owner, Kind::PodDisruptionBudget, part.object_name(&owner.name), &component, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        accepted::tests::{accepted, owner},
        desired,
    };

    /// An object of an example, by kind and name.
    fn body(example: &str, kind: Kind, name: &str) -> Value {
        let (owner, accepted) = (owner("p"), accepted(example));
        let mut all = desired::objects(&owner, &accepted);
        all.push(desired::setup::job(&owner, &accepted));
        let found = all.into_iter().find(|object| object.kind == kind && object.name == name);
        found.unwrap_or_else(|| panic!("no {kind:?} {name}")).body
    }

    #[test]
    fn whoever_is_asked_is_there_while_it_is_replaced() {
        let mut accepted = accepted("medallion");
        let ingester = accepted.spec.ingest[0].clone();
        let part = |role: Role, item: Option<&str>| Part { role, item: item.map(str::to_owned), replicas: 1 };
        assert!(ingester.http.is_none());
        accepted.spec.ingest.push(Ingester {
            name: "posted".into(),
            synthetic: None,
            http: serde_json::from_value(serde_json::json!({"port": 8081})).unwrap(),
            ..ingester.clone()
        });
        for (part, surge) in [
            (part(Role::Ingest, Some(&ingester.name)), 0),
            (part(Role::Ingest, Some("posted")), 1),
            (part(Role::Process, None), 0),
            (part(Role::Notify, None), 0),
            (part(Role::Serve, None), 1),
        ] {
            let found = deployment(&owner("p"), &accepted, &part).body["spec"]["strategy"]["rollingUpdate"].clone();
            assert_eq!(found, json!({"maxSurge": surge, "maxUnavailable": 1 - surge}), "{part:?}");
        }
    }

    #[test]
    fn alerts_are_told_by_one_pod_that_needs_no_webhook_to_start() {
        let deployment = body("medallion", Kind::Deployment, "p-notify");
        assert_eq!(deployment["spec"]["replicas"], 1);
        let pod = &deployment["spec"]["template"]["spec"];
        let args = ["notify", "--manifest", MANIFEST_PATH, "--health-listen", "0.0.0.0:9090", "--log", "json"];
        assert_eq!(pod["containers"][0]["args"], json!(args));
        let secret = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "secret-shop-alerts");
        assert_eq!(secret.unwrap()["secret"], json!({"secretName": "shop-alerts", "optional": true}));
        let mut spec = accepted("medallion").spec;
        let replicas = |spec: &PipelineSpec| {
            desired::parts(spec).into_iter().find(|part| part.role == Role::Notify).map(|part| part.replicas)
        };
        assert_eq!(replicas(&spec), Some(1));
        spec.suspend = true;
        assert_eq!(replicas(&spec), Some(0));
        spec.alerts.iter_mut().for_each(|alert| alert.notify.clear());
        assert_eq!(replicas(&spec), None, "there is nobody to be told");
    }

    #[test]
    fn a_node_that_is_drained_does_not_wait_for_pods_that_are_not_ready() {
        let budget = body("medallion", Kind::PodDisruptionBudget, "p-process");
        assert_eq!(budget["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    }

    #[test]
    fn topics_are_made_without_the_secret_of_a_store_and_sinks_wait_for_it() {
        let source = |kind: Kind, name: &str| {
            let pod = body("multi-sink", kind, name)["spec"]["template"]["spec"].clone();
            let volumes = pod["volumes"].as_array().unwrap().clone();
            let found = volumes.into_iter().find(|volume| volume["secret"]["secretName"] == "couchbase");
            found.unwrap_or_else(|| panic!("{pod}"))["secret"].clone()
        };
        let hash = accepted("multi-sink").hash;
        assert_eq!(source(Kind::Job, &desired::setup::job_name("p", &hash))["optional"], true);
        let sink = accepted("multi-sink").spec.sinks.into_iter().find(|sink| sink.couchbase.is_some()).unwrap();
        assert!(source(Kind::Deployment, &format!("p-sink-{}", sink.name)).get("optional").is_none());
    }
}
