//! Where events come from.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    kafka::{Kafka, Sasl, Tls},
    process::{Autoscale, Resources},
    synthetic::Synthetic,
    values::{Duration, Size},
};

/// A source of events. Exactly one of `synthetic`, `dataset`, `http` and `kafka`; and either `topic` or `routes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.synthetic), has(self.dataset), has(self.http), has(self.kafka)].filter(x, x).size() == 1")
    .message("exactly one of synthetic, dataset, http, kafka"))]
#[x_kube(validation = Rule::new("has(self.topic) != has(self.routes)").message("either topic or routes"))]
pub struct Ingester {
    /// Name of the ingester; its pods carry it.
    #[schemars(length(min = 1, max = 40), regex(pattern = crate::spec::patterns::OBJECT_NAME))]
    pub name: String,
    /// Topic that all events go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub topic: Option<String>,
    /// Topics by condition: an event goes to the first route whose `when` is true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub routes: Vec<Route>,
    /// How many pods share the work. Every row of a dataset is read once, whatever the number.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 256))]
    pub replicas: u32,
    /// At least `minReplicas` pods share the work then. HTTP collectors come and go by load up to `maxReplicas`, by a
    /// HorizontalPodAutoscaler; other ingesters do not, and nobody looks at `drainWithin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// Processor and memory of a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Events that are made up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Synthetic>,
    /// Events from files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<Dataset>,
    /// Events that browsers and servers post.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Events from a topic of another Kafka cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSource>,
}

/// A topic for the events that meet a condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// A boolean expression over the event's fields; without it everything matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub when: Option<String>,
    /// The topic.
    #[schemars(length(min = 1, max = 200))]
    pub topic: String,
}

/// Events from files: CSV, JSON (an array or one value a line), plain, gzip or zstd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.eventsPerSecond) || !has(self.pace)").message("either pace or eventsPerSecond"))]
pub struct Dataset {
    /// A file, a directory, a pattern (`data/*.csv.gz`) or an object store (`s3://bucket/prefix/`). On a laptop it is
    /// relative to the manifest, in a cluster to the volume.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Where the path lies in a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Secret with the object store's credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub credentials_secret: Option<String>,
    /// How the files are written; by their ending unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<DatasetFormat>,
    /// Field of the event → column of the file. Without it every column keeps its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 256))]
    pub columns: BTreeMap<String, String>,
    /// What separates the columns of a CSV file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1))]
    pub delimiter: Option<String>,
    /// How fast: as the disk allows, or as the events happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// With `pace: eventTime`: how many times faster than it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 1_000_000.0))]
    pub speed: Option<f64>,
    /// Events a second, all replicas together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 100_000_000.0))]
    pub events_per_second: Option<f64>,
    /// Begin again at the end.
    #[serde(default, rename = "loop", skip_serializing_if = "std::ops::Not::not")]
    pub repeat: bool,
    /// Move all times so that the first event happens now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shift_times_to_now: bool,
}

impl Ingester {
    /// Pods that share the work; none where the manifest says 0 of them.
    #[must_use]
    pub fn pods(&self) -> u32 {
        let least = self.autoscale.as_ref().map_or(0, |autoscale| autoscale.min_replicas);
        if self.replicas == 0 { 0 } else { self.replicas.max(least) }
    }
}

impl Dataset {
    /// Whether replicas may divide the rows among them: neither a clock that all of them would have to share nor the end of
    /// a pass matters.
    #[must_use]
    pub fn has_shares(&self) -> bool {
        !self.repeat && !self.shift_times_to_now && self.pace != Some(Pace::EventTime)
    }
}

/// How the files of a dataset are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DatasetFormat {
    /// Comma-separated values with a header.
    Csv,
    /// A JSON array, or values one after the other.
    Json,
    /// One JSON object a line.
    Jsonl,
}

/// How fast a dataset is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Pace {
    /// As fast as they can be read.
    AsFastAsPossible,
    /// At the distances of the event times.
    EventTime,
}

/// Where files lie in a cluster. Exactly one of the two; a laptop ignores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMap) != has(self.persistentVolumeClaim)").message("exactly one of configMap, persistentVolumeClaim"))]
pub struct Volume {
    /// Name of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub config_map: Option<String>,
    /// Name of a PersistentVolumeClaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub persistent_volume_claim: Option<String>,
}

/// A collector that events are posted to, one or many in a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Port to listen on.
    #[serde(default = "collector_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Path that events are posted to.
    #[serde(default = "collector_path")]
    #[schemars(length(min = 1, max = 256), regex(pattern = crate::spec::patterns::HTTP_PATH))]
    pub path: String,
    /// Secret whose values are the accepted bearer tokens. Without it everybody may post.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub tokens_secret: Option<String>,
    /// Largest body that is taken.
    #[serde(default = "mebibyte")]
    pub max_body_size: Size,
    /// Origins whose pages may post.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub cors: Vec<String>,
    /// How long a request may take.
    #[serde(default = "ten_seconds")]
    pub timeout: Duration,
}

/// A topic of another Kafka cluster, copied event by event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSource {
    /// Brokers to start from, as `host:port`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub bootstrap_servers: Vec<String>,
    /// The topic there.
    #[schemars(length(min = 1, max = 249))]
    pub topic: String,
    /// TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// Where a first start begins.
    #[serde(default)]
    pub start_from: StartFrom,
}

impl KafkaSource {
    /// The way to the cluster.
    #[must_use]
    pub fn cluster(&self) -> Kafka {
        Kafka { bootstrap_servers: self.bootstrap_servers.clone(), tls: self.tls.clone(), sasl: self.sasl.clone() }
    }
}

/// Where reading a foreign topic begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StartFrom {
    /// At the oldest event.
    #[default]
    Earliest,
    /// At the next event.
    Latest,
}

const fn one() -> u32 {
    1
}

const fn collector_port() -> u16 {
    8090
}

fn collector_path() -> String {
    "/v1/events".into()
}

const fn mebibyte() -> Size {
    Size::mebibytes(1)
}

const fn ten_seconds() -> Duration {
    Duration::seconds(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ingester_of_none_stays_one_of_none() {
        let pods = |numbers: &str| {
            let text = format!("{{name: made, topic: t, {numbers}}}");
            serde_yaml::from_str::<Ingester>(&text).unwrap().pods()
        };
        assert_eq!(pods("replicas: 3"), 3);
        assert_eq!(pods("autoscale: {minReplicas: 2, maxReplicas: 4}"), 2);
        assert_eq!(pods("replicas: 3, autoscale: {minReplicas: 2, maxReplicas: 4}"), 3);
        assert_eq!(pods("replicas: 0, autoscale: {minReplicas: 2, maxReplicas: 4}"), 0);
    }
}
