//! Why a pod is not ready, from what the cluster says of it. Pure; the time comes from the caller.
//!
//! What is told stays the same from look to look: no counts, no pauses, no names of pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

/// A pod starts, or comes back, within this; what takes longer is told.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// What keeps a pod from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Nothing does, or it may still be starting.
    Nothing,
    /// The cluster knows.
    For(String),
    /// It runs: it knows itself.
    Ask,
}

/// Letters of a container's last words that are told.
const SAID_MAX: usize = 1_000;

/// How a container ends that somebody has to change something for: see `Mistake` of the workers.
const MISTAKE: i32 = 2;

/// Whether somebody has to change something before what is told here passes.
#[must_use]
pub fn is_mistake(told: &str) -> bool {
    told.starts_with(&ends(MISTAKE))
}

fn ends(code: i32) -> String {
    format!("CrashLoopBackOff: it ends with exit code {code} ")
}

/// Judges a pod.
#[must_use]
pub fn waits(pod: &Pod, now: jiff::Timestamp) -> Waits {
    let Some(status) = pod.status.as_ref().filter(|_| pod.metadata.deletion_timestamp.is_none()) else {
        return Waits::Nothing;
    };
    let condition = |type_: &str| status.conditions.iter().flatten().find(|one| one.type_ == type_);
    let ready = condition("Ready");
    if ready.is_some_and(|one| one.status == "True") {
        return Waits::Nothing;
    }
    let containers = status.container_statuses.iter().flatten();
    if let Some(why) = containers.filter(|one| !one.ready).find_map(fails) {
        return Waits::For(why);
    }
    if !is_late(pod, ready, now) {
        return Waits::Nothing;
    }
    if status.phase.as_deref() == Some("Running") {
        return Waits::Ask;
    }
    match condition("PodScheduled").filter(|one| one.status == "False") {
        Some(one) => Waits::For(format!("no node takes it: {}", one.message.as_deref().unwrap_or("unschedulable"))),
        None => Waits::For(unmounted(pod)),
    }
}

/// What does not pass by itself.
fn fails(container: &ContainerStatus) -> Option<String> {
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    // Between two ends it runs for a while: that is no reason to tell something else.
    if let Some(ended) = last.filter(|_| container.restart_count > 0) {
        let reason = ended.reason.as_deref().unwrap_or("Error");
        let said: String = last_words(ended.message.as_deref().unwrap_or_default()).chars().take(SAID_MAX).collect();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        return Some(format!("{}({reason}){said}, see kubectl logs -p", ends(ended.exit_code)));
    }
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let said = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "ContainerCreating" | "PodInitializing" => None,
        // These take turns.
        "ErrImagePull" | "ImagePullBackOff" => {
            Some(format!("ImagePullBackOff: the image {} cannot be pulled", container.image))
        }
        reason @ ("CreateContainerConfigError" | "InvalidImageName" | "ErrImageNeverPull") => {
            Some(format!("{reason}: {}", said.lines().next().unwrap_or_default()))
        }
        reason => Some(reason.to_owned()),
    }
}

/// Only who is told to leaves a message: an error with all its lines is why, or else the last line.
fn last_words(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let error = lines.iter().rposition(|line| line.starts_with("error: "));
    lines[error.unwrap_or(lines.len().saturating_sub(1))..].join("; ")
}

fn is_late(pod: &Pod, ready: Option<&PodCondition>, now: jiff::Timestamp) -> bool {
    let since = ready.and_then(|one| one.last_transition_time.as_ref()).or(pod.metadata.creation_timestamp.as_ref());
    since.is_some_and(|since| Duration::try_from(now.duration_since(since.0)).is_ok_and(|time| time >= START_TIME_MAX))
}

/// The cluster tells only in events which of its volumes is not there: what it mounts is named, but for what it does without.
fn unmounted(pod: &Pod) -> String {
    let volumes = || pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let needed = volumes().filter_map(|volume| volume.secret.as_ref()).filter(|secret| secret.optional != Some(true));
    let secrets = needed.filter_map(|secret| secret.secret_name.as_ref());
    let secrets = secrets.map(|name| format!("secret \"{name}\""));
    let claims = volumes().filter_map(|volume| Some(&volume.persistent_volume_claim.as_ref()?.claim_name));
    let claims = claims.map(|name| format!("claim \"{name}\""));
    let mut names: Vec<String> = secrets.chain(claims).collect();
    names.sort();
    match names.is_empty() {
        true => "ContainerCreating: see kubectl describe pod".into(),
        false => {
            format!("ContainerCreating: is one of these not found: {}? See kubectl describe pod", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MADE: &str = "2026-01-01T00:00:00Z";

    fn judge(status: &Value, seconds: i64) -> Waits {
        let volumes = json!([
            {"name": "b", "secret": {"secretName": "couchbase"}}, {"name": "t", "emptyDir": {}},
            {"name": "a", "persistentVolumeClaim": {"claimName": "lake"}},
            {"name": "o", "secret": {"secretName": "shop-alerts", "optional": true}},
        ]);
        let pod = json!({
            "metadata": {"creationTimestamp": MADE}, "spec": {"containers": [], "volumes": volumes}, "status": status,
        });
        let made: jiff::Timestamp = MADE.parse().unwrap();
        waits(&serde_json::from_value(pod).unwrap(), made + jiff::SignedDuration::from_secs(seconds))
    }

    fn container(state: &Value, last: &Value, restarts: i32) -> Value {
        json!({"phase": "Pending", "containerStatuses": [{
            "name": "clickstream", "ready": false, "image": "shop/clickstream:1", "imageID": "",
            "restartCount": restarts, "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn a_pod_that_does_not_start_says_why_in_words_that_stay_the_same() {
        let waiting = |reason: &str, message: &str| {
            container(&json!({"waiting": {"reason": reason, "message": message}}), &json!({}), 0)
        };
        let ended = json!({"terminated": {"exitCode": 2, "reason": "Error"}});
        let backing_off = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}});
        let with_words =
            json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "made a\nerror: no broker\n"}});
        let words = "CrashLoopBackOff: it ends with exit code 1 (Error): error: no broker, see kubectl logs -p";
        let with_many = json!({"terminated": {
            "exitCode": 2, "reason": "Error", "message": "made a\nerror: two problems\n  topic b: grow it\n  topic c: shrink it\n",
        }});
        let many = "CrashLoopBackOff: it ends with exit code 2 (Error): error: two problems; topic b: grow it; topic c: shrink it, see kubectl logs -p";
        let unschedulable = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"},
        ]});
        let image = "ImagePullBackOff: the image shop/clickstream:1 cannot be pulled";
        let crash = "CrashLoopBackOff: it ends with exit code 2 (Error), see kubectl logs -p";
        assert!(is_mistake(many) && is_mistake(crash) && !is_mistake(words));
        let mounts = "ContainerCreating: is one of these not found: claim \"lake\", secret \"couchbase\"? See kubectl describe pod";
        for (status, seconds, want) in [
            (
                waiting("CreateContainerConfigError", "secret \"x\" not found"),
                5,
                "CreateContainerConfigError: secret \"x\" not found",
            ),
            (waiting("ErrImagePull", "rpc error: 17"), 5, image),
            (waiting("ImagePullBackOff", "Back-off pulling image"), 500, image),
            (container(&backing_off, &ended, 3), 5, crash),
            (container(&json!({"running": {}}), &ended, 4), 5, crash),
            (container(&backing_off, &with_words, 3), 5, words),
            (container(&backing_off, &with_many, 3), 5, many),
            (waiting("ContainerCreating", ""), 70, mounts),
            (unschedulable, 70, "no node takes it: 0/3 nodes are available"),
        ] {
            assert_eq!(judge(&status, seconds), Waits::For(want.into()), "{status}");
        }
        assert_eq!(judge(&waiting("ContainerCreating", ""), 30), Waits::Nothing, "it may still be starting");
    }

    #[test]
    fn a_pod_that_runs_is_asked_once_it_is_not_ready_for_long() {
        let ready = |status: &str| {
            let one = json!({"type": "Ready", "status": status, "lastTransitionTime": MADE});
            json!({"phase": "Running", "conditions": [one]})
        };
        assert_eq!(judge(&ready("True"), 500), Waits::Nothing);
        assert_eq!(judge(&ready("False"), 30), Waits::Nothing);
        assert_eq!(judge(&ready("False"), 70), Waits::Ask);
    }
}
