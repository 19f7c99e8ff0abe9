//! Which secrets each part needs to see: no more than that.

use crds::spec::{Ingester, PipelineSpec, Sasl, Sink, Tls};

/// Where secrets are mounted, each in a folder of its name.
pub(super) const DIRECTORY: &str = "/etc/clickstream-secrets";

/// Those of the pipeline's own Kafka cluster.
pub(super) fn of_kafka(spec: &PipelineSpec) -> Vec<String> {
    let Some(kafka) = &spec.kafka else { return Vec::new() };
    unique(of_cluster(kafka.tls.as_ref(), kafka.sasl.as_ref()).collect())
}

/// Those that open the way to a Kafka cluster.
fn of_cluster<'a>(tls: Option<&'a Tls>, sasl: Option<&'a Sasl>) -> impl Iterator<Item = String> + 'a {
    let tls = tls.into_iter().flat_map(|tls| [tls.ca_secret.clone(), tls.certificate_secret.clone()]).flatten();
    let authority = |sasl: &Sasl| sasl.oauth.as_ref().and_then(|oauth| oauth.ca_secret.clone());
    let sasl = sasl.into_iter().flat_map(move |sasl| [Some(sasl.credentials_secret.clone()), authority(sasl)]);
    tls.chain(sasl.flatten())
}

/// Those of an ingester.
pub(super) fn of_ingester(spec: &PipelineSpec, ingester: &Ingester) -> Vec<String> {
    let mut all = of_kafka(spec);
    all.extend(ingester.http.iter().filter_map(|http| http.tokens_secret.clone()));
    all.extend(ingester.dataset.iter().filter_map(|dataset| dataset.credentials_secret.clone()));
    if let Some(source) = &ingester.kafka {
        all.extend(of_cluster(source.tls.as_ref(), source.sasl.as_ref()));
    }
    unique(all)
}

/// Those of a sink.
pub(super) fn of_sink(spec: &PipelineSpec, sink: &Sink) -> Vec<String> {
    let mut all = of_kafka(spec);
    all.extend(sink.couchbase.iter().map(|to| to.connection_secret.clone()));
    all.extend(sink.postgres.iter().map(|to| to.connection_secret.clone()));
    all.extend(sink.redis.iter().map(|to| to.connection_secret.clone()));
    all.extend(sink.parquet.iter().filter_map(|to| to.credentials_secret.clone()));
    unique(all)
}

/// Those of processing.
pub(super) fn of_process(spec: &PipelineSpec) -> Vec<String> {
    let mut all = of_kafka(spec);
    all.extend(spec.process.checkpoints.credentials_secret.clone());
    let personal = spec.streams.iter().flat_map(|stream| &stream.fields).filter_map(|field| field.pii.as_ref());
    all.extend(personal.map(|personal| personal.hash.key_secret.clone()));
    all.extend(spec.lookups.iter().filter_map(|lookup| Some(lookup.couchbase.as_ref()?.connection_secret.clone())));
    unique(all)
}

/// Those of webhooks that are told of alerts.
pub(super) fn of_webhooks(spec: &PipelineSpec) -> Vec<String> {
    let told = spec.alerts.iter().flat_map(|alert| &alert.notify);
    unique(told.filter_map(|notify| Some(notify.webhook.as_ref()?.url_secret.clone())).collect())
}

/// Those of one or the other.
pub(super) fn together(mut one: Vec<String>, other: Vec<String>) -> Vec<String> {
    one.extend(other);
    unique(one)
}

/// Those of stores that `clickstream setup` looks after.
pub(super) fn of_stores(spec: &PipelineSpec) -> Vec<String> {
    unique(spec.sinks.iter().filter_map(|sink| Some(sink.couchbase.as_ref()?.connection_secret.clone())).collect())
}

fn unique(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

/// A name as names of volumes are written: a DNS label.
pub(super) fn volume_name(name: &str) -> String {
    let label: String = name
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .collect();
    if label.len() <= 40 && label == name {
        return label;
    }
    // Two names that differ in dots only must not meet.
    let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
    format!("{}-{:08x}", &label[..label.len().min(40)], hash as u32)
}
