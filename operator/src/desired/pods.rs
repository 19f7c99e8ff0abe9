//! The pod template that all parts share: restricted, without a token, with probes.

use crds::spec::{Resources, Volume};
use serde_json::{Value, json};

use super::{HASH_ANNOTATION, MANIFEST_KEY, Owner, config_map_name, labels, secrets};
use crate::accepted::Accepted;

/// Port of health and metrics in every pod.
pub const HEALTH_PORT: u16 = 9090;

/// Where the manifest is mounted.
pub(super) const MANIFEST_PATH: &str = "/etc/clickstream/pipeline.yaml";

/// The container of every pod.
pub(super) const CONTAINER: &str = "clickstream";

/// Where volumes of datasets and lookups are mounted, each under its name.
const VOLUMES: &str = "/var/lib/clickstream";

/// The user of the image.
const USER: i64 = 65532;

/// What differs from pod to pod.
pub(super) struct Pod<'a> {
    pub component: &'a str,
    pub args: Vec<String>,
    pub ports: Vec<(&'static str, u16)>,
    pub resources: Option<&'a Resources>,
    pub secrets: Vec<String>,
    /// Those without which it does what else there is to do.
    pub secrets_if_there: Vec<String>,
    pub volumes: Vec<&'a Volume>,
    pub has_health: bool,
}

/// Where the file `path` of a volume is in a pod.
pub(super) fn volume_path(volume: &Volume, path: &str) -> String {
    format!("{VOLUMES}/{}/{path}", volume_name(volume))
}

fn volume_name(volume: &Volume) -> String {
    match (&volume.config_map, &volume.persistent_volume_claim) {
        (Some(name), _) => format!("config-{}", secrets::volume_name(name)),
        (_, Some(name)) => format!("claim-{}", secrets::volume_name(name)),
        (None, None) => "none".into(),
    }
}

/// The pod template.
pub(super) fn template(owner: &Owner, accepted: &Accepted, pod: &Pod<'_>) -> Value {
    let (mut volumes, mut mounts) = (vec![], vec![]);
    volumes.push(json!({ "name": "manifest", "configMap": {
        "name": config_map_name(&owner.name, &accepted.hash), "items": [{ "key": MANIFEST_KEY, "path": MANIFEST_KEY }] } }));
    mounts.push(json!({ "name": "manifest", "mountPath": "/etc/clickstream", "readOnly": true }));
    volumes.push(json!({ "name": "tmp", "emptyDir": {} }));
    mounts.push(json!({ "name": "tmp", "mountPath": "/tmp" }));
    let needed = pod.secrets.iter().map(|secret| (secret, json!({ "secretName": secret })));
    let if_there = pod.secrets_if_there.iter().filter(|secret| !pod.secrets.contains(secret));
    let if_there = if_there.map(|secret| (secret, json!({ "secretName": secret, "optional": true })));
    for (secret, source) in needed.chain(if_there) {
        let name = format!("secret-{}", secrets::volume_name(secret));
        volumes.push(json!({ "name": name, "secret": source }));
        mounts.push(json!({ "name": name, "mountPath": format!("{}/{secret}", secrets::DIRECTORY), "readOnly": true }));
    }
    for volume in &pod.volumes {
        let name = volume_name(volume);
        let source = match (&volume.config_map, &volume.persistent_volume_claim) {
            (Some(config_map), _) => json!({ "name": name, "configMap": { "name": config_map } }),
            (_, claim) => json!({ "name": name, "persistentVolumeClaim": { "claimName": claim } }),
        };
        volumes.push(source);
        mounts.push(json!({ "name": name, "mountPath": format!("{VOLUMES}/{name}") }));
    }
    let mut container = json!({
        "name": CONTAINER,
        "image": owner.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["clickstream"],
        "args": pod.args,
        "env": [
            { "name": "HOSTNAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "CLICKSTREAM_SECRETS", "value": secrets::DIRECTORY },
        ],
        "resources": resources(pod.resources),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        "volumeMounts": mounts,
    });
    if pod.has_health {
        let mut ports = vec![json!({ "name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP" })];
        ports.extend(
            pod.ports.iter().map(|(name, port)| json!({ "name": name, "containerPort": port, "protocol": "TCP" })),
        );
        container["ports"] = ports.into();
        container["livenessProbe"] = probe("/healthz", 10, 6);
        container["readinessProbe"] = probe("/readyz", 2, 3);
        // Endpoints forget the pod before it stops listening.
        container["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 2 } } });
    }
    json!({
        "metadata": {
            "labels": labels(owner, pod.component),
            "annotations": { HASH_ANNOTATION: accepted.hash },
        },
        "spec": {
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "terminationGracePeriodSeconds": 45,
            "topologySpreadConstraints": [{
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": { "matchLabels": labels(owner, pod.component) },
            }],
            "containers": [container],
            "volumes": volumes,
        },
    })
}

fn probe(path: &str, period: i64, failures: i64) -> Value {
    json!({
        "httpGet": { "path": path, "port": "health" },
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    })
}

/// Something is always set aside, so that a pod is never the first to go.
fn resources(asked: Option<&Resources>) -> Value {
    let mut all = json!({ "requests": { "cpu": "100m", "memory": "128Mi" } });
    if let Some(asked) = asked {
        asked.requests.iter().for_each(|(name, amount)| all["requests"][name] = amount.clone().into());
        asked.limits.iter().for_each(|(name, amount)| all["limits"][name] = amount.clone().into());
    }
    all
}
