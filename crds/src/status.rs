//! What the operator reports about a pipeline.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a pipeline, as the cluster answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineStatus {
    /// Generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Progressing, Degraded, TopicsReady, StoreReady, WorkersReady, and one for each refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 32))]
    pub conditions: Vec<Condition>,
    /// Hash of the spec that runs; after an invalid change it is that of the last good one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_hash: Option<String>,
    /// Processing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessStatus>,
    /// Topics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub topics: Vec<PartStatus>,
    /// Ingesters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub ingest: Vec<PartStatus>,
    /// Sinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub sinks: Vec<PartStatus>,
    /// Share of events that were valid, lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// Where every event went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerStatus>,
    /// What would be done next, where it waits for approval or is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
}

/// A condition as Kubernetes knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence, and what to do.
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: String,
    /// Generation of the spec that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The state of processing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that work.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the pods.
    #[serde(default)]
    pub selector: String,
    /// Events a second, lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Events that wait, and how long they take at this rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
    /// Events a second that a pod was seen to do when it had enough to do. Scaling begins with it where another operator leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i64>,
    /// The last decision about scaling, with what it was based on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<String>,
}

/// The state of a topic, an ingester or a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartStatus {
    /// Its name in the spec.
    pub name: String,
    /// `Ready`, `Progressing`, `Degraded` or `Unknown`.
    pub state: String,
    /// Why, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What an ingester or a sink does a second, lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// What waits, and how long it takes at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
}

/// Where every event went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerStatus {
    /// Records that were read.
    pub read: i64,
    /// Events that were accepted.
    pub accepted: i64,
    /// Events that came again.
    pub duplicate: i64,
    /// Records that are dead letters.
    pub invalid: i64,
    /// Records that retention took first.
    pub expired: i64,
    /// What the others do not explain: zero, or an alert.
    pub unaccounted: i64,
}

/// What would be done next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// What `spec.approve` must say.
    pub hash: String,
    /// The steps.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub steps: Vec<String>,
}
