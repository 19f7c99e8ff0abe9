//! From a spec to a plan: names become indices, text becomes typed trees, defaults become numbers.
//!
//! Lowering goes on past problems, so that all of them are found. What could not be lowered leaves a gap whose name is
//! still known; only a report without problems makes the plan worth anything.

mod alerts;
mod columns;
pub(crate) mod fingerprint;
mod funnels;
mod generated;
mod joins;
mod select;
mod streams;
mod tables;
mod windows;

pub(crate) use self::{
    columns::{positive, unknown},
    generated::columns_of,
    streams::type_of,
};

use engine::plan::{Input, Plan, TablePlan, TopicPlan};

use crate::{expression::scope::Scope, problem::Report, spec::PipelineSpec};

/// The plan, and what later checks want to know about it.
pub(crate) struct Lowered {
    /// The plan.
    pub plan: Plan,
    /// All streams by name, joins among them.
    pub streams: Vec<Source>,
    /// All tables by name, with the columns that people see.
    pub tables: Vec<(String, Option<Scope>)>,
}

/// A stream that tables may read.
pub(crate) struct Source {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub scope: Scope,
    /// Where it is in the plan.
    pub input: Input,
    /// Whether events have a time.
    pub timed: bool,
}

/// Lowers `spec`.
pub(crate) fn lower(name: &str, spec: &PipelineSpec, report: &mut Report) -> Lowered {
    let topics = topics(spec);
    let lookups = streams::lookups(spec);
    let mut sources = Vec::new();
    let plans = streams::streams(spec, &topics, &lookups, &mut sources, report);
    let joins = joins::joins(spec, &plans, &mut sources, report);
    let tables: Vec<Option<TablePlan>> =
        spec.tables.iter().map(|table| tables::table(table, spec, &sources, report)).collect();
    let alerts = alerts::alerts(spec, &tables, report);
    let shuffle_partitions = spec.process.shuffle_partitions;
    let shuffle_partitions =
        shuffle_partitions.unwrap_or_else(|| topics.iter().map(|topic| topic.partitions).max().unwrap_or(1));
    let seen =
        spec.tables.iter().zip(&tables).map(|(table, plan)| (table.name.clone(), plan.as_ref().map(tables::scope)));
    let seen = seen.collect();
    let mut plan = Plan {
        pipeline: name.to_owned(),
        topics,
        lookups,
        streams: plans.into_iter().flatten().collect(),
        joins: joins.into_iter().flatten().collect(),
        tables: tables.into_iter().flatten().collect(),
        alerts,
        shuffle_partitions,
    };
    // Indices hold only where nothing was left out.
    if report.problems.is_empty() {
        joins::prune(&mut plan);
        fingerprint::set(&mut plan, spec);
    }
    Lowered { plan, streams: sources, tables: seen }
}

/// The topics that streams read. Others only pass through ingesters and sinks.
fn topics(spec: &PipelineSpec) -> Vec<TopicPlan> {
    let read = |name: &str| spec.streams.iter().any(|stream| stream.topics.iter().any(|topic| topic == name));
    let topics = spec.topics.iter().filter(|topic| read(&topic.name));
    topics.map(|topic| TopicPlan { name: topic.name.clone(), partitions: topic.partitions.max(1) }).collect()
}
