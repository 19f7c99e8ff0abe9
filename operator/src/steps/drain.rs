//! A pipeline that is suspended stops in the order in which events flow, so that what one part still writes the next still
//! takes: ingesters, processing, sinks, whoever tells of alerts, serving. Each ends what it holds within its own time; what waits in topics waits there.

use serde_json::Value;

use crate::{
    accepted::Accepted,
    desired::{Object, Owner, Part, Role, parts},
    observed::{Kind, Objects, Pods, rollout},
};

/// From where events come to where they are shown.
const ORDER: [Role; 5] = [Role::Ingest, Role::Process, Role::Sink, Role::Notify, Role::Serve];

/// Of a pipeline that is suspended, has the Deployments that it is not the turn of keep their pods; returns whose turn it is.
pub(super) fn hold(
    wanted: &mut [Object],
    owner: &Owner,
    accepted: &Accepted,
    live: &Objects,
    pods: &Pods,
) -> Option<Role> {
    if !accepted.spec.suspend {
        return None;
    }
    let parts = parts(&accepted.spec);
    let of = |role: Role| parts.iter().filter(move |part| part.role == role);
    let named = |role: Role| of(role).map(|part| part.object_name(&owner.name));
    // A Deployment does not count pods that were told to go.
    let has_pods = |part: &Part| {
        let state = rollout(live, &part.object_name(&owner.name));
        state.is_some_and(|state| !state.is_current || state.replicas > 0) || pods.contains_key(&part.component())
    };
    let turn = ORDER.into_iter().find(|role| of(*role).any(has_pods))?;
    let later = ORDER.into_iter().skip_while(|role| *role != turn).skip(1);
    for name in later.flat_map(named) {
        let object = wanted.iter_mut().find(|object| object.kind == Kind::Deployment && object.name == name);
        let present = live.get(&(Kind::Deployment, name)).map(|found| &found["spec"]["replicas"]);
        if let (Some(object), Some(replicas)) = (object, present) {
            object.body["spec"]["replicas"] = Value::clone(replicas);
        }
    }
    Some(turn)
}
