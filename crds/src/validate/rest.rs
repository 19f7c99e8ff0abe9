//! Lookups, processing, serving, alerts' receivers, schedules and objectives.

use std::str::FromStr;

use super::{exactly_one, ingest, kafka};
use crate::{
    lower::{positive, unknown},
    problem::{Report, field, named},
    spec::{Checkpoints, Duration, PipelineSpec},
};

/// Shortest recovery that is promised: a broker notices a dead consumer after six seconds, and state is read again.
const RECOVERY_MIN: Duration = Duration::seconds(10);

pub(super) fn check(spec: &PipelineSpec, report: &mut Report) {
    if let Some(cluster) = &spec.kafka {
        kafka::check((&cluster.bootstrap_servers, cluster.sasl.as_ref()), "spec.kafka", report);
    }
    lookups(spec, report);
    process(spec, report);
    notify(spec, report);
    schedules(spec, report);
    if let Some(latency) = spec.objectives.as_ref().and_then(|objectives| objectives.latency_p95) {
        positive(report, "spec.objectives.latencyP95", latency);
    }
    positive(report, "spec.serve.dashboard.refresh", spec.serve.dashboard.refresh);
}

fn lookups(spec: &PipelineSpec, report: &mut Report) {
    for lookup in &spec.lookups {
        let path = named("spec.lookups", &lookup.name);
        let kinds = [
            ("file", lookup.file.is_some()),
            ("topic", lookup.topic.is_some()),
            ("couchbase", lookup.couchbase.is_some()),
        ];
        exactly_one(report, &path, "a lookup", &kinds);
        ingest::volume(lookup.volume.as_ref(), &field(&path, "volume"), report);
        if let Some(topic) =
            lookup.topic.as_ref().filter(|topic| !spec.topics.iter().any(|known| known.name == **topic))
        {
            let names = spec.topics.iter().map(|topic| topic.name.as_str());
            unknown(report, &field(&path, "topic"), "topic", topic, "spec.topics", names);
        }
    }
}

fn process(spec: &PipelineSpec, report: &mut Report) {
    let process = &spec.process;
    ingest::autoscale(process.autoscale.as_ref(), "spec.process.autoscale", report);
    if process.recovery < RECOVERY_MIN {
        let problem = report.problem("spec.process.recovery", "cannot be promised");
        report.push(problem.accepts(format!("at least {RECOVERY_MIN}")));
    }
    checkpoints(&process.checkpoints, "spec.process.checkpoints", report);
}

fn checkpoints(checkpoints: &Checkpoints, path: &str, report: &mut Report) {
    if let Some(every) = checkpoints.every {
        positive(report, &field(path, "every"), every);
    }
    match &checkpoints.store {
        Some(store)
            if store.strip_prefix("s3://").is_none_or(|rest| rest.split('/').next().is_none_or(str::is_empty)) =>
        {
            let problem = report.problem(&field(path, "store"), "is no bucket");
            report.push(problem.accepts("s3://bucket/prefix/"));
        }
        None if checkpoints.credentials_secret.is_some() && !report.lost(&field(path, "store")) => {
            report.add(
                &field(path, "credentialsSecret"),
                "is for a store, and there is none: give store: s3://bucket/prefix/",
            );
        }
        _ => {}
    }
}

fn notify(spec: &PipelineSpec, report: &mut Report) {
    for alert in &spec.alerts {
        for (at, notify) in alert.notify.iter().enumerate() {
            let path = format!("{}.notify[{at}]", named("spec.alerts", &alert.name));
            exactly_one(
                report,
                &path,
                "a receiver",
                &[("webhook", notify.webhook.is_some()), ("topic", notify.topic.is_some())],
            );
            let read = |topic: &str| spec.streams.iter().find(|stream| stream.topics.iter().any(|name| name == topic));
            if let Some(reader) = notify.topic.as_deref().and_then(read) {
                report.add(
                    &field(&path, "topic"),
                    format!("stream {} reads this topic: alerts are no events of it", reader.name),
                );
            }
        }
    }
}

fn schedules(spec: &PipelineSpec, report: &mut Report) {
    for schedule in &spec.schedules {
        let path = named("spec.schedules", &schedule.name);
        let fields = schedule.cron.split_whitespace().count();
        let refused = match croner::Cron::from_str(&schedule.cron) {
            Ok(_) if fields == 5 || schedule.cron.starts_with('@') => None,
            Ok(_) => Some(format!("has {fields} fields")),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = refused {
            let problem = report.problem(&field(&path, "cron"), format!("is no schedule: {why}"));
            report.push(problem.accepts("minute, hour, day of month, month, day of week: \"15 2 * * *\""));
        }
        replay(spec, schedule, &field(&path, "replay"), report);
    }
}

fn replay(spec: &PipelineSpec, schedule: &crate::spec::Schedule, path: &str, report: &mut Report) {
    let replay = &schedule.replay;
    let archives = || spec.sinks.iter().filter(|sink| sink.parquet.is_some() && !sink.topics.is_empty());
    match spec.sinks.iter().find(|sink| sink.name == replay.from) {
        Some(sink) if sink.parquet.is_some() && !sink.topics.is_empty() => {}
        Some(_) => {
            let problem = report.problem(&field(path, "from"), "must name a sink that archives raw topics as Parquet");
            report.push(problem.one_of("", archives().map(|sink| sink.name.as_str())));
        }
        None => {
            let names = archives().map(|sink| sink.name.as_str());
            unknown(report, &field(path, "from"), "sink", &replay.from, "spec.sinks", names);
        }
    }
    if let Some(since) = replay.since {
        positive(report, &field(path, "since"), since);
    }
    for (at, name) in replay.tables.iter().enumerate() {
        if !spec.tables.iter().any(|table| table.name == *name) {
            let names = spec.tables.iter().map(|table| table.name.as_str());
            unknown(report, &format!("{path}.tables[{at}]"), "table", name, "spec.tables", names);
        }
    }
}
