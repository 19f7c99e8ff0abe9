//! Validation: from a resource to the spec that may run, or to why it may not.

use crds::spec::{ClickstreamPipeline, PipelineSpec};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::desired::services;

/// A spec that passed validation.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The manifest as the workers read it.
    pub manifest: String,
    /// What it says.
    pub spec: PipelineSpec,
    /// Hash of what makes pods restart: everything but numbers of replicas and what only the operator reads.
    pub hash: String,
}

/// What validation says of a resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may run.
    Accept(Box<Accepted>),
    /// It may not; whatever ran goes on.
    Refuse {
        /// Every problem, in one text.
        message: String,
    },
}

/// Letters of a Service's name: it is a label of DNS.
const SERVICE_NAME_MAX: usize = 63;

/// Bytes of a manifest: a ConfigMap holds a mebibyte, its own metadata included.
const MANIFEST_BYTES_MAX: usize = 1_000_000;

/// Judges a resource by the same function that `clickstream validate` calls, and by what only a cluster asks for.
#[must_use]
pub fn judge(name: &str, spec: &PipelineSpec) -> Verdict {
    let manifest = manifest(name, spec);
    let mut problems = in_a_cluster(name, spec, manifest.len());
    problems.extend(crds::check(&manifest, &[]).err().iter().flatten().map(told));
    match problems.is_empty() {
        true => Verdict::Accept(Box::new(Accepted { hash: hash(spec), spec: spec.clone(), manifest })),
        false => Verdict::Refuse { message: problems.join("; ") },
    }
}

/// What a laptop would not mind.
fn in_a_cluster(name: &str, spec: &PipelineSpec, manifest_bytes: usize) -> Vec<String> {
    let mut problems = Vec::new();
    if spec.kafka.is_none() {
        problems.push("spec.kafka: a cluster needs it; give bootstrapServers: [\"host:9092\"]".into());
    }
    if manifest_bytes > MANIFEST_BYTES_MAX {
        problems.push(format!(
            "spec: has {manifest_bytes} bytes, and pods mount it from a ConfigMap, which holds {MANIFEST_BYTES_MAX}: leave \
             out `tests`, or make two pipelines"
        ));
    }
    for sink in &spec.sinks {
        let Some(parquet) = sink.parquet.as_ref().filter(|parquet| parquet.volume.is_none()) else { continue };
        if !parquet.path.contains("://") {
            problems.push(format!(
                "spec.sinks[{}].parquet.volume: pods have no place of their own that files outlive (accepted: volume: \
                 {{persistentVolumeClaim: NAME}}, or a path in a bucket, s3://bucket/prefix/)",
                sink.name
            ));
        }
    }
    // No rule of the definition says this: it would refuse to let go of pipelines that are there already.
    if name.starts_with(|first: char| !first.is_ascii_lowercase()) {
        problems.push(format!(
            "metadata.name: the Service of {name} would be {name}-serve, and such a name begins with a letter (accepted: \
             lower-case letters, digits and hyphens, beginning with a letter; make the pipeline anew under another name)"
        ));
    }
    for (part, _) in services::addressed(spec) {
        let service = part.object_name(name);
        if service.len() > SERVICE_NAME_MAX {
            let named = part.item.map_or_else(|| "metadata".into(), |item| format!("spec.ingest[{item}]"));
            problems.push(format!(
                "{named}.name: its Service would be {service}, with {} characters (accepted: at most {SERVICE_NAME_MAX}, so \
                 this name or the pipeline's has to be shorter)",
                service.len()
            ));
        }
    }
    problems
}

/// A problem without its line: the user's own text is not at hand.
fn told(problem: &crds::Problem) -> String {
    let accepted = problem.accepted.as_ref().map(|accepted| format!(" (accepted: {accepted})")).unwrap_or_default();
    let meant = problem.suggestion.as_ref().map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
    format!("{}: {}{accepted}{meant}", problem.path, problem.message)
}

/// The manifest that the workers mount: name and spec, with the fields of events in their order.
#[must_use]
pub fn manifest(name: &str, spec: &PipelineSpec) -> String {
    let resource = ClickstreamPipeline::new(name, spec.clone());
    serde_yaml::to_string(&resource).expect("a spec is plain maps, lists and scalars")
}

/// The spec that was accepted last, from the manifest in the ConfigMap.
#[must_use]
pub fn read(name: &str, manifest: &str) -> Option<Accepted> {
    let resource: ClickstreamPipeline = serde_yaml::from_str(manifest).ok()?;
    match judge(name, &resource.spec) {
        Verdict::Accept(accepted) => Some(*accepted),
        // A newer operator may refuse what an older one accepted: what runs goes on all the same.
        Verdict::Refuse { .. } => {
            let spec = resource.spec;
            Some(Accepted { hash: hash(&spec), manifest: manifest.to_owned(), spec })
        }
    }
}

impl Accepted {
    /// The same with what the present spec says about numbers: how many pods, or none. They restart nothing and break
    /// nothing, so they hold even where the rest of the present spec has to wait or is refused.
    #[must_use]
    pub fn with_numbers_of(mut self, present: &PipelineSpec) -> Self {
        let spec = &mut self.spec;
        spec.suspend = present.suspend;
        spec.process.replicas = present.process.replicas;
        spec.process.autoscale.clone_from(&present.process.autoscale);
        spec.serve.replicas = present.serve.replicas;
        for ingester in &mut spec.ingest {
            if let Some(same) = present.ingest.iter().find(|other| other.name == ingester.name) {
                ingester.replicas = same.replicas;
                ingester.autoscale.clone_from(&same.autoscale);
            }
        }
        for sink in &mut spec.sinks {
            if let Some(same) = present.sinks.iter().find(|other| other.name == sink.name) {
                sink.replicas = same.replicas;
            }
        }
        self
    }
}

fn hash(spec: &PipelineSpec) -> String {
    let mut value = serde_json::to_value(spec).expect("a spec is plain maps, lists and scalars");
    forget(&mut value, &["suspend", "apply", "approve", "deletionPolicy", "tests", "objectives", "schedules"]);
    for part in ["process", "serve"] {
        forget(&mut value[part], &["replicas", "autoscale", "resources", "ingress"]);
    }
    for list in ["ingest", "sinks"] {
        for item in value[list].as_array_mut().into_iter().flatten() {
            forget(item, &["replicas", "autoscale", "resources"]);
        }
    }
    // serde_json sorts the keys of its maps: the same spec gives the same text.
    format!("{:016x}", xxh3_128(value.to_string().as_bytes()) as u64)
}

fn forget(value: &mut Value, names: &[&str]) {
    if let Some(map) = value.as_object_mut() {
        names.iter().for_each(|name| drop(map.remove(*name)));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::desired::Owner;

    /// An example of the repository.
    pub(crate) fn example(name: &str) -> ClickstreamPipeline {
        let file = format!("{}/../examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    }

    /// Whose objects a pipeline's are, in a cluster that knows nothing but Kubernetes.
    pub(crate) fn owner(name: &str) -> Owner {
        Owner {
            namespace: "shop".into(),
            name: name.into(),
            uid: "u".into(),
            image: "clickstream:1".into(),
            monitoring: crate::desired::monitoring::Monitoring::default(),
            couchbase: crate::desired::couchbase::CouchbaseOperator::default(),
        }
    }

    pub(crate) fn accepted(name: &str) -> Accepted {
        match judge(name, &example(name).spec) {
            Verdict::Accept(accepted) => *accepted,
            Verdict::Refuse { message } => panic!("{message}"),
        }
    }

    #[test]
    fn what_was_accepted_is_read_back() {
        for name in ["category-sales", "dataset-split", "medallion", "multi-sink", "three-topics", "reference"] {
            let first = accepted(name);
            let second = read(name, &first.manifest).unwrap();
            assert_eq!(second.manifest, first.manifest, "{name}");
            assert_eq!(second.hash, first.hash, "{name}");
            assert_eq!(second.spec, first.spec, "{name}");
        }
    }

    #[test]
    fn numbers_of_replicas_do_not_restart_pods_and_definitions_do() {
        let mut changed = example("medallion").spec;
        changed.process.replicas = 7;
        changed.suspend = true;
        changed.ingest[0].replicas = 3;
        let Verdict::Accept(same) = judge("medallion", &changed) else { panic!("it is valid") };
        assert_eq!(same.hash, accepted("medallion").hash);
        changed.restart = Some("now".into());
        let Verdict::Accept(other) = judge("medallion", &changed) else { panic!("it is valid") };
        assert_ne!(other.hash, same.hash);
    }

    /// A field that did not exist when a manifest was accepted must not show in what is made of it: another hash restarts pods,
    /// and pods that run may not know it.
    #[test]
    fn a_manifest_of_an_earlier_version_has_the_hash_it_had() {
        let text = include_str!("../tests/golden/manifest.yaml");
        let golden: ClickstreamPipeline = serde_yaml::from_str(text).unwrap();
        assert_eq!(hash(&golden.spec), "11e156aa099b1e3f", "new fields are written only where they are given");
    }

    #[test]
    fn what_a_cluster_cannot_hold_is_refused_before_it_is_tried() {
        let refused = |name: &str, spec: &PipelineSpec| match judge(name, spec) {
            Verdict::Refuse { message } => message,
            Verdict::Accept(_) => String::new(),
        };
        let mut spec = example("multi-sink").spec;
        let collector = spec.ingest.iter().position(|ingester| ingester.http.is_some());
        let collector = &mut spec.ingest[collector.expect("the example has a collector")];
        collector.name = "c".repeat(40);
        let told = refused(&"p".repeat(15), &spec);
        assert_eq!(told, "", "15 + 8 + 40 letters are what a Service may have");
        let told = refused(&"p".repeat(16), &spec);
        assert!(told.starts_with("spec.ingest[ccc") && told.contains("with 64 characters"), "{told}");
        spec.restart = Some("x".repeat(MANIFEST_BYTES_MAX));
        spec.kafka = None;
        let told = refused(&"p".repeat(16), &spec);
        assert!(told.starts_with("spec.kafka: ") && told.contains("; spec: has 100"), "{}", &told[..200]);
    }

    #[test]
    fn files_want_a_volume() {
        let mut spec = example("medallion").spec;
        let parquet = spec.sinks[0].parquet.as_mut().unwrap();
        parquet.volume = None;
        let Verdict::Refuse { message } = judge("medallion", &spec) else {
            panic!("a pod has a root of its own, read-only")
        };
        assert!(message.starts_with("spec.sinks[bronze].parquet.volume: pods have no place"), "{message}");
        spec.sinks[0].parquet.as_mut().unwrap().path = "s3://lake/bronze/".into();
        assert!(matches!(judge("medallion", &spec), Verdict::Accept(_)));
    }

    #[test]
    fn a_name_that_a_service_cannot_begin_with_is_refused() {
        let spec = example("medallion").spec;
        let Verdict::Refuse { message } = judge("7up", &spec) else {
            panic!("no API server takes the Service 7up-serve")
        };
        assert!(message.starts_with("metadata.name: the Service of 7up would be 7up-serve"), "{message}");
        assert!(matches!(judge("up7", &spec), Verdict::Accept(_)));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut spec = example("medallion").spec;
        spec.tables[0].from = "nowhere".into();
        spec.sinks[0].tables = vec!["nothing".into()];
        let Verdict::Refuse { message } = judge("medallion", &spec) else { panic!("it is invalid") };
        assert!(message.contains("nowhere") || message.contains("unknown"), "{message}");
        assert!(message.contains("; "), "{message}");
    }
}
