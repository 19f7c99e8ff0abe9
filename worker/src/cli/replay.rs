//! `clickstream replay`: tables computed again beside the live ones, compared and shown: from what their topics still hold, or
//! from the archive of a sink, which may only be compared, too.

mod history;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{
    Mistake,
    manifest::ManifestArgs,
    setup::{self, Again},
};
use crate::{
    kafka::{
        catalogue::{self, Catalogue, CatalogueFeed, Entry},
        client::Cluster,
        facts::Facts,
        names::Names,
    },
    secrets::Secrets,
    tell,
};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Arguments of `clickstream replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What it is about.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// A table to compute again; may be given several times. Without any: those that wait already.
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Compute every table again.
    #[arg(long, conflicts_with = "tables")]
    pub all: bool,
    /// Show the new rows in place of the old ones, once they are compared.
    #[arg(long)]
    pub switch: bool,
    /// Give up what waits: the old rows stay.
    #[arg(long, conflicts_with_all = ["tables", "all", "switch"])]
    pub abandon: bool,
    /// Read the archive of this sink in place of the topics, and compare: exit code 1 where tables differ. With --shadow or
    /// --switch the tables are computed again from it, and go on with what comes behind it.
    #[arg(long, value_name = "SINK", conflicts_with_all = ["all", "abandon"])]
    pub from: Option<String>,
    /// With --from: compute new rows that wait to be shown.
    #[arg(long, requires = "from")]
    pub shadow: bool,
    /// With --from: compare windows that ended within this time before the last that is compared, such as 24h.
    #[arg(long, value_name = "DURATION", requires = "from", conflicts_with_all = ["shadow", "switch"])]
    pub since: Option<crds::spec::Duration>,
    /// With --from: where lookup files lie; the manifest's directory by default.
    #[arg(long, value_name = "DIR", requires = "from")]
    pub files: Option<PathBuf>,
    /// With --from: how to tell what was found.
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "from", conflicts_with_all = ["shadow", "switch"])]
    pub format: Format,
}

/// How results are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}

/// A table that waits: its name, the epoch that is shown and the one that is computed.
type Waiting = (String, u32, u32);

/// Computes again, waits, compares, and shows if asked to. Running processors do the work.
///
/// # Errors
/// A [`Mistake`] where a table is not in the manifest or nothing waits; else what Kafka says.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = args.manifest.load()?;
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    let names = Names::new(&checked.manifest.name);
    let there = catalogue::read(&cluster, &names)?;
    let checked = catalogue::settle(&there, checked);
    catalogue::agree(&there, &checked)?;
    let archive =
        args.from.as_deref().map(|from| history::find(&args, from, &cluster, &checked, &there)).transpose()?;
    if let Some(archive) = archive.as_ref().filter(|_| !args.shadow && !args.switch) {
        return archive.compare(args.format);
    }
    if args.abandon {
        return abandon(&cluster, &names, &there);
    }
    let known: BTreeSet<String> = checked.plan.tables.iter().map(|table| table.name.clone()).collect();
    let again = match &archive {
        Some(archive) => archive.tables.clone(),
        None if args.all => known.clone(),
        None => args.tables.iter().cloned().collect(),
    };
    if let Some(unknown) = again.difference(&known).next() {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(
            Mistake(format!("--table {unknown}: the manifest has no such table; it has {}", known.join(", "))).into()
        );
    }
    let waits = waiting(&there);
    // What waits may be looked at once more, but not for what it is not.
    let is_the_same = waits.iter().map(|(table, ..)| table).eq(&again)
        && (archive.is_none() || waits.iter().all(|(.., newer)| there.reserved.contains(newer)));
    if !again.is_empty() && !is_the_same {
        if let Some((busy, ..)) = waits.first() {
            let told = format!("table {busy} waits already: show it by --switch, or give it up by --abandon");
            return Err(Mistake(told).into());
        }
        if let Some((busy, epoch)) = again.iter().find_map(|table| Some((table, rebuilt(&there, table)?))) {
            let told = format!(
                "table {busy} is being rebuilt as epoch {epoch} and its old rows are shown: try again once it has caught up"
            );
            return Err(Mistake(told).into());
        }
        let seeding = archive.as_ref().map(history::Asked::seeding).transpose()?;
        setup::prepare(&cluster, checked.clone(), Again { tables: again, hold: true, seeding }, false)?;
    }
    let mut feed = CatalogueFeed::open(&cluster, &names)?;
    feed.whole()?;
    let waits = waiting(&feed.catalogue);
    if waits.is_empty() {
        return Err(Mistake("nothing waits: name a --table, or --all".into()).into());
    }
    wait(&cluster, &names, &mut feed, &waits)?;
    for (table, older, newer) in &waits {
        let found = catalogue::compare(&cluster, &names, table, (*older, *newer))?;
        let (equal, changed, gone, new) = (found.equal, found.changed, found.gone, found.new);
        tell::result(&format!("{table}: {equal} rows equal, {changed} changed, {gone} gone, {new} new"))?;
        found.shown.iter().try_for_each(|line| tell::result(&format!("  {line}")))?;
    }
    if !args.switch {
        tell::result("the old rows are shown still: --switch shows the new ones, --abandon gives them up")?;
        return Ok(ExitCode::SUCCESS);
    }
    let epochs: BTreeSet<u32> = waits.iter().map(|(_, _, newer)| *newer).collect();
    let entries: Vec<Entry> = epochs.into_iter().map(Entry::Released).collect();
    catalogue::write(&cluster, &names, &entries)?;
    tell::result("the new rows are shown from now on")?;
    Ok(ExitCode::SUCCESS)
}

fn abandon(cluster: &Cluster, names: &Names, there: &Catalogue) -> anyhow::Result<ExitCode> {
    let Some(revision) = catalogue::abandon(there) else {
        return Err(Mistake("nothing waits that could be given up".into()).into());
    };
    catalogue::write(cluster, names, &[Entry::Revision(revision)])?;
    tell::result("given up: the tables go on as they were")?;
    Ok(ExitCode::SUCCESS)
}

/// The epoch of a table that is shown in place of it no more as soon as it has caught up.
fn rebuilt(there: &Catalogue, table: &str) -> Option<u32> {
    let of = there.revision.as_ref()?.tables.get(table)?;
    (of.before.is_some() && !there.is_ready(of.epoch)).then_some(of.epoch)
}

/// Tables whose new epoch waits to be released, by name.
fn waiting(there: &Catalogue) -> Vec<Waiting> {
    let Some(revision) = &there.revision else { return Vec::new() };
    let waits = |epoch: u32| revision.held.contains(&epoch) && !there.released.contains(&epoch);
    let tables = revision.tables.iter().filter(|(_, of)| waits(of.epoch));
    tables.filter_map(|(name, of)| Some((name.clone(), of.before?, of.epoch))).collect()
}

/// Waits until processors have caught up, and tells how far they are.
fn wait(cluster: &Cluster, names: &Names, feed: &mut CatalogueFeed, waits: &[Waiting]) -> anyhow::Result<()> {
    let epochs: BTreeSet<u32> = waits.iter().map(|(_, _, newer)| *newer).collect();
    let mut facts = BTreeMap::new();
    for epoch in &epochs {
        let checked = feed.catalogue.manifests.get(epoch).and_then(|text| crds::check(text, &[]).ok());
        let topics = checked.map(|checked| checked.plan.topics.into_iter().map(|topic| topic.name).collect());
        facts.insert(*epoch, Facts::new(cluster, &names.epoch(*epoch), topics.unwrap_or_default())?);
    }
    let mut told = Instant::now();
    while !epochs.iter().all(|epoch| feed.catalogue.caught_up.contains(epoch)) {
        feed.look(Duration::from_millis(500))?;
        if told.elapsed() < TELL_EVERY {
            continue;
        }
        told = Instant::now();
        if let Ok(partitions) = Facts::furthest_behind(facts.values()) {
            let (done, all) = partitions.iter().fold((0, 0), |(done, all), at| (done + at.position, all + at.end));
            let hint = if done == 0 { "; is `clickstream process` running?" } else { "" };
            tell::line(&format!("{done} of {all} offsets read{hint}"));
        }
    }
    Ok(())
}
