//! The worker's in-memory driver under the tests' choices, with an outcome that can be held against the reference.

use std::sync::Arc;

use engine::{map::MapContext, plan::Plan};
use worker::memory::{self, Job, Record};

pub use worker::memory::{Cut, sources};

use crate::{outcome::Outcome, random::Random, reference::Input};

/// Draws a way to cut.
pub fn any_cut(random: &mut Random) -> Cut {
    Cut::any(&mut |bound| random.below(bound))
}

/// Runs everything to the end of all sources and returns what came out.
#[must_use]
pub fn run(plan: &Arc<Plan>, context: &Arc<MapContext>, input: &Input, cut: Cut, random: &mut Random) -> Outcome {
    let record = |record: &crate::reference::Record| Record {
        payload: record.payload.clone(),
        offset: record.offset,
        arrival: record.arrival,
    };
    let input = input.iter().map(|(source, records)| (*source, records.iter().map(record).collect())).collect();
    let mut outcome = Outcome::default();
    let job = Job { plan, context, input: &input, sources_end: true };
    memory::run(job, cut, &mut |bound| random.below(bound), &mut |output| outcome.take(plan, output));
    outcome
}
