//! Whether something does not work while the rest goes on.

use crds::status::PartStatus;

use super::{Facts, Said, conditions::SETUP, cut};
use crate::{
    desired::Part,
    observed::{Kind, Objects, Reading},
    trouble,
};

/// The state of a part that does not become ready by waiting.
pub(super) const DEGRADED: &str = "Degraded";

/// False is said in so many words: who waits for the end of a trouble finds it.
pub(super) fn degraded(facts: &Facts<'_>, states: &[(&Part, PartStatus)]) -> Said {
    let said = |status, reason, message| Said { type_: DEGRADED, status, reason, message: cut(message) };
    if let Some(trouble) = facts.trouble {
        return said("True", trouble::REASON, trouble.to_string());
    }
    if let Reading::Unknown(why) = facts.observed {
        return said("Unknown", "Unknown", why.clone());
    }
    let parts = states.iter().filter(|(_, state)| state.state == DEGRADED);
    let told = parts.map(|(part, state)| {
        format!("{}: {}", part.object_name(facts.name), state.message.as_deref().unwrap_or("not ready"))
    });
    // What ran before goes on, and nobody sees that the change does not come.
    let setup = facts.pulse.waiting.get(SETUP).map(|why| format!("topics are not set up: {why}"));
    let topics = match &facts.pulse.differences {
        Some(Reading::Known(differences)) => differences.as_slice(),
        _ => &[],
    };
    let topics = topics.iter().filter(|one| one.by_hand).map(|one| format!("topics need a hand: {}", one.what));
    let told: Vec<String> = setup.into_iter().chain(topics).chain(told).collect();
    match told.is_empty() {
        true => said("False", "NothingFails", "nothing is known to fail".into()),
        false => said("True", "PartsNotReady", format!("{}; the other parts go on", told.join("; "))),
    }
}

/// Why pods of a part are not ready, beyond that they may still be starting: as the cluster says where it makes none, else
/// as they say themselves.
pub(super) fn why(facts: &Facts<'_>, live: &Objects, part: &Part) -> Option<String> {
    let name = part.object_name(facts.name);
    let component = name.strip_prefix(facts.name)?.strip_prefix('-')?;
    let deployment = live.get(&(Kind::Deployment, name.clone()))?;
    let conditions = deployment["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let failure = conditions.iter().find(|one| one["type"] == "ReplicaFailure" && one["status"] == "True");
    let message = failure.and_then(|one| one["message"].as_str());
    // What it says begins with the name of a pod that never was, another one at every try.
    let refused = message.map(|all| all.split_once("is forbidden: ").map_or(all, |(_, why)| why));
    let refused = refused.map(|why| format!("pods are refused: {}", why.lines().next().unwrap_or_default()));
    refused.or_else(|| facts.pulse.waiting.get(component).cloned())
}
