//! Whether the stores of the sinks are there.

use super::{Facts, Said, cut};
use crate::desired::couchbase::{CouchbaseOperator, asking};

/// Whether Couchbase's operator was told what to make, if a sink asks for that. A store that is not there degrades its sink alone.
pub(super) fn store(facts: &Facts<'_>) -> Option<Said> {
    let said = |status, reason, message: String| Said { type_: "StoreReady", status, reason, message: cut(message) };
    let accepted = facts.accepted?;
    let sinks: Vec<&str> = asking(&accepted.spec).map(|(sink, _)| sink.name.as_str()).collect();
    match facts.couchbase {
        CouchbaseOperator::Unasked => None,
        CouchbaseOperator::Missing => Some(said(
            "False",
            "CouchbaseOperatorMissing",
            format!(
                "couchbase.operator of {} asks for resources that Couchbase's operator reads: install it, and set \
                 couchbaseOperator: true in the chart",
                sinks.join(", ")
            ),
        )),
        CouchbaseOperator::There => {
            let told = "Couchbase's operator has its resources; a CouchbaseCluster that selects the bucket makes it";
            Some(said("True", "Applied", told.into()))
        }
    }
}
