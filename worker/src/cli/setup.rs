//! `clickstream setup`: makes and checks what a fleet needs, without Kubernetes.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::{Duration, Instant},
};

use crds::Checked;

use super::{Mistake, delete, manifest::ManifestArgs};
use crate::{
    kafka::{
        admin::Admin,
        catalogue::{self, Catalogue, Entry, Epoch},
        client::Cluster,
        knock::knock,
        names::Names,
        steps::{Step, decide},
        topics::{TopicWish, wishes},
    },
    secrets::Secrets,
    tell,
};

/// How long brokers may take to see what was made, and how often they are asked.
const SEEN_TIME_MAX: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Arguments of `clickstream setup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What it is about.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Delete what the manifest asks to have deleted with the pipeline (`deletionPolicy: Delete`), and nothing else.
    #[arg(long)]
    pub delete: bool,
    /// With --delete: a topic that stays all the same, because others use it.
    #[arg(long, value_name = "TOPIC", requires = "delete")]
    pub keep: Vec<String>,
}

/// Creates and grows topics, sets what is named and differs, tells everything that differs from what it should be, and writes down what is computed from
/// now on: which tables go on, and which are rebuilt because their definition has changed.
///
/// # Errors
/// A [`Mistake`] that lists all differences a person has to put right; else what the brokers say.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = args.manifest.load()?;
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    knock(&cluster)?;
    if args.delete {
        return delete::delete(&cluster, &checked, &args.keep, args.dry_run);
    }
    prepare(&cluster, checked.clone(), Again::default(), args.dry_run)?;
    #[cfg(feature = "couchbase")]
    databases(&checked, args.dry_run)?;
    Ok(ExitCode::SUCCESS)
}

/// What is computed again although nothing about it has changed.
#[derive(Default)]
pub(super) struct Again<'a> {
    /// The tables.
    pub tables: BTreeSet<String>,
    /// Their new rows wait to be released.
    pub hold: bool,
    /// What their epoch begins with.
    pub seeding: Option<Seeding<'a>>,
}

/// Writes what an epoch begins with, once its topics are there and before anybody works on it; and what that is made from.
pub(super) type Seeding<'a> = (String, Box<dyn FnOnce(&Epoch) -> anyhow::Result<()> + 'a>);

/// Makes the pipeline's topics and its catalogue what the manifest says; with `dry_run` it only says what it would do.
/// Returns the epoch that begins, if one does.
///
/// # Errors
/// As [`run`]; what the seeding says, and then nothing has changed.
pub(super) fn prepare(
    cluster: &Cluster,
    checked: Checked,
    again: Again<'_>,
    dry_run: bool,
) -> anyhow::Result<Option<u32>> {
    let names = Names::new(&checked.manifest.name);
    let admin = Admin::new(cluster)?;
    let before = catalogue::read(cluster, &names)?;
    let checked = catalogue::settle(&before, checked);
    let change = catalogue::revise(&before, &checked, &again.tables, again.hold)?;
    let reserves = change.as_ref().and_then(|change| change.begins).filter(|_| again.seeding.is_some() && !dry_run);
    if let Some(epoch) = reserves {
        catalogue::write(cluster, &names, &[Entry::Reserved(epoch)])?;
    }
    let mut next = before.clone();
    change.iter().flat_map(|change| &change.entries).for_each(|entry| next.take(entry.clone()));
    let epochs = catalogue::epochs(&next, &checked)?;
    make(cluster, &admin, &wishes(&checked, &epochs), dry_run)?;
    let partitions = partitions(&checked);
    if !dry_run && before.partitions != partitions {
        catalogue::write(cluster, &names, &[Entry::Partitions(partitions)])?;
    }
    let Some(change) = change else { return Ok(None) };
    let begins = change.begins;
    if before.revision.is_some() {
        let from = again.seeding.as_ref().map(|(from, _)| from.as_str());
        tell::result(&from.map_or_else(|| change.to_string(), |from| change.told(from)))?;
    }
    if !dry_run {
        still(cluster, &names, &before, begins, reserves)?;
        if let Some((_, seed)) = again.seeding {
            epochs.iter().find(|epoch| Some(epoch.number) == begins).map_or(Ok(()), seed)?;
            still(cluster, &names, &before, begins, reserves)?;
        }
        catalogue::write(cluster, &names, &change.entries)?;
    }
    for epoch in retired(&before, &next) {
        let (names, more) = (names.epoch(epoch), "nothing reads or writes them any more, and they may be deleted");
        let topics = [names.shuffle(), names.results(), names.checkpoints()].join(", ");
        tell::result(&format!("epoch {epoch} has ended: {topics}: {more}"))?;
    }
    Ok(begins)
}

/// Makes sure that nobody has changed the pipeline meanwhile, or taken the number of the epoch that `begins`.
fn still(
    cluster: &Cluster,
    names: &Names,
    before: &Catalogue,
    begins: Option<u32>,
    reserves: Option<u32>,
) -> anyhow::Result<()> {
    let now = catalogue::read(cluster, names)?;
    let is_taken = begins.is_some_and(|epoch| Some(epoch) != reserves && now.reserved.contains(&epoch));
    anyhow::ensure!(
        now.revision == before.revision && !is_taken,
        "another `clickstream setup` or `replay` has changed the pipeline meanwhile: try again"
    );
    Ok(())
}

/// What processors that run are to know of the manifest's topics.
fn partitions(checked: &Checked) -> BTreeMap<String, u32> {
    checked.plan.topics.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect()
}

/// Epochs that ran before and that nobody needs from now on.
fn retired(before: &Catalogue, next: &Catalogue) -> BTreeSet<u32> {
    before.running().difference(&next.running()).copied().collect()
}

/// Carries out what is to be done about topics. Where a person has to put something right first nothing is: the mark by
/// which a second run would take topics for ours must not come before the question whose they are.
fn make(cluster: &Cluster, admin: &Admin, wishes: &[TopicWish], dry_run: bool) -> anyhow::Result<()> {
    let names: Vec<&str> = wishes.iter().map(|wish| wish.name.as_str()).collect();
    let steps = decide(wishes, &admin.facts(&names)?);
    let (refused, steps): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(Step::is_by_hand);
    let only_told = dry_run || !refused.is_empty();
    for step in &steps {
        tell::result(&format!("{}{step}", if only_told { "would " } else { "" }))?;
    }
    let mut failed = Vec::new();
    if !only_told {
        let created = steps.iter().filter_map(|step| if let Step::Create(wish) = step { Some(wish) } else { None });
        let (mark, others): (Vec<_>, Vec<_>) = created.partition(|wish| wish.name == names[0]);
        admin.create(&mark)?;
        admin.create(&others)?;
        for step in steps.iter().filter(|step| !matches!(step, Step::Create(_))) {
            match (step, admin.apply(step)) {
                // Topics have nothing to do with each other: whoever puts values right wants to know of all.
                (Step::Alter { .. }, Err(error)) => failed.push(format!("{:#}", anyhow::Error::from(error))),
                (_, applied) => applied?,
            }
        }
    }
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("\n"));
    if !refused.is_empty() {
        let told: Vec<String> = refused.iter().map(ToString::to_string).collect();
        let (bootstrap, told) = (&cluster.bootstrap, told.join("\n"));
        return Err(Mistake(format!("topics of {bootstrap} are not as they should be\n{told}")).into());
    }
    if !dry_run && !steps.is_empty() {
        wait_until_seen(admin, wishes, &names)?;
    }
    if steps.is_empty() {
        tell::result(&format!("all {} topics are as they should be", names.len()))?;
    }
    Ok(())
}

/// Brokers learn of a new topic one after the other: whoever comes next should find it.
fn wait_until_seen(admin: &Admin, wishes: &[TopicWish], names: &[&str]) -> anyhow::Result<()> {
    let deadline = Instant::now() + SEEN_TIME_MAX;
    loop {
        let left = decide(wishes, &admin.facts(names)?);
        let Some(step) = left.iter().find(|step| !step.is_by_hand()) else { return Ok(()) };
        anyhow::ensure!(Instant::now() < deadline, "the brokers said yes, and still one has to {step}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Makes buckets, scopes and collections of Couchbase. Tables of PostgreSQL are made by the sink that knows their columns.
///
/// A store that is not there holds up nobody else: it is told, and its sink makes what is missing once it connects.
#[cfg(feature = "couchbase")]
fn databases(checked: &crds::Checked, dry_run: bool) -> std::io::Result<()> {
    for sink in &checked.manifest.spec.sinks {
        let Some(couchbase) = &sink.couchbase else { continue };
        if couchbase.operator.is_some() {
            tell::result(&format!("sink {}: its bucket is for Couchbase's operator to make", sink.name))?;
            continue;
        }
        let verb = if dry_run { "would make" } else { "made" };
        match set_up(checked, sink, couchbase, dry_run) {
            Ok(steps) if steps.is_empty() => {
                tell::result(&format!("sink {}: the bucket is as it should be", sink.name))?;
            }
            Ok(steps) => {
                steps.iter().try_for_each(|step| tell::result(&format!("sink {}: {verb} {step}", sink.name)))?;
            }
            Err(error) if dry_run => {
                let (bucket, scope, tables) = (&couchbase.bucket.name, &couchbase.scope, sink.tables.join(", "));
                tell::line(&format!("warning: sink {}: not looked at: {error:#}", sink.name));
                let wanted = format!("would make sure of bucket {bucket}, scope {scope}, collections {tables}");
                tell::result(&format!("sink {}: {wanted}", sink.name))?;
            }
            Err(error) => {
                let later = "the sink does it once it connects";
                tell::line(&format!("warning: sink {}: not set up: {error:#}; {later}", sink.name));
            }
        }
    }
    Ok(())
}

/// What was missing, and is made unless this is only a look.
#[cfg(feature = "couchbase")]
fn set_up(
    checked: &crds::Checked,
    sink: &crds::spec::Sink,
    couchbase: &crds::spec::Couchbase,
    dry_run: bool,
) -> anyhow::Result<Vec<crate::sink::couchbase::Step>> {
    use crate::sink::{couchbase::Connector, row::Reader};

    let targets = Reader::new(&checked.plan, sink).map_err(anyhow::Error::msg)?.targets;
    let connector = Connector::new(couchbase, &targets, &Secrets::from_environment())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async { if dry_run { connector.look().await } else { connector.set_up().await } })
}
