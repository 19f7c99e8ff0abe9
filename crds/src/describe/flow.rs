//! Topics, sources, streams, alerts, sinks: how events flow.

use engine::plan::{JoinPlan, StreamPlan};

use super::{Page, counted, expressions, list, millis};
use crate::{
    Checked,
    spec::{Ingester, Sink, Topic},
};

pub(super) fn topics(checked: &Checked, page: &mut Page) {
    let spec = &checked.manifest.spec;
    page.heading("topics");
    let width = spec.topics.iter().map(|topic| topic.name.len()).max().unwrap_or(0).max(14);
    for topic in &spec.topics {
        page.line(1, &format!("{:<width$}  {}", topic.name, raw_topic(checked, topic)));
    }
    let shuffle = counted(checked.plan.shuffle_partitions as usize, "partition");
    let mut internal = vec![
        ("_shuffle".to_owned(), format!("{shuffle}: from MAP to MERGE, fixed for the life of a table")),
        (
            "_results".to_owned(),
            "compacted: the rows of all tables, keyed by table, epoch, window and group".to_owned(),
        ),
        ("_dead_letters".to_owned(), "records that could not be counted, with bytes, place and reason".to_owned()),
        ("_repaired".to_owned(), "repaired dead letters on their way back".to_owned()),
    ];
    for stream in checked.plan.streams.iter().filter(|stream| stream.silver) {
        internal
            .push((format!("_silver.{}", stream.name), "accepted events, because a sink reads the stream".to_owned()));
    }
    for (name, text) in internal {
        page.line(1, &format!("{name:<width$}  {text}"));
    }
}

fn raw_topic(checked: &Checked, topic: &Topic) -> String {
    let spec = &checked.manifest.spec;
    let mut parts = vec![counted(topic.partitions as usize, "partition")];
    parts.extend(topic.replication_factor.map(|factor| format!("{factor} copies")));
    parts.extend(topic.retention.map(|retention| format!("kept {retention}")));
    let targets = |ingester: &&Ingester| {
        ingester.topic.as_ref() == Some(&topic.name) || ingester.routes.iter().any(|route| route.topic == topic.name)
    };
    let writers = spec.ingest.iter().filter(targets).map(|ingester| format!("ingester {}", ingester.name));
    let sinks = spec.sinks.iter().filter(|sink| sink.kafka.as_ref().is_some_and(|kafka| kafka.topic == topic.name));
    let writers: Vec<String> = writers.chain(sinks.map(|sink| format!("sink {}", sink.name))).collect();
    let readers = spec.streams.iter().filter(|stream| stream.topics.contains(&topic.name));
    let readers: Vec<String> = readers.map(|stream| format!("stream {}", stream.name)).collect();
    for (verb, names) in [("written by", writers), ("read by", readers)] {
        if !names.is_empty() {
            parts.push(format!("{verb} {}", names.join(" and ")));
        }
    }
    parts.join(", ")
}

pub(super) fn ingest(checked: &Checked, page: &mut Page) {
    let spec = &checked.manifest.spec;
    if spec.ingest.is_empty() {
        return;
    }
    page.heading("ingest");
    for ingester in &spec.ingest {
        let targets = ingester.topic.iter().chain(ingester.routes.iter().map(|route| &route.topic));
        let targets = list(targets.map(String::as_str));
        page.line(
            1,
            &format!(
                "{} → {targets}: {}, {}",
                ingester.name,
                source(ingester),
                counted(ingester.pods() as usize, "replica")
            ),
        );
    }
}

fn source(ingester: &Ingester) -> String {
    let rate = |rate: Option<f64>| rate.map_or("as fast as possible".to_owned(), |rate| format!("{rate} events/s"));
    if let Some(synthetic) = &ingester.synthetic {
        let count = synthetic.count.map(|count| format!(", {count} events"));
        let duration = synthetic.duration.map(|duration| format!(", for {duration}"));
        let end = count.or(duration).unwrap_or_else(|| ", without end".into());
        return format!("made up, {}{end}", rate(synthetic.events_per_second));
    }
    if let Some(dataset) = &ingester.dataset {
        let end = if dataset.repeat { ", over and over" } else { "" };
        return format!("files {}, {}{end}", dataset.path, rate(dataset.events_per_second));
    }
    match (&ingester.http, &ingester.kafka) {
        (Some(http), _) => format!("HTTP on port {}, path {}", http.port, http.path),
        (None, Some(kafka)) => {
            format!("topic {} of {}", kafka.topic, list(kafka.bootstrap_servers.iter().map(String::as_str)))
        }
        (None, None) => String::new(),
    }
}

pub(super) fn streams(checked: &Checked, page: &mut Page) {
    page.heading("streams");
    for stream in &checked.plan.streams {
        let topics = stream.topics.iter().map(|topic| checked.plan.topics[*topic].name.as_str());
        page.line(1, &format!("{} ← {}", stream.name, list(topics)));
        self::stream(checked, stream, page);
    }
    for join in &checked.plan.joins {
        self::join(checked, join, page);
    }
}

fn stream(checked: &Checked, stream: &StreamPlan, page: &mut Page) {
    let names: Vec<&str> = stream.columns.iter().map(|column| column.name.as_str()).collect();
    let required = stream.fields.iter().filter(|field| field.required).count();
    let hashed = stream.fields.iter().filter(|field| field.hashed).map(|field| field.name.as_str());
    let hashed = list(hashed);
    let hashing = if hashed.is_empty() { String::new() } else { format!("; hashed at once: {hashed}") };
    page.entry("decode", &format!("{}, {required} required{hashing}", counted(stream.fields.len(), "field")));
    for rule in &stream.rules {
        page.entry("rule", &format!("{}: {}", rule.name, expressions::text(&rule.check, &names)));
    }
    if let Some(time) = &stream.event_time {
        let (late, idle) = (millis(time.out_of_orderness_ms), millis(time.idle_after_ms));
        page.entry(
            "event time",
            &format!(
                "{}, up to {late} out of order; a partition idle for {idle} holds nothing back",
                names[time.column]
            ),
        );
    }
    if let Some(id) = &stream.deduplicate {
        let within = millis(id.within_ms);
        page.entry(
            "deduplicate",
            &format!(
                "by {} within {within}, in each partition (the key {} keeps an event's repetitions together)",
                names[id.column],
                stream.key.map_or("", |key| names[key])
            ),
        );
    }
    for enrich in &stream.enrich {
        let lookup = &checked.plan.lookups[enrich.lookup];
        let take = enrich.take.iter().map(|column| lookup.columns[*column].name.as_str());
        page.entry("enrich", &format!("{} by {} from {}", list(take), names[enrich.key], lookup.name));
    }
    if let Some(bots) = &stream.bots {
        let action = if bots.drop { "left out of every table" } else { "marked in is_bot" };
        page.entry("bots", &format!("by {}, {action}", names[bots.column]));
    }
    let first = stream.columns.len() - stream.derive.len();
    for (at, derived) in stream.derive.iter().enumerate() {
        page.entry("derive", &format!("{} = {}", names[first + at], expressions::text(derived, &names)));
    }
    if let Some(quality) = &stream.quality {
        let target = f64::from(quality.target_ppm) / 1e6;
        page.entry("quality", &format!("{target} valid in {} is aimed for", millis(quality.over_ms)));
    }
}

fn join(checked: &Checked, join: &JoinPlan, page: &mut Page) {
    let (left, right) = (&checked.plan.streams[join.left], &checked.plan.streams[join.right]);
    let names = |stream: &StreamPlan| stream.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let (left_names, right_names) = (names(left), names(right));
    let left_refs: Vec<&str> = left_names.iter().map(String::as_str).collect();
    let right_refs: Vec<&str> = right_names.iter().map(String::as_str).collect();
    page.line(1, &format!("{} ← {} ⋈ {}", join.name, left.name, right.name));
    let keys = (expressions::text(&join.left_key, &left_refs), expressions::text(&join.right_key, &right_refs));
    page.entry("match", &format!("{}.{} = {}.{}", left.name, keys.0, right.name, keys.1));
    page.entry(
        "shuffle",
        "both sides by that key, because they lie in different partitions and their order must be one",
    );
    page.entry("state", &format!("a row of {} waits until the watermark of {} passes it; a row of {} is kept until the watermark of {} passes its end, at most {} after its start", left.name, right.name, right.name, left.name, millis(join.within_ms)));
    page.entry("columns", &list(join.columns.iter().map(|column| column.column.name.as_str())));
}

pub(super) fn alerts(checked: &Checked, page: &mut Page) {
    if checked.plan.alerts.is_empty() {
        return;
    }
    page.heading("alerts");
    for alert in &checked.plan.alerts {
        let table = &checked.plan.tables[alert.table];
        let groups = table.group_by.iter().map(|group| group.column.name.clone());
        let mut names: Vec<String> =
            groups.chain(table.outputs.iter().map(|output| output.column.name.clone())).collect();
        for zscore in &alert.zscores {
            names.push(format!("zscore({}, {})", table.outputs[zscore.output].column.name, zscore.windows));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        page.line(1, &format!("{} on {}", alert.name, table.name));
        page.entry("when", &expressions::text(&alert.when, &names));
        if alert.for_windows > 1 {
            page.entry("for", &format!("{} windows in a row", alert.for_windows));
        }
    }
}

pub(super) fn sinks(checked: &Checked, page: &mut Page) {
    let spec = &checked.manifest.spec;
    if spec.sinks.is_empty() {
        return;
    }
    page.heading("sinks");
    for sink in &spec.sinks {
        let takes = [("tables", &sink.tables), ("streams", &sink.streams), ("topics", &sink.topics)];
        let takes = takes.iter().filter(|(_, names)| !names.is_empty());
        let takes = takes.map(|(what, names)| format!("{what} {}", list(names.iter().map(String::as_str))));
        let takes = takes.collect::<Vec<_>>().join("; ");
        let filter = sink.filter.as_ref().map(|filter| format!(" where {filter}")).unwrap_or_default();
        page.line(1, &format!("{} ← {takes}{filter}", sink.name));
        page.line(2, &destination(sink));
    }
}

fn destination(sink: &Sink) -> String {
    if let Some(couchbase) = &sink.couchbase {
        let ttl = couchbase.ttl.map(|ttl| format!(", for {ttl}")).unwrap_or_default();
        return format!(
            "Couchbase {}.{}, a collection for each table{ttl}; a document is replaced by a newer version only",
            couchbase.bucket.name, couchbase.scope
        );
    }
    if let Some(postgres) = &sink.postgres {
        let table = postgres.table.as_deref().unwrap_or("a table for each");
        let key = if sink.streams.is_empty() {
            "the primary key is window and group"
        } else {
            "keyed by the place in the raw topic"
        };
        return format!("PostgreSQL {}, {table}; {key}", postgres.schema);
    }
    if let Some(redis) = &sink.redis {
        let ttl = redis.ttl.map(|ttl| format!(", for {ttl}")).unwrap_or_default();
        return format!("Redis, keys {}<table>:<group>{ttl}", redis.key_prefix);
    }
    if let Some(parquet) = &sink.parquet {
        return format!("Parquet {}, a file every {} or {}", parquet.path, parquet.roll_every, parquet.roll_size);
    }
    match &sink.kafka {
        Some(kafka) => format!("topic {}", kafka.topic),
        None => "the console".to_owned(),
    }
}

pub(super) fn schedules(checked: &Checked, page: &mut Page) {
    let spec = &checked.manifest.spec;
    if spec.schedules.is_empty() {
        return;
    }
    page.heading("schedules");
    for schedule in &spec.schedules {
        let since = schedule.replay.since.map(|since| format!(", the last {since}")).unwrap_or_default();
        let tables = match schedule.replay.tables.is_empty() {
            true => "all tables".to_owned(),
            false => list(schedule.replay.tables.iter().map(String::as_str)),
        };
        page.line(
            1,
            &format!(
                "{} at {} {}: replay {} into {tables}{since}",
                schedule.name, schedule.cron, schedule.time_zone, schedule.replay.from
            ),
        );
    }
}

pub(super) fn ledgers(checked: &Checked, page: &mut Page) {
    page.heading("ledgers");
    for stream in &checked.plan.streams {
        page.line(1, &format!("{}: read = accepted + duplicate + invalid + expired", stream.name));
    }
    for table in &checked.plan.tables {
        page.line(1, &format!("{}: accepted = counted + late + filtered", table.name));
    }
}
