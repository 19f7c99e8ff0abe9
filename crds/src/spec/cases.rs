//! Given these events, when they have passed, then these rows: cases that `clickstream test` runs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::Any;

/// A case: events in, rows out. `clickstream test` also runs it shuffled within the bound, duplicated, cut by a crash,
/// in other batches and partitions, and expects the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestCase {
    /// What the case says, as a sentence.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// What arrives, in this order.
    #[schemars(length(min = 1, max = 64))]
    pub given: Vec<TestGiven>,
    /// What happens then.
    #[serde(default)]
    pub when: TestWhen,
    /// What the tables, the alerts and the ledger say afterwards.
    #[schemars(length(min = 1, max = 64))]
    pub then: Vec<TestThen>,
}

/// Events that arrive on one topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestGiven {
    /// The topic; where the pipeline has one only, it may be left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub topic: Option<String>,
    /// Values of fields that every event has unless it says otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 256))]
    pub defaults: BTreeMap<String, Any>,
    /// JSON objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub events: Vec<Any>,
    /// Records as they are, for those that are not JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 65536)))]
    pub raw: Vec<String>,
}

/// What happens after the events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestWhen {
    /// The sources end: every window closes.
    #[serde(default = "yes")]
    pub sources_end: bool,
}

impl Default for TestWhen {
    fn default() -> Self {
        Self { sources_end: true }
    }
}

/// What is expected. Exactly one of `table`, `stream`, `alert`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestThen {
    /// A table, whose `rows` are expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub table: Option<String>,
    /// A stream, whose `ledger` is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub stream: Option<String>,
    /// An alert, whose `rows` (`window_start`, group columns, `state`) are expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub alert: Option<String>,
    /// The rows, in any order; columns that are not named are not compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub rows: Vec<BTreeMap<String, Any>>,
    /// There may be further rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub among_others: bool,
    /// Counts by name: `read`, `accepted`, `duplicate`, `invalid`; for a table `counted`, `late`, `filtered`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 8))]
    pub ledger: BTreeMap<String, u64>,
}

const fn yes() -> bool {
    true
}
