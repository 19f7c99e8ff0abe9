//! From what should be there and what is there to what is to be done. Pure: the same facts give the same steps.

pub mod differences;
mod drain;
mod pods;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use self::differences::covers;
use crate::{
    accepted::{self, Accepted},
    consequences::consequences,
    desired::{self, HASH_ANNOTATION, MANIFEST_KEY, Object, Owner, setup},
    figures::TopicDifference,
    observed::{JobState, Kind, Objects, Pods, Reading, Rollout, job_state, rollout},
};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Create the object, or put right what differs.
    Apply(Object),
    /// Nobody wants it any more, and it holds no data.
    Delete {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply(object) => write!(f, "apply {} {}", object.kind.api().2, object.name),
            Self::Delete { kind, name } => write!(f, "delete {} {name}", kind.api().2),
        }
    }
}

impl Step {
    /// Kind and name of what it is about.
    #[must_use]
    pub fn object(&self) -> (Kind, &str) {
        match self {
            Self::Apply(object) => (object.kind, &object.name),
            Self::Delete { kind, name } => (*kind, name),
        }
    }

    /// Reason and action of the event that tells of it.
    #[must_use]
    pub const fn event(&self) -> (&'static str, &'static str) {
        match self {
            Self::Apply(_) => ("Applied", "Apply"),
            Self::Delete { .. } => ("Deleted", "Delete"),
        }
    }
}

/// Steps, and what the rest waits for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps {
    /// To be done now, in this order.
    pub now: Vec<Step>,
    /// Why there will be more, in a sentence; the next event or look decides.
    pub waits_for: Option<String>,
}

/// Decides.
///
/// Topics come before whoever reads them: until the Job of this spec was done once, the last spec whose Job was done is kept as it
/// is, with the present numbers of pods. Of the Deployments that a changed spec restarts, one at a time; those that only
/// change their number of pods do not wait.
#[must_use]
pub fn decide(owner: &Owner, accepted: &Accepted, observed: &Reading<Objects>, pods: &Reading<Pods>) -> Steps {
    let (live, pods) = match (observed, pods) {
        (Reading::Known(live), Reading::Known(pods)) => (live, pods),
        (Reading::Unknown(why), _) | (_, Reading::Unknown(why)) => {
            return Steps { now: Vec::new(), waits_for: Some(format!("the cluster's answer ({why})")) };
        }
    };
    let leftovers = leftovers(owner, live);
    if !leftovers.is_empty() || pods.contains_key(desired::deletion::COMPONENT) {
        return Steps { now: leftovers, waits_for: Some("what deleted the data of its predecessor to be gone".into()) };
    }
    let mut all = wanted(owner, accepted, live);
    let stops = drain::hold(&mut all, owner, accepted, live, pods);
    let (before, after): (Vec<_>, Vec<_>) =
        all.iter().partition(|object| object.kind == Kind::ConfigMap || object.kind.holds_data());
    let mut steps = Steps::default();
    before.into_iter().filter(|object| differs(live, object)).for_each(|object| steps.apply(object));
    let job = setup::job(owner, accepted);
    let state = job_state(live, &job.name);
    let was_set_up = state == JobState::Complete || was_set_up(live, &accepted.hash);
    let last = (!was_set_up).then(|| last_set_up(owner, accepted, live)).flatten();
    let last = last.map(|last| wanted(owner, &last, live));
    // One that nobody wants would undo what is said about numbers, each time.
    let scaled = last.as_ref().unwrap_or(&all);
    steps.now.extend(unwanted(live, scaled).filter(|step| step.object().0 == Kind::HorizontalPodAutoscaler));
    match &last {
        Some(last) => roll(&mut steps, live, last.iter().collect()),
        None if was_set_up => roll(&mut steps, live, after),
        None => {}
    }
    match state {
        JobState::Absent => {
            steps.apply(&job);
            steps.waits_for = Some("topics and buckets to be set up".into());
        }
        JobState::Running => steps.waits_for = Some("topics and buckets to be set up".into()),
        JobState::Failed(why) => {
            let logs = format!("kubectl logs -n {} job/{}", owner.namespace, job.name);
            steps.waits_for = Some(format!("topics and buckets to be put right ({why}); see {logs}"));
        }
        JobState::Complete => {
            steps.waits_for =
                steps.waits_for.or_else(|| stops.map(|role| format!("the pods of {} to stop", role.name())));
            if steps.waits_for.is_none() {
                delete_orphans(&mut steps, live, &all, &job.name);
            }
        }
    }
    steps
}

/// Texts of a plan that are told; the schema of the status allows no more.
const PREVIEW_MAX: usize = 64;

/// Everything that a spec would change, from here to its end: what it means for data, then the objects in the order of application.
#[must_use]
pub fn preview(owner: &Owner, accepted: &Accepted, observed: &Reading<Objects>) -> Vec<String> {
    let Reading::Known(live) = observed else { return vec!["unknown: the cluster does not answer".into()] };
    let job = setup::job(owner, accepted);
    let mut wanted = wanted(owner, accepted, live);
    wanted.insert(1, job.clone());
    // A Job that ended is not made again.
    let changes = wanted.iter().filter(|object| {
        differs(live, object) && (object.name != job.name || job_state(live, &job.name) == JobState::Absent)
    });
    let mut told =
        before(owner, accepted, live).map(|before| consequences(&owner.name, &before, accepted)).unwrap_or_default();
    told.extend(changes.map(|object| change(live, object)));
    let mut orphans = Steps::default();
    delete_orphans(&mut orphans, live, &wanted, &job.name);
    told.extend(orphans.now.iter().map(ToString::to_string));
    if told.len() > PREVIEW_MAX {
        let more = told.len() - (PREVIEW_MAX - 1);
        told.truncate(PREVIEW_MAX - 1);
        told.push(format!("and {more} more"));
    }
    told
}

/// Jobs of a pipeline of this name that somebody let go before they were done: they would delete what is made now.
fn leftovers(owner: &Owner, live: &Objects) -> Vec<Step> {
    let prefix = desired::deletion::job_prefix(&owner.name);
    let jobs = live.keys().filter(|(kind, name)| *kind == Kind::Job && name.starts_with(&prefix));
    jobs.map(|(kind, name)| Step::Delete { kind: *kind, name: name.clone() }).collect()
}

/// What should be there.
pub(crate) fn wanted(owner: &Owner, accepted: &Accepted, live: &Objects) -> Vec<Object> {
    let mut wanted = desired::objects(owner, accepted);
    for object in &mut wanted {
        pods::keep(&mut object.body, live.get(&(object.kind, object.name.clone())));
    }
    desired::autoscalers::follow(&mut wanted, live);
    wanted
}

fn change(live: &Objects, object: &Object) -> String {
    let what = format!("{} {}", object.kind.api().2, object.name);
    let replicas = |object: &Value| object["spec"]["replicas"].as_i64();
    match live.get(&(object.kind, object.name.clone())) {
        None => format!("create {what}"),
        Some(_) if restarts(live, object) => format!("change {what}, its pods restart one after the other"),
        Some(found) => match (replicas(found), replicas(&object.body)) {
            (Some(from), Some(to)) if from != to => format!("change {what} from {from} to {to} pods"),
            _ => format!("change {what}"),
        },
    }
}

/// The spec that was carried out last, as its manifest says it.
fn before(owner: &Owner, accepted: &Accepted, live: &Objects) -> Option<Accepted> {
    match job_state(live, &setup::job_name(&owner.name, &accepted.hash)) {
        // It differs in nothing that pods read.
        JobState::Complete => {
            let name = desired::config_map_name(&owner.name, &accepted.hash);
            accepted::read(&owner.name, live.get(&(Kind::ConfigMap, name))?["data"][MANIFEST_KEY].as_str()?)
        }
        _ => last_set_up(owner, accepted, live),
    }
}

/// The spec that runs while another one waits: of those whose Job is done, the newest.
fn last_set_up(owner: &Owner, present: &Accepted, live: &Objects) -> Option<Accepted> {
    let config_maps = live.iter().filter(|((kind, _), _)| *kind == Kind::ConfigMap);
    let manifests = config_maps.filter_map(|(_, found)| found["data"][MANIFEST_KEY].as_str());
    let specs = manifests.filter_map(|manifest| accepted::read(&owner.name, manifest));
    let set_up = specs.filter(|spec| spec.hash != present.hash).filter_map(|spec| {
        let job = setup::job_name(&owner.name, &spec.hash);
        let made_at = live.get(&(Kind::Job, job.clone()))?["metadata"]["creationTimestamp"].as_str().map(str::to_owned);
        (job_state(live, &job) == JobState::Complete).then_some((made_at, spec))
    });
    let (_, newest) = set_up.max_by(|(one, _), (other, _)| one.cmp(other))?;
    Some(newest.with_numbers_of(&present.spec))
}

/// Whether topics were once set up as this spec says: before that, no Deployment has it. Its Job may run again.
fn was_set_up(live: &Objects, hash: &str) -> bool {
    let deployments = live.iter().filter(|((kind, _), _)| *kind == Kind::Deployment);
    deployments
        .map(|(_, found)| &found["spec"]["template"]["metadata"]["annotations"][HASH_ANNOTATION])
        .any(|of| of == hash)
}

/// How long the Job is left alone before it is run again: whoever sets a topic otherwise each time is not fought.
const SET_UP_EVERY: SignedDuration = SignedDuration::from_mins(5);

impl Steps {
    /// The same; or, where there is nothing to do and topics were set otherwise since the Job was done: away with it, so that it
    /// runs again. What only a person can put right it would refuse.
    #[must_use]
    pub fn or_mend(
        self,
        owner: &Owner,
        accepted: &Accepted,
        observed: &Reading<Objects>,
        differences: Option<&Reading<Vec<TopicDifference>>>,
        now: Timestamp,
    ) -> Self {
        let (Reading::Known(live), Some(Reading::Known(differences))) = (observed, differences) else { return self };
        let name = setup::job_name(&owner.name, &accepted.hash);
        let is_mendable = !differences.is_empty() && differences.iter().all(|one| !one.by_hand);
        let made_at = || live.get(&(Kind::Job, name.clone()))?["metadata"]["creationTimestamp"].as_str()?.parse().ok();
        let is_old = || made_at().is_none_or(|made_at: Timestamp| now.duration_since(made_at) >= SET_UP_EVERY);
        if self != Self::default() || !is_mendable || job_state(live, &name) != JobState::Complete || !is_old() {
            return self;
        }
        let waits_for = Some("topics to be put right".into());
        Self { now: vec![Step::Delete { kind: Kind::Job, name }], waits_for }
    }

    pub(crate) fn apply(&mut self, object: &Object) {
        self.now.push(Step::Apply(object.clone()));
    }
}

/// Applies what differs; of what restarts pods, one at a time.
fn roll(steps: &mut Steps, live: &Objects, wanted: Vec<&Object>) {
    // A sink whose store is away stops nobody else.
    let is_busy = |object: &&&Object, state: Rollout| match desired::is_last(object) {
        true => state.is_replacing(),
        false => state.is_restarting(),
    };
    let restarting = wanted.iter().find(|object| {
        object.kind == Kind::Deployment && rollout(live, &object.name).is_some_and(|state| is_busy(object, state))
    });
    let mut busy = restarting.map(|object| object.name.clone());
    for object in wanted {
        if !differs(live, object) {
            continue;
        }
        let restarts = restarts(live, object);
        if restarts && busy.as_ref().is_some_and(|name| *name != object.name) {
            steps.waits_for = busy.as_ref().map(|name| format!("{name} to restart"));
            continue;
        }
        if restarts {
            busy = Some(object.name.clone());
        }
        steps.apply(object);
    }
}

/// Whether applying the object replaces pods that are there.
fn restarts(live: &Objects, object: &Object) -> bool {
    let found = live.get(&(object.kind, object.name.clone()));
    let template = |object: &Value| object["spec"]["template"].clone();
    object.kind == Kind::Deployment && found.is_some_and(|found| !covers(&template(found), &template(&object.body)))
}

fn delete_orphans(steps: &mut Steps, live: &Objects, wanted: &[Object], job: &str) {
    let more = unwanted(live, wanted).filter(|step| step.object() != (Kind::Job, job));
    let more: Vec<Step> = more.filter(|step| !steps.now.contains(step)).collect();
    steps.now.extend(more);
}

/// Deletes what nobody wants; users before what they use: a pod mounts its ConfigMap as long as it is there.
fn unwanted<'a>(live: &'a Objects, wanted: &'a [Object]) -> impl Iterator<Item = Step> + 'a {
    let is_wanted = |kind: Kind, name: &str| wanted.iter().any(|object| object.kind == kind && object.name == name);
    let others = live.keys().rev().filter(move |(kind, name)| !kind.holds_data() && !is_wanted(*kind, name));
    others.map(|(kind, name)| Step::Delete { kind: *kind, name: name.clone() })
}

pub(crate) fn differs(live: &Objects, object: &Object) -> bool {
    live.get(&(object.kind, object.name.clone())).is_none_or(|found| !covers(found, &object.body))
}

#[cfg(test)]
mod tests;
