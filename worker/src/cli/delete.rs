//! `clickstream setup --delete`: takes away what the manifest asks to have deleted with its pipeline, and nothing else.
//!
//! What cannot be read is not deleted: without the catalogue nobody knows which topics the epochs had. It goes last, so that a
//! second run knows as much as the first.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, Instant},
};

use crds::Checked;

use crate::{
    kafka::{
        admin::Admin,
        catalogue::{self, Catalogue},
        client::Cluster,
        names::Names,
    },
    tell,
};

/// How long brokers may take to forget what was deleted, and how often they are asked.
const GONE_TIME_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Deletes, or with `dry_run` says what it would delete. Topics in `keep` stay.
///
/// # Errors
/// What Kafka or a store says. What was not deleted then is deleted by another run.
pub(super) fn delete(cluster: &Cluster, checked: &Checked, keep: &[String], dry_run: bool) -> anyhow::Result<ExitCode> {
    let spec = &checked.manifest.spec;
    let names = Names::new(&checked.manifest.name);
    if !spec.asks_to_delete() {
        tell::result("the manifest asks for nothing to be deleted")?;
        return Ok(ExitCode::SUCCESS);
    }
    let admin = Admin::new(cluster)?;
    // Stores first: while the catalogue is there, whatever failed is tried again.
    #[cfg(feature = "couchbase")]
    collections(checked, dry_run)?;
    let mut wanted: Vec<String> = spec.topics_to_delete().into_iter().map(str::to_owned).collect();
    let mut groups = Vec::new();
    if spec.deletes_its_own() {
        let catalogue = catalogue::read(cluster, &names)?;
        wanted.extend(own(checked, &names, &catalogue));
        groups.extend(epochs(&catalogue).map(|epoch| names.epoch(epoch).process_group()));
        groups.push(names.notify_group());
    }
    wanted.retain(|name| !keep.contains(name));
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let there = admin.facts(&wanted)?;
    let there: Vec<&str> = wanted.into_iter().filter(|name| there.contains_key(*name)).collect();
    let verb = if dry_run { "would delete" } else { "delete" };
    there.iter().try_for_each(|name| tell::result(&format!("{verb} topic {name}")))?;
    if there.is_empty() {
        tell::result("none of the topics that go with the pipeline is there")?;
    }
    if !dry_run {
        let progress = names.progress();
        let (last, first): (Vec<&str>, Vec<&str>) = there.into_iter().partition(|name| *name == progress);
        forget(&admin, &first)?;
        // A pipeline of this name that is made again begins at the beginning: what it would go on from is gone.
        groups.iter().try_for_each(|group| forget_group(&admin, group))?;
        forget(&admin, &last)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every epoch that the pipeline ever had.
fn epochs(catalogue: &Catalogue) -> impl Iterator<Item = u32> {
    let last = catalogue.revision.as_ref().map_or(1, |revision| revision.epoch);
    let last = catalogue.manifests.keys().chain(&catalogue.reserved).copied().fold(last, u32::max);
    1..=last.max(1)
}

/// What the pipeline made for itself, under every epoch that it ever had; never a topic of the manifest.
fn own(checked: &Checked, names: &Names, catalogue: &Catalogue) -> Vec<String> {
    let mut streams: BTreeSet<String> = checked.plan.streams.iter().map(|stream| stream.name.clone()).collect();
    for manifest in catalogue.manifests.values().filter_map(|text| crds::check(text, &[]).ok()) {
        streams.extend(manifest.plan.streams.into_iter().map(|stream| stream.name));
    }
    let mut all = vec![names.dead_letters(), names.repaired(), names.shares()];
    for names in epochs(catalogue).map(|epoch| names.epoch(epoch)) {
        all.extend([names.shuffle(), names.results(), names.checkpoints()]);
        all.extend(streams.iter().map(|stream| names.silver(stream)));
    }
    all.push(names.progress());
    let said = &checked.manifest.spec.topics;
    all.retain(|name| !said.iter().any(|topic| topic.name == *name));
    all
}

/// Deletes what a group has read, once it has no members: one that was killed is one for some seconds.
fn forget_group(admin: &Admin, name: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + GONE_TIME_MAX;
    loop {
        match admin.delete_group(name) {
            Ok(true) => return Ok(tell::result(&format!("delete group {name}"))?),
            Ok(false) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::park_timeout(LOOK_EVERY),
        }
    }
}

/// Deletes topics, and waits until the brokers know them no more.
fn forget(admin: &Admin, names: &[&str]) -> anyhow::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    admin.delete_topics(names)?;
    let deadline = Instant::now() + GONE_TIME_MAX;
    loop {
        let left = admin.facts(names)?;
        let Some(name) = left.keys().next() else { return Ok(()) };
        let told = "is still there: does somebody write to it, and the brokers make it again?";
        anyhow::ensure!(Instant::now() < deadline, "topic {name} was deleted and {told}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Drops the collections of the tables.
#[cfg(feature = "couchbase")]
fn collections(checked: &Checked, dry_run: bool) -> anyhow::Result<()> {
    use anyhow::Context as _;

    use crate::{
        secrets::Secrets,
        sink::{couchbase::Connector, row::Reader},
    };

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for (sink, couchbase) in checked.manifest.spec.collections_to_delete() {
        let targets = Reader::new(&checked.plan, sink).map_err(anyhow::Error::msg)?.targets;
        let connector = Connector::new(couchbase, &targets, &Secrets::from_environment())?;
        let dropped = runtime.block_on(connector.delete(dry_run));
        let dropped = dropped.with_context(|| format!("failed to delete what sink {} wrote", sink.name))?;
        let (verb, bucket, scope) =
            (if dry_run { "would drop" } else { "dropped" }, &couchbase.bucket.name, &couchbase.scope);
        dropped.iter().try_for_each(|table| tell::result(&format!("{verb} collection {bucket}.{scope}.{table}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::catalogue::{Entry, Revision};

    #[test]
    fn every_epochs_topics_go_the_catalogue_last_and_no_topic_of_the_manifest() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/category-sales.yaml");
        let text = std::fs::read_to_string(file).unwrap();
        let (text, _) = text.split_once("  sinks:\n").unwrap();
        let text = text.replace("  topics:\n", "  topics:\n  - name: category-sales.results\n");
        let checked = crds::check(&text, &[]).unwrap();
        let mut catalogue = Catalogue::default();
        catalogue.take(Entry::Revision(Revision { epoch: 2, ..Revision::default() }));
        let all = own(&checked, &Names::new("category-sales"), &catalogue);
        assert!(
            !all.contains(&"transactions".to_owned()) && !all.contains(&"category-sales.results".to_owned()),
            "{all:?}"
        );
        for name in ["shuffle", "e2.results", "e2.silver.sales", "dead-letters"] {
            assert!(all.contains(&format!("category-sales.{name}")), "{name} is not in {all:?}");
        }
        assert_eq!(all.last().unwrap(), "category-sales.progress");
    }
}
