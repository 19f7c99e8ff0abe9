//! Sources of events.

use engine::{plan::ColumnPlan, value::Type};

use super::{exactly_one, generators, kafka};
use crate::{
    expression,
    lower::{columns_of, type_of, unknown},
    problem::{Report, field, named, quote},
    spec::{Dataset, Ingester, KafkaSource, Pace, PipelineSpec, Volume},
};

pub(super) fn check(spec: &PipelineSpec, report: &mut Report) {
    for ingester in &spec.ingest {
        let path = named("spec.ingest", &ingester.name);
        let kinds = [
            ("synthetic", ingester.synthetic.is_some()),
            ("dataset", ingester.dataset.is_some()),
            ("http", ingester.http.is_some()),
            ("kafka", ingester.kafka.is_some()),
        ];
        exactly_one(report, &path, "an ingester", &kinds);
        targets(spec, ingester, &path, report);
        autoscale(ingester.autoscale.as_ref(), &field(&path, "autoscale"), report);
        if let Some(synthetic) = &ingester.synthetic {
            generators::check(spec, ingester, synthetic, &field(&path, "synthetic"), report);
        }
        if let Some(dataset) = &ingester.dataset {
            self::dataset(dataset, &field(&path, "dataset"), report);
        }
        if let Some(http) = &ingester.http {
            crate::lower::positive(report, &field(&field(&path, "http"), "timeout"), http.timeout);
            if http.max_body_size.bytes == 0 {
                report.add(&field(&field(&path, "http"), "maxBodySize"), "must be larger than zero");
            }
        }
        if let Some(source) = &ingester.kafka {
            let path = field(&path, "kafka");
            kafka::check((&source.bootstrap_servers, source.sasl.as_ref()), &path, report);
            circle(spec, ingester, source, &field(&path, "topic"), report);
        }
    }
}

/// A topic of the pipeline's own brokers that is copied into itself would never end.
fn circle(spec: &PipelineSpec, ingester: &Ingester, source: &KafkaSource, path: &str, report: &mut Report) {
    let own = spec.kafka.iter().flat_map(|kafka| &kafka.bootstrap_servers);
    let is_here = own.into_iter().any(|server| source.bootstrap_servers.contains(server));
    let mut targets = ingester.topic.iter().chain(ingester.routes.iter().map(|route| &route.topic));
    if is_here && targets.any(|topic| *topic == source.topic) {
        report.add(path, "is the topic that the events go to: they would go in a circle");
    }
}

pub(super) fn autoscale(autoscale: Option<&crate::spec::Autoscale>, path: &str, report: &mut Report) {
    let Some(autoscale) = autoscale else { return };
    if autoscale.min_replicas > autoscale.max_replicas {
        let problem = report.problem(&field(path, "minReplicas"), "must be at most maxReplicas");
        report.push(problem.accepts(format!("at most {}", autoscale.max_replicas)));
    }
    crate::lower::positive(report, &field(path, "drainWithin"), autoscale.drain_within);
}

/// Checks `topic` or `routes`.
fn targets(spec: &PipelineSpec, ingester: &Ingester, path: &str, report: &mut Report) {
    let topics = || spec.topics.iter().map(|topic| topic.name.as_str());
    let known = |name: &str| topics().any(|topic| topic == name);
    exactly_one(
        report,
        path,
        "an ingester",
        &[("topic", ingester.topic.is_some()), ("routes", !ingester.routes.is_empty())],
    );
    if let Some(topic) = ingester.topic.as_ref().filter(|topic| !known(topic)) {
        unknown(report, &field(path, "topic"), "topic", topic, "spec.topics", topics());
    }
    let columns = event_columns(spec, ingester);
    for (at, route) in ingester.routes.iter().enumerate() {
        let path = format!("{path}.routes[{at}]");
        if !known(&route.topic) {
            unknown(report, &field(&path, "topic"), "topic", &route.topic, "spec.topics", topics());
        }
        match &route.when {
            Some(when) => {
                if let Err(problems) = expression::parse_as(when, &columns, Type::Boolean) {
                    report.expression(&field(&path, "when"), problems);
                }
            }
            None if at + 1 < ingester.routes.len() => {
                let message = "a route without when takes everything: the routes behind it would never be reached";
                report.add(&path, message);
            }
            None => {}
        }
    }
}

/// The columns over which the ingester's `routes` are written: the fields that the streams behind its topics declare,
/// then what else its generator or dataset makes. Dataset columns that no stream declares are strings.
#[must_use]
pub fn event_columns(spec: &PipelineSpec, ingester: &Ingester) -> Vec<ColumnPlan> {
    let targets = || ingester.topic.iter().chain(ingester.routes.iter().map(|route| &route.topic));
    let mut columns: Vec<ColumnPlan> = Vec::new();
    let mut add = |name: &str, ty: Type| {
        if !columns.iter().any(|column| column.name == name) {
            columns.push(ColumnPlan { name: name.to_owned(), ty });
        }
    };
    for stream in spec.streams.iter().filter(|stream| stream.topics.iter().any(|topic| targets().any(|to| to == topic)))
    {
        stream.fields.iter().for_each(|field| add(&field.name, type_of(field.ty)));
    }
    if let Some(dataset) = &ingester.dataset {
        dataset.columns.keys().for_each(|name| add(name, Type::String));
    }
    if let Some(synthetic) = &ingester.synthetic {
        columns_of(spec, synthetic).into_iter().for_each(|column| add(&column.name, column.ty));
    }
    columns
}

fn dataset(dataset: &Dataset, path: &str, report: &mut Report) {
    if dataset.pace.is_some() && dataset.events_per_second.is_some() {
        report.add(&field(path, "pace"), "either pace or eventsPerSecond, not both");
    }
    if dataset.speed.is_some() && dataset.pace != Some(Pace::EventTime) {
        let problem = report.problem(&field(path, "speed"), "is for the pace of the event times");
        report.push(problem.accepts("with pace: eventTime"));
    }
    if let Some(delimiter) = dataset.delimiter.as_deref().filter(|delimiter| !delimiter.is_ascii()) {
        report.add(&field(path, "delimiter"), format!("must be one ASCII character, and is {}", quote(delimiter)));
    }
    volume(dataset.volume.as_ref(), &field(path, "volume"), report);
}

pub(super) fn volume(volume: Option<&Volume>, path: &str, report: &mut Report) {
    let Some(volume) = volume else { return };
    let given = [
        ("configMap", volume.config_map.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
    ];
    exactly_one(report, path, "a volume", &given);
}
