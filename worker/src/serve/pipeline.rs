//! What the page needs to know of the manifest.

use std::time::Duration;

use engine::plan::Plan;
use serde::Serialize;

/// A pipeline as the page introduces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PipelineInfo {
    /// Its name.
    pub name: String,
    /// Whether the page is served at all.
    #[serde(skip)]
    pub dashboard: bool,
    /// How often the page asks for news at least.
    pub refresh_ms: u64,
    /// Its streams and joins.
    pub streams: Vec<StreamInfo>,
    /// Its alerts.
    pub alerts: Vec<AlertInfo>,
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamInfo {
    /// Name.
    pub name: String,
    /// The quality promised, if one is.
    pub quality: Option<QualityInfo>,
}

/// A promise of quality.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QualityInfo {
    /// Accepted share, in millionths.
    pub target_ppm: u32,
    /// Window over which it is judged.
    pub over_ms: i64,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertInfo {
    /// Name.
    pub name: String,
    /// The table it watches.
    pub table: String,
    /// Windows in a row for which the condition must hold.
    pub for_windows: u32,
}

impl PipelineInfo {
    /// Tells what the page needs of a plan.
    #[must_use]
    pub fn new(plan: &Plan, refresh: Duration, dashboard: bool) -> Self {
        let streams = plan.streams.iter().map(|stream| StreamInfo {
            name: stream.name.clone(),
            quality: stream
                .quality
                .as_ref()
                .map(|quality| QualityInfo { target_ppm: quality.target_ppm, over_ms: quality.over_ms }),
        });
        let joins = plan.joins.iter().map(|join| StreamInfo { name: join.name.clone(), quality: None });
        let alerts = plan.alerts.iter().map(|alert| AlertInfo {
            name: alert.name.clone(),
            table: plan.tables[alert.table].name.clone(),
            for_windows: alert.for_windows,
        });
        Self {
            name: plan.pipeline.clone(),
            dashboard,
            refresh_ms: refresh.as_millis() as u64,
            streams: streams.chain(joins).collect(),
            alerts: alerts.collect(),
        }
    }
}
