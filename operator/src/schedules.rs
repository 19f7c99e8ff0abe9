//! What schedules came to, and what a person should do about it. Pure.

use crate::{
    accepted::Accepted,
    desired::schedules::cron_job_name,
    observed::{LastRun, Objects, Reading, last_run},
};

/// The condition that tells of the last runs.
pub const CONDITION: &str = "SchedulesSucceeded";

/// Its reason, and that of the event, where one failed.
pub const FAILED: &str = "ScheduleFailed";

/// A schedule whose last run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its name.
    pub name: String,
    /// What to do.
    pub told: String,
}

/// Those that failed. One that runs again just now is judged when it ends, and while nothing is known none is.
#[must_use]
pub fn failed(pipeline: &str, accepted: &Accepted, observed: &Reading<Objects>) -> Vec<Failed> {
    let Reading::Known(live) = observed else { return Vec::new() };
    let schedules = accepted.spec.schedules.iter();
    let failed =
        schedules.filter(|schedule| last_run(live, &cron_job_name(pipeline, &schedule.name)) == LastRun::Failed);
    let told = |name: &str, started: &str| {
        format!(
            "the run of schedule {name} at {started} failed or found tables that differ from the archive; see kubectl logs \
             -l clickstream.dev/pipeline={pipeline},app.kubernetes.io/component=schedule-{name}"
        )
    };
    failed
        .map(|schedule| {
            let object = &live[&(crate::observed::Kind::CronJob, cron_job_name(pipeline, &schedule.name))];
            let started = object["status"]["lastScheduleTime"].as_str().unwrap_or_default();
            Failed { name: schedule.name.clone(), told: told(&schedule.name, started) }
        })
        .collect()
}
