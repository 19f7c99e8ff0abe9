//! The Helm chart, rendered by the real helm: objects as values to look into, or the words of a refusal.
//!
//! Nothing here judges; the tests do. No cluster is asked: what one would say of the objects is [`crate::api_server`]'s.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::binary::root;

/// The release's name in tests.
pub const RELEASE: &str = "clickstream";

/// The release's namespace in tests.
pub const NAMESPACE: &str = "shop";

/// Choices of values that people make, alone and together: a name, and what follows `--set`.
pub const CHOICES: &[(&str, &[&str])] = &[
    ("as it comes", &[]),
    ("all namespaces", &["watch.allNamespaces=true"]),
    ("two namespaces", &["watch.namespaces={web,app}"]),
    ("two namespaces, and nothing beyond them", &["watch.namespaces={shop,web}", "rbac.finalizers=false"]),
    ("a standby", &["operator.replicas=2"]),
    ("a standby without a budget", &["operator.replicas=2", "operator.podDisruptionBudget=false"]),
    ("no rights of its own", &["rbac.create=false", "rbac.userRoles=false", "serviceAccount.create=false"]),
    ("an account of ours", &["serviceAccount.create=false", "serviceAccount.name=robot"]),
    ("an account with a role", &["serviceAccount.name=robot", "serviceAccount.annotations.example\\.com/role=reader"]),
    ("nothing before it is uninstalled", &["uninstallHook=false"]),
    ("definitions from elsewhere", &["crds.install=false"]),
    ("no network policy", &["networkPolicy.enabled=false"]),
    (
        "a closed network",
        &[
            "networkPolicy.restrictEgress=true",
            "networkPolicy.egressPorts={443,9092}",
            "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring",
        ],
    ),
    ("pod monitor and rules", &["monitoring.monitor=true", "monitoring.rules=true", "monitoring.labels.release=main"]),
    ("service monitor", &["monitoring.monitor=true", "monitoring.monitorKind=ServiceMonitor"]),
    ("one broker", &["devKafka.enabled=true"]),
    ("three brokers", &["devKafka.enabled=true", "devKafka.brokers=3", "devKafka.persistence.storageClassName=fast"]),
    ("brokers that forget", &["devKafka.enabled=true", "devKafka.brokers=3", "devKafka.persistence.enabled=false"]),
    ("couchbase", &["devCouchbase.enabled=true"]),
    (
        "couchbase that forgets",
        &["devCouchbase.enabled=true", "devCouchbase.persistence.enabled=false", "devCouchbase.password=secret1"],
    ),
    (
        "all that kind wants",
        &["devKafka.enabled=true", "devCouchbase.enabled=true", "devDashboard.enabled=true", "image.tag=dev"],
    ),
    (
        "placed with care",
        &[
            "operator.priorityClassName=system-cluster-critical",
            "operator.nodeSelector.pool=system",
            "operator.tolerations[0].key=dedicated",
            "operator.tolerations[0].operator=Exists",
            "operator.podLabels.team=data",
            "operator.podAnnotations.example\\.com/note=hello",
            "imagePullSecrets[0].name=registry",
            "workerImage=registry.example.com/clickstream:1",
        ],
    ),
    (
        "an image by its digest",
        &["image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"],
    ),
];

/// The Prometheus operator's kinds by name alone: whether their fields are right is not told by this server.
#[must_use]
pub fn monitoring_kinds() -> String {
    definitions("monitoring.coreos.com", "v1", &["PodMonitor", "ServiceMonitor", "PrometheusRule"])
}

/// Those of Couchbase's operator, likewise.
#[must_use]
pub fn couchbase_kinds() -> String {
    let kinds = ["CouchbaseBucket", "CouchbaseEphemeralBucket", "CouchbaseScope", "CouchbaseCollection"];
    definitions("couchbase.com", "v2", &kinds)
}

fn definitions(group: &str, version: &str, kinds: &[&str]) -> String {
    let definitions = kinds.iter().map(|kind| {
        let plural = format!("{}s", kind.to_lowercase());
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{
                    "name": version, "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                }],
            },
        })
        .to_string()
    });
    definitions.collect::<Vec<String>>().join("\n---\n")
}

/// The chart's folder.
#[must_use]
pub fn folder() -> PathBuf {
    root().join("helm/clickstream")
}

/// Runs helm; the first call may build it.
///
/// # Errors
/// If there is none and none can be built, or it cannot be started.
pub fn helm(arguments: &[&str]) -> Result<Output> {
    static FOUND: OnceLock<String> = OnceLock::new();
    let program = match FOUND.get() {
        Some(program) => program,
        None => {
            let program = tool("helm")?;
            FOUND.get_or_init(|| program)
        }
    };
    Command::new(program).args(arguments).stdin(Stdio::null()).output().context("failed to start helm")
}

/// What a script of `tests/tools` prints: a path.
///
/// # Errors
/// If it fails, or prints nothing.
pub fn tool(name: &str) -> Result<String> {
    let script = root().join("tests/tools").join(name);
    let output = Command::new(&script).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("failed to start {}", script.display()))?;
    let path = String::from_utf8(output.stdout)?.trim().to_owned();
    ensure!(output.status.success() && !path.is_empty(), "tests/tools/{name} found nothing: it says above why");
    Ok(path)
}

/// The objects that a choice of values gives, in a cluster that knows `kinds` besides Kubernetes' own.
///
/// # Errors
/// If helm refuses; the error is what it says.
pub fn render(values: &[&str], kinds: &[&str]) -> Result<Vec<Value>> {
    objects(&template(values, kinds)?)
}

/// As [`render`], as the text that helm prints.
///
/// # Errors
/// If helm refuses; the error is what it says.
pub fn template(values: &[&str], kinds: &[&str]) -> Result<String> {
    let folder = folder();
    let mut arguments = vec!["template", RELEASE, folder.to_str().context("a path of no text")?];
    arguments.extend(["--namespace", NAMESPACE, "--kube-version", "1.34.0"]);
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    arguments.extend(kinds.iter().flat_map(|kind| ["--api-versions", kind]));
    let output = helm(&arguments)?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The objects in a text of several YAML documents.
///
/// # Errors
/// If it is no YAML.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let object = Value::deserialize(document)?;
        found.extend((!object.is_null()).then_some(object));
    }
    Ok(found)
}

/// `Kind/name` of an object, and where it lies if that is another namespace than the release's.
#[must_use]
pub fn label(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = format!("{}/{}", object["kind"].as_str().unwrap_or("?"), metadata["name"].as_str().unwrap_or("?"));
    match metadata["namespace"].as_str() {
        Some(namespace) if namespace != NAMESPACE => format!("{name} in {namespace}"),
        _ => name,
    }
}

/// What makes an object's pods: the object itself, or its template.
#[must_use]
pub fn pod(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "Pod" => Some(object),
        "Deployment" | "StatefulSet" | "Job" => Some(&object["spec"]["template"]),
        _ => None,
    }
}
