//! HorizontalPodAutoscalers of collectors: how many there are follows what they are busy with.

use std::ops::RangeInclusive;

use crds::spec::{Autoscale, Ingester, PipelineSpec};
use serde_json::{Value, json};

use super::{Object, Owner, Part, deployments::ingester, object, pods::CONTAINER};
use crate::{
    observed::{Kind, Objects},
    quantity::quantity,
};

/// Share of its processor time that a pod is to use: what is left is for the time until another pod is there.
const BUSY: f64 = 0.7;

/// The autoscaler of a part whose pods come and go by load: of collectors, which nobody else scales, and nothing that is stopped.
pub(super) fn autoscaler(owner: &Owner, spec: &PipelineSpec, part: &Part) -> Option<Object> {
    let ingester = ingester(spec, part).filter(|_| part.replicas > 0)?;
    let limits = limits(ingester)?;
    let name = part.object_name(&owner.name);
    let cpu = format!("{:.0}m", processors(ingester) * BUSY * 1_000.0);
    let rest = json!({ "spec": {
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
        "minReplicas": limits.min_replicas,
        "maxReplicas": limits.max_replicas,
        "metrics": [{ "type": "ContainerResource", "containerResource": {
            "name": "cpu",
            "container": CONTAINER,
            "target": { "type": "AverageValue", "averageValue": cpu },
        }}],
    }});
    Some(object(owner, Kind::HorizontalPodAutoscaler, name, &part.component(), rest))
}

/// Has Deployments that are scaled by load keep the number of pods that they have, within the limits. Those that rest or are to rest
/// get what the spec says.
pub(crate) fn follow(wanted: &mut [Object], live: &Objects) {
    let scaled = wanted.iter().filter(|object| object.kind == Kind::HorizontalPodAutoscaler);
    let limits: Vec<(String, RangeInclusive<i64>)> = scaled
        .filter_map(|object| {
            let limit = |name: &str| object.body["spec"][name].as_i64();
            Some((object.name.clone(), limit("minReplicas")?..=limit("maxReplicas")?))
        })
        .collect();
    for object in wanted.iter_mut().filter(|object| object.kind == Kind::Deployment) {
        let Some((name, limits)) = limits.iter().find(|(name, _)| *name == object.name) else { continue };
        let found = live.get(&(Kind::Deployment, name.clone())).and_then(|found| found["spec"]["replicas"].as_i64());
        let pods = found.filter(|found| *found > 0).or(object.body["spec"]["replicas"].as_i64()).unwrap_or(1);
        if pods > 0 {
            object.body["spec"]["replicas"] = Value::from(pods.min(*limits.end()).max(*limits.start()));
        }
    }
}

fn limits(ingester: &Ingester) -> Option<&Autoscale> {
    ingester.autoscale.as_ref().filter(|limits| ingester.http.is_some() && !limits.observe_only)
}

/// What a pod may count on: what is set aside for it, else what it may use at most, else one processor.
fn processors(ingester: &Ingester) -> f64 {
    let asked = |resources: &crds::spec::Resources| {
        let cpu = resources.requests.get("cpu").or_else(|| resources.limits.get("cpu"))?;
        quantity(cpu).filter(|processors| *processors > 0.0)
    };
    ingester.resources.as_ref().and_then(asked).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        accepted::tests::{accepted, owner},
        desired::objects,
    };

    /// The Deployment's pods, and its autoscaler, of multi-sink's collector in a cluster that has `found` pods of it.
    fn seen(change: impl Fn(&mut PipelineSpec), found: Option<i64>) -> (i64, Option<Value>) {
        let mut accepted = accepted("multi-sink");
        change(&mut accepted.spec);
        let mut wanted = objects(&owner("p"), &accepted);
        let key = (Kind::Deployment, "p-ingest-collector".to_owned());
        let live = found.map(|found| (key, json!({"spec": {"replicas": found}}))).into_iter().collect();
        follow(&mut wanted, &live);
        let body = |kind: Kind| {
            let mut ours = wanted.iter().filter(|object| object.name == "p-ingest-collector");
            ours.find(|object| object.kind == kind).map(|object| object.body.clone())
        };
        let pods = body(Kind::Deployment).unwrap()["spec"]["replicas"].as_i64().unwrap();
        assert!(body(Kind::HorizontalPodAutoscaler).is_none() || body(Kind::PodDisruptionBudget).is_some());
        (pods, body(Kind::HorizontalPodAutoscaler))
    }

    fn set(change: impl Fn(&mut Ingester)) -> impl Fn(&mut PipelineSpec) {
        move |spec| spec.ingest.iter_mut().filter(|ingester| ingester.name == "collector").for_each(&change)
    }

    #[test]
    fn collectors_come_and_go_by_load_within_the_limits() {
        let (pods, autoscaler) = seen(|_| {}, None);
        let spec = &autoscaler.unwrap()["spec"];
        assert_eq!((pods, &spec["minReplicas"], &spec["maxReplicas"]), (2, &json!(2), &json!(20)));
        assert_eq!(spec["scaleTargetRef"]["name"], "p-ingest-collector");
        assert_eq!(spec["metrics"][0]["containerResource"]["target"]["averageValue"], "700m");
        for (found, pods) in [(1, 2), (2, 2), (7, 7), (20, 20), (31, 20), (0, 2)] {
            assert_eq!(seen(|_| {}, Some(found)).0, pods, "{found}");
        }
    }

    #[test]
    fn nobody_else_scales_what_rests_or_is_only_observed_or_is_no_collector() {
        let suspended = seen(|spec| spec.suspend = true, Some(7));
        assert_eq!(suspended, (0, None));
        assert_eq!(seen(set(|ingester| ingester.replicas = 0), Some(7)), (0, None));
        let observed = set(|ingester| ingester.autoscale.as_mut().unwrap().observe_only = true);
        assert_eq!(seen(observed, Some(7)), (2, None));
        assert_eq!(seen(set(|ingester| ingester.replicas = 30), None).0, 20, "no more than there may be");
        let (pods, autoscaler) = seen(set(|ingester| ingester.autoscale = None), Some(7));
        assert_eq!((pods, autoscaler), (1, None));
        let other = accepted("multi-sink").spec.ingest[1].clone();
        assert!(other.http.is_none());
        assert_eq!(
            limits(&Ingester { autoscale: accepted("multi-sink").spec.ingest[0].autoscale.clone(), ..other }),
            None
        );
    }

    #[test]
    fn what_a_pod_may_count_on_is_what_was_set_aside_for_it() {
        let ingester = accepted("multi-sink").spec.ingest[0].clone();
        let with =
            |text: &str| processors(&Ingester { resources: serde_json::from_str(text).unwrap(), ..ingester.clone() });
        for (resources, want) in [
            (r#"{"requests": {"cpu": "500m"}, "limits": {"cpu": "4"}}"#, 0.5),
            (r#"{"limits": {"cpu": "2"}}"#, 2.0),
            (r#"{"requests": {"memory": "1Gi"}}"#, 1.0),
            (r#"{"requests": {"cpu": "0"}}"#, 1.0),
        ] {
            assert!((with(resources) - want).abs() < 1e-9, "{resources}");
        }
    }
}
