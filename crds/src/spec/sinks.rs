//! Where tables, events and raw records go.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ingest::Volume,
    process::Resources,
    values::{Duration, Size},
};

/// A destination. Exactly one of `couchbase`, `postgres`, `redis`, `parquet`, `kafka`, `console`; at least one of
/// `tables`, `streams`, `topics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.couchbase), has(self.postgres), has(self.redis), has(self.parquet), has(self.kafka), has(self.console)].filter(x, x).size() == 1")
    .message("exactly one of couchbase, postgres, redis, parquet, kafka, console"))]
#[x_kube(validation = Rule::new("has(self.tables) || has(self.streams) || has(self.topics)").message("at least one of tables, streams, topics"))]
pub struct Sink {
    /// Name of the sink; its pods carry it.
    #[schemars(length(min = 1, max = 40), regex(pattern = crate::spec::patterns::OBJECT_NAME))]
    pub name: String,
    /// Tables whose rows it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub tables: Vec<String>,
    /// Streams whose accepted events it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 40)))]
    pub streams: Vec<String>,
    /// Topics whose raw records it takes, byte for byte.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 200)))]
    pub topics: Vec<String>,
    /// Only what meets this boolean expression over the columns of the stream or table.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub filter: Option<String>,
    /// How many pods share the work.
    #[serde(default = "one_replica")]
    #[schemars(range(min = 0, max = 64))]
    pub replicas: u32,
    /// Processor and memory of a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Couchbase: a document for each row, a collection for each table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub couchbase: Option<Couchbase>,
    /// PostgreSQL: a table for each table, or one row for each event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
    /// Redis: a hash or a JSON text for each row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// Parquet files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parquet: Option<Parquet>,
    /// A topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSink>,
    /// The log of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console: Option<Console>,
}

/// Couchbase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Couchbase {
    /// Secret with `connectionString`, `username` and `password`; `ca.crt` for TLS with an authority of your own.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub connection_secret: String,
    /// The bucket; it is made if it is not there.
    pub bucket: Bucket,
    /// The scope; it is made if it is not there.
    #[serde(default = "default_scope")]
    #[schemars(length(min = 1, max = 251), regex(pattern = crate::spec::patterns::SCOPE_NAME))]
    pub scope: String,
    /// How safe a write is before it counts as done.
    #[serde(default)]
    pub durability: Durability,
    /// A document that was not written for this long goes away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Have Couchbase's own operator make bucket, scope and collections, from resources of its kinds beside the pipeline. It
    /// manages the whole bucket: scopes and collections of others in it go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<CouchbaseOperator>,
}

/// Resources of Couchbase's own operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CouchbaseOperator {
    /// Labels by which a CouchbaseCluster selects its buckets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 16))]
    pub labels: BTreeMap<String, String>,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.name == oldSelf.name && self.type == oldSelf.type")
    .message("name and type of a bucket cannot change: use a sink of another name"))]
pub struct Bucket {
    /// Name of the bucket.
    #[schemars(length(min = 1, max = 100), regex(pattern = crate::spec::patterns::BUCKET_NAME))]
    pub name: String,
    /// Kind of bucket.
    #[serde(default, rename = "type")]
    pub bucket_type: BucketType,
    /// Memory on each node.
    #[serde(default = "default_quota")]
    pub ram_quota: Size,
    /// Copies of each document.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3))]
    pub replicas: u8,
}

/// Kinds of buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BucketType {
    /// On disk.
    #[default]
    Couchbase,
    /// In memory only.
    Ephemeral,
}

/// How safe a write to Couchbase is before it counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Durability {
    /// The active copy has it in memory.
    #[default]
    None,
    /// A majority of the copies has it.
    Majority,
    /// A majority of the copies has it on disk.
    PersistToMajority,
}

/// PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Postgres {
    /// Secret with `url`, or `host`, `database`, `username` and `password`.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub connection_secret: String,
    /// Schema.
    #[serde(default = "public")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::spec::patterns::SQL_NAME))]
    pub schema: String,
    /// Name of the table, where the sink takes one table or stream only; the same name unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::spec::patterns::SQL_NAME))]
    pub table: Option<String>,
    /// Whether rows are kept up to date, or every event is added once.
    #[serde(default)]
    pub mode: PostgresMode,
}

/// How rows are written to PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PostgresMode {
    /// Rows are kept up to date.
    #[default]
    Upsert,
    /// Every event is added once.
    InsertOnce,
}

/// Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    /// Secret with `url`.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub connection_secret: String,
    /// What keys begin with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub key_prefix: String,
    /// What a row is: `hash` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<RedisFormat>,
    /// A row that did not change for this long goes away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
}

/// What a row is in Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RedisFormat {
    /// A hash with a field for each column.
    #[default]
    Hash,
    /// One text: a JSON object with the columns.
    Json,
}

/// Parquet files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parquet {
    /// A directory or an object store (`s3://bucket/prefix/`). On a laptop it is relative to the data directory.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Where the path lies in a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Secret with the object store's credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub credentials_secret: Option<String>,
    /// Directories by the day or hour of the event.
    #[serde(default)]
    pub partition_by: PartitionBy,
    /// A file is closed after this long.
    #[serde(default = "minute")]
    pub roll_every: Duration,
    /// A file is closed at this size.
    #[serde(default = "roll_size")]
    pub roll_size: Size,
}

/// Directories of Parquet files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PartitionBy {
    /// One directory.
    #[default]
    None,
    /// By day.
    Date,
    /// By hour.
    Hour,
}

/// A topic that is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSink {
    /// The topic, one of `topics`.
    #[schemars(length(min = 1, max = 200))]
    pub topic: String,
}

/// The log of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Console {
    /// Print the tables after so many events, instead of every changed row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub every: Option<u64>,
    /// How it looks.
    #[serde(default)]
    pub format: ConsoleFormat,
}

/// How rows look on the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ConsoleFormat {
    /// As a table.
    #[default]
    Table,
    /// As JSON, a row a line.
    Json,
}

const fn one_replica() -> u32 {
    1
}

fn default_scope() -> String {
    "_default".into()
}

const fn default_quota() -> Size {
    Size::mebibytes(256)
}

fn public() -> String {
    "public".into()
}

const fn minute() -> Duration {
    Duration::seconds(60)
}

const fn roll_size() -> Size {
    Size::mebibytes(128)
}
