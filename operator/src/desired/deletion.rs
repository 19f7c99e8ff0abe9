//! The Job that deletes what a manifest asks to have deleted with its pipeline, and the ConfigMap that it reads.
//!
//! Neither is owned by the pipeline: where its dependents are deleted before it, they would go before their work is done.

use serde_json::{Value, json};

use super::{
    Object, Owner, config_map, object,
    pods::{self, MANIFEST_PATH, Pod},
    secrets,
};
use crate::{accepted::Accepted, choice::plan_hash, observed::Kind};

/// What the labels of these Jobs' pods say.
pub const COMPONENT: &str = "delete";

/// How names of these Jobs begin.
#[must_use]
pub fn job_prefix(pipeline: &str) -> String {
    format!("{pipeline}-delete-")
}

/// The ConfigMap and the Job. Topics in `keep` stay. Both have names of their own for every wording of the wish.
#[must_use]
pub fn objects(owner: &Owner, accepted: &Accepted, keep: &[String]) -> [Object; 2] {
    let words = format!("{} {}", plan_hash(&accepted.spec), keep.join(" "));
    let hash = format!("d{:09x}", xxhash_rust::xxh3::xxh3_64(words.as_bytes()) >> 28);
    let accepted = Accepted { hash, ..accepted.clone() };
    let mut args = ["setup", "--manifest", MANIFEST_PATH, "--delete"].map(str::to_owned).to_vec();
    args.extend(keep.iter().flat_map(|topic| ["--keep".to_owned(), topic.clone()]));
    let pod = Pod {
        component: COMPONENT,
        args,
        ports: Vec::new(),
        resources: None,
        secrets: secrets::together(secrets::of_kafka(&accepted.spec), secrets::of_stores(&accepted.spec)),
        secrets_if_there: Vec::new(),
        volumes: Vec::new(),
        has_health: false,
    };
    let mut template = pods::template(owner, &accepted, &pod);
    template["spec"]["restartPolicy"] = Value::from("OnFailure");
    // Less than a deletion may take: what it left can still be told.
    let rest = json!({ "spec": { "backoffLimit": 5, "activeDeadlineSeconds": 300, "template": template } });
    let name = job_prefix(&owner.name) + &accepted.hash;
    let mut both = [config_map(owner, &accepted), object(owner, Kind::Job, name, COMPONENT, rest)];
    for object in &mut both {
        object.body["metadata"].as_object_mut().expect("objects have metadata").remove("ownerReferences");
    }
    both
}
