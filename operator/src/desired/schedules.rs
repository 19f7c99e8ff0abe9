//! A CronJob for each schedule: `clickstream replay --from SINK`, in a pod like those of the sink and of processing together.
//!
//! Its Jobs do not carry the label of who manages them: they belong to the CronJob, and nobody here takes them for leftovers.

use crds::spec::{PipelineSpec, Schedule};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Object, Owner, PIPELINE_LABEL, deployments, object,
    pods::{self, MANIFEST_PATH, Pod},
    secrets,
};
use crate::{accepted::Accepted, observed::Kind};

/// The longest name of a CronJob: the cluster adds eleven letters for its Jobs.
const NAME_MAX: usize = 52;

/// A replay that takes longer is stuck. The next one waits for it.
const DEADLINE_SECONDS: u32 = 6 * 3_600;

/// A start that was missed, by a cluster that was down, is made up for within this time.
const LATE_SECONDS: u32 = 3_600;

/// Name of the CronJob of a schedule. Two that differ in their ends only do not meet.
#[must_use]
pub fn cron_job_name(pipeline: &str, schedule: &str) -> String {
    let name = format!("{pipeline}-schedule-{schedule}");
    if name.len() <= NAME_MAX {
        return name;
    }
    let hash = format!("{:08x}", xxh3_64(name.as_bytes()) as u32);
    let kept = name[..NAME_MAX - 1 - hash.len()].trim_end_matches(['-', '.']);
    format!("{kept}-{hash}")
}

pub(super) fn cron_jobs(owner: &Owner, accepted: &Accepted) -> Vec<Object> {
    accepted.spec.schedules.iter().map(|schedule| cron_job(owner, accepted, schedule)).collect()
}

fn cron_job(owner: &Owner, accepted: &Accepted, schedule: &Schedule) -> Object {
    let spec = &accepted.spec;
    let component = format!("schedule-{}", schedule.name);
    let pod = pod(spec, schedule, &component);
    let mut template = pods::template(owner, accepted, &pod);
    template["spec"]["restartPolicy"] = Value::from("Never");
    let rest = json!({ "spec": {
        "schedule": schedule.cron,
        "timeZone": schedule.time_zone,
        "suspend": schedule.suspend || spec.suspend,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": LATE_SECONDS,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {
            "metadata": { "labels": {
                "app.kubernetes.io/component": component,
                PIPELINE_LABEL: owner.name,
            }},
            // What differs tonight differs in a minute: a person should look.
            "spec": { "backoffLimit": 0, "activeDeadlineSeconds": DEADLINE_SECONDS, "template": template },
        },
    }});
    let mut cron_job = object(owner, Kind::CronJob, cron_job_name(&owner.name, &schedule.name), &component, rest);
    deployments::say_made_for(&mut cron_job, accepted, pod.resources);
    cron_job
}

fn pod<'a>(spec: &'a PipelineSpec, schedule: &Schedule, component: &'a str) -> Pod<'a> {
    let replay = &schedule.replay;
    let mut args = ["replay", "--manifest", MANIFEST_PATH, "--from", &replay.from].map(str::to_owned).to_vec();
    args.extend(replay.since.iter().flat_map(|since| ["--since".into(), since.to_string()]));
    args.extend(replay.tables.iter().flat_map(|table| ["--table".into(), table.clone()]));
    let mut pod = Pod {
        component,
        args,
        ports: Vec::new(),
        resources: spec.process.resources.as_ref(),
        secrets: secrets::of_process(spec),
        secrets_if_there: Vec::new(),
        volumes: Vec::new(),
        has_health: false,
    };
    deployments::lookups(spec, &mut pod);
    if let Some(sink) = spec.sinks.iter().find(|sink| sink.name == replay.from) {
        deployments::archive(sink, &mut pod);
        pod.secrets = secrets::together(pod.secrets, secrets::of_sink(spec, sink));
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_enough_and_differ() {
        assert_eq!(cron_job_name("medallion", "nightly"), "medallion-schedule-nightly");
        let long = |end: char| cron_job_name(&"p".repeat(30), &format!("{}{end}", "s".repeat(39)));
        assert!(long('a').len() <= NAME_MAX && long('a') != long('b'), "{} {}", long('a'), long('b'));
    }
}
