//! What becomes of a pipeline's data, step by step, and everything that keeps it.

use crds::spec::DeletionPolicy;
use serde_json::json;

use super::*;
use crate::{
    accepted::{self, Accepted, tests::accepted},
    choice::Refusal,
    steps,
};

fn doomed() -> Accepted {
    let mut accepted = accepted("medallion");
    accepted.spec.deletion_policy = DeletionPolicy::Delete;
    accepted
}

fn owner() -> Owner {
    accepted::tests::owner("medallion")
}

fn chosen(accepted: &Accepted) -> Choice {
    Choice { runs: Some(accepted.clone()), refused: None, plan: None, is_paused: false }
}

fn decided(choice: &Choice, observed: &Reading<Objects>, since: u64) -> Next {
    let (owner, spec) = (owner(), doomed().spec);
    let facts = Facts {
        owner: &owner,
        spec: &spec,
        choice,
        used: &BTreeMap::new(),
        unreadable: None,
        observed,
        pods: &Reading::Known(Pods::new()),
        since: Duration::from_secs(since),
    };
    decide(&facts)
}

/// What the cluster makes of steps.
fn carry_out(live: &mut Objects, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Apply(object) => {
                let mut body = object.body.clone();
                body["metadata"]["generation"] = json!(1);
                let replicas = body["spec"]["replicas"].clone();
                body["status"] = match object.kind {
                    Kind::Job => json!({"conditions": [{"type": "Complete", "status": "True"}]}),
                    _ => {
                        json!({"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas})
                    }
                };
                live.insert((object.kind, object.name.clone()), body);
            }
            Step::Delete { kind, name } => drop(live.remove(&(*kind, name.clone()))),
        }
    }
}

#[test]
fn pods_stop_then_the_job_runs_then_the_pipeline_goes_and_leaves_nothing_of_it() {
    let accepted = doomed();
    let mut live = Objects::new();
    for _ in 0..20 {
        let observed = Reading::Known(live.clone());
        carry_out(&mut live, &steps::decide(&owner(), &accepted, &observed, &Reading::Known(Pods::new())).now);
    }
    let (mut told, mut shown) = (None, Vec::new());
    for _ in 0..10 {
        match decided(&chosen(&accepted), &Reading::Known(live.clone()), 0) {
            Next::Work(steps) => {
                shown.extend(steps.now.iter().map(ToString::to_string));
                carry_out(&mut live, &steps.now);
            }
            Next::Release { steps, told: last } => {
                carry_out(&mut live, &steps);
                told = Some(last);
                break;
            }
        }
    }
    let told = told.unwrap();
    assert!(
        !told.is_left && told.message.contains("ecom_clickstream_raw") && told.message.contains("medallion.*"),
        "{told:?}"
    );
    let job = shown.iter().position(|step| step.starts_with("apply Job medallion-delete-d")).unwrap();
    let last_pods = shown.iter().rposition(|step| step.contains("Deployment")).unwrap();
    assert!(last_pods < job, "{shown:#?}");
    assert!(
        !live.keys().any(|(_, name)| name.contains("-delete-") || name.contains("manifest-d")),
        "{:?}",
        live.keys()
    );
}

#[test]
fn what_is_unknown_refused_paused_or_late_is_left_and_told() {
    let accepted = doomed();
    let nothing = Reading::Known(Objects::new());
    let fine = chosen(&accepted);
    let refusal = Refusal { reason: "Conflict", message: "another".into() };
    let unknown = Reading::Unknown("no answer".into());
    assert!(matches!(decided(&fine, &unknown, 0), Next::Work(steps) if steps.now.is_empty()));
    let kept = [
        ("ten minutes", decided(&fine, &unknown, 600)),
        ("ten minutes", decided(&fine, &nothing, 600)),
        ("refused", decided(&Choice { refused: Some(refusal), ..fine.clone() }, &nothing, 0)),
        ("paused", decided(&Choice { is_paused: true, ..fine.clone() }, &nothing, 0)),
        ("accepted", decided(&Choice { runs: None, ..fine }, &nothing, 0)),
    ];
    for (why, next) in kept {
        let Next::Release { steps, told } = next else { panic!("{why}: {next:?}") };
        assert!(told.is_left && told.message.contains(why) && steps.is_empty(), "{why}: {told:?}");
    }
}

#[test]
fn a_topic_that_another_pipeline_uses_stays() {
    let example = |name: &str, uid: &str| {
        let mut pipeline = crate::accepted::tests::example(name);
        pipeline.metadata.uid = Some(uid.into());
        pipeline.metadata.name = Some(uid.into());
        pipeline.metadata.namespace = Some("shop".into());
        pipeline.spec.deletion_policy = DeletionPolicy::Delete;
        pipeline
    };
    let (doomed, mut other, elsewhere) =
        (example("medallion", "a"), example("medallion", "b"), example("multi-sink", "c"));
    // One that `a` made for itself.
    let mut silver = other.spec.topics[0].clone();
    silver.name = "a.silver.events".into();
    other.spec.topics.push(silver);
    let all = [doomed.clone(), other, elsewhere];
    let used = used(&doomed, all.iter());
    assert_eq!(used["ecom_clickstream_raw"], "shop/b");
    assert_eq!(used["a.silver.events"], "shop/b");
    let mut modest = doomed.clone();
    modest.spec.deletion_policy = DeletionPolicy::Retain;
    assert!(super::used(&modest, all.iter()).is_empty(), "it asks for nothing to be deleted");
    let [_, job] = deletion::objects(&owner(), &self::doomed(), &["ecom_clickstream_raw".into()]);
    let args = &job.body["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(
        args.as_array().unwrap()[3..],
        ["--delete", "--keep", "ecom_clickstream_raw"].map(serde_json::Value::from)
    );
    assert!(job.body["metadata"].get("ownerReferences").is_none());
}

#[test]
fn the_finalizer_comes_and_goes_with_the_wish() {
    let mut pipeline = crate::accepted::tests::example("medallion");
    assert_eq!(finalizers(&pipeline, false), None);
    pipeline.metadata.finalizers = Some(vec!["theirs".into()]);
    let both = vec!["theirs".to_owned(), FINALIZER.to_owned()];
    assert_eq!(finalizers(&pipeline, true), Some(both.clone()));
    pipeline.metadata.finalizers = Some(both);
    assert_eq!(finalizers(&pipeline, true), None);
    assert_eq!(finalizers(&pipeline, false), Some(vec!["theirs".into()]));
}

#[test]
fn buckets_stay_when_the_pipeline_goes() {
    let mut live = Objects::new();
    for kind in [Kind::CouchbaseBucket, Kind::CouchbaseScope, Kind::CouchbaseCollection] {
        live.insert((kind, "shop".into()), json!({"metadata": {"name": "shop"}}));
    }
    live.insert((Kind::Job, "medallion-delete-d".into()), json!({"metadata": {"name": "medallion-delete-d"}}));
    let steps: Vec<String> = remains(&live).iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["delete Job medallion-delete-d"]);
}

#[test]
fn no_data_is_deleted_while_pods_are_on_their_way_out() {
    let accepted = doomed();
    let (owner, spec, choice) = (owner(), doomed().spec, chosen(&accepted));
    let observed = Reading::Known(Objects::new());
    let next = |pods: &Reading<Pods>, since: u64| {
        let facts = Facts {
            owner: &owner,
            spec: &spec,
            choice: &choice,
            used: &BTreeMap::new(),
            unreadable: None,
            observed: &observed,
            pods,
            since: Duration::from_secs(since),
        };
        decide(&facts)
    };
    let terminating = |component: &str| Reading::Known(Pods::from([(component.to_owned(), 1)]));
    // Of a Deployment or a Job that is gone already as well: a replay writes too.
    for component in ["process", "schedule-nightly", "setup"] {
        assert_eq!(next(&terminating(component), 0), waits(Vec::new(), "the pods to stop"), "{component}");
    }
    assert_eq!(next(&Reading::Unknown("no answer".into()), 0), waits(Vec::new(), "the cluster's answer"));
    assert!(matches!(next(&terminating("process"), 600), Next::Release { told: Told { is_left: true, .. }, .. }));
    for pods in [Reading::Known(Pods::new()), terminating("delete")] {
        assert!(matches!(next(&pods, 0), Next::Work(steps) if steps.now.len() == 2), "{pods:?}");
    }
}
