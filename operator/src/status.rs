//! What people see of a pipeline: conditions that say why, and what to do. Pure; times come from the caller.

mod conditions;
mod degraded;
mod store;

pub(crate) use conditions::DIFFER;
use crds::status::{Condition, PartStatus, PipelineStatus, PlanStatus, ProcessStatus};

use crate::{
    accepted::Accepted,
    choice::Refusal,
    desired::{PIPELINE_LABEL, Part, Role, couchbase::CouchbaseOperator, parts},
    figures::TopicDifference,
    observed::{Objects, Reading, rollout},
    pulse::Pulse,
    steps::Steps,
    trouble::Trouble,
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
    /// The step that failed, where it does not go away by itself.
    pub trouble: Option<&'a Trouble>,
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
    let said = conditions::conditions(facts, live, &states);
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
    let pulse = facts.pulse.parts.get(&part.component()).cloned().unwrap_or_default();
    let told = |state: &str, message: Option<String>| PartStatus {
        name: name.clone(),
        state: state.into(),
        message,
        rate: pulse.rate.clone(),
        lag: pulse.lag.clone(),
    };
    if let Reading::Unknown(why) = facts.observed {
        return told("Unknown", Some(why.clone()));
    }
    match rollout(live, &part.object_name(facts.name)) {
        None => told("Progressing", Some("its pods are not made yet".into())),
        Some(state) if state.is_done() && state.wanted == 0 => told("Ready", Some("suspended".into())),
        Some(state) if state.is_done() => told("Ready", pulse.is_complete.then(|| "complete".into())),
        Some(state) => {
            let ready = format!("{} of {} pods are ready", state.ready, state.wanted);
            match degraded::why(facts, live, part) {
                Some(why) => told(degraded::DEGRADED, Some(format!("{ready}: {}", cut(why)))),
                None => told("Progressing", Some(ready)),
            }
        }
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
        capacity: facts.pulse.capacity,
        scaling: facts.pulse.scaling.clone(),
    })
}

/// Topics are as the Job of the spec left them, but for those that serve finds otherwise; how far they are read is as serve says.
fn topic_states(facts: &Facts<'_>, live: &Objects) -> Vec<PartStatus> {
    let said = conditions::topics(facts, live);
    let (state, message) = match (said.status, said.reason) {
        ("True", _) => ("Ready", None),
        ("Unknown", _) => ("Unknown", Some(said.message)),
        (_, "SetupFailed" | conditions::REFUSED) => (degraded::DEGRADED, Some(said.message)),
        _ => ("Progressing", Some(said.message)),
    };
    let topics = facts.accepted.iter().flat_map(|accepted| &accepted.spec.topics);
    let differences = match &facts.pulse.differences {
        Some(Reading::Known(differences)) => differences.as_slice(),
        _ => &[],
    };
    let topic = |topic: &crds::spec::Topic| {
        let mut told = differences.iter().filter(|one| one.topic == topic.name).peekable();
        let (state, message) = match said.reason {
            conditions::DIFFER if told.peek().is_none() => ("Ready", None),
            conditions::DIFFER => {
                let told: Vec<&TopicDifference> = told.collect();
                let state = if told.iter().any(|one| one.by_hand) { degraded::DEGRADED } else { "Progressing" };
                (state, Some(told.iter().map(|one| one.what.as_str()).collect::<Vec<_>>().join("; ")))
            }
            _ => (state, message.clone()),
        };
        let lag = facts.pulse.topics.get(&topic.name).cloned();
        PartStatus { name: topic.name.clone(), state: state.into(), message, rate: None, lag }
    };
    topics.map(topic).collect()
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
mod tests;
