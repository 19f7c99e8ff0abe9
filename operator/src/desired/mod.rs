//! What should be there for an accepted spec: one file for each kind of object. Pure.

pub(crate) mod autoscalers;
pub mod couchbase;
mod deployments;
mod network;
mod pods;
pub mod schedules;
mod secrets;
pub(crate) mod services;
pub mod deletion;
pub mod monitoring;
pub mod setup;

use crds::spec::{ClickstreamPipeline, Dataset, PipelineSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use self::{couchbase::CouchbaseOperator, monitoring::Monitoring};
pub use self::{deployments::SERVE_PORT, pods::HEALTH_PORT};
use crate::{accepted::Accepted, observed::Kind};

/// Who owns the objects, and what they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Namespace.
    pub namespace: String,
    /// Name of the pipeline.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Image of the workers.
    pub image: String,
    /// What is made for Prometheus.
    pub monitoring: Monitoring,
    /// Whether anything is made for Couchbase's operator.
    pub couchbase: CouchbaseOperator,
}

impl Owner {
    /// A pipeline as the owner of what runs `image`.
    #[must_use]
    pub fn of(
        pipeline: &ClickstreamPipeline,
        image: &str,
        monitoring: Monitoring,
        couchbase: CouchbaseOperator,
    ) -> Self {
        Self {
            namespace: pipeline.namespace().unwrap_or_default(),
            name: pipeline.name_any(),
            uid: pipeline.uid().unwrap_or_default(),
            image: image.to_owned(),
            monitoring,
            couchbase,
        }
    }

    /// Whether an object is of this pipeline: it has our labels, or the pipeline as an owner.
    #[must_use]
    pub fn has(&self, metadata: &ObjectMeta) -> bool {
        let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
        let is_labelled =
            label(PIPELINE_LABEL) == Some(&self.name) && label("app.kubernetes.io/managed-by") == Some(MANAGER);
        is_labelled || metadata.owner_references.iter().flatten().any(|owner| owner.uid == self.uid)
    }
}

/// An object as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// Everything, as it is applied.
    pub body: Value,
}

/// What runs, as a part of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Brings events in.
    Ingest,
    /// Computes.
    Process,
    /// Writes results out.
    Sink,
    /// Tells people of alerts.
    Notify,
    /// Answers.
    Serve,
}

impl Role {
    /// As the worker's subcommand and the label name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Process => "process",
            Self::Sink => "sink",
            Self::Notify => "notify",
            Self::Serve => "serve",
        }
    }
}

/// The label that names the pipeline.
pub const PIPELINE_LABEL: &str = "clickstream.dev/pipeline";

/// The label that names the part.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";

/// The annotation of a pod template that restarts its pods.
pub const HASH_ANNOTATION: &str = "clickstream.dev/spec-hash";

/// The annotation of a Deployment or CronJob that says what its pods were made for: the spec, and what they ask of a node.
pub const MADE_FOR_ANNOTATION: &str = "clickstream.dev/made-for";

/// Whose objects these are.
pub const MANAGER: &str = "clickstream-operator";

/// Everything but the Job of [`setup`], in the order of application.
#[must_use]
pub fn objects(owner: &Owner, accepted: &Accepted) -> Vec<Object> {
    let spec = &accepted.spec;
    let mut all = vec![config_map(owner, accepted), network::policy(owner, spec)];
    all.extend(services::services(owner, spec));
    for part in parts(spec) {
        let autoscaler = autoscalers::autoscaler(owner, spec, &part);
        // One that scales has several pods sooner or later.
        all.extend((part.replicas > 1 || autoscaler.is_some()).then(|| deployments::budget(owner, &part)));
        all.push(deployments::deployment(owner, accepted, &part));
        all.extend(autoscaler);
    }
    all.extend(services::ingress(owner, spec));
    all.extend(schedules::cron_jobs(owner, accepted));
    all.extend(monitoring::objects(owner, spec));
    all.extend(couchbase::objects(owner, spec));
    all.sort_by_key(|object| object.kind);
    all
}

/// A part of the pipeline with pods of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it does.
    pub role: Role,
    /// Which one, where there are several.
    pub item: Option<String>,
    /// How many pods.
    pub replicas: u32,
}

impl Part {
    /// Name of its Deployment.
    #[must_use]
    pub fn object_name(&self, pipeline: &str) -> String {
        match &self.item {
            Some(item) => format!("{pipeline}-{}-{item}", self.role.name()),
            None => format!("{pipeline}-{}", self.role.name()),
        }
    }

    /// Its name in labels.
    #[must_use]
    pub fn component(&self) -> String {
        match &self.item {
            Some(item) => format!("{}-{item}", self.role.name()),
            None => self.role.name().into(),
        }
    }
}

/// The parts of a spec. One that is suspended has no pods.
#[must_use]
pub fn parts(spec: &PipelineSpec) -> Vec<Part> {
    let replicas = |count: u32| if spec.suspend { 0 } else { count };
    let mut parts = Vec::new();
    for ingester in &spec.ingest {
        // Collectors write side by side, datasets by shares; of other sources one pod writes and fences whoever came before.
        let is_shared = ingester.http.is_some() || ingester.dataset.as_ref().is_some_and(Dataset::has_shares);
        let count = if is_shared { ingester.pods() } else { ingester.pods().min(1) };
        parts.push(Part { role: Role::Ingest, item: Some(ingester.name.clone()), replicas: replicas(count) });
    }
    if !spec.tables.is_empty() || !spec.streams.is_empty() {
        parts.push(Part { role: Role::Process, item: None, replicas: replicas(spec.process.replicas) });
    }
    for sink in &spec.sinks {
        parts.push(Part { role: Role::Sink, item: Some(sink.name.clone()), replicas: replicas(sink.replicas) });
    }
    if spec.alerts.iter().any(|alert| !alert.notify.is_empty()) {
        // One tells: others would only stand by.
        parts.push(Part { role: Role::Notify, item: None, replicas: replicas(1) });
    }
    parts.push(Part { role: Role::Serve, item: None, replicas: replicas(spec.serve.replicas) });
    parts
}

/// Whether an object is of a part that nothing else waits behind, whatever became of what it writes to.
#[must_use]
pub fn is_last(object: &Object) -> bool {
    let component = object.body["metadata"]["labels"][COMPONENT_LABEL].as_str().unwrap_or_default();
    let is_sink = component.strip_prefix(Role::Sink.name()).is_some_and(|item| item.starts_with('-'));
    is_sink || component == Role::Notify.name()
}

/// Labels of an object.
fn labels(owner: &Owner, component: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "clickstream",
        "app.kubernetes.io/instance": owner.name,
        COMPONENT_LABEL: component,
        "app.kubernetes.io/managed-by": MANAGER,
        PIPELINE_LABEL: owner.name,
    })
}

/// Group and version as objects name them.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// An object of `kind` with its metadata and `rest`.
fn object(owner: &Owner, kind: Kind, name: String, component: &str, rest: Value) -> Object {
    let (group, version, kind_name, _) = kind.api();
    let mut body = json!({
        "apiVersion": api_version(group, version),
        "kind": kind_name,
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": labels(owner, component),
            "ownerReferences": [{
                "apiVersion": "clickstream.dev/v1alpha1",
                "kind": "ClickstreamPipeline",
                "name": owner.name,
                "uid": owner.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
    });
    for (key, value) in rest.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    Object { kind, name, body }
}

/// Name of the ConfigMap with an accepted spec. Each has its own, so that a pod that starts anew while a change is under way
/// still finds what it ran.
#[must_use]
pub fn config_map_name(pipeline: &str, hash: &str) -> String {
    format!("{pipeline}-manifest-{}", &hash[..hash.len().min(10)])
}

/// The key of the manifest in the ConfigMap, which is its file name too.
pub const MANIFEST_KEY: &str = "pipeline.yaml";

fn config_map(owner: &Owner, accepted: &Accepted) -> Object {
    let rest = json!({ "data": { MANIFEST_KEY: accepted.manifest } });
    object(owner, Kind::ConfigMap, config_map_name(&owner.name, &accepted.hash), "manifest", rest)
}
