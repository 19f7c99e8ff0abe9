//! What people see of a pipeline: conditions that say why, and what to do. Pure; times come from the caller.

use crds::status::{Condition, PartStatus, PipelineStatus, PlanStatus, ProcessStatus};

use crate::{
    accepted::Accepted,
    choice::{PAUSED_ANNOTATION, Refusal},
    desired::{
        PIPELINE_LABEL, Part, Role,
        couchbase::{CouchbaseOperator, asking},
        parts,
        schedules::cron_job_name,
        setup,
    },
    observed::{JobState, LastRun, Objects, Reading, job_state, last_run, rollout},
    pulse::Pulse,
    schedules,
    steps::Steps,
};

/// What the status is made from.
pub struct Facts<'a> {
    /// Name of the pipeline.
    pub name: &'a str,
    /// Whether Couchbase's operator is asked for, and there.
    pub couchbase: CouchbaseOperator,
    /// Generation of the spec that was looked at.
    pub generation: Option<i64>,
    /// What runs, or is to run.
    pub accepted: Option<&'a Accepted>,
    /// Why the present spec may not run, if it may not.
    pub refused: Option<&'a Refusal>,
    /// What waits for approval, if something does.
    pub plan: Option<&'a PlanStatus>,
    /// Whether nothing may be touched.
    pub is_paused: bool,
    /// What the pods said.
    pub pulse: &'a Pulse,
    /// What the cluster answered.
    pub observed: &'a Reading<Objects>,
    /// What was decided.
    pub steps: &'a Steps,
}

/// One condition before it has a time.
struct Said {
    type_: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// Makes the status. Times of conditions that did not change are those of `before`.
#[must_use]
pub fn status(facts: &Facts<'_>, before: Option<&PipelineStatus>, now: &str) -> PipelineStatus {
    let empty = Objects::new();
    let live = match facts.observed {
        Reading::Known(live) => live,
        Reading::Unknown(_) => &empty,
    };
    let parts: Vec<Part> = facts.accepted.map(|accepted| parts(&accepted.spec)).unwrap_or_default();
    let states: Vec<(&Part, PartStatus)> = parts.iter().map(|part| (part, part_status(facts, live, part))).collect();
    let of = |role: Role| states.iter().filter(move |(part, _)| part.role == role).map(|(_, state)| state.clone());
    let before_conditions = before.map(|before| before.conditions.as_slice()).unwrap_or_default();
    let said = conditions(facts, live, &states);
    let conditions = said.into_iter().map(|said| timed(said, before_conditions, facts.generation, now)).collect();
    PipelineStatus {
        observed_generation: facts.generation,
        conditions,
        // What cannot be read just now was accepted all the same: without its hash it would never be found again.
        accepted_hash: facts
            .accepted
            .map(|accepted| accepted.hash.clone())
            .or_else(|| before.and_then(|before| before.accepted_hash.clone())),
        process: process(facts, live, &parts),
        topics: topic_states(facts, live),
        ingest: of(Role::Ingest).collect(),
        sinks: of(Role::Sink).collect(),
        quality: facts.pulse.quality.clone(),
        ledger: facts.pulse.ledger.clone(),
        plan: facts.plan.cloned(),
    }
}

fn timed(said: Said, before: &[Condition], generation: Option<i64>, now: &str) -> Condition {
    let same = before.iter().find(|one| one.type_ == said.type_ && one.status == said.status);
    Condition {
        type_: said.type_.into(),
        status: said.status.into(),
        reason: said.reason.into(),
        message: said.message,
        last_transition_time: same.map_or_else(|| now.to_owned(), |one| one.last_transition_time.clone()),
        observed_generation: generation,
    }
}

fn part_status(facts: &Facts<'_>, live: &Objects, part: &Part) -> PartStatus {
    let name = part.item.clone().unwrap_or_else(|| part.role.name().into());
    let told = |state: &str, message: Option<String>| PartStatus {
        name: name.clone(),
        state: state.into(),
        message,
        lag: part
            .item
            .as_ref()
            .filter(|_| part.role == Role::Sink)
            .and_then(|sink| facts.pulse.sinks.get(sink))
            .cloned(),
    };
    if let Reading::Unknown(why) = facts.observed {
        return told("Unknown", Some(why.clone()));
    }
    match rollout(live, &part.object_name(facts.name)) {
        None => told("Progressing", Some("its pods are not made yet".into())),
        Some(state) if state.is_done() && state.wanted == 0 => told("Ready", Some("suspended".into())),
        Some(state) if state.is_done() => told("Ready", None),
        Some(state) => told("Progressing", Some(format!("{} of {} pods are ready", state.ready, state.wanted))),
    }
}

fn process(facts: &Facts<'_>, live: &Objects, parts: &[Part]) -> Option<ProcessStatus> {
    let part = parts.iter().find(|part| part.role == Role::Process)?;
    let state = rollout(live, &part.object_name(facts.name)).unwrap_or_default();
    Some(ProcessStatus {
        replicas: state.replicas as i32,
        ready_replicas: state.ready as i32,
        selector: format!("{PIPELINE_LABEL}={},app.kubernetes.io/component=process", facts.name),
        rate: facts.pulse.rate.clone(),
        lag: facts.pulse.lag.clone(),
        scaling: facts.pulse.scaling.clone(),
    })
}

/// Topics are as the Job of the spec left them; how far they are read is as serve says.
fn topic_states(facts: &Facts<'_>, live: &Objects) -> Vec<PartStatus> {
    let said = topics(facts, live);
    let (state, message) = match (said.status, said.reason) {
        ("True", _) => ("Ready", None),
        ("Unknown", _) => ("Unknown", Some(said.message)),
        (_, "SetupFailed") => ("Degraded", Some(said.message)),
        _ => ("Progressing", Some(said.message)),
    };
    let topics = facts.accepted.iter().flat_map(|accepted| &accepted.spec.topics);
    let topic = |topic: &crds::spec::Topic| PartStatus {
        name: topic.name.clone(),
        state: state.into(),
        message: message.clone(),
        lag: facts.pulse.topics.get(&topic.name).cloned(),
    };
    topics.map(topic).collect()
}

fn conditions(facts: &Facts<'_>, live: &Objects, states: &[(&Part, PartStatus)]) -> Vec<Said> {
    let accepted = match facts.refused {
        None => Said { type_: "Accepted", status: "True", reason: "Valid", message: "the spec is valid".into() },
        Some(Refusal { reason, message }) => {
            let goes_on = if facts.accepted.is_some() { "; the last valid spec goes on" } else { "" };
            let message = format!("{message}{goes_on}; correct the spec and apply it again");
            Said { type_: "Accepted", status: "False", reason, message: cut(message) }
        }
    };
    let topics = topics(facts, live);
    let waiting: Vec<String> = states
        .iter()
        .filter(|(_, state)| state.state != "Ready")
        .map(|(part, state)| {
            format!("{}: {}", part.object_name(facts.name), state.message.as_deref().unwrap_or("not ready"))
        })
        .collect();
    let workers = match (facts.observed, facts.accepted) {
        (Reading::Unknown(why), _) => {
            Said { type_: "WorkersReady", status: "Unknown", reason: "Unknown", message: cut(why.clone()) }
        }
        (_, None) => {
            Said { type_: "WorkersReady", status: "False", reason: "NothingAccepted", message: nothing_yet(facts) }
        }
        _ if waiting.is_empty() => {
            Said { type_: "WorkersReady", status: "True", reason: "Ready", message: "all pods are ready".into() }
        }
        _ => Said { type_: "WorkersReady", status: "False", reason: "PodsNotReady", message: cut(waiting.join("; ")) },
    };
    let suspended = facts.accepted.is_some_and(|accepted| accepted.spec.suspend);
    let stopping = suspended && !(facts.steps.now.is_empty() && facts.steps.waits_for.is_none());
    let ready = if stopping { draining() } else { ready(suspended, [&accepted, &topics, &workers]) };
    let progressing = match &facts.steps.waits_for {
        _ if facts.is_paused => Said {
            type_: "Progressing",
            status: "False",
            reason: "Paused",
            message: format!("nothing is touched; take the annotation {PAUSED_ANNOTATION} away to go on"),
        },
        Some(what) => Said {
            type_: "Progressing",
            status: "True",
            reason: "Waiting",
            message: cut(format!("waiting for {what}")),
        },
        None if facts.steps.now.is_empty() => Said {
            type_: "Progressing",
            status: "False",
            reason: "Settled",
            message: "everything is as the spec says".into(),
        },
        None => {
            let told: Vec<String> = facts.steps.now.iter().map(ToString::to_string).collect();
            Said { type_: "Progressing", status: "True", reason: "Applying", message: cut(told.join(", ")) }
        }
    };
    let schedules = facts.accepted.and_then(|accepted| schedules(facts, accepted));
    let approved = facts.plan.map(|plan| Said {
        type_: "Approved",
        status: "False",
        reason: "Waiting",
        message: format!("status.plan says what would change; to have it done, set spec.approve: {}", plan.hash),
    });
    let rest = store(facts).into_iter().chain(schedules).chain(approved);
    [ready, accepted, topics, workers, progressing].into_iter().chain(rest).collect()
}

/// Whether Couchbase's operator was told what to make, if a sink asks for that. A store that is not there degrades its sink alone.
fn store(facts: &Facts<'_>) -> Option<Said> {
    let said = |status, reason, message: String| Said { type_: "StoreReady", status, reason, message: cut(message) };
    let accepted = facts.accepted?;
    let sinks: Vec<&str> = asking(&accepted.spec).map(|(sink, _)| sink.name.as_str()).collect();
    match facts.couchbase {
        CouchbaseOperator::Unasked => None,
        CouchbaseOperator::Missing => Some(said(
            "False",
            "CouchbaseOperatorMissing",
            format!(
                "couchbase.operator of {} asks for resources that Couchbase's operator reads: install it, and set \
                 couchbaseOperator: true in the chart",
                sinks.join(", ")
            ),
        )),
        CouchbaseOperator::There => {
            let told = "Couchbase's operator has its resources; a CouchbaseCluster that selects the bucket makes it";
            Some(said("True", "Applied", told.into()))
        }
    }
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

fn topics(facts: &Facts<'_>, live: &Objects) -> Said {
    let said = |status, reason, message: String| Said { type_: "TopicsReady", status, reason, message: cut(message) };
    let Some(accepted) = facts.accepted else {
        return said("False", "NothingAccepted", nothing_yet(facts));
    };
    if let Reading::Unknown(why) = facts.observed {
        return said("Unknown", "Unknown", why.clone());
    }
    let job = setup::job_name(facts.name, &accepted.hash);
    match job_state(live, &job) {
        JobState::Complete => said("True", "Ready", "topics and buckets are as the spec says".into()),
        JobState::Failed(why) => {
            said("False", "SetupFailed", format!("{why}; see kubectl logs job/{job}, put it right, and delete the job"))
        }
        JobState::Absent | JobState::Running => {
            said("False", "SettingUp", "topics and buckets are being set up".into())
        }
    }
}

fn draining() -> Said {
    let message = "it is being suspended: its parts stop, one after the other".into();
    Said { type_: "Ready", status: "False", reason: "Draining", message }
}

fn ready(suspended: bool, needed: [&Said; 3]) -> Said {
    if suspended {
        let message = "suspended: no pods run; topics, buckets and checkpoints stay".into();
        return Said { type_: "Ready", status: "False", reason: "Suspended", message };
    }
    match needed.into_iter().find(|said| said.status != "True") {
        None => Said { type_: "Ready", status: "True", reason: "Ready", message: "all parts are ready".into() },
        Some(first) => {
            Said { type_: "Ready", status: first.status, reason: first.reason, message: first.message.clone() }
        }
    }
}

/// Conditions are for reading: a screen is enough.
fn cut(mut message: String) -> String {
    const BYTES_MAX: usize = 2_000;
    if message.len() > BYTES_MAX {
        let end = (0..=BYTES_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accepted::tests::accepted;

    #[test]
    fn a_refused_change_says_that_the_last_one_goes_on() {
        let accepted = accepted("medallion");
        let facts = Facts {
            name: "medallion",
            couchbase: CouchbaseOperator::Unasked,
            generation: Some(2),
            accepted: Some(&accepted),
            refused: Some(&Refusal { reason: "Invalid", message: "spec.tables[x].from: unknown stream".into() }),
            plan: None,
            is_paused: false,
            pulse: &Pulse::default(),
            observed: &Reading::Known(Objects::new()),
            steps: &Steps::default(),
        };
        let first = status(&facts, None, "2026-01-01T00:00:00Z");
        let ready = &first.conditions[0];
        assert_eq!((&*ready.type_, &*ready.status, &*ready.reason), ("Ready", "False", "Invalid"));
        assert!(ready.message.contains("the last valid spec goes on"), "{}", ready.message);
        let second = status(&facts, Some(&first), "2026-01-02T00:00:00Z");
        assert_eq!(first, second, "a status that did not change is not written again");
    }

    #[test]
    fn what_is_not_known_is_not_ready_and_not_failed() {
        let accepted = accepted("medallion");
        let facts = Facts {
            name: "medallion",
            couchbase: CouchbaseOperator::Unasked,
            generation: Some(1),
            accepted: Some(&accepted),
            refused: None,
            plan: None,
            is_paused: false,
            pulse: &Pulse::default(),
            observed: &Reading::Unknown("the API server does not answer".into()),
            steps: &Steps::default(),
        };
        let status = status(&facts, None, "2026-01-01T00:00:00Z");
        assert_eq!(status.conditions[0].status, "Unknown");
        assert!(status.ingest.iter().chain(&status.sinks).all(|part| part.state == "Unknown"));
    }
}
