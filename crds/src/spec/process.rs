//! How the work is spread, recovered and scaled.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::Duration;

/// Processing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// How many pods share the partitions.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 256))]
    pub replicas: u32,
    /// After a pod dies, its work goes on within this. Checkpoints and time-outs follow from it.
    #[serde(default = "half_a_minute")]
    pub recovery: Duration,
    /// Scale by load instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// Threads in each pod; its processors unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub threads: Option<u32>,
    /// Partitions between the two halves of the work; the largest number of partitions of a topic unless said. It is
    /// fixed for the life of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub shuffle_partitions: Option<u32>,
    /// Where checkpoints are kept.
    #[serde(default)]
    pub checkpoints: Checkpoints,
    /// Processor and memory of a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            replicas: one(),
            recovery: half_a_minute(),
            autoscale: None,
            threads: None,
            shuffle_partitions: None,
            checkpoints: Checkpoints::default(),
            resources: None,
        }
    }
}

/// Scaling by load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas is at most maxReplicas"))]
pub struct Autoscale {
    /// Never fewer.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 256))]
    pub min_replicas: u32,
    /// Never more.
    #[schemars(range(min = 1, max = 256))]
    pub max_replicas: u32,
    /// A backlog is worked off within this.
    #[serde(default = "five_minutes")]
    pub drain_within: Duration,
    /// Only say in the status what would be done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observe_only: bool,
}

/// Where checkpoints are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoints {
    /// An object store (`s3://bucket/prefix/`); a compacted topic unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub store: Option<String>,
    /// Secret with the object store's credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub credentials_secret: Option<String>,
    /// How often; derived from `recovery` unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
}

/// Processor and memory, as Kubernetes writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside: `cpu: 500m`, `memory: 512Mi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 8))]
    pub requests: BTreeMap<String, String>,
    /// What is never exceeded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 8))]
    pub limits: BTreeMap<String, String>,
}

const fn one() -> u32 {
    1
}

const fn half_a_minute() -> Duration {
    Duration::seconds(30)
}

const fn five_minutes() -> Duration {
    Duration::seconds(300)
}
