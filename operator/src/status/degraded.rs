//! Whether something does not work while the rest goes on.

use crds::status::PartStatus;

use super::{Facts, Said, cut};
use crate::{desired::Part, observed::Reading, trouble};

/// False is said in so many words: who waits for the end of a trouble finds it.
pub(super) fn degraded(facts: &Facts<'_>, _: &[(&Part, PartStatus)]) -> Said {
    let said = |status, reason, message| Said { type_: "Degraded", status, reason, message: cut(message) };
    if let Some(trouble) = facts.trouble {
        return said("True", trouble::REASON, trouble.to_string());
    }
    if let Reading::Unknown(why) = facts.observed {
        return said("Unknown", "Unknown", why.clone());
    }
    said("False", "NothingFails", "nothing is known to fail".into())
}
