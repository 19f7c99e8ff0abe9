//! Jobs by the clock, and the service levels that are promised.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::Duration;

/// A job by the clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Name of the job.
    #[schemars(length(min = 1, max = 40), regex(pattern = crate::spec::patterns::OBJECT_NAME))]
    pub name: String,
    /// When: minute, hour, day of month, month, day of week.
    #[schemars(length(min = 1, max = 100))]
    pub cron: String,
    /// The time zone of `cron`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Do not start it for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Compute tables again from the archived raw events, and alert where they differ from the live ones.
    pub replay: Replay,
}

/// Computing tables again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// The sink that archives raw records of topics.
    #[schemars(length(min = 1, max = 40))]
    pub from: String,
    /// How far back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Duration>,
    /// Which tables; all unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub tables: Vec<String>,
}

/// Service levels: measured, shown, alerted on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objectives {
    /// 95 of 100 events are in a result within this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p95: Option<Duration>,
    /// Share of events that are counted exactly once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub accuracy: Option<f64>,
    /// Share of time in which results are no older than `latencyP95`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub availability: Option<f64>,
}

fn utc() -> String {
    "UTC".into()
}
