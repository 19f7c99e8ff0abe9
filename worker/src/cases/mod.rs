//! Cases of a manifest: given these events, then these rows; and the same under every disturbance that must change nothing.
//!
//! ```text
//!  case ─► arrivals ─► in order, one partition ─► outcome ─► compared with what is expected
//!              └─► crashed, cut, repeated, shuffled, in other partitions ─► outcome ─► compared with the first
//! ```
//! Everything is in memory, by the driver of [`crate::memory`]; the engine is the one that runs in production. Chance comes from
//! fixed seeds, so that a case that fails fails again.

mod arrivals;
mod compare;
mod diff;
mod outcome;
mod variants;

use std::sync::Arc;

use crds::{
    Checked,
    spec::{PipelineSpec, TestCase},
};
use engine::{lookup::LookupTable, map::MapContext, plan::Plan};

pub use variants::Variant;

use crate::memory::{Job, run_in_order};
use arrivals::Arrivals;
use outcome::Outcome;

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseResult {
    /// Its sentence.
    pub name: String,
    /// What differs from what it expects, for people; empty if nothing does.
    pub failures: Vec<String>,
    /// Disturbances it was run under, and how often.
    pub varied: Vec<(Variant, u32)>,
    /// Disturbances that may change its tables, and why.
    pub spared: Vec<(Variant, &'static str)>,
}

impl CaseResult {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// A pipeline whose cases are run.
pub struct Bench {
    plan: Arc<Plan>,
    context: Arc<MapContext>,
}

impl Bench {
    /// Takes a checked manifest and the rows of its lookups, in plan order.
    #[must_use]
    pub fn new(checked: &Checked, lookups: Vec<LookupTable>) -> Self {
        let context = MapContext { lookups, hash_key: [7; 32] };
        Self { plan: Arc::new(checked.plan.clone()), context: Arc::new(context) }
    }

    /// Runs a case as it is written, then, if that is right, under every disturbance that must change nothing.
    #[must_use]
    pub fn run(&self, spec: &PipelineSpec, case: &TestCase) -> CaseResult {
        let arrivals = Arrivals::of(spec, &self.plan, case);
        let first = self.as_written(&arrivals, case.when.sources_end);
        let mut result = CaseResult {
            name: case.name.clone(),
            failures: compare::check(&self.plan, case, &first),
            varied: Vec::new(),
            spared: Vec::new(),
        };
        if result.passed() {
            variants::run_all(self, &arrivals, case.when.sources_end, &first, &mut result);
        }
        result
    }

    /// One partition a topic, one event after the other.
    fn as_written(&self, arrivals: &Arrivals, sources_end: bool) -> Outcome {
        let plan = Arc::new(variants::with_partitions(&self.plan, 1, 1));
        let (input, order) = arrivals.lay_out(&plan);
        let mut outcome = Outcome::default();
        let job = Job { plan: &plan, context: &self.context, input: &input, sources_end };
        run_in_order(job, &order, &mut |output| outcome.take(output));
        outcome
    }
}
