//! The Job that makes and checks topics and buckets: one for each accepted spec.

use serde_json::{Value, json};

use super::{
    Object, Owner, object,
    pods::{self, MANIFEST_PATH, Pod},
    secrets,
};
use crate::{accepted::Accepted, observed::Kind};

/// Name of the Job for an accepted spec.
#[must_use]
pub fn job_name(pipeline: &str, hash: &str) -> String {
    format!("{pipeline}-setup-{}", &hash[..hash.len().min(10)])
}

/// The Job. It may be run again at any time: what is there is only checked.
#[must_use]
pub fn job(owner: &Owner, accepted: &Accepted) -> Object {
    let pod = Pod {
        component: "setup",
        args: ["setup", "--manifest", MANIFEST_PATH].map(str::to_owned).to_vec(),
        ports: Vec::new(),
        resources: None,
        secrets: secrets::of_kafka(&accepted.spec),
        // A store that is missing is its sink's trouble alone.
        secrets_if_there: secrets::of_stores(&accepted.spec),
        volumes: Vec::new(),
        has_health: false,
    };
    let mut template = pods::template(owner, accepted, &pod);
    template["spec"]["restartPolicy"] = Value::from("OnFailure");
    // Why it failed is what the container said last.
    template["spec"]["containers"][0]["terminationMessagePolicy"] = Value::from("FallbackToLogsOnError");
    // Brokers may be away for any time: the pod tries for ever, with pauses of at most five minutes.
    let rest = json!({ "spec": { "backoffLimit": i32::MAX, "template": template } });
    object(owner, Kind::Job, job_name(&owner.name, &accepted.hash), "setup", rest)
}
