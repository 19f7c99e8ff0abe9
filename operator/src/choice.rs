//! Which spec runs: the present one, the last one, or none; and what the present one waits for. Pure.

use crds::{
    spec::{ApplyMode, ClickstreamPipeline, ManagementPolicy, PipelineSpec},
    status::PlanStatus,
};
use kube::ResourceExt as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    accepted::{self, Accepted, Verdict, judge},
    deletion::FINALIZER,
    desired::{MANIFEST_KEY, Owner, config_map_name},
    observed::{Kind, Objects, Reading},
    steps::preview,
};

/// The annotation that says: leave everything as it is, and go on telling how it is.
pub const PAUSED_ANNOTATION: &str = "clickstream.dev/paused";

/// Why the present spec may not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In one word.
    pub reason: &'static str,
    /// In full.
    pub message: String,
}

/// What is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The spec that is to run, if there is one.
    pub runs: Option<Accepted>,
    /// Why it is not the present one, if that may not run.
    pub refused: Option<Refusal>,
    /// What the present one would do, if it waits for approval.
    pub plan: Option<PlanStatus>,
    /// Whether nothing may be touched.
    pub is_paused: bool,
}

impl Choice {
    /// Why the present spec does not run, in a word.
    #[must_use]
    pub fn blocked(&self) -> Option<&'static str> {
        let refused = self.refused.as_ref().map(|refusal| refusal.reason);
        refused.or(self.plan.as_ref().map(|_| "Approval")).or(self.is_paused.then_some("Paused"))
    }
}

/// Chooses.
#[must_use]
pub fn choose<'a>(
    pipeline: &ClickstreamPipeline,
    others: impl Iterator<Item = &'a ClickstreamPipeline>,
    owner: &Owner,
    observed: &Reading<Objects>,
) -> Choice {
    let is_paused = pipeline.annotations().get(PAUSED_ANNOTATION).is_some_and(|value| value == "true");
    let last = || last_accepted(pipeline, owner, observed);
    let choice = |runs, refused, plan| Choice { runs, refused, plan, is_paused };
    let present = match judge(&owner.name, &pipeline.spec) {
        Verdict::Accept(accepted) => *accepted,
        Verdict::Refuse { message } => {
            let runs = last().map(|last| last.with_numbers_of(&pipeline.spec));
            return choice(runs, Some(Refusal { reason: "Invalid", message }), None);
        }
    };
    if let Some(message) = conflict(pipeline, others) {
        let runs = last().map(|last| last.with_numbers_of(&pipeline.spec));
        return choice(runs, Some(Refusal { reason: "Conflict", message }), None);
    }
    let hash = plan_hash(&pipeline.spec);
    if pipeline.spec.apply == ApplyMode::Automatic || pipeline.spec.approve.as_deref() == Some(&hash) {
        return choice(Some(present), None, None);
    }
    let steps = preview(owner, &present, observed);
    // Where nothing would change, there is nothing to approve.
    let plan = (!steps.is_empty()).then_some(PlanStatus { hash, steps });
    choice(last(), None, plan)
}

/// The hash that approves a spec: any other spec has another one.
#[must_use]
pub fn plan_hash(spec: &PipelineSpec) -> String {
    let spec = PipelineSpec { approve: None, apply: ApplyMode::Manual, ..spec.clone() };
    let text = serde_json::to_string(&spec).expect("a spec is plain maps, lists and scalars");
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

fn last_accepted(pipeline: &ClickstreamPipeline, owner: &Owner, observed: &Reading<Objects>) -> Option<Accepted> {
    let Reading::Known(live) = observed else { return None };
    let hash = pipeline.status.as_ref()?.accepted_hash.as_ref()?;
    let config_map = live.get(&(Kind::ConfigMap, config_map_name(&owner.name, hash)))?;
    accepted::read(&owner.name, config_map["data"][MANIFEST_KEY].as_str()?)
}

/// Whether a pipeline still has its topics: one that is being deleted does as long as its data is.
fn holds(pipeline: &ClickstreamPipeline) -> bool {
    pipeline.metadata.deletion_timestamp.is_none() || pipeline.finalizers().iter().any(|one| one == FINALIZER)
}

/// Two pipelines that look after one topic would undo each other's work: the older one keeps it.
fn conflict<'a>(
    pipeline: &ClickstreamPipeline,
    others: impl Iterator<Item = &'a ClickstreamPipeline>,
) -> Option<String> {
    let place = |one: &ClickstreamPipeline| (one.creation_timestamp(), one.namespace(), one.name_any());
    let mut older: Vec<&ClickstreamPipeline> = others
        .filter(|other| other.uid() != pipeline.uid() && holds(other))
        .filter(|other| place(other) < place(pipeline) && share_brokers(&other.spec, &pipeline.spec))
        .collect();
    older.sort_by_key(|other| place(other));
    older.into_iter().find_map(|other| {
        let theirs = format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any());
        if other.name_any() == pipeline.name_any() {
            return Some(format!(
                "metadata.name: pipeline {theirs} is older and has the same name and brokers: both would use topics that begin \
                 with {}.; give this one another name",
                pipeline.name_any()
            ));
        }
        let topic = managed(&pipeline.spec).find(|topic| managed(&other.spec).any(|theirs| theirs == *topic))?;
        Some(format!(
            "spec.topics[{topic}]: pipeline {theirs} is older and looks after this topic; \
             set managementPolicy: Observe here, or take the topic out of the other one"
        ))
    })
}

fn managed(spec: &PipelineSpec) -> impl Iterator<Item = &str> {
    let ours = spec.topics.iter().filter(|topic| topic.management_policy == ManagementPolicy::Manage);
    ours.map(|topic| topic.name.as_str())
}

pub(crate) fn share_brokers(one: &PipelineSpec, other: &PipelineSpec) -> bool {
    let brokers =
        |spec: &PipelineSpec| spec.kafka.as_ref().map(|kafka| kafka.bootstrap_servers.clone()).unwrap_or_default();
    brokers(one).iter().any(|broker| brokers(other).contains(broker))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::accepted::tests::{example, owner};

    fn pipeline(name: &str, second: i64) -> ClickstreamPipeline {
        let mut pipeline = example("medallion");
        pipeline.metadata.name = Some(name.into());
        pipeline.metadata.namespace = Some("shop".into());
        pipeline.metadata.uid = Some(format!("uid-{name}"));
        pipeline.metadata.creation_timestamp =
            Some(Time(jiff::Timestamp::from_second(second).expect("a second is a time")));
        pipeline
    }

    fn chosen(pipeline: &ClickstreamPipeline, others: &[ClickstreamPipeline]) -> Choice {
        choose(pipeline, others.iter(), &owner(&pipeline.name_any()), &Reading::Known(Objects::new()))
    }

    #[test]
    fn of_two_pipelines_on_a_topic_the_older_one_keeps_it() {
        let both = [pipeline("old", 10), pipeline("young", 20)];
        assert!(chosen(&both[0], &both).refused.is_none());
        let refused = chosen(&both[1], &both).refused.unwrap();
        assert!(refused.reason == "Conflict" && refused.message.contains("shop/old"), "{refused:?}");
        let mut observes = both[1].clone();
        observes.spec.topics.iter_mut().for_each(|topic| topic.management_policy = ManagementPolicy::Observe);
        assert!(chosen(&observes, &both).refused.is_none());
        let mut elsewhere = both[1].clone();
        elsewhere.spec.kafka.as_mut().unwrap().bootstrap_servers = vec!["elsewhere:9092".into()];
        assert!(chosen(&elsewhere, &both).refused.is_none());
        // Whoever goes with its data has it until that is gone; else nothing keeps the topic from the next.
        let mut leaving = both;
        leaving[0].metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        assert!(chosen(&leaving[1], &leaving).refused.is_none());
        leaving[0].metadata.finalizers = Some(vec![FINALIZER.into()]);
        assert!(chosen(&leaving[1], &leaving).refused.is_some());
    }

    #[test]
    fn what_waits_for_approval_is_not_done_and_what_was_approved_is() {
        let mut pipeline = pipeline("medallion", 10);
        pipeline.spec.apply = ApplyMode::Manual;
        let waiting = chosen(&pipeline, &[]);
        let plan = waiting.plan.unwrap();
        assert!(waiting.runs.is_none() && waiting.refused.is_none());
        assert!(plan.steps.contains(&"create Deployment medallion-process".to_owned()), "{:?}", plan.steps);
        pipeline.spec.approve = Some(plan.hash);
        let approved = chosen(&pipeline, &[]);
        assert!(approved.runs.is_some() && approved.plan.is_none());
        pipeline.spec.process.replicas += 1;
        assert!(chosen(&pipeline, &[]).runs.is_none(), "another spec waits again");
    }
}
