//! Whether the stores of the sinks are there. A store that is away degrades its sink alone.

use crds::status::PartStatus;

use super::{Facts, Said, cut};
use crate::{
    desired::{
        Part, Role,
        couchbase::{CouchbaseOperator, asking},
    },
    observed::Reading,
};

/// Whether Couchbase has what the sinks write to. They make it or look at it themselves when they connect, so that a sink that
/// is ready answers for its bucket, and one that is not says what the store said.
pub(super) fn store(facts: &Facts<'_>, states: &[(&Part, PartStatus)]) -> Option<Said> {
    let said = |status, reason, message: String| Said { type_: "StoreReady", status, reason, message: cut(message) };
    let spec = &facts.accepted?.spec;
    let stores = spec.sinks.iter().filter(|sink| sink.couchbase.is_some());
    let stores: Vec<&str> = stores.map(|sink| sink.name.as_str()).collect();
    if stores.is_empty() {
        return None;
    }
    if facts.couchbase == CouchbaseOperator::Missing {
        let sinks: Vec<&str> = asking(spec).map(|(sink, _)| sink.name.as_str()).collect();
        let message = format!(
            "couchbase.operator of {} asks for resources that Couchbase's operator reads: install it, and set \
             couchbaseOperator: true in the chart",
            sinks.join(", ")
        );
        return Some(said("False", "CouchbaseOperatorMissing", message));
    }
    if let Reading::Unknown(why) = facts.observed {
        return Some(said("Unknown", "Unknown", why.clone()));
    }
    if spec.suspend {
        return Some(said("Unknown", "Suspended", "no sink runs that could tell".into()));
    }
    let is_store =
        |part: &Part| part.role == Role::Sink && part.item.as_deref().is_some_and(|name| stores.contains(&name));
    let waiting = states.iter().filter(|(part, state)| is_store(part) && state.state != "Ready");
    let waiting: Vec<String> = waiting
        .map(|(_, state)| format!("sink {}: {}", state.name, state.message.as_deref().unwrap_or("not ready")))
        .collect();
    if !waiting.is_empty() {
        let hint = match facts.couchbase {
            CouchbaseOperator::There => {
                "; of Couchbase's operator, a CouchbaseCluster that selects the bucket makes it"
            }
            _ => "",
        };
        return Some(said("False", "SinkNotReady", format!("{}{hint}", waiting.join("; "))));
    }
    Some(said("True", "Ready", format!("{} found or made what they write to", stores.join(", "))))
}
