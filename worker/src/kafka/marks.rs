//! What stands in the progress topic, and what it says of a transaction whose end nobody saw. No client here.
//!
//! The header of a record names the attempt that wrote it: a random number of the process and a count. Equal progress is
//! no proof, because another may have come to the same figure.
//!
//! Replicas of a collector write side by side and know nothing of each other: each has a key of its own,
//! `<ingester>@<replica>`. A replica takes its key away when it ends in order; those of replicas that died go once they are
//! older than [`FORGOTTEN_AFTER`], so that pods with ever new names leave nothing behind for good.

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::BuildHasher as _,
    time::Duration,
};

use engine::time::Millis;

/// The header that names the attempt.
pub const ATTEMPT: &str = "attempt";

/// After which the key of a silent replica goes. By then brokers have forgotten its transactional id too
/// (`transactional.id.expiration.ms`).
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The newest record of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What the ingester wants to find again.
    pub progress: Vec<u8>,
    /// Who wrote it, and with which of its commits; older versions did not say.
    pub attempt: Option<Vec<u8>>,
    /// When.
    pub time: Millis,
}

/// The newest record of every key.
pub type Marks = BTreeMap<String, Mark>;

/// What the progress in the topic says of a transaction that nobody vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was committed.
    Committed,
    /// It was not: send it again.
    Nothing,
    /// Somebody else has written in our place.
    Succeeded,
}

/// Judges the transaction `attempt` by what stands under its key now, and what we knew to stand there before it.
#[must_use]
pub fn judge(before: Option<&Mark>, found: Option<&Mark>, attempt: &[u8]) -> Outcome {
    match (before, found) {
        (_, Some(found)) if found.attempt.as_deref() == Some(attempt) => Outcome::Committed,
        (Some(before), Some(found)) if before.attempt == found.attempt && before.progress == found.progress => {
            Outcome::Nothing
        }
        // A key is taken away by its owner, or when it was silent for long; nobody writes in our place.
        (_, None) => Outcome::Nothing,
        _ => Outcome::Succeeded,
    }
}

/// The key of a replica.
#[must_use]
pub fn replica_key(ingester: &str, replica: &str) -> String {
    format!("{ingester}@{replica}")
}

/// Keys of other replicas of `ingester` that have been silent for too long.
#[must_use]
pub fn forgotten(marks: &Marks, ingester: &str, own: &str, now: Millis) -> Vec<String> {
    let oldest = now - FORGOTTEN_AFTER.as_millis() as Millis;
    let prefix = replica_key(ingester, "");
    let others = marks.iter().filter(|(key, _)| key.starts_with(&prefix) && *key != own);
    others.filter(|(_, mark)| mark.time < oldest).map(|(key, _)| key.clone()).collect()
}

/// Names for the commits of one process.
#[derive(Debug)]
pub struct Attempts {
    run: u64,
    count: u64,
}

impl Attempts {
    /// Begins with a number that no other process has.
    #[must_use]
    pub fn new() -> Self {
        // The keys of a hash map are the system's random numbers.
        Self { run: RandomState::new().hash_one(std::process::id()), count: 0 }
    }

    /// A name that no other commit has.
    pub fn begin(&mut self) -> Vec<u8> {
        self.count += 1;
        format!("{:016x}.{}", self.run, self.count).into_bytes()
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(progress: &str, attempt: Option<&str>) -> Mark {
        Mark { progress: progress.into(), attempt: attempt.map(Into::into), time: 0 }
    }

    #[test]
    fn a_transaction_is_judged_by_its_attempt_and_not_by_the_progress() {
        let check = |before: Option<(&str, Option<&str>)>, found: Option<(&str, Option<&str>)>, outcome| {
            let [before, found] = [before, found].map(|seen| seen.map(|(progress, attempt)| mark(progress, attempt)));
            assert_eq!(judge(before.as_ref(), found.as_ref(), b"us.2"), outcome, "{before:?}, then {found:?}");
        };
        check(None, None, Outcome::Nothing);
        check(None, Some(("100", Some("us.2"))), Outcome::Committed);
        check(Some(("50", Some("us.1"))), Some(("100", Some("us.2"))), Outcome::Committed);
        check(Some(("50", Some("us.1"))), Some(("50", Some("us.1"))), Outcome::Nothing);
        // What older versions left has no attempt.
        check(Some(("50", None)), Some(("50", None)), Outcome::Nothing);
        check(Some(("50", None)), Some(("100", None)), Outcome::Succeeded);
        // Equal figures of another were once taken for our own.
        check(Some(("50", Some("us.1"))), Some(("100", Some("them.1"))), Outcome::Succeeded);
        check(Some(("50", Some("us.1"))), Some(("50", Some("them.1"))), Outcome::Succeeded);
        check(None, Some(("100", Some("them.1"))), Outcome::Succeeded);
        check(Some(("50", Some("us.1"))), None, Outcome::Nothing);
    }

    #[test]
    fn only_keys_of_silent_replicas_of_the_same_ingester_go() {
        let week = FORGOTTEN_AFTER.as_millis() as Millis;
        let at = |time| Mark { time, ..mark("1", None) };
        let keys = [("web@own", 0), ("web@old", 1), ("web@new", 3), ("web", 0), ("web/3", 0), ("web2@old", 0)];
        let marks: Marks = keys.map(|(key, time)| (key.to_owned(), at(time))).into();
        assert_eq!(forgotten(&marks, "web", "web@own", week + 2), ["web@old"]);
    }

    #[test]
    fn no_two_commits_have_one_name() {
        let (mut one, mut other) = (Attempts::new(), Attempts::new());
        let names = std::collections::BTreeSet::from([one.begin(), one.begin(), other.begin(), other.begin()]);
        assert_eq!(names.len(), 4);
    }
}
