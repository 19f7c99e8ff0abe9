//! A pipeline for a test: a manifest through the real front door, and the engine's answer against the reference's.

use std::sync::Arc;

use crds::Checked;
use engine::{map::MapContext, plan::Plan};

use crate::{
    events::{self, Arrival, Shape},
    manifests::{Layout, Manifest, OUT_OF_ORDERNESS_MS, Tables},
    memory::{self, Cut},
    outcome::{self, Strictness},
    random::Random,
    reference::{self, Input},
};

/// Checks a manifest.
///
/// # Errors
/// With its problems, as people see them.
pub fn checked(manifest: &str) -> Result<Checked, String> {
    let problems = |problems: Vec<crds::Problem>| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{}\n{manifest}", problems.join("\n"))
    };
    crds::check(manifest, &[]).map_err(problems)
}

/// Checks a manifest and lowers it.
///
/// # Errors
/// As [`checked`].
pub fn plan(manifest: &str) -> Result<Arc<Plan>, String> {
    Ok(Arc::new(checked(manifest)?.plan))
}

/// The plan of a pipeline whose shuffle has one partition: what one thread does everything for.
///
/// # Errors
/// As [`checked`].
pub fn plan_of_one(manifest: &str) -> Result<Arc<Plan>, String> {
    Ok(Arc::new(Plan { shuffle_partitions: 1, ..checked(manifest)?.plan }))
}

/// What MAP needs besides the plan, for pipelines without lookups.
#[must_use]
pub fn context() -> Arc<MapContext> {
    Arc::new(MapContext { lookups: Vec::new(), hash_key: [7; 32] })
}

/// Runs the engine over an input and compares everything with the reference.
///
/// # Errors
/// With what differs.
pub fn check(plan: &Arc<Plan>, input: &Input, cut: Cut, random: &mut Random) -> Result<(), String> {
    let answer = reference::reference(plan, &Vec::new(), input);
    let outcome = memory::run(plan, &context(), input, cut, random);
    outcome::compare(plan, &answer, &outcome, Strictness::Everything)
}

/// The independent choices of one random case, so that fewer events leave the rest as it is.
struct Choices {
    manifest: Random,
    events: Random,
    layout: Random,
    cut: Random,
}

impl Choices {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self { manifest: random.fork(), events: random.fork(), layout: random.fork(), cut: random.fork() }
    }
}

/// A random pipeline in which nothing is later than its bound, in a random layout, cut and crashed at random.
///
/// # Errors
/// With what differs from the reference.
pub fn on_time(seed: u64, count: u64) -> Result<(), String> {
    let mut random = Choices::new(seed);
    let shape = Shape { count, ..Shape::on_time(&mut random.events, OUT_OF_ORDERNESS_MS) };
    let arrivals = events::arrivals(&shape, &mut random.events);
    let manifest = Manifest::any(&mut random.manifest, Tables::All).text(Layout::any(&mut random.layout));
    run(&manifest, &arrivals, memory::any_cut(&mut random.cut), &mut random)
}

/// A random pipeline with events beyond the bound, over tables that are exact even so.
///
/// # Errors
/// With what differs from the reference.
pub fn late(seed: u64, count: u64) -> Result<(), String> {
    let mut random = Choices::new(seed);
    let shape = Shape { count, ..Shape::with_late(&mut random.events, OUT_OF_ORDERNESS_MS) };
    let arrivals = events::arrivals(&shape, &mut random.events);
    let manifest = Manifest::any(&mut random.manifest, Tables::ExactWhenLate).text(Layout::any(&mut random.layout));
    run(&manifest, &arrivals, memory::any_cut(&mut random.cut), &mut random)
}

/// Events beyond the bound in one partition, committed one by one: every kind of table is exact.
///
/// # Errors
/// With what differs from the reference.
pub fn in_order(seed: u64, count: u64) -> Result<(), String> {
    let mut random = Choices::new(seed);
    let shape = Shape { count, ..Shape::with_late(&mut random.events, OUT_OF_ORDERNESS_MS) };
    let arrivals = events::arrivals(&shape, &mut random.events);
    let manifest = Manifest::any(&mut random.manifest, Tables::InOrder).text(Layout::ONE);
    run(&manifest, &arrivals, Cut::each_record(), &mut random)
}

fn run(manifest: &str, arrivals: &[Arrival], cut: Cut, random: &mut Choices) -> Result<(), String> {
    let plan = plan(manifest)?;
    let input = events::lay_out(&plan, arrivals, false, &mut random.layout);
    check(&plan, &input, cut, &mut random.cut).map_err(|different| format!("{different}\n{manifest}"))
}

/// The same events in another layout and another order of arrival make the same tables.
///
/// # Errors
/// With what differs.
pub fn same_in_any_layout(seed: u64, count: u64) -> Result<(), String> {
    let mut random = Choices::new(seed);
    let shape = Shape { count, ..Shape::on_time(&mut random.events, OUT_OF_ORDERNESS_MS) };
    let arrivals = events::arrivals(&shape, &mut random.events);
    let manifest = Manifest::any(&mut random.manifest, Tables::All);
    let one = plan(&manifest.text(Layout::any(&mut random.layout)))?;
    let input = events::lay_out(&one, &arrivals, true, &mut random.layout);
    let answer = reference::reference(&one, &Vec::new(), &input);
    let another = plan(&manifest.text(Layout::any(&mut random.layout)))?;
    let rearranged = events::rearranged(&arrivals, OUT_OF_ORDERNESS_MS, &mut random.events);
    let input = events::lay_out(&another, &rearranged, true, &mut random.layout);
    let cut = memory::any_cut(&mut random.cut);
    let outcome = memory::run(&another, &context(), &input, cut, &mut random.cut);
    outcome::compare(&another, &answer, &outcome, Strictness::Tables)
        .map_err(|different| format!("{different}\n{}", manifest.text(Layout::ONE)))
}
