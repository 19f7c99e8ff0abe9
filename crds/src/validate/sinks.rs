//! Destinations: each takes what it can take.

use engine::value::Type;

use super::{exactly_one, ingest};
use crate::{
    expression::{scope::Scope, typed},
    lower::{Lowered, positive, unknown},
    problem::{Report, field, named},
    spec::{CouchbaseOperator, PipelineSpec, PostgresMode, Sink},
};

pub(super) fn check(spec: &PipelineSpec, lowered: &Lowered, report: &mut Report) {
    for sink in &spec.sinks {
        let path = named("spec.sinks", &sink.name);
        let kinds = kinds(sink);
        let has_kind = exactly_one(report, &path, "a sink", &kinds);
        let kind = kinds.iter().find(|(_, given)| *given).map(|(name, _)| *name);
        sources(spec, sink, &path, report);
        if let Some(kind) = kind.filter(|_| has_kind) {
            takes(sink, kind, &path, report);
        }
        joined(spec, sink, &path, report);
        filter(sink, lowered, &path, report);
        details(spec, sink, &path, report);
    }
}

fn kinds(sink: &Sink) -> [(&'static str, bool); 6] {
    [
        ("couchbase", sink.couchbase.is_some()),
        ("postgres", sink.postgres.is_some()),
        ("redis", sink.redis.is_some()),
        ("parquet", sink.parquet.is_some()),
        ("kafka", sink.kafka.is_some()),
        ("console", sink.console.is_some()),
    ]
}

fn couchbase_operator(spec: &PipelineSpec, operator: &CouchbaseOperator, path: &str, report: &mut Report) {
    if spec.deletes_its_own() {
        let told = "what Couchbase's operator made is not dropped with the pipeline (spec.deletionPolicy: Delete): it would \
                    make it again; delete its resources";
        report.push(report.problem(path, told).accepts("deletionPolicy: Retain"));
    }
    for (name, value) in &operator.labels {
        let (prefix, label) = name.rsplit_once('/').unwrap_or(("", name));
        let is_name = !label.is_empty() && is_label(label) && prefix.len() <= 253 && prefix.split('.').all(is_label);
        if !is_name || !is_label(value) {
            let problem = report.problem(&format!("{path}.labels[{name}]"), "is no label");
            report
                .push(problem.accepts("up to 63 letters, digits, '-', '_' and '.', a letter or digit first and last"));
        }
    }
}

/// Whether Kubernetes takes it as the value of a label; empty is one.
fn is_label(text: &str) -> bool {
    let is_inner = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= 63 && text.bytes().all(is_inner) && ends.iter().flatten().all(u8::is_ascii_alphanumeric)
}

/// Checks that what the sink takes is there.
fn sources(spec: &PipelineSpec, sink: &Sink, path: &str, report: &mut Report) {
    let tables: Vec<&str> = spec.tables.iter().map(|table| table.name.as_str()).collect();
    let streams: Vec<&str> = spec.streams.iter().map(|stream| stream.name.as_str()).collect();
    let topics: Vec<&str> = spec.topics.iter().map(|topic| topic.name.as_str()).collect();
    let lists = [
        ("tables", "table", &sink.tables, tables),
        ("streams", "stream", &sink.streams, streams),
        ("topics", "topic", &sink.topics, topics),
    ];
    for (part, what, named, known) in &lists {
        for (at, name) in named.iter().enumerate() {
            let path = format!("{path}.{part}[{at}]");
            if named[..at].contains(name) {
                report.add(&path, format!("the {what} is named twice"));
            } else if !known.contains(&name.as_str()) {
                unknown(report, &path, what, name, &format!("spec.{part}"), known.iter().copied());
            }
        }
    }
    let lost = ["tables", "streams", "topics"].iter().any(|part| report.lost(&field(path, part)));
    if sink.tables.is_empty() && sink.streams.is_empty() && sink.topics.is_empty() && !lost {
        report
            .push(report.problem(path, "a sink takes tables, streams or topics, and this one none of them").found(""));
    }
}

/// What kinds of sinks take.
fn takes(sink: &Sink, kind: &str, path: &str, report: &mut Report) {
    let (accepted, why): (&[&str], &str) = match kind {
        "couchbase" | "redis" => (&["tables"], "it keeps rows up to date by their key"),
        "postgres" => (&["tables", "streams"], "raw bytes fit no columns"),
        "parquet" => (&["streams", "topics"], "files are only added to, so that rows which change do not fit"),
        "kafka" => (&["tables", "streams"], "raw bytes are in Kafka already"),
        _ => (&["tables", "streams"], "raw bytes are not for reading"),
    };
    let given = [("tables", &sink.tables), ("streams", &sink.streams), ("topics", &sink.topics)];
    for (part, _) in given.iter().filter(|(part, list)| !list.is_empty() && !accepted.contains(part)) {
        let problem = report.problem(&field(path, part), format!("a {kind} sink does not take {part}: {why}"));
        report.push(problem.accepts(accepted.join(", ")));
    }
}

fn joined(spec: &PipelineSpec, sink: &Sink, path: &str, report: &mut Report) {
    let is_join = |name: &str| spec.streams.iter().any(|stream| stream.name == name && stream.join.is_some());
    for (at, name) in sink.streams.iter().enumerate().filter(|(_, name)| is_join(name)) {
        let message = format!("{name} is a join, whose pairs exist in tables only: take a table of it");
        report.add(&format!("{path}.streams[{at}]"), message);
    }
}

/// The condition must make sense for each stream and table.
fn filter(sink: &Sink, lowered: &Lowered, path: &str, report: &mut Report) {
    let Some(text) = &sink.filter else { return };
    let path = field(path, "where");
    if !sink.topics.is_empty() {
        report.add(&path, "raw records are not looked into: use streams");
        return;
    }
    let streams = sink.streams.iter().filter_map(|name| lowered.streams.iter().find(|source| source.name == *name));
    let tables = sink.tables.iter().filter_map(|name| lowered.tables.iter().find(|(table, _)| table == name));
    let scopes: Vec<&Scope> =
        streams.map(|source| &source.scope).chain(tables.filter_map(|(_, scope)| scope.as_ref())).collect();
    for scope in scopes {
        if let Err(problems) = typed(text, &mut scope.clone(), Some(Type::Boolean)) {
            report.expression(&path, problems);
            return;
        }
    }
}

fn details(spec: &PipelineSpec, sink: &Sink, path: &str, report: &mut Report) {
    if let Some(postgres) = &sink.postgres {
        let path = field(path, "postgres");
        let accepted = match postgres.mode {
            PostgresMode::Upsert if !sink.streams.is_empty() => {
                Some(("events have no key to be kept up to date by", "insertOnce"))
            }
            PostgresMode::InsertOnce if !sink.tables.is_empty() => Some(("rows of tables change", "upsert")),
            _ => None,
        };
        if let Some((message, accepted)) = accepted {
            report.push(report.problem(&field(&path, "mode"), message).accepts(accepted));
        }
        if postgres.table.is_some() && sink.tables.len() + sink.streams.len() > 1 {
            report.add(&field(&path, "table"), "one name is for one table or stream: this sink takes several");
        }
    }
    if let Some(ttl) = sink.couchbase.as_ref().and_then(|couchbase| couchbase.ttl) {
        positive(report, &field(&field(path, "couchbase"), "ttl"), ttl);
    }
    if let Some(operator) = sink.couchbase.as_ref().and_then(|couchbase| couchbase.operator.as_ref()) {
        couchbase_operator(spec, operator, &field(&field(path, "couchbase"), "operator"), report);
    }
    if let Some(ttl) = sink.redis.as_ref().and_then(|redis| redis.ttl) {
        positive(report, &field(&field(path, "redis"), "ttl"), ttl);
    }
    if let Some(parquet) = &sink.parquet {
        let path = field(path, "parquet");
        ingest::volume(parquet.volume.as_ref(), &field(&path, "volume"), report);
        positive(report, &field(&path, "rollEvery"), parquet.roll_every);
    }
    if let Some(kafka) = &sink.kafka {
        let path = field(&field(path, "kafka"), "topic");
        if !spec.topics.iter().any(|topic| topic.name == kafka.topic) {
            let names = spec.topics.iter().map(|topic| topic.name.as_str());
            unknown(report, &path, "topic", &kafka.topic, "spec.topics", names);
        }
        if let Some(reader) = spec.streams.iter().find(|stream| stream.topics.contains(&kafka.topic)) {
            report.add(&path, format!("stream {} reads this topic: events would go in a circle", reader.name));
        }
    }
}
