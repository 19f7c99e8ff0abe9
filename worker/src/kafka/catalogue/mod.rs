//! The catalogue of a pipeline: which epoch computes which table, and which epochs have caught up.
//!
//! ```text
//!  setup: manifest + catalogue ─► revision: what goes on, what is rebuilt ─► topics of the new epoch ─► written down
//!  process: runs every epoch that somebody needs, and writes down which have caught up
//!  serve, sinks: of each table the newest epoch that has caught up
//! ```
//! It lies in the progress topic under keys of its own, each with one meaning and, but for the revision and numbers of partitions, one value for
//! ever: writing one twice changes nothing, so nobody has to agree with anybody about who writes.
//!
//! Invariants: a table's epoch only grows. A table whose definition has not changed keeps its epoch, its topics and its
//! state, whatever happens to others. What an epoch computes never changes: its manifest is kept with it.

mod caught_up;
mod compare;
mod epoch;
mod feed;
mod revise;
mod view;

pub use caught_up::{Look, watch};
pub use compare::{Differences, compare};
pub use epoch::{Epoch, epochs};
pub use feed::{CatalogueFeed, read, write};
pub use revise::{Change, abandon, agree, grown, revise, settle};
pub use view::View;

use std::collections::{BTreeMap, BTreeSet};

use crds::Checked;
use serde::{Deserialize, Serialize};

use crate::cli::Mistake;

/// Which epoch computes something, and which is shown meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The epoch.
    pub epoch: u32,
    /// Number of the definition, as [`crds::Definitions`] has it.
    pub definition: u64,
    /// The epoch that is shown until this one has caught up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u32>,
}

/// What the pipeline computes, as the last `setup` left it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Counts changes.
    pub number: u32,
    /// The highest epoch so far.
    pub epoch: u32,
    /// Partitions of the shuffle, where the manifest leaves them open: those of the first revision.
    pub shuffle_partitions: u32,
    /// Tables by name.
    pub tables: BTreeMap<String, Assigned>,
    /// Streams that read topics, by name: their ledger, quality, dead letters and accepted events.
    pub streams: BTreeMap<String, Assigned>,
    /// Epochs that are shown only once somebody releases them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub held: BTreeSet<u32>,
}

/// Everything that is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// What the pipeline computes; nothing before the first `setup`.
    pub revision: Option<Revision>,
    /// What each epoch computes, as a manifest of its own.
    pub manifests: BTreeMap<u32, String>,
    /// Epochs that have caught up.
    pub caught_up: BTreeSet<u32>,
    /// Held epochs that may be shown.
    pub released: BTreeSet<u32>,
    /// Epochs that were begun beside the others, and may hold something, whether or not they ever counted.
    pub reserved: BTreeSet<u32>,
    /// What sinks deleted of older epochs, in words of their own.
    pub cleared: BTreeSet<String>,
    /// Partitions of raw topics, as the last `setup` left them: processors that run learn here that topics have grown.
    pub partitions: BTreeMap<String, u32>,
}

/// One thing to write down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// What the pipeline computes from now on. Last of a change.
    Revision(Revision),
    /// How many partitions raw topics have.
    Partitions(BTreeMap<String, u32>),
    /// What an epoch computes.
    Manifest(u32, String),
    /// An epoch has caught up.
    CaughtUp(u32),
    /// A held epoch may be shown.
    Released(u32),
    /// Somebody fills the topics of an epoch before it counts: no other may have its number.
    Reserved(u32),
    /// A sink has deleted rows of an older epoch.
    Cleared(String),
}

/// Keys; no ingester's name, which is the key of its progress, begins so.
const REVISION: &str = "_revision";
const PARTITIONS: &str = "_partitions";
const MANIFEST: &str = "_epoch.";
const CAUGHT_UP: &str = "_caught_up.";
const RELEASED: &str = "_released.";
const RESERVED: &str = "_reserved.";
const CLEARED: &str = "_cleared.";

impl Entry {
    /// Key and value of its record.
    #[must_use]
    pub fn record(&self) -> (String, String) {
        match self {
            Self::Revision(revision) => {
                let text = serde_json::to_string(revision).expect("a revision is plain data");
                (REVISION.into(), text)
            }
            Self::Partitions(partitions) => {
                let text = serde_json::to_string(partitions).expect("numbers by name are plain data");
                (PARTITIONS.into(), text)
            }
            Self::Manifest(epoch, text) => (format!("{MANIFEST}{epoch}"), text.clone()),
            Self::CaughtUp(epoch) => (format!("{CAUGHT_UP}{epoch}"), "true".into()),
            Self::Released(epoch) => (format!("{RELEASED}{epoch}"), "true".into()),
            Self::Reserved(epoch) => (format!("{RESERVED}{epoch}"), "true".into()),
            Self::Cleared(what) => (format!("{CLEARED}{what}"), "true".into()),
        }
    }

    /// Reads a record of the progress topic; `None` for what is not the catalogue's.
    #[must_use]
    pub fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        let number = |prefix: &str| key.strip_prefix(prefix)?.parse().ok();
        if key == REVISION {
            return serde_json::from_slice(value).ok().map(Self::Revision);
        }
        if key == PARTITIONS {
            return serde_json::from_slice(value).ok().map(Self::Partitions);
        }
        if let Some(epoch) = number(MANIFEST) {
            return Some(Self::Manifest(epoch, String::from_utf8_lossy(value).into_owned()));
        }
        if let Some(what) = key.strip_prefix(CLEARED) {
            return Some(Self::Cleared(what.into()));
        }
        let kinds =
            [(CAUGHT_UP, Self::CaughtUp as fn(u32) -> Self), (RELEASED, Self::Released), (RESERVED, Self::Reserved)];
        kinds.into_iter().find_map(|(prefix, kind)| number(prefix).map(kind))
    }
}

impl Catalogue {
    /// Takes an entry in.
    pub fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Revision(revision) => self.revision = Some(revision),
            Entry::Partitions(partitions) => self.partitions = partitions,
            Entry::Manifest(epoch, text) => drop(self.manifests.insert(epoch, text)),
            Entry::CaughtUp(epoch) => drop(self.caught_up.insert(epoch)),
            Entry::Released(epoch) => drop(self.released.insert(epoch)),
            Entry::Reserved(epoch) => drop(self.reserved.insert(epoch)),
            Entry::Cleared(what) => drop(self.cleared.insert(what)),
        }
    }

    /// The same, or what the first `setup` would make it.
    ///
    /// # Errors
    /// Never where there is nothing yet: one epoch is not too many.
    pub fn or_first(mut self, checked: &Checked) -> Result<Self, Mistake> {
        if self.revision.is_none() {
            let first = revise(&self, checked, &BTreeSet::new(), false)?;
            first.into_iter().flat_map(|change| change.entries).for_each(|entry| self.take(entry));
        }
        Ok(self)
    }

    /// Whether an epoch may be shown in place of an older one.
    #[must_use]
    pub fn is_ready(&self, epoch: u32) -> bool {
        let held = self.revision.as_ref().is_some_and(|revision| revision.held.contains(&epoch));
        self.caught_up.contains(&epoch) && (!held || self.released.contains(&epoch))
    }

    /// The epoch that is shown.
    #[must_use]
    pub fn shown(&self, of: &Assigned) -> u32 {
        match of.before {
            Some(before) if !self.is_ready(of.epoch) => before,
            _ => of.epoch,
        }
    }

    /// A number that no epoch has had.
    #[must_use]
    pub fn next_epoch(&self) -> u32 {
        let counted = self.revision.as_ref().map_or(0, |revision| revision.epoch);
        self.reserved.last().copied().unwrap_or_default().max(counted) + 1
    }

    /// Epochs that somebody needs: those assigned, and those that are still shown in their place.
    #[must_use]
    pub fn running(&self) -> BTreeSet<u32> {
        let Some(revision) = &self.revision else { return BTreeSet::new() };
        let all = || revision.tables.values().chain(revision.streams.values());
        all().map(|of| of.epoch).chain(all().map(|of| self.shown(of))).collect()
    }
}
