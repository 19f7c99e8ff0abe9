//! Checks of everything that is no part of the plan: sources, sinks, schedules, test cases.

mod cases;
mod generators;
mod ingest;
mod kafka;
mod rest;
mod sinks;

pub use generators::generation_order;
pub use ingest::event_columns;

use crate::{lower::Lowered, problem::Report, spec::PipelineSpec};

/// Checks `spec`, of which `lowered` is the plan.
pub(crate) fn validate(spec: &PipelineSpec, lowered: &Lowered, report: &mut Report) {
    ingest::check(spec, report);
    sinks::check(spec, lowered, report);
    cases::check(spec, lowered, report);
    rest::check(spec, report);
}

/// Complains unless exactly one of `given` is there.
fn exactly_one(report: &mut Report, path: &str, what: &str, given: &[(&str, bool)]) -> bool {
    let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
    let found: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if found.len() == 1 {
        return true;
    }
    // A part that was left out because it is wrong is there all the same.
    if found.is_empty() && names.iter().any(|name| report.lost(&crate::problem::field(path, name))) {
        return false;
    }
    let mut problem = report.problem(path, format!("{what} has exactly one of {}", names.join(", ")));
    problem.found = if found.is_empty() { "none of them".into() } else { found.join(" and ") };
    report.push(problem);
    false
}
