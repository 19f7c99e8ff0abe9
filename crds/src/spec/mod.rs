//! The manifest as types: every field that people may write, with its doc, default and bounds.
//!
//! The doc comments are what `kubectl explain` shows. Bounds on lists and strings keep the cost of the rules that an
//! API server evaluates within its budget. What a schema cannot say (names that must exist, types of expressions) is
//! [`crate::check`]'s.

pub mod alerts;
pub mod cases;
mod deletion;
pub mod ingest;
pub mod kafka;
pub mod patterns;
pub mod process;
pub mod schedules;
pub mod serve;
pub mod sinks;
pub mod streams;
pub mod synthetic;
pub mod tables;

pub mod values;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::PipelineStatus;

pub use self::{
    alerts::*, cases::*, ingest::*, kafka::*, process::*, schedules::*, serve::*, sinks::*, streams::*, synthetic::*,
    tables::*, values::*,
};

/// A pipeline: which topics exist, what an event looks like, which tables are wanted, where they go, and when someone
/// must be told.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "clickstream.dev",
    version = "v1alpha1",
    kind = "ClickstreamPipeline",
    plural = "clickstreampipelines",
    shortname = "csp",
    category = "clickstream",
    namespaced,
    doc = "A pipeline from user events to live tables, described by one manifest.",
    status = "PipelineStatus",
    derive = "PartialEq",
    selectable = ".spec.suspend",
    scale(
        spec_replicas_path = ".spec.process.replicas",
        status_replicas_path = ".status.process.replicas",
        label_selector_path = ".status.process.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Rate", type_ = "string", json_path = ".status.process.rate"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.process.lag"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.process.readyReplicas", priority = 1),
    printcolumn(name = "Quality", type_ = "string", json_path = ".status.quality", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name has at most 40 characters, because the names of everything made for the pipeline begin with it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.topics) || oldSelf.topics.all(t, (has(self.topics) && self.topics.exists(n, n.name == t.name)) || (has(t.deletionPolicy) ? t.deletionPolicy : oldSelf.deletionPolicy) == 'Retain')")
    .message("a topic whose deletionPolicy is Delete cannot be taken out of the list: set it to Retain first"))]
pub struct PipelineSpec {
    /// The Kafka cluster. A laptop needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<Kafka>,
    /// Topics of raw events, and those that sinks write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub topics: Vec<Topic>,
    /// Tables of facts by key, for enrichment and generators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub lookups: Vec<Lookup>,
    /// Where events come from. Other programs may write to the topics as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub ingest: Vec<Ingester>,
    /// What events look like and what makes one valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub streams: Vec<Stream>,
    /// What is computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub tables: Vec<Table>,
    /// When someone must be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub alerts: Vec<Alert>,
    /// Where tables, events and raw records go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub sinks: Vec<Sink>,
    /// How the work is spread, recovered and scaled.
    #[serde(default)]
    pub process: Process,
    /// The query interface and the dashboard.
    #[serde(default)]
    pub serve: Serve,
    /// Jobs by the clock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub schedules: Vec<Schedule>,
    /// Service levels that are promised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objectives: Option<Objectives>,
    /// Cases for `clickstream test`; a running pipeline ignores them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tests: Vec<TestCase>,
    /// What becomes of topics and of collections of its tables when the pipeline is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Drain and stop everything; topics, buckets and checkpoints stay.
    #[serde(default)]
    pub suspend: bool,
    /// Whether changes are made at once, or wait in `status.plan` for approval.
    #[serde(default)]
    pub apply: ApplyMode,
    /// With `apply: Manual`: the hash of the plan that may be carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub approve: Option<String>,
    /// Any text; a change restarts all pods, one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub restart: Option<String>,
}

/// What becomes of what holds data when the pipeline is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted: topics that the pipeline looks after and did not adopt, its own topics, collections of its tables. Buckets, and tables of
    /// other stores, stay.
    Delete,
}

/// Whether changes are made at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApplyMode {
    /// At once.
    #[default]
    Automatic,
    /// After approval.
    Manual,
}
