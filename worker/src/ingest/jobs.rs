//! From the manifest to what each ingester has to do: everything is looked at before anything runs.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use crds::{
    Checked,
    spec::{Dataset, DatasetFormat, FieldType, Http, Ingester, Pace as PaceSpec, Synthetic},
};
use crossbeam_channel::Receiver;
use engine::{
    plan::{FieldPlan, Plan, StreamPlan},
    time::Millis,
    value::Type,
};

use tokio::sync::Semaphore;

use super::{
    IngestError, IngestOptions,
    dataset::{self, Format, files, pace::Pace, times::Times},
    expressions::Expression,
    http::{self, Check, Collector, Posted},
    limits::BODIES_KIB_MAX,
    mirror, now,
    outbox::Target,
    routes::Routes,
    synthetic::{
        self,
        compile::{Surroundings, compile, path_of},
        generator::Generator,
        lookup::Rows,
    },
};

/// What one ingester has to do.
pub(super) struct Job {
    pub(super) name: String,
    pub(super) targets: Vec<Target>,
    pub(super) routes: Routes,
    pub(super) work: Work,
}

/// How its events come about.
pub(super) enum Work {
    /// They are made.
    Generate(synthetic::Feed),
    /// They are read from files.
    Read(dataset::Feed),
    /// They are copied.
    Copy(mirror::Feed),
    /// They are posted.
    Collect { collector: Arc<Collector>, posted: Receiver<Posted>, port: u16, until: Option<Instant> },
}

/// Events a second on the clock of a generator that has no rate: a million, so that its clock can follow the real one.
const RATE_FREE: f64 = 1e6;

/// The same where the clock starts at a fixed time and nothing can be followed.
const RATE_FIXED: f64 = 1e3;

/// Decides what every ingester of the manifest has to do.
pub(super) fn prepare(checked: &Checked, options: &IngestOptions) -> Result<Vec<Job>, IngestError> {
    let spec = &checked.manifest.spec;
    let wanted = |ingester: &&Ingester| options.only.as_ref().is_none_or(|only| *only == ingester.name);
    spec.ingest.iter().filter(wanted).map(|ingester| job(checked, ingester, options)).collect()
}

fn job(checked: &Checked, ingester: &Ingester, options: &IngestOptions) -> Result<Job, IngestError> {
    let plan = &checked.plan;
    let topics = topics_of(ingester);
    let until = options.duration.map(|duration| Instant::now() + duration);
    let work = match ingester {
        Ingester { synthetic: Some(spec), .. } => Work::Generate(generate(checked, ingester, spec, options)?),
        Ingester { dataset: Some(spec), .. } => Work::Read(read(plan, ingester, spec, &topics, options)?),
        Ingester { http: Some(spec), .. } => collect(plan, ingester, spec, &topics, options, until)?,
        _ => match options.upstreams.get(&ingester.name) {
            Some(upstream) => Work::Copy(mirror::Feed { upstream: Arc::clone(upstream), until }),
            None => return Err(problem(ingester, "kafka", "this build has no client of Kafka")),
        },
    };
    Ok(Job {
        name: ingester.name.clone(),
        targets: topics.iter().map(|topic| target(plan, topic)).collect(),
        routes: routes(checked, ingester)?,
        work,
    })
}

fn topics_of(ingester: &Ingester) -> Vec<&str> {
    match &ingester.topic {
        Some(topic) => vec![topic],
        None => ingester.routes.iter().map(|route| route.topic.as_str()).collect(),
    }
}

fn problem(ingester: &Ingester, part: &str, message: &str) -> IngestError {
    IngestError::Manifest { path: format!("spec.ingest[{}].{part}", ingester.name), message: message.into() }
}

/// The streams that read any of `topics`.
fn streams_of<'a>(plan: &'a Plan, topics: &[&str]) -> Vec<&'a StreamPlan> {
    let reads = |stream: &&StreamPlan| stream.topics.iter().any(|topic| topics.contains(&&*plan.topics[*topic].name));
    plan.streams.iter().filter(reads).collect()
}

fn target(plan: &Plan, topic: &str) -> Target {
    let keyed = streams_of(plan, &[topic]).into_iter().find_map(|stream| Some(stream.fields[stream.key?].path.clone()));
    Target { topic: topic.into(), key: keyed }
}

/// Fields of all streams that read any of `topics`; of one name the first counts.
fn fields_of(plan: &Plan, topics: &[&str]) -> Vec<FieldPlan> {
    let mut fields: Vec<FieldPlan> = Vec::new();
    for field in streams_of(plan, topics).into_iter().flat_map(|stream| &stream.fields) {
        if !fields.iter().any(|known| known.name == field.name) {
            fields.push(field.clone());
        }
    }
    fields
}

fn type_of(ty: FieldType) -> Type {
    match ty {
        FieldType::Boolean => Type::Boolean,
        FieldType::Integer => Type::Integer,
        FieldType::Decimal => Type::Decimal,
        FieldType::String => Type::String,
        FieldType::Timestamp => Type::Timestamp,
    }
}

fn generate(
    checked: &Checked,
    ingester: &Ingester,
    spec: &Synthetic,
    options: &IngestOptions,
) -> Result<synthetic::Feed, IngestError> {
    let start = start_at(ingester, spec)?;
    let rate = spec.events_per_second.unwrap_or(if start.is_some() { RATE_FIXED } else { RATE_FREE });
    let lasting = |seconds: f64| spec.events_per_second.map(|rate| (rate * seconds).ceil() as u64);
    let endless = spec.count.is_none() && spec.duration.is_none();
    let bound = spec.duration.map(|duration| duration.to_std()).or(options.duration.filter(|_| endless));
    let by_time = bound.and_then(|bound| lasting(bound.as_secs_f64()));
    Ok(synthetic::Feed {
        model: model(checked, ingester, spec, &options.directory, start.unwrap_or_else(now), rate)?,
        total: spec.count.into_iter().chain(by_time).min(),
        paced: spec.events_per_second.is_some(),
        fixed_start: start.is_some(),
        until: bound.filter(|_| by_time.is_none()).map(|bound| Instant::now() + bound),
    })
}

fn start_at(ingester: &Ingester, spec: &Synthetic) -> Result<Option<Millis>, IngestError> {
    let Some(text) = &spec.start_at else { return Ok(None) };
    let time = engine::decode::timestamp(text.as_bytes());
    let wrong =
        || problem(ingester, "synthetic.startAt", &format!("{text:?} is not a time such as 2025-11-21T04:40:00Z"));
    time.map(Some).ok_or_else(wrong)
}

fn model(
    checked: &Checked,
    ingester: &Ingester,
    spec: &Synthetic,
    directory: &Path,
    start: Millis,
    rate: f64,
) -> Result<synthetic::generator::Model, IngestError> {
    let path = format!("spec.ingest[{}].synthetic", ingester.name);
    let mut lookups = BTreeMap::new();
    for name in spec.fields.iter().filter_map(|(_, field)| field.from.as_ref()) {
        let known = checked.manifest.spec.lookups.iter().find(|lookup| lookup.name == *name);
        if let Some((lookup, file)) = known.and_then(|lookup| Some((lookup, lookup.file.as_ref()?))) {
            let types: Vec<(String, Type)> =
                lookup.fields.iter().map(|field| (field.name.clone(), type_of(field.ty))).collect();
            lookups.insert(name.clone(), Rows::read(directory, file, &lookup.key, &types)?);
        }
    }
    let streams = streams_of(&checked.plan, &topics_of(ingester));
    compile(spec, Surroundings { path: &path, streams: &streams, lookups: &lookups, start, rate })
}

/// 2025-01-01T00:00:00Z: where the clock of `clickstream generate` starts unless somebody says.
const START: Millis = 1_735_689_600_000;

/// Makes the generator of a synthetic ingester, for `clickstream generate`, and says how many events it makes, if it
/// ends. Its clock starts at `start`, or where the manifest says.
///
/// # Errors
/// As [`super::spawn`].
pub fn generator(
    checked: &Checked,
    ingester: &Ingester,
    spec: &Synthetic,
    directory: &Path,
    start: Option<Millis>,
) -> Result<(Generator, Option<u64>), IngestError> {
    let start = start.or(start_at(ingester, spec)?).unwrap_or(START);
    let rate = spec.events_per_second.unwrap_or(RATE_FIXED);
    let lasting = spec.duration.map(|duration| (rate * duration.to_std().as_secs_f64()).ceil() as u64);
    let total = spec.count.into_iter().chain(lasting).min();
    Ok((Generator::new(model(checked, ingester, spec, directory, start, rate)?, 1, 0), total))
}

fn read(
    plan: &Plan,
    ingester: &Ingester,
    spec: &Dataset,
    topics: &[&str],
    options: &IngestOptions,
) -> Result<dataset::Feed, IngestError> {
    let format = format_of(ingester, spec)?;
    let files = match options.remotes.get(&ingester.name) {
        Some(remote) => files::list_remote(remote, &spec.path, format.extensions())?,
        None if spec.path.contains("://") => {
            let told = "an object store is read in a fleet only; expected a file or directory";
            return Err(problem(ingester, "dataset.path", told));
        }
        None => files::list(&options.directory, &spec.path, format.extensions())?,
    };
    let fields = fields_of(plan, topics);
    let pace = match (spec.events_per_second, spec.pace) {
        (Some(rate), _) => Pace::Rate(rate),
        (None, Some(PaceSpec::EventTime)) => Pace::EventTime { speed: spec.speed.unwrap_or(1.0) },
        (None, Some(PaceSpec::AsFastAsPossible) | None) => Pace::Free,
    };
    let times = fields.iter().filter(|field| field.ty == Type::Timestamp).map(|field| field.path.clone());
    let event_time = |stream: &StreamPlan| Some(stream.fields[stream.event_time.as_ref()?.column].path.clone());
    let mut events: Vec<_> = streams_of(plan, topics).into_iter().filter_map(event_time).collect();
    events.dedup();
    let low_field = (events.len() == 1).then(|| events[0].join("."));
    let event = events.into_iter().next();
    let feed = dataset::Feed {
        path: spec.path.clone(),
        files,
        format,
        delimiter: spec.delimiter.as_ref().and_then(|delimiter| delimiter.bytes().next()).unwrap_or(b','),
        columns: spec.columns.clone().into_iter().collect(),
        pace,
        repeat: spec.repeat,
        times: Times::new(event, if spec.shift_times_to_now { times.collect() } else { Vec::new() }),
        fields,
        low_field,
        until: options.duration.filter(|_| spec.repeat).map(|duration| Instant::now() + duration),
    };
    feed.check()?;
    Ok(feed)
}

fn format_of(ingester: &Ingester, spec: &Dataset) -> Result<Format, IngestError> {
    let plain = spec.path.trim_end_matches(".gz").trim_end_matches(".zst");
    match spec.format {
        Some(DatasetFormat::Csv) => Ok(Format::Csv),
        Some(DatasetFormat::Json) => Ok(Format::Json),
        Some(DatasetFormat::Jsonl) => Ok(Format::JsonLines),
        None if plain.ends_with(".csv") => Ok(Format::Csv),
        None if plain.ends_with(".json") => Ok(Format::Json),
        None if plain.ends_with(".jsonl") || plain.ends_with(".ndjson") => Ok(Format::JsonLines),
        None => Err(problem(
            ingester,
            "dataset.format",
            "the path's ending does not tell the format; expected csv, json or jsonl",
        )),
    }
}

fn routes(checked: &Checked, ingester: &Ingester) -> Result<Routes, IngestError> {
    let columns = crds::event_columns(&checked.manifest.spec, ingester);
    let mut whens = Vec::new();
    // What stands behind a route without a condition is never reached.
    for (at, route) in ingester.routes.iter().enumerate() {
        let Some(text) = &route.when else { break };
        let parsed = Expression::parse(text, &columns);
        whens.push(parsed.map_err(|wrong| problem(ingester, &format!("routes[{at}].when"), &wrong))?);
    }
    // The last topic also takes what no condition holds for.
    whens.truncate(ingester.routes.len().saturating_sub(1));
    let streams = streams_of(&checked.plan, &topics_of(ingester));
    let fields = columns.into_iter().map(|column| (path_of(&column.name, &streams), column.ty));
    Ok(Routes { whens, fields: fields.collect() })
}

fn collect(
    plan: &Plan,
    ingester: &Ingester,
    spec: &Http,
    topics: &[&str],
    options: &IngestOptions,
    until: Option<Instant>,
) -> Result<Work, IngestError> {
    if spec.path.contains(['{', '}', '*', ':']) {
        return Err(problem(ingester, "http.path", "expected a plain path such as /v1/events"));
    }
    let (sender, posted) = http::queue();
    let streams = streams_of(plan, topics);
    let tokens = spec.tokens_secret.as_ref().map(|_| options.tokens.get(&ingester.name).cloned().unwrap_or_default());
    let collector = Collector {
        name: ingester.name.clone(),
        tokens,
        path: spec.path.clone(),
        timeout: spec.timeout.to_std(),
        body_bytes_max: usize::try_from(spec.max_body_size.bytes).unwrap_or(usize::MAX),
        origins: spec.cors.clone(),
        check: Check::new(streams.into_iter().cloned().collect()),
        room: Semaphore::new(BODIES_KIB_MAX as usize),
        posted: sender,
    };
    Ok(Work::Collect { collector: Arc::new(collector), posted, port: spec.port, until })
}
