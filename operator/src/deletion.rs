//! A pipeline on its way out: what of its data goes with it, and when it may go. Pure.
//!
//! Only a pipeline whose manifest asks for something to be deleted has the finalizer. It is taken away when that is done, when it
//! cannot be done, and when it took too long: a pipeline or a namespace is never held for ever. What is unknown, refused,
//! not approved, paused, or used by others is not deleted.

use std::{collections::BTreeMap, time::Duration};

use crds::spec::{ClickstreamPipeline, PipelineSpec};
use kube::ResourceExt;

use crate::{
    choice::{Choice, share_brokers},
    desired::{self, Owner, deletion},
    observed::{JobState, Kind, Objects, Pods, Reading, job_state, rollout},
    steps::{Step, Steps, differs},
};

/// Keeps a pipeline until its data is deleted.
pub const FINALIZER: &str = "clickstream.dev/delete-data";

/// Why an API server makes nothing new in a namespace that is being deleted.
pub const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// Data keeps a pipeline no longer than this.
pub const DELETION_TIME_MAX: Duration = Duration::from_secs(600);

/// What is known.
pub struct Facts<'a> {
    /// Whose objects.
    pub owner: &'a Owner,
    /// The present spec.
    pub spec: &'a PipelineSpec,
    /// Whether it may run: what may not is not carried out here either.
    pub choice: &'a Choice,
    /// Topics that others use, and who.
    pub used: &'a BTreeMap<String, String>,
    /// A pipeline that nobody can read: it may use anything.
    pub unreadable: Option<&'a str>,
    /// What the cluster answered.
    pub observed: &'a Reading<Objects>,
    /// Pods that exist.
    pub pods: &'a Reading<Pods>,
    /// Time since the deletion was asked for.
    pub since: Duration,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// It waits: these steps, then another look.
    Work(Steps),
    /// It may go, once these steps are done.
    Release {
        /// They take away what deleted its data.
        steps: Vec<Step>,
        /// What is told.
        told: Told,
    },
}

/// The last words about a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether something is left that was to be deleted.
    pub is_left: bool,
    /// In a sentence.
    pub message: String,
}

/// Decides.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Next {
    let (Reading::Known(live), Reading::Known(pods)) = (facts.observed, facts.pods) else {
        return match overdue(facts) {
            Some(why) => Next::Release { steps: Vec::new(), told: left(facts, why) },
            None => waits(Vec::new(), "the cluster's answer"),
        };
    };
    let release = |told: Told| Next::Release { steps: remains(live), told };
    if !facts.spec.asks_to_delete() {
        return release(Told { is_left: false, message: "nothing was asked to be deleted".into() });
    }
    let unreadable = facts.unreadable.map(|one| format!("pipeline {one} cannot be read and may use it"));
    let why = obstacle(facts.choice).or(unreadable.as_deref()).or_else(|| overdue(facts));
    let accepted = match (&facts.choice.runs, why) {
        (_, Some(why)) => return release(left(facts, why)),
        (None, None) => return release(left(facts, "no spec was accepted")),
        (Some(accepted), None) => accepted,
    };
    let keep: Vec<String> = facts.used.keys().cloned().collect();
    let [config_map, job] = deletion::objects(facts.owner, accepted, &keep);
    let stopping = stop(facts.owner, accepted, live, &job.name);
    if !stopping.is_empty() || has_pods(live, pods) {
        return waits(stopping, "the pods to stop");
    }
    let release = |told: Told| {
        let mut steps = remains(live);
        // Also where an old answer did not show them: nobody else would take them away.
        for object in [&job, &config_map] {
            let delete = Step::Delete { kind: object.kind, name: object.name.clone() };
            if !steps.contains(&delete) {
                steps.push(delete);
            }
        }
        Next::Release { steps, told }
    };
    match job_state(live, &job.name) {
        JobState::Absent => {
            waits(vec![Step::Apply(config_map.clone()), Step::Apply(job.clone())], "its data to be deleted")
        }
        JobState::Running => waits(Vec::new(), "its data to be deleted"),
        JobState::Failed(why) => release(left(facts, &format!("the Job {} failed: {why}", job.name))),
        JobState::Complete => release(Told {
            is_left: false,
            message: format!("deleted with the pipeline: {}{}", asked(facts), kept(facts.used)),
        }),
    }
}

/// Topics that go with `pipeline`, those that it made for itself among them, and that another one on the same brokers uses, and
/// who that is. Those stay.
#[must_use]
pub fn used<'a>(
    pipeline: &ClickstreamPipeline,
    others: impl Iterator<Item = &'a ClickstreamPipeline>,
) -> BTreeMap<String, String> {
    let mut used = BTreeMap::new();
    let (named, its_own) = (pipeline.spec.topics_to_delete(), format!("{}.", pipeline.name_any()));
    let goes = |topic: &str| named.contains(&topic) || (pipeline.spec.deletes_its_own() && topic.starts_with(&its_own));
    for other in others.filter(|other| other.uid() != pipeline.uid() && other.metadata.deletion_timestamp.is_none()) {
        if !share_brokers(&other.spec, &pipeline.spec) {
            continue;
        }
        for topic in other.spec.topics.iter().filter(|topic| goes(&topic.name)) {
            let who = format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any());
            used.entry(topic.name.clone()).or_insert(who);
        }
    }
    used
}

/// The finalizers that a pipeline should have, if they are not those that it has.
#[must_use]
pub fn finalizers(pipeline: &impl ResourceExt, is_wanted: bool) -> Option<Vec<String>> {
    let mut all = pipeline.finalizers().to_vec();
    let is_there = all.iter().any(|one| one == FINALIZER);
    all.retain(|one| one != FINALIZER);
    all.extend(is_wanted.then(|| FINALIZER.to_owned()));
    (is_there != is_wanted).then_some(all)
}

fn waits(now: Vec<Step>, what: &str) -> Next {
    Next::Work(Steps { now, waits_for: Some(what.into()) })
}

fn obstacle(choice: &Choice) -> Option<&'static str> {
    match choice {
        Choice { is_paused: true, .. } => Some("it is paused"),
        Choice { refused: Some(_), .. } => Some("its spec was refused"),
        Choice { plan: Some(_), .. } => Some("its spec waits for approval"),
        _ => None,
    }
}

fn overdue(facts: &Facts<'_>) -> Option<&'static str> {
    (facts.since >= DELETION_TIME_MAX).then_some("it took longer than ten minutes")
}

/// Whoever writes to topics stops first, and nobody makes them again.
fn stop(owner: &Owner, accepted: &crate::accepted::Accepted, live: &Objects, job: &str) -> Vec<Step> {
    let mut without = accepted.clone();
    without.spec.suspend = true;
    let wanted = desired::objects(owner, &without);
    let mut steps = Vec::new();
    for ((kind, name), found) in live {
        let wanted = wanted.iter().find(|object| object.kind == *kind && object.name == *name);
        let delete = Step::Delete { kind: *kind, name: name.clone() };
        match (kind, wanted) {
            (Kind::Deployment, Some(object)) if found["spec"]["replicas"] != 0 && differs(live, object) => {
                steps.push(Step::Apply(object.clone()));
            }
            (Kind::Deployment, None) | (Kind::CronJob, _) => steps.push(delete),
            (Kind::Job, _) if name != job && job_state(live, name) == JobState::Running => steps.push(delete),
            _ => {}
        }
    }
    steps
}

/// Whether anything may still write: pods of Deployments, of setup and of replays, those that were told to go among them.
fn has_pods(live: &Objects, pods: &Pods) -> bool {
    let deployments = live.keys().filter(|(kind, _)| *kind == Kind::Deployment);
    let mut states = deployments.filter_map(|(_, name)| rollout(live, name));
    states.any(|state| !state.is_current || state.replicas > 0)
        || pods.keys().any(|component| component != deletion::COMPONENT)
}

/// What nobody owns of the pipeline's objects: it would be left behind. What holds data nobody owns either, so that it is.
fn remains(live: &Objects) -> Vec<Step> {
    let is_ours =
        |object: &serde_json::Value| object["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty);
    let ours = live.iter().rev().filter(|((kind, _), object)| !kind.holds_data() && is_ours(object));
    ours.map(|((kind, name), _)| Step::Delete { kind: *kind, name: name.clone() }).collect()
}

fn left(facts: &Facts<'_>, why: &str) -> Told {
    let message = format!("not deleted, because {why}: {}; delete it by hand if it is not needed", asked(facts));
    Told { is_left: true, message }
}

/// What the manifest asks for, in words.
fn asked(facts: &Facts<'_>) -> String {
    let topics = facts.spec.topics_to_delete();
    let topics = topics.iter().filter(|topic| !facts.used.contains_key(**topic));
    let mut all: Vec<String> = topics.map(|topic| format!("topic {topic}")).collect();
    if facts.spec.deletes_its_own() {
        all.push(format!("the topics that the pipeline made for itself ({}.*)", facts.owner.name));
    }
    for (sink, couchbase) in facts.spec.collections_to_delete() {
        let (bucket, scope) = (&couchbase.bucket.name, &couchbase.scope);
        all.push(format!("collections of {bucket}.{scope} (sink {})", sink.name));
    }
    if all.is_empty() { "nothing".into() } else { all.join(", ") }
}

fn kept(used: &BTreeMap<String, String>) -> String {
    used.iter().map(|(topic, who)| format!("; topic {topic} stays, because {who} uses it")).collect()
}

#[cfg(test)]
mod tests;
