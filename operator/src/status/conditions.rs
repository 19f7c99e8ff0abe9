//! The conditions of a pipeline, one function each.

use crds::status::PartStatus;

use super::{Facts, Said, cut, degraded, store};
use crate::{
    accepted::Accepted,
    choice::{PAUSED_ANNOTATION, Refusal},
    desired::{Part, schedules::cron_job_name, setup},
    observed::{JobState, LastRun, Objects, Reading, job_state, last_run},
    schedules, trouble,
    waiting::is_mistake,
};

/// All of them, in the order in which they are read.
pub(super) fn conditions(facts: &Facts<'_>, live: &Objects, states: &[(&Part, PartStatus)]) -> Vec<Said> {
    let (accepted, topics, workers) = (accepted(facts), topics(facts, live), workers(facts, states));
    let ready = ready(facts, [&accepted, &topics, &workers]);
    let degraded = degraded::degraded(facts, states);
    let store = store::store(facts, states);
    let schedules = facts.accepted.and_then(|accepted| schedules(facts, accepted));
    let always = [ready, accepted, topics, workers, progressing(facts), degraded];
    always.into_iter().chain(store).chain(schedules).chain(approved(facts)).collect()
}

fn accepted(facts: &Facts<'_>) -> Said {
    match facts.refused {
        None => Said { type_: "Accepted", status: "True", reason: "Valid", message: "the spec is valid".into() },
        Some(Refusal { reason, message }) => {
            let goes_on = if facts.accepted.is_some() { "; the last valid spec goes on" } else { "" };
            let message = format!("{message}{goes_on}; correct the spec and apply it again");
            Said { type_: "Accepted", status: "False", reason, message: cut(message) }
        }
    }
}

/// Whether the Job of this spec made its topics as it says, and they still are. Stores are the matter of their sinks.
pub(super) fn topics(facts: &Facts<'_>, live: &Objects) -> Said {
    let said = |status, reason, message: String| Said { type_: "TopicsReady", status, reason, message: cut(message) };
    let Some(accepted) = facts.accepted else {
        return said("False", "NothingAccepted", nothing_yet(facts));
    };
    if let Reading::Unknown(why) = facts.observed {
        return said("Unknown", "Unknown", why.clone());
    }
    let job = setup::job_name(facts.name, &accepted.hash);
    match job_state(live, &job) {
        JobState::Complete => match &facts.pulse.differences {
            None => said("True", "Ready", "topics are as the spec says".into()),
            Some(Reading::Known(differences)) if differences.is_empty() => {
                said("True", "Ready", "topics are as the spec says".into())
            }
            Some(Reading::Known(differences)) => {
                let told: Vec<&str> = differences.iter().map(|one| one.what.as_str()).collect();
                let next = match differences.iter().any(|one| one.by_hand) {
                    true => "correct the spec or the topics; it is looked at again by itself",
                    false => "setup runs again by itself",
                };
                said("False", DIFFER, format!("topics are not as the spec says any more; {next}: {}", told.join("; ")))
            }
            Some(Reading::Unknown(why)) => {
                said("Unknown", "BrokersSilent", format!("nobody knows whether topics are as the spec says: {why}"))
            }
        },
        JobState::Failed(why) => {
            said("False", "SetupFailed", format!("{why}; see kubectl logs job/{job}, put it right, and delete the job"))
        }
        JobState::Absent | JobState::Running => match facts.pulse.waiting.get(SETUP) {
            None => said("False", "SettingUp", "topics are being set up".into()),
            Some(why) if is_mistake(why) => said(
                "False",
                REFUSED,
                format!(
                    "topics cannot be as the spec says; correct the spec or the topics, it is tried again by itself: {why}"
                ),
            ),
            Some(why) => {
                said("False", "SettingUp", format!("topics are being set up; it is tried again and again: {why}"))
            }
        },
    }
}

/// Who makes the topics, among those that wait.
pub(super) const SETUP: &str = "setup";

/// Why topics are not ready where somebody has to change something.
pub(super) const REFUSED: &str = "SetupRefused";

/// Why topics are not ready that were.
pub(crate) const DIFFER: &str = "TopicsDiffer";

fn workers(facts: &Facts<'_>, states: &[(&Part, PartStatus)]) -> Said {
    let said = |status, reason, message| Said { type_: "WorkersReady", status, reason, message: cut(message) };
    if let Reading::Unknown(why) = facts.observed {
        return said("Unknown", "Unknown", why.clone());
    }
    if facts.accepted.is_none() {
        return said("False", "NothingAccepted", nothing_yet(facts));
    }
    let waiting = states.iter().filter(|(_, state)| state.state != "Ready").map(|(part, state)| {
        format!("{}: {}", part.object_name(facts.name), state.message.as_deref().unwrap_or("not ready"))
    });
    let waiting: Vec<String> = waiting.collect();
    match waiting.is_empty() {
        true => said("True", "Ready", "all pods are ready".into()),
        false => said("False", "PodsNotReady", waiting.join("; ")),
    }
}

/// Whoever waits for `Ready` waits for what the spec says: a step that fails is in the way even while all pods of before work.
fn ready(facts: &Facts<'_>, needed: [&Said; 3]) -> Said {
    let said = |status, reason, message| Said { type_: "Ready", status, reason, message };
    if let Some(trouble) = facts.trouble {
        return said("False", trouble::REASON, cut(trouble.to_string()));
    }
    let is_suspended = facts.accepted.is_some_and(|accepted| accepted.spec.suspend);
    if is_suspended && !(facts.steps.now.is_empty() && facts.steps.waits_for.is_none()) {
        return said("False", "Draining", "it is being suspended: its parts stop, one after the other".into());
    }
    if is_suspended {
        return said("False", "Suspended", "suspended: no pods run; topics, buckets and checkpoints stay".into());
    }
    match needed.into_iter().find(|said| said.status != "True") {
        None => said("True", "Ready", "all parts are ready".into()),
        Some(first) => said(first.status, first.reason, first.message.clone()),
    }
}

fn progressing(facts: &Facts<'_>) -> Said {
    let said = |status, reason, message| Said { type_: "Progressing", status, reason, message: cut(message) };
    if facts.is_paused {
        let message = format!("nothing is touched; take the annotation {PAUSED_ANNOTATION} away to go on");
        return said("False", "Paused", message);
    }
    if let Some(trouble) = facts.trouble {
        return said("True", "Retrying", format!("{} is tried again; Degraded says why it fails", trouble.step));
    }
    match &facts.steps.waits_for {
        Some(what) => said("True", "Waiting", format!("waiting for {what}")),
        None if facts.steps.now.is_empty() => said("False", "Settled", "everything is as the spec says".into()),
        None => {
            let told: Vec<String> = facts.steps.now.iter().map(ToString::to_string).collect();
            said("True", "Applying", told.join(", "))
        }
    }
}

fn approved(facts: &Facts<'_>) -> Option<Said> {
    facts.plan.map(|plan| Said {
        type_: "Approved",
        status: "False",
        reason: "Waiting",
        message: format!("status.plan says what would change; to have it done, set spec.approve: {}", plan.hash),
    })
}

/// What the last runs of all schedules came to, if there are any.
fn schedules(facts: &Facts<'_>, accepted: &Accepted) -> Option<Said> {
    let said = |status, reason, message| Said { type_: schedules::CONDITION, status, reason, message: cut(message) };
    let all = &accepted.spec.schedules;
    let Reading::Known(live) = facts.observed else {
        return (!all.is_empty()).then(|| said("Unknown", "Unknown", "the cluster does not answer".into()));
    };
    let failed = schedules::failed(facts.name, accepted, facts.observed);
    let has_run = |schedule: &crds::spec::Schedule| {
        let name = cron_job_name(facts.name, &schedule.name);
        last_run(live, &name) == LastRun::Succeeded
    };
    if !failed.is_empty() {
        let told: Vec<String> = failed.into_iter().map(|failed| failed.told).collect();
        return Some(said("False", schedules::FAILED, told.join("; ")));
    }
    let run: Vec<&str> = all.iter().filter(|one| has_run(one)).map(|one| one.name.as_str()).collect();
    match (all.is_empty(), run.is_empty()) {
        (true, _) => None,
        (_, true) => Some(said("Unknown", "NotRun", "no schedule has run yet".into())),
        _ => Some(said("True", "Succeeded", format!("the last runs of {} succeeded", run.join(", ")))),
    }
}

fn nothing_yet(facts: &Facts<'_>) -> String {
    let why = if facts.plan.is_some() { "the first plan waits for approval" } else { "no spec was valid yet" };
    why.into()
}
