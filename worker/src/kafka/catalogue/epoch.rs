//! What one epoch computes, lowered from the manifest that is kept with it.

use anyhow::Context;
use crds::Checked;
use xxhash_rust::xxh3::xxh3_64;

use super::Catalogue;
use crate::kafka::names::Names;

/// One epoch that runs.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// Its number.
    pub number: u32,
    /// What its state belongs to: checkpoints of another number are none of its own.
    pub identity: u64,
    /// Its tables alone, with what they are made from.
    pub checked: Checked,
    /// For each stream of its plan: whether its dead letters and accepted events are told here. One epoch tells.
    pub tells: Vec<bool>,
    /// Names of its topics and its group.
    pub names: Names,
}

/// Every epoch that runs, oldest first. `current` gives what changes no row: the rate of rows, partitions, brokers.
///
/// # Errors
/// Where the catalogue is damaged.
pub fn epochs(catalogue: &Catalogue, current: &Checked) -> anyhow::Result<Vec<Epoch>> {
    catalogue.running().into_iter().map(|number| epoch(catalogue, current, number)).collect()
}

fn epoch(catalogue: &Catalogue, current: &Checked, number: u32) -> anyhow::Result<Epoch> {
    let missing = || format!("the catalogue does not say what epoch {number} computes");
    let text = catalogue.manifests.get(&number).with_context(missing)?;
    let mut checked = read(text, number)?;
    checked.manifest.follow(&current.manifest);
    checked = read(&checked.manifest.text(), number)?;
    checked.plan.tables.iter_mut().for_each(|table| table.epoch = number);
    let streams = catalogue.revision.as_ref().map(|revision| &revision.streams);
    let told_here = |name: &str| streams.and_then(|all| all.get(name)).is_some_and(|of| of.epoch == number);
    let tells: Vec<bool> = checked.plan.streams.iter().map(|stream| told_here(&stream.name)).collect();
    for (stream, tells) in checked.plan.streams.iter_mut().zip(&tells) {
        stream.silver &= tells;
    }
    let names = Names::new(&current.manifest.name).epoch(number);
    Ok(Epoch { number, identity: xxh3_64(text.as_bytes()), checked, tells, names })
}

fn read(text: &str, number: u32) -> anyhow::Result<Checked> {
    crds::check(text, &[]).map_err(|problems| {
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("what epoch {number} computes makes no sense to this version: {}", told.join("; "))
    })
}
