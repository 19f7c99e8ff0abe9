//! Disturbances that must change no table: they are what the promise to users is made of.

use std::{fmt, sync::Arc};

use engine::{
    output::SystemTable,
    plan::{Plan, TableKind, Window},
    time::Millis,
};

use super::{Bench, CaseResult, arrivals::Arrivals, compare, diff, outcome::Outcome};
use crate::{
    ingest::synthetic::random::{below, mix},
    memory::{Cut, Job, run},
};

/// A disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Tasks are dropped at any point and recovered from any snapshot; batches and commits have any size.
    Crashed,
    /// Every event that has an id comes twice.
    Repeated,
    /// Events come in another order, none later than the declared bound.
    Shuffled,
    /// Topics and shuffle have other numbers of partitions.
    Repartitioned,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crashed => "cut by crashes, in other batches",
            Self::Repeated => "with every event twice",
            Self::Shuffled => "shuffled within the bound",
            Self::Repartitioned => "in other partitions",
        })
    }
}

/// How often each is tried, with other choices each time.
const TRIES: u64 = 8;

/// Numbers of partitions of topics and of the shuffle.
const LAYOUTS: [(u32, u32); 4] = [(1, 3), (2, 1), (3, 2), (7, 4)];

/// Runs the case under every disturbance that must change nothing.
pub(super) fn run_all(bench: &Bench, arrivals: &Arrivals, sources_end: bool, first: &Outcome, result: &mut CaseResult) {
    let mut suspects = Suspects { bench, arrivals, sources_end, first, result };
    let repeats = arrivals.events.iter().any(|event| event.id.is_some());
    match repeats {
        true => suspects.repeated(),
        false => suspects.spare(Variant::Repeated, "no event has an id that every stream deduplicates by"),
    }
    if arrivals.some_late {
        let why = "an event is later than the bound";
        match arrivals.has_one_topic() {
            true => suspects.crashed(Some(Cut { crash_percent: 20, snapshot_percent: 50, ..Cut::each_record() })),
            false => suspects.spare(Variant::Crashed, why),
        }
        suspects.spare(Variant::Shuffled, why);
        suspects.spare(Variant::Repartitioned, why);
        return;
    }
    suspects.crashed(None);
    if arrivals.has_other_with_same_id() {
        suspects.spare(Variant::Shuffled, "two different events have one id");
    } else {
        suspects.shuffled();
    }
    match sources_end {
        true => suspects.repartitioned(),
        false => {
            suspects.spare(Variant::Repartitioned, "partitions without events hold windows open until sources end")
        }
    }
}

/// A plan in another layout. At least one partition of each.
pub(super) fn with_partitions(plan: &Plan, topics: u32, shuffle: u32) -> Plan {
    let mut plan = plan.clone();
    plan.topics.iter_mut().for_each(|topic| topic.partitions = topics);
    plan.shuffle_partitions = shuffle;
    plan
}

struct Suspects<'a> {
    bench: &'a Bench,
    arrivals: &'a Arrivals,
    sources_end: bool,
    first: &'a Outcome,
    result: &'a mut CaseResult,
}

impl Suspects<'_> {
    fn spare(&mut self, variant: Variant, why: &'static str) {
        self.result.spared.push((variant, why));
    }

    fn repeated(&mut self) {
        let mut twice = self.arrivals.clone();
        twice.events.clear();
        for event in &self.arrivals.events {
            twice.events.push(event.clone());
            twice.events.extend(event.id.is_some().then(|| event.clone()));
        }
        let outcome = self.bench.as_written(&twice, self.sources_end);
        self.judge(Variant::Repeated, "", &outcome, 1);
    }

    /// Where something is late, the order in which partitions are read counts, and each record is committed alone.
    fn crashed(&mut self, cut: Option<Cut>) {
        for seed in 0..TRIES {
            let outcome = self.disturbed(self.arrivals, (1, 1), seed, cut);
            self.judge(Variant::Crashed, &format!("try {seed}"), &outcome, TRIES as u32);
        }
    }

    fn shuffled(&mut self) {
        for seed in 0..TRIES {
            let arrivals = self.arrivals.shuffled(&mut choices(seed ^ 0x5afe));
            let outcome = self.disturbed(&arrivals, (1, 1), seed, None);
            self.judge(Variant::Shuffled, &format!("try {seed}"), &outcome, TRIES as u32);
        }
    }

    fn repartitioned(&mut self) {
        for (seed, layout) in LAYOUTS.into_iter().enumerate() {
            let outcome = self.disturbed(self.arrivals, layout, seed as u64, None);
            let (topics, shuffle) = layout;
            let how = format!("{topics} partitions a topic, {shuffle} of the shuffle");
            self.judge(Variant::Repartitioned, &how, &outcome, LAYOUTS.len() as u32);
        }
    }

    fn disturbed(&self, arrivals: &Arrivals, layout: (u32, u32), seed: u64, cut: Option<Cut>) -> Outcome {
        let (topics, shuffle) = layout;
        let plan = Arc::new(with_partitions(&self.bench.plan, topics, shuffle));
        let (input, _) = arrivals.lay_out(&plan);
        let mut outcome = Outcome::default();
        let job = Job { plan: &plan, context: &self.bench.context, input: &input, sources_end: self.sources_end };
        let mut chance = choices(seed);
        let cut = cut.unwrap_or_else(|| Cut::any(&mut chance));
        run(job, cut, &mut chance, &mut |output| outcome.take(output));
        outcome
    }

    /// Compares an outcome with the first; the first difference of a variant is told.
    fn judge(&mut self, variant: Variant, how: &str, outcome: &Outcome, tries: u32) {
        if !self.result.varied.iter().any(|(known, _)| *known == variant) {
            self.result.varied.push((variant, tries));
        }
        let told = format!("{variant}");
        if self.result.failures.iter().any(|failure| failure.contains(&told)) {
            return;
        }
        let bench = self.bench;
        let plan = &bench.plan;
        for (at, table) in plan.tables.iter().enumerate() {
            if !self.is_bound_to_be_same(at) {
                continue;
            }
            let rows = |outcome: &Outcome| compare::table_rows(plan, outcome, &table.name);
            let (before, after) = (rows(self.first), rows(outcome));
            let gone: Vec<String> = before.iter().filter(|row| !after.contains(row)).map(diff::shown).collect();
            let new: Vec<String> = after.iter().filter(|row| !before.contains(row)).map(diff::shown).collect();
            if gone.is_empty() && new.is_empty() {
                continue;
            }
            let lines = gone.iter().map(|row| format!("  - {row}")).chain(new.iter().map(|row| format!("  + {row}")));
            let lines: Vec<String> = lines.collect();
            let how = if how.is_empty() { String::new() } else { format!(" ({how})") };
            let name = &table.name;
            self.result.failures.push(format!("table {name}, {told}{how}, should be the same\n{}", lines.join("\n")));
        }
        let lost = |outcome: &Outcome| -> i64 {
            let counts = plan.tables.iter().map(|table| outcome.counts(plan, SystemTable::LedgerTables, &table.name));
            counts.filter(|counts| counts.len() == 4).map(|counts| counts[0] - counts[1] - counts[2] - counts[3]).sum()
        };
        if lost(outcome) != 0 {
            self.result.failures.push(format!("{told}: {} events are unaccounted for", lost(outcome)));
        }
    }

    /// Tables that forget by the watermark, or by a number of groups, may forget at another moment.
    fn is_bound_to_be_same(&self, table: usize) -> bool {
        let plan = &self.bench.plan.tables[table];
        let forget_after = match (&plan.kind, plan.window) {
            (TableKind::Funnel(funnel), Window::None) => Some(funnel.forget_after_ms),
            _ => plan.keep_for_ms,
        };
        let slack = self.arrivals.bounds.iter().copied().max().unwrap_or(0);
        let is_short = forget_after.is_none_or(|forget: Millis| self.arrivals.span_ms() + slack < forget);
        let groups = self.first.table(table).count() as u64;
        is_short && plan.max_groups.is_none_or(|most| groups * 16 < most)
    }
}

/// A source of choices, the same for the same seed.
fn choices(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = mix(seed);
    move |bound| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        below(mix(state), bound)
    }
}
