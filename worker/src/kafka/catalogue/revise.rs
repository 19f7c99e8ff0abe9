//! What a changed manifest means: which tables go on, and which are rebuilt under a new epoch. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crds::Checked;

use super::{Assigned, Catalogue, Entry, Revision};
use crate::cli::Mistake;

/// Epochs that may run at a time: each reads its topics for itself.
const EPOCHS_MAX: usize = 8;

/// What is to be written down, and what it means for each table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// In the order in which it is to be written.
    pub entries: Vec<Entry>,
    /// The epoch that begins, if one does.
    pub begins: Option<u32>,
    /// Tables and streams that go on as they are.
    pub kept: Vec<String>,
    /// Tables and streams that are computed anew from what their topics still hold.
    pub rebuilt: Vec<String>,
    /// Tables and streams that were not there before.
    pub added: Vec<String>,
    /// Tables and streams that are no longer computed; their rows stay where they were written.
    pub removed: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told("what their topics still hold"))
    }
}

impl Change {
    /// What it means, in words; `from` says what tables are rebuilt from.
    #[must_use]
    pub fn told(&self, from: &str) -> String {
        let epoch = self.begins.unwrap_or_default();
        let mut lines = Vec::new();
        let mut line = |names: &[String], what: String| {
            if !names.is_empty() {
                lines.push(format!("{}: {what}", names.join(", ")));
            }
        };
        line(&self.kept, "go on under their epoch".into());
        line(&self.added, format!("computed as epoch {epoch}"));
        let until = "their old rows are shown until it has caught up";
        line(&self.rebuilt, format!("rebuilt as epoch {epoch} from {from}; {until}"));
        line(&self.removed, "no longer computed; what was written stays".into());
        lines.join("\n")
    }
}

/// Decides what `checked` changes. `again` names tables that are rebuilt although nothing about them has changed; with
/// `hold`, their new rows are shown only once somebody releases them. `None`: nothing changes.
///
/// # Errors
/// A [`Mistake`] where too many epochs would run.
pub fn revise(
    catalogue: &Catalogue,
    checked: &Checked,
    again: &BTreeSet<String>,
    hold: bool,
) -> Result<Option<Change>, Mistake> {
    let definitions = checked.definitions();
    let old = catalogue.revision.clone().unwrap_or_default();
    let epoch = catalogue.next_epoch();
    type All = BTreeMap<String, Assigned>;
    let assign = |names: &BTreeMap<String, u64>, old: &All, again: &BTreeSet<String>| -> All {
        let one = |(name, definition): (&String, &u64)| {
            let assigned = match old.get(name) {
                Some(old) if old.definition == *definition && !again.contains(name) => {
                    let before = old.before.filter(|_| !catalogue.is_ready(old.epoch));
                    Assigned { before, ..old.clone() }
                }
                old => Assigned { epoch, definition: *definition, before: old.map(|old| catalogue.shown(old)) },
            };
            (name.clone(), assigned)
        };
        names.iter().map(one).collect()
    };
    let tables = assign(&definitions.tables, &old.tables, again);
    let streams = assign(&definitions.streams, &old.streams, &BTreeSet::new());
    let begun = |all: &BTreeMap<String, Assigned>| -> BTreeSet<String> {
        all.iter().filter(|(_, of)| of.epoch == epoch).map(|(name, _)| name.clone()).collect()
    };
    let (new_tables, new_streams) = (begun(&tables), begun(&streams));
    let begins = (!new_tables.is_empty() || !new_streams.is_empty()).then_some(epoch);
    let mut held: BTreeSet<u32> = old.held.difference(&catalogue.released).copied().collect();
    held.extend(begins.filter(|_| hold));
    let revision = Revision {
        number: old.number + 1,
        epoch: begins.unwrap_or(old.epoch),
        shuffle_partitions: checked.plan.shuffle_partitions,
        tables,
        streams,
        held,
    };
    let named = |all: &Revision| all.tables.keys().chain(all.streams.keys()).cloned().collect::<BTreeSet<_>>();
    let is_new = |name: &String| new_tables.contains(name) || new_streams.contains(name);
    let (before, after) = (named(&old), named(&revision));
    if begins.is_none() && before == after {
        return Ok(None);
    }
    let (fresh, kept): (Vec<String>, Vec<String>) = after.iter().cloned().partition(is_new);
    let (rebuilt, added) = fresh.into_iter().partition(|name| before.contains(name));
    let removed = before.difference(&after).cloned().collect();
    let manifest = begins.map(|epoch| {
        let part = checked.manifest.part(&new_tables, &new_streams, checked.plan.shuffle_partitions);
        Entry::Manifest(epoch, part.text())
    });
    let next = Catalogue { revision: Some(revision.clone()), ..catalogue.clone() };
    refuse_too_many(&next)?;
    let entries = manifest.into_iter().chain([Entry::Revision(revision)]).collect();
    Ok(Some(Change { entries, begins, kept, rebuilt, added, removed }))
}

/// Gives up every epoch that waits to be released: the tables go on as they were. `None` where none waits.
#[must_use]
pub fn abandon(catalogue: &Catalogue) -> Option<Revision> {
    let mut revision = catalogue.revision.clone()?;
    let held = std::mem::take(&mut revision.held);
    let waiting: BTreeSet<u32> = held.difference(&catalogue.released).copied().collect();
    revision.number += 1;
    let mut given_up = false;
    for of in revision.tables.values_mut().chain(revision.streams.values_mut()) {
        if let Some(before) = of.before.filter(|_| waiting.contains(&of.epoch)) {
            *of = Assigned { epoch: before, before: None, ..of.clone() };
            given_up = true;
        }
    }
    given_up.then_some(revision)
}

fn refuse_too_many(next: &Catalogue) -> Result<(), Mistake> {
    let running = next.running();
    if running.len() <= EPOCHS_MAX {
        return Ok(());
    }
    Err(Mistake(format!(
        "{} epochs would run at a time, each reading the topics for itself; at most {EPOCHS_MAX} may: wait until those \
         that are being rebuilt have caught up, or rebuild every table by `clickstream replay --all`",
        running.len()
    )))
}

/// The manifest with what it leaves open filled in as the first revision did: how many partitions the shuffle has.
///
/// # Panics
/// Never: what was checked once is right.
#[must_use]
pub fn settle(catalogue: &Catalogue, checked: Checked) -> Checked {
    let spec = &checked.manifest.spec;
    let Some(revision) = catalogue.revision.as_ref().filter(|_| spec.process.shuffle_partitions.is_none()) else {
        return checked;
    };
    let mut manifest = checked.manifest.clone();
    manifest.spec.process.shuffle_partitions = Some(revision.shuffle_partitions);
    let settled = crds::check(&manifest.text(), &[]).expect("a manifest that was right is right with this number");
    Checked { warnings: checked.warnings, ..settled }
}

/// The manifest with the partitions that `setup` gave its topics since: whoever runs by an older text reads all of them.
///
/// # Panics
/// Never: what was checked once is right, with more partitions too.
#[must_use]
pub fn grown(catalogue: &Catalogue, checked: Checked) -> Checked {
    let mut manifest = checked.manifest.clone();
    for topic in &mut manifest.spec.topics {
        topic.partitions =
            catalogue.partitions.get(&topic.name).map_or(topic.partitions, |now| topic.partitions.max(*now));
    }
    if manifest.spec.topics == checked.manifest.spec.topics {
        return checked;
    }
    let grown = crds::check(&manifest.text(), &[]).expect("a manifest that was right is right with more partitions");
    Checked { warnings: checked.warnings, ..grown }
}

/// Makes sure that the catalogue is that of this manifest.
///
/// # Errors
/// A [`Mistake`] that says what `clickstream setup` would change.
pub fn agree(catalogue: &Catalogue, checked: &Checked) -> Result<(), Mistake> {
    if catalogue.revision.is_none() {
        return Err(Mistake("this pipeline was never set up here: run `clickstream setup` first".into()));
    }
    match revise(catalogue, checked, &BTreeSet::new(), false)? {
        None => Ok(()),
        Some(change) => {
            let told = "the topics belong to another version of the manifest; `clickstream setup` would change:";
            Err(Mistake(format!("{told}\n{change}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(sets: &[(&str, &str)]) -> Checked {
        let text = include_str!("../../../../examples/medallion.yaml");
        let sets: Vec<_> = sets.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
        crds::check(text, &sets).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    fn after(catalogue: &Catalogue, change: &Change) -> Catalogue {
        let mut next = catalogue.clone();
        for entry in &change.entries {
            // As it is written and read.
            let (key, value) = entry.record();
            assert_eq!(Entry::read(key.as_bytes(), value.as_bytes()).as_ref(), Some(entry));
            next.take(entry.clone());
        }
        next
    }

    fn change(catalogue: &Catalogue, checked: &Checked) -> Option<Change> {
        revise(catalogue, checked, &BTreeSet::new(), false).unwrap()
    }

    #[test]
    fn a_changed_table_is_rebuilt_and_shown_once_it_has_caught_up_while_others_go_on() {
        let first = checked(&[]);
        let (table, others) = first.plan.tables.split_first().unwrap();
        let begun = change(&Catalogue::default(), &first).unwrap();
        assert_eq!((begun.begins, begun.kept.len(), begun.rebuilt.len()), (Some(1), 0, 0));
        let mut catalogue = after(&Catalogue::default(), &begun);
        assert_eq!(change(&catalogue, &first), None, "nothing has changed");
        assert!(agree(&catalogue, &first).is_ok());

        let second = checked(&[(&format!("tables.{}.where", table.name), "1 = 1")]);
        let told = agree(&catalogue, &second).unwrap_err().0;
        assert!(told.contains("clickstream setup") && told.contains(&table.name), "{told}");
        let changed = change(&catalogue, &second).unwrap();
        assert_eq!((changed.begins, &changed.rebuilt), (Some(2), &vec![table.name.clone()]));
        assert!(others.iter().all(|other| changed.kept.contains(&other.name)), "{changed}");
        catalogue = after(&catalogue, &changed);
        let shown = |catalogue: &Catalogue| catalogue.shown(&catalogue.revision.as_ref().unwrap().tables[&table.name]);
        assert_eq!((shown(&catalogue), catalogue.running()), (1, [1, 2].into()));
        let part = crds::check(&catalogue.manifests[&2], &[]).unwrap();
        assert_eq!(part.plan.tables.len(), 1, "an epoch computes what was changed and nothing else");

        catalogue.take(Entry::CaughtUp(2));
        assert_eq!((shown(&catalogue), catalogue.running()), (2, [1, 2].into()));

        // Back to what it was: the epoch grows all the same.
        let back = change(&catalogue, &first).unwrap();
        assert_eq!((back.begins, &back.rebuilt), (Some(3), &vec![table.name.clone()]));
        catalogue = after(&catalogue, &back);
        assert_eq!((shown(&catalogue), catalogue.running()), (2, [1, 2, 3].into()));
        catalogue.take(Entry::CaughtUp(3));
        assert_eq!((shown(&catalogue), catalogue.running()), (3, [1, 3].into()), "nobody needs the second any more");
    }

    #[test]
    fn what_is_held_is_shown_once_it_is_released() {
        let manifest = checked(&[]);
        let mut catalogue = after(&Catalogue::default(), &change(&Catalogue::default(), &manifest).unwrap());
        let name = manifest.plan.tables[0].name.clone();
        let replay = revise(&catalogue, &manifest, &[name.clone()].into(), true).unwrap().unwrap();
        catalogue = after(&catalogue, &replay);
        let shown = |catalogue: &Catalogue| catalogue.shown(&catalogue.revision.as_ref().unwrap().tables[&name]);
        catalogue.take(Entry::CaughtUp(2));
        assert_eq!(shown(&catalogue), 1);
        let mut given_up = catalogue.clone();
        given_up.take(Entry::Revision(abandon(&catalogue).unwrap()));
        assert_eq!((shown(&given_up), given_up.running(), abandon(&given_up)), (1, [1].into(), None));
        assert_eq!(change(&given_up, &manifest), None, "the definitions are what they were");
        catalogue.take(Entry::Released(2));
        assert_eq!(shown(&catalogue), 2);
    }

    #[test]
    fn a_number_that_was_reserved_is_never_given_again() {
        let manifest = checked(&[]);
        let mut catalogue = after(&Catalogue::default(), &change(&Catalogue::default(), &manifest).unwrap());
        let name = manifest.plan.tables[0].name.clone();
        let (key, value) = Entry::Reserved(2).record();
        catalogue.take(Entry::read(key.as_bytes(), value.as_bytes()).unwrap());
        assert_eq!(change(&catalogue, &manifest), None, "an epoch that never counted changes nothing");
        let replay = revise(&catalogue, &manifest, &[name].into(), true).unwrap().unwrap();
        assert_eq!(replay.begins, Some(3));
        catalogue = after(&catalogue, &replay);
        assert_eq!((catalogue.running(), catalogue.next_epoch()), ([1, 3].into(), 4));
    }

    #[test]
    fn partitions_that_the_manifest_leaves_open_stay_as_they_were() {
        let first = checked(&[]);
        let catalogue = after(&Catalogue::default(), &change(&Catalogue::default(), &first).unwrap());
        let topic = &first.manifest.spec.topics[0].name;
        let grown = settle(&catalogue, checked(&[(&format!("topics.{topic}.partitions"), "48")]));
        assert_eq!(change(&catalogue, &grown), None, "a topic that grows rebuilds nothing");

        // Who runs by the older manifest learns of it from the catalogue.
        let mut catalogue = catalogue;
        let entry = Entry::Partitions([(topic.clone(), 48), ("another".into(), 7)].into());
        let (key, value) = entry.record();
        catalogue.take(Entry::read(key.as_bytes(), value.as_bytes()).unwrap());
        let learnt = super::grown(&catalogue, settle(&catalogue, first.clone()));
        assert_eq!((&learnt.plan, &learnt.manifest.spec.topics), (&grown.plan, &grown.manifest.spec.topics));
        catalogue.partitions.insert(topic.clone(), 1);
        assert_eq!(super::grown(&catalogue, grown.clone()).plan, grown.plan, "partitions are never taken away");
    }
}
