//! Applying a plan reaches a fixed point; nothing is destroyed on what is not known.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    accepted::{
        self,
        tests::{accepted, example},
    },
    desired::HASH_ANNOTATION,
};

fn owner() -> Owner {
    accepted::tests::owner("medallion")
}

/// Decides where no pods are but those that Deployments count.
fn decide(owner: &Owner, accepted: &Accepted, observed: &Reading<Objects>) -> Steps {
    super::decide(owner, accepted, observed, &Reading::Known(Pods::new()))
}

/// A cluster that does what it is told at once, and whose Jobs and Deployments succeed.
fn carry_out(live: &mut Objects, steps: &Steps) {
    for step in &steps.now {
        match step {
            Step::Apply(object) => {
                let mut body = object.body.clone();
                body["metadata"]["generation"] = json!(1);
                match object.kind {
                    Kind::Job => body["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]}),
                    Kind::Deployment => {
                        let replicas = body["spec"]["replicas"].clone();
                        body["status"] = json!({
                            "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
                        });
                    }
                    _ => {}
                }
                live.insert((object.kind, object.name.clone()), body);
            }
            Step::Delete { kind, name } => drop(live.remove(&(*kind, name.clone()))),
        }
    }
}

/// Decides and carries out until nothing is left; returns in how many rounds.
fn settle(live: &mut Objects, accepted: &Accepted) -> usize {
    for round in 0..50 {
        let steps = decide(&owner(), accepted, &Reading::Known(live.clone()));
        if steps == Steps::default() {
            return round;
        }
        carry_out(live, &steps);
    }
    panic!("it never settles");
}

#[test]
fn a_plan_reaches_a_fixed_point_for_every_example() {
    for name in ["category-sales", "dataset-split", "medallion", "multi-sink", "three-topics", "reference"] {
        let mut live = Objects::new();
        let rounds = settle(&mut live, &accepted(name));
        assert!((2..10).contains(&rounds), "{name}: {rounds} rounds");
        assert!(live.keys().any(|(kind, name)| *kind == Kind::Deployment && name == "medallion-process"), "{live:?}");
    }
}

#[test]
fn another_operator_with_another_image_restarts_nothing_until_the_spec_changes() {
    let (mut live, spec) = (Objects::new(), accepted("medallion"));
    settle(&mut live, &spec);
    let newer = Owner { image: "clickstream:2".into(), ..owner() };
    let decided = |live: &Objects, spec: &Accepted| decide(&newer, spec, &Reading::Known(live.clone()));
    assert_eq!(decided(&live, &spec), Steps::default());

    // Another image in the pods than what they were made with is put right, and not with the newer one.
    let key = (Kind::Deployment, "medallion-process".to_owned());
    let image = |object: &Value| object["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    let mut drifted = live.clone();
    drifted.get_mut(&key).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"] = json!("mine:1");
    let steps = decided(&drifted, &spec);
    let Some(Step::Apply(object)) = steps.now.first() else { panic!("{steps:?}") };
    assert_eq!((object.name.as_str(), image(&object.body)), ("medallion-process", json!("clickstream:1")));

    let mut again = example("medallion").spec;
    again.restart = Some("now".into());
    let crate::accepted::Verdict::Accept(again) = crate::accepted::judge("medallion", &again) else {
        panic!("it is valid")
    };
    for _ in 0..30 {
        let steps = decided(&live, &again);
        carry_out(&mut live, &steps);
    }
    assert_eq!(image(&live[&key]), "clickstream:2");
}

#[test]
fn topics_that_were_set_otherwise_are_set_up_again_and_nothing_waits_for_it() {
    let (mut live, spec) = (Objects::new(), accepted("medallion"));
    settle(&mut live, &spec);
    let job = (Kind::Job, setup::job_name("medallion", &spec.hash));
    live.get_mut(&job).unwrap()["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let difference =
        |by_hand: bool| TopicDifference { topic: "events".into(), what: "set events: a=1".into(), by_hand };
    let differ = |differences: Vec<TopicDifference>| Some(Reading::Known(differences));
    let mended = |live: &Objects, differences: Option<Reading<Vec<TopicDifference>>>, now: &str| {
        let observed = Reading::Known(live.clone());
        let now = format!("2026-01-01T00:{now}:00Z").parse().unwrap();
        decide(&owner(), &spec, &observed).or_mend(&owner(), &spec, &observed, differences.as_ref(), now)
    };
    for (what, differences, now) in [
        ("they are as they should be", differ(vec![]), "30"),
        ("nobody has looked", None, "30"),
        ("nobody knows", Some(Reading::Unknown("silent".into())), "30"),
        ("a person has to do something first", differ(vec![difference(false), difference(true)]), "30"),
        ("it was put right a moment ago", differ(vec![difference(false)]), "04"),
    ] {
        assert_eq!(mended(&live, differences, now), Steps::default(), "{what}");
    }
    let steps = mended(&live, differ(vec![difference(false)]), "06");
    assert_eq!(steps.now, [Step::Delete { kind: Kind::Job, name: job.1.clone() }]);
    // Something else is to be done first.
    let process = (Kind::Deployment, "medallion-process".to_owned());
    let mut drifted = live.clone();
    drifted.get_mut(&process).unwrap()["spec"]["replicas"] = json!(7);
    let only = |steps: &Steps| matches!(&steps.now[..], [Step::Apply(object)] if object.name == process.1);
    assert!(only(&mended(&drifted, differ(vec![difference(false)]), "06")));

    // It is made again; whoever scales or restarts meanwhile does not wait for brokers.
    carry_out(&mut live, &steps);
    let again = decide(&owner(), &spec, &Reading::Known(live.clone()));
    assert!(matches!(&again.now[..], [Step::Apply(object)] if object.name == job.1), "{:?}", again.now);
    carry_out(&mut live, &again);
    live.get_mut(&job).unwrap()["status"] = json!({});
    live.get_mut(&process).unwrap()["spec"]["replicas"] = json!(7);
    let meanwhile = decide(&owner(), &spec, &Reading::Known(live));
    assert!(only(&meanwhile) && meanwhile.waits_for.is_some(), "{meanwhile:?}");
}

#[test]
fn a_suspended_pipeline_stops_in_the_order_in_which_events_flow() {
    let (mut live, spec) = (Objects::new(), accepted("medallion"));
    settle(&mut live, &spec);
    let mut suspended = spec.clone();
    suspended.spec.suspend = true;
    let (mut order, mut told) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let steps = decide(&owner(), &suspended, &Reading::Known(live.clone()));
        let stops = steps.now.iter().filter_map(|step| match step {
            Step::Apply(object) if object.kind == Kind::Deployment => Some(object.name.clone()),
            _ => None,
        });
        order.extend(stops);
        told.extend(steps.waits_for.clone());
        carry_out(&mut live, &steps);
    }
    let role = |name: &String| {
        ["-ingest-", "-process", "-sink-", "-notify", "-serve"].iter().position(|role| name.contains(role))
    };
    assert!(order.is_sorted_by_key(role) && order.len() > 3, "{order:?}");
    assert!(told.contains(&"the pods of process to stop".to_owned()), "{told:?}");
    assert!(order.iter().all(|name| live[&(Kind::Deployment, name.clone())]["spec"]["replicas"] == 0));
    assert_eq!(decide(&owner(), &suspended, &Reading::Known(live.clone())), Steps::default());
    settle(&mut live, &spec);
    assert_eq!(rollout(&live, "medallion-process").unwrap().wanted, i64::from(spec.spec.process.replicas));
}

#[test]
fn pods_that_were_told_to_go_may_still_write_and_are_waited_for() {
    let (mut live, spec) = (Objects::new(), accepted("medallion"));
    settle(&mut live, &spec);
    let mut suspended = spec.clone();
    suspended.spec.suspend = true;
    let told =
        |live: &Objects, pods: &Reading<Pods>| super::decide(&owner(), &suspended, &Reading::Known(live.clone()), pods);
    let terminating = |component: &str| Reading::Known(Pods::from([(component.to_owned(), 1)]));
    for _ in 0..40 {
        // The last pod of processing is on its way out, and its Deployment says that there is none.
        let steps = told(&live, &terminating("process"));
        carry_out(&mut live, &steps);
    }
    let process = &live[&(Kind::Deployment, "medallion-process".into())];
    assert_eq!((&process["spec"]["replicas"], &process["status"]["replicas"]), (&json!(0), &json!(0)));
    let waits = told(&live, &terminating("process"));
    assert!(waits.now.is_empty() && waits.waits_for == Some("the pods of process to stop".into()), "{waits:?}");
    let unknown = told(&live, &Reading::Unknown("no answer".into()));
    assert!(unknown.now.is_empty() && unknown.waits_for.is_some());
    settle(&mut live, &suspended);
    assert!(told(&live, &terminating("serve")).waits_for.is_some(), "the last role is waited for as well");
    assert_eq!(told(&live, &Reading::Known(Pods::new())), Steps::default());
    let deleting = super::decide(&owner(), &spec, &Reading::Known(Objects::new()), &terminating("delete"));
    assert!(deleting.now.is_empty() && deleting.waits_for.is_some(), "it may delete what would be made");
}

/// A cluster as an operator left it that had other ideas of pods.
fn as_an_older_operator_made_it(spec: &Accepted) -> Objects {
    let mut live = Objects::new();
    settle(&mut live, spec);
    for object in live.values_mut().filter(|object| object["spec"].get("template").is_some()) {
        object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(7);
        let template = object["spec"]["template"].to_string();
        object["metadata"]["annotations"][pods::TEMPLATE_ANNOTATION] = json!(template);
    }
    live
}

#[test]
fn another_operator_with_other_pods_restarts_nothing_until_the_spec_changes() {
    let key = (Kind::Deployment, "medallion-process".to_owned());
    let seconds = |live: &Objects| live[&key]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].clone();
    let spec = accepted("medallion");
    let live = as_an_older_operator_made_it(&spec);
    assert_eq!(decide(&owner(), &spec, &Reading::Known(live.clone())), Steps::default());

    let mut drifted = live.clone();
    drifted.get_mut(&key).unwrap()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(8);
    settle(&mut drifted, &spec);
    assert_eq!(seconds(&drifted), 7, "drift is put right to how they were made");

    let mut more = spec.clone();
    more.spec.process.replicas += 1;
    let mut scaled = live.clone();
    settle(&mut scaled, &more);
    assert_eq!(
        (seconds(&scaled), scaled[&key]["spec"]["replicas"].clone()),
        (json!(7), json!(more.spec.process.replicas))
    );

    let mut bigger = spec;
    let requests = [("cpu".to_owned(), "1".to_owned())].into();
    bigger.spec.process.resources = Some(crds::spec::Resources { requests, ..crds::spec::Resources::default() });
    let mut resized = live;
    settle(&mut resized, &bigger);
    assert_ne!(seconds(&resized), 7, "what asks for other pods gets today's");
}

#[test]
fn nothing_is_made_while_a_predecessors_data_is_being_deleted() {
    let mut live = Objects::new();
    let [_, job] = desired::deletion::objects(&owner(), &accepted("medallion"), &[]);
    live.insert((Kind::Job, job.name.clone()), job.body);
    let steps = decide(&owner(), &accepted("medallion"), &Reading::Known(live.clone()));
    assert_eq!(steps.now, [Step::Delete { kind: Kind::Job, name: job.name }]);
    carry_out(&mut live, &steps);
    settle(&mut live, &accepted("medallion"));
}

#[test]
fn topics_come_before_pods() {
    let mut live = Objects::new();
    let first = decide(&owner(), &accepted("medallion"), &Reading::Known(live.clone()));
    let kinds: Vec<Kind> =
        first.now.iter().map(|step| if let Step::Apply(object) = step { object.kind } else { Kind::Ingress }).collect();
    assert_eq!(kinds, [Kind::ConfigMap, Kind::Job]);
    carry_out(&mut live, &first);
    let job = setup::job_name("medallion", &accepted("medallion").hash);
    let failed = json!({"conditions": [{"type": "Failed", "status": "True", "message": "partitions"}]});
    live.get_mut(&(Kind::Job, job)).unwrap()["status"] = failed;
    let blocked = decide(&owner(), &accepted("medallion"), &Reading::Known(live));
    assert!(blocked.now.is_empty() && blocked.waits_for.unwrap().contains("kubectl logs"));
}

#[test]
fn a_changed_spec_restarts_one_part_at_a_time_and_leaves_nothing_behind() {
    let mut live = Objects::new();
    settle(&mut live, &accepted("medallion"));
    let mut spec = example("medallion").spec;
    let gone = spec.sinks.pop().expect("it has sinks").name;
    let crate::accepted::Verdict::Accept(changed) = crate::accepted::judge("medallion", &spec) else { panic!("valid") };
    let mut most = 0;
    for _ in 0..50 {
        let steps = decide(&owner(), &changed, &Reading::Known(live.clone()));
        if steps == Steps::default() {
            break;
        }
        let restarted = steps.now.iter().filter(|step| matches!(step, Step::Apply(object) if restarts(&live, object)));
        most = most.max(restarted.count());
        carry_out(&mut live, &steps);
    }
    assert_eq!(most, 1);
    assert!(!live.keys().any(|(_, name)| name.ends_with(&format!("-sink-{gone}"))), "{:?}", live.keys());
    assert_eq!(live.keys().filter(|(kind, _)| *kind == Kind::ConfigMap).count(), 1);
    assert_eq!(live.keys().filter(|(kind, _)| *kind == Kind::Job).count(), 1);
}

#[test]
fn scaling_touches_nothing_but_the_number() {
    let mut live = Objects::new();
    settle(&mut live, &accepted("medallion"));
    let mut spec = example("medallion").spec;
    spec.process.replicas += 1;
    let crate::accepted::Verdict::Accept(scaled) = crate::accepted::judge("medallion", &spec) else { panic!("valid") };
    let steps = decide(&owner(), &scaled, &Reading::Known(live.clone()));
    let told: Vec<String> = steps.now.iter().map(ToString::to_string).collect();
    assert_eq!(told.iter().filter(|step| step.contains("Deployment")).count(), 1, "{told:?}");
    assert!(!steps.now.iter().any(|step| matches!(step, Step::Apply(object) if restarts(&live, object))));
}

#[test]
fn what_is_not_known_destroys_nothing() {
    let steps = decide(&owner(), &accepted("medallion"), &Reading::Unknown("timeout".into()));
    assert!(steps.now.is_empty() && steps.waits_for.is_some());
}

#[test]
fn what_others_add_to_merged_lists_stays_theirs() {
    let template = |env: Value, ports: Value| json!({"containers": [{"name": "a", "env": env, "ports": ports}]});
    let (ours, theirs) = (json!({"name": "OURS", "value": "1"}), json!({"name": "THEIRS", "value": "2"}));
    let wanted = template(json!([ours]), json!([{"name": "http", "containerPort": 80}]));
    assert!(covers(&template(json!([theirs, ours]), wanted["containers"][0]["ports"].clone()), &wanted));
    let touched = json!([theirs, {"name": "OURS", "value": "3"}]);
    assert!(!covers(&template(touched, wanted["containers"][0]["ports"].clone()), &wanted));
    // A hole that somebody made into a policy is closed again: such a list has one owner.
    let policy = |ports: Value| json!({"ingress": [{"ports": ports}]});
    let (metrics, shell) = (json!({"port": 9090}), json!({"port": 22}));
    assert!(!covers(&policy(json!([metrics, shell])), &policy(json!([metrics]))));
}

#[test]
fn the_next_part_waits_until_the_numbers_are_about_the_change() {
    let mut live = Objects::new();
    settle(&mut live, &accepted("medallion"));
    let mut spec = example("medallion").spec;
    spec.restart = Some("again".into());
    let crate::accepted::Verdict::Accept(changed) = crate::accepted::judge("medallion", &spec) else { panic!("valid") };
    for _ in 0..3 {
        let steps = decide(&owner(), &changed, &Reading::Known(live.clone()));
        carry_out(&mut live, &steps);
    }
    // The Deployment that was changed last has a new generation that its controller has not seen.
    let is_new = |found: &Value| found["spec"]["template"]["metadata"]["annotations"][HASH_ANNOTATION] == changed.hash;
    let last = live.iter_mut().find(|((kind, _), found)| *kind == Kind::Deployment && is_new(found));
    last.expect("one was changed").1["metadata"]["generation"] = json!(2);
    let steps = decide(&owner(), &changed, &Reading::Known(live.clone()));
    assert!(!steps.now.iter().any(|step| matches!(step, Step::Apply(object) if restarts(&live, object))), "{steps:?}");
}

#[test]
fn the_next_part_waits_until_the_pods_of_the_last_are_ready() {
    let (mut settled, changed) = (Objects::new(), {
        let mut spec = example("medallion").spec;
        spec.restart = Some("again".into());
        let crate::accepted::Verdict::Accept(changed) = crate::accepted::judge("medallion", &spec) else {
            panic!("valid")
        };
        changed
    });
    settle(&mut settled, &accepted("medallion"));
    for _ in 0..3 {
        let steps = decide(&owner(), &changed, &Reading::Known(settled.clone()));
        carry_out(&mut settled, &steps);
    }
    let is_new = |found: &Value| found["spec"]["template"]["metadata"]["annotations"][HASH_ANNOTATION] == changed.hash;
    let rolled = settled.iter().find(|((kind, _), found)| *kind == Kind::Deployment && is_new(found));
    let rolled = rolled.expect("one was changed").0.clone();
    let progressing = |reason: &str| json!([{"type": "Progressing", "status": "True", "reason": reason}]);
    for (waits, what, change) in [
        (false, "ready", json!({})),
        (true, "not ready", json!({"readyReplicas": 0, "conditions": progressing("ReplicaSetUpdated")})),
        (true, "not ready and without a word of it", json!({"readyReplicas": null})),
        (true, "old pods are left", json!({"replicas": 9, "conditions": progressing("ReplicaSetUpdated")})),
        (true, "not replaced", json!({"updatedReplicas": 0})),
        (true, "of an older generation", json!({"observedGeneration": 0})),
        (
            false,
            "given up",
            json!({"replicas": 9, "readyReplicas": 0, "conditions": progressing("ProgressDeadlineExceeded")}),
        ),
        (
            false,
            "given up halfway",
            json!({"updatedReplicas": 0, "readyReplicas": 0, "conditions": progressing("ProgressDeadlineExceeded")}),
        ),
        (false, "unready since", json!({"readyReplicas": 0, "conditions": progressing("NewReplicaSetAvailable")})),
        (
            false,
            "a quota leaves it too few",
            json!({"replicas": 0, "updatedReplicas": 0, "readyReplicas": 0, "conditions": progressing("NewReplicaSetAvailable")}),
        ),
        (true, "old pods since", json!({"replicas": 9, "conditions": progressing("NewReplicaSetAvailable")})),
    ] {
        let mut live = settled.clone();
        let status = &mut live.get_mut(&rolled).unwrap()["status"];
        change.as_object().unwrap().iter().for_each(|(name, value)| status[name] = value.clone());
        let steps = decide(&owner(), &changed, &Reading::Known(live.clone()));
        let restarted = steps.now.iter().any(|step| matches!(step, Step::Apply(object) if restarts(&live, object)));
        assert_eq!(restarted, !waits, "{what}: {steps:?}");
    }
}

#[test]
fn a_sink_that_is_not_ready_holds_nobody_up_nor_does_who_tells_of_alerts() {
    let mut spec = example("medallion").spec;
    let mut live = Objects::new();
    settle(&mut live, &accepted("medallion"));
    spec.restart = Some("again".into());
    let crate::accepted::Verdict::Accept(changed) = crate::accepted::judge("medallion", &spec) else { panic!("valid") };
    for _ in 0..2 {
        let steps = decide(&owner(), &changed, &Reading::Known(live.clone()));
        carry_out(&mut live, &steps);
    }
    let restarts_another = |live: &Objects, part: &str| {
        let steps = decide(&owner(), &changed, &Reading::Known(live.clone()));
        let is_another = |object: &Object| restarts(live, object) && object.name != part;
        steps.now.iter().any(|step| matches!(step, Step::Apply(object) if is_another(object)))
    };
    let parts: Vec<_> = live.keys().filter(|(kind, _)| *kind == Kind::Deployment).cloned().collect();
    let is_last = |name: &str| name.contains("-sink-") || name.ends_with("-notify");
    assert!(["-sink-", "-notify"].iter().all(|role| parts.iter().any(|(_, name)| name.contains(role))), "{parts:?}");
    for part in parts {
        let mut live = live.clone();
        live.get_mut(&part).unwrap()["status"]["readyReplicas"] = json!(0);
        assert_eq!(restarts_another(&live, &part.1), is_last(&part.1), "{part:?}");
    }
}

#[test]
fn quantities_and_defaults_of_the_cluster_are_no_difference() {
    let wanted =
        json!({"resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {}}, "list": [{"a": 1}]});
    let found = json!({"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}, "list": [{"a": 1, "default": true}], "more": 1});
    assert!(covers(&found, &wanted));
    assert!(!covers(
        &json!({"resources": {"requests": {"cpu": "400m", "memory": "1Gi"}}, "list": [{"a": 1}]}),
        &wanted
    ));
    assert!(!covers(&json!({"resources": wanted["resources"], "list": [{"a": 1}, {"a": 2}]}), &wanted));
}

#[test]
fn what_runs_is_kept_and_scaled_while_a_change_waits_for_its_topics() {
    for state in [json!(null), json!({"conditions": [{"type": "Failed", "status": "True", "message": "partitions"}]})] {
        let mut live = Objects::new();
        settle(&mut live, &accepted("medallion"));
        let mut spec = example("medallion").spec;
        spec.restart = Some("again".into());
        spec.process.replicas += 1;
        let crate::accepted::Verdict::Accept(changed) = crate::accepted::judge("medallion", &spec) else {
            panic!("valid")
        };
        let job = setup::job(&owner(), &changed);
        let mut body = job.body.clone();
        body["status"] = state;
        live.insert((Kind::Job, job.name.clone()), body);
        live.remove(&(Kind::Service, "medallion-serve".into()));
        for _ in 0..3 {
            let steps = decide(&owner(), &changed, &Reading::Known(live.clone()));
            assert!(!steps.now.iter().any(|step| matches!(step, Step::Apply(object) if restarts(&live, object))));
            assert!(!steps.now.iter().any(|step| matches!(step, Step::Delete { .. })), "{steps:?}");
            carry_out(&mut live, &steps);
        }
        assert!(live.contains_key(&(Kind::Service, "medallion-serve".into())), "drift is put right");
        let process = &live[&(Kind::Deployment, "medallion-process".into())];
        assert_eq!(process["spec"]["replicas"], json!(spec.process.replicas));
        assert!(!process.to_string().contains(&changed.hash), "the change waits");
    }
}

proptest! {
    /// Whatever is lost or touched by others: the same end, and no more steps after it.
    #[test]
    fn any_disturbance_is_put_right(lost in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6), touched in any::<proptest::sample::Index>()) {
        let accepted = accepted("multi-sink");
        let mut live = Objects::new();
        settle(&mut live, &accepted);
        let goal = live.clone();
        for index in lost {
            let names: Vec<_> = live.keys().cloned().collect();
            if !names.is_empty() {
                live.remove(&names[index.index(names.len())]);
            }
        }
        // How many collectors there are is their autoscaler's to say.
        let is_ours = |(kind, name): &&(Kind, String)| *kind == Kind::Deployment && name != "medallion-ingest-collector";
        let names: Vec<_> = live.keys().filter(is_ours).cloned().collect();
        if !names.is_empty() {
            live.get_mut(&names[touched.index(names.len())]).unwrap()["spec"]["replicas"] = json!(99);
        }
        settle(&mut live, &accepted);
        prop_assert_eq!(live, goal);
    }
}

/// An autoscaler that nobody wants any more would undo the number of pods each time: it goes before anything waits.
#[test]
fn an_autoscaler_goes_at_once_where_nobody_wants_it() {
    let (mut live, spec) = (Objects::new(), accepted("multi-sink"));
    settle(&mut live, &spec);
    let key = (Kind::HorizontalPodAutoscaler, "medallion-ingest-collector".to_owned());
    assert!(live.contains_key(&key));
    let mut changed = spec.spec.clone();
    changed.ingest[0].autoscale = None;
    changed.tables.truncate(1);
    changed.sinks.clear();
    let changed = match accepted::judge("medallion", &changed) {
        accepted::Verdict::Accept(changed) => *changed,
        accepted::Verdict::Refuse { message } => panic!("{message}"),
    };
    let steps = decide(&owner(), &changed, &Reading::Known(live.clone()));
    assert!(steps.waits_for.is_some(), "topics are not set up yet: {steps:?}");
    let (kind, name) = key.clone();
    assert_eq!(
        steps.now.iter().filter(|step| **step == Step::Delete { kind, name: name.clone() }).count(),
        1,
        "{steps:?}"
    );
    settle(&mut live, &changed);
    assert!(!live.contains_key(&key));
}
