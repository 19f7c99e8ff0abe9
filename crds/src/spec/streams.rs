//! What an event looks like, what makes one valid, and streams made by joining two.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ingest::Volume, values::Duration};

/// A stream of events. Either it reads `topics`, or it is a `join` of two other streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.topics) != has(self.join)").message("either topics or join"))]
pub struct Stream {
    /// Name of the stream.
    #[schemars(length(min = 1, max = 40), regex(pattern = crate::spec::patterns::STREAM_NAME))]
    pub name: String,
    /// Topics it reads; all of them carry the same kind of event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 200)))]
    pub topics: Vec<String>,
    /// Field whose value keys the records, so that one key's events stay in one partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub key: Option<String>,
    /// When an event happened. Windows, sessions, funnels and joins need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTime>,
    /// What identifies an event, so that a repeated one counts once. It needs `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Fields of the event; other fields are ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 256))]
    pub fields: Vec<Field>,
    /// What makes an event valid. An event for which a check is false becomes a dead letter; null passes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub rules: Vec<StreamRule>,
    /// Share of valid events that is aimed for; the dashboard shows where it is not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Columns that lookups add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub enrich: Vec<Enrich>,
    /// Marks robots by their user agent: adds the column `is_bot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bots: Option<Bots>,
    /// Columns that are computed; each may use those before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub derive: Vec<Derived>,
    /// Makes the stream of the pairs of two others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
}

/// When an event happened, and how far events may be out of order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventTime {
    /// The timestamp field.
    #[schemars(length(min = 1, max = 63))]
    pub field: String,
    /// Events may be this much older than the newest one and still count.
    #[serde(default)]
    pub out_of_orderness: Duration,
    /// A partition without new events for this long no longer holds the others back.
    #[serde(default = "half_a_minute")]
    pub idle_after: Duration,
}

/// What identifies an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Id {
    /// The field.
    #[schemars(length(min = 1, max = 63))]
    pub field: String,
    /// How long an id is remembered.
    pub deduplicate_within: Duration,
}

/// A field of the event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// What expressions call it.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::spec::patterns::COLUMN_NAME))]
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: FieldType,
    /// An event in which it is missing or null is invalid.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Where it lies in the event, keys from the outside in: `payload.user.id`. Its name unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub path: Option<String>,
    /// It is about a person: it is hashed before anything else sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pii: Option<Pii>,
    /// What it means, for readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

/// Types of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FieldType {
    /// True or false.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// An exact number with nine fraction digits.
    Decimal,
    /// Text.
    String,
    /// A point in time.
    Timestamp,
}

/// How a personal field is hidden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pii {
    /// A keyed hash: equal values stay equal, nobody without the key can guess them.
    pub hash: Hash,
}

/// A keyed hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hash {
    /// Secret with `key`.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub key_secret: String,
}

/// A condition that valid events meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamRule {
    /// Name of the rule; dead letters show it.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::spec::patterns::OBJECT_NAME))]
    pub name: String,
    /// A boolean expression over the stream's fields.
    #[schemars(length(min = 1, max = 4096))]
    pub check: String,
}

/// A target for the share of valid events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quality {
    /// The share.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub target: f64,
    /// Length of the window that is judged.
    #[serde(default = "minute")]
    pub over: Duration,
}

/// A lookup that adds columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Enrich {
    /// Name of the lookup.
    #[schemars(length(min = 1, max = 40))]
    pub lookup: String,
    /// The stream's field that is looked up. No match gives nulls.
    #[schemars(length(min = 1, max = 63))]
    pub key: String,
    /// Columns to add.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    pub take: Vec<String>,
}

/// Marking of robots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bots {
    /// The field with the user agent.
    #[schemars(length(min = 1, max = 63))]
    pub user_agent: String,
    /// Whether robots are only marked, or left out of every table.
    #[serde(default)]
    pub action: BotAction,
}

/// What happens to robots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BotAction {
    /// They are marked.
    #[default]
    Flag,
    /// They count in no table.
    Drop,
}

/// A computed column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Derived {
    /// Name of the column.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::spec::patterns::COLUMN_NAME))]
    pub name: String,
    /// An expression over the stream's fields, lookups' columns and the columns derived before.
    #[serde(rename = "as")]
    #[schemars(length(min = 1, max = 4096))]
    pub expression: String,
}

/// The pairs of two streams: a left event and the right events of the same key that hold at its time. The columns are
/// the left's by their names, then the right's; a right column whose name the left has too is `<right>_<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// The stream whose events are paired; its event time is the pair's.
    #[schemars(length(min = 1, max = 40))]
    pub left: String,
    /// The stream whose events hold for a while.
    #[schemars(length(min = 1, max = 40))]
    pub right: String,
    /// `left.column = right.column`.
    #[serde(rename = "match")]
    #[schemars(length(min = 1, max = 4096))]
    pub condition: String,
    /// `left.time between right.start and right.end`; `right.start` is the right stream's event time.
    #[schemars(length(min = 1, max = 4096))]
    pub during: String,
    /// Longest that a right event may hold: the bound on state.
    pub within: Duration,
}

/// A table of facts by key. Exactly one of `file`, `topic`, `couchbase`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.file), has(self.topic), has(self.couchbase)].filter(x, x).size() == 1").message("exactly one of file, topic, couchbase"))]
pub struct Lookup {
    /// Name of the lookup.
    #[schemars(length(min = 1, max = 40), regex(pattern = crate::spec::patterns::STREAM_NAME))]
    pub name: String,
    /// Field of its rows that holds the key.
    #[schemars(length(min = 1, max = 63))]
    pub key: String,
    /// A CSV or JSON file (an array or one object a line). On a laptop relative to the manifest, in a cluster to the
    /// volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub file: Option<String>,
    /// Where the file lies in a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// A compacted topic with one JSON object for each key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub topic: Option<String>,
    /// A Couchbase collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub couchbase: Option<LookupCollection>,
    /// Types of its columns; a column that is not listed is a string.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub fields: Vec<LookupField>,
}

/// A column of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LookupField {
    /// Name of the column.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::spec::patterns::COLUMN_NAME))]
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: FieldType,
}

/// A Couchbase collection that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LookupCollection {
    /// Secret with `connectionString`, `username` and `password`.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub connection_secret: String,
    /// Bucket.
    #[schemars(length(min = 1, max = 100))]
    pub bucket: String,
    /// Scope.
    #[serde(default = "default_scope")]
    #[schemars(length(min = 1, max = 251))]
    pub scope: String,
    /// Collection.
    #[schemars(length(min = 1, max = 251))]
    pub collection: String,
}

const fn half_a_minute() -> Duration {
    Duration::seconds(30)
}

const fn minute() -> Duration {
    Duration::seconds(60)
}

fn default_scope() -> String {
    "_default".into()
}
