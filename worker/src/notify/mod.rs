//! Telling people of alerts: which rows somebody is to hear of, and what is said.
//!
//! At least once: whoever reads the results moves its position behind what was answered, or given up. Receivers tell repeats by
//! [`Message::key`].

mod webhooks;

use std::collections::BTreeMap;

use crds::spec::PipelineSpec;
use engine::plan::Plan;
use serde_json::{Map, Value, json, value::RawValue};

pub use webhooks::Webhooks;

/// The beginning of the key of an alert's row.
pub const ALERTS_KEY: &[u8] = b"[\"_alerts\",";

/// What is known of the alerts of a pipeline.
#[derive(Clone, Debug)]
pub struct Alerts {
    pipeline: String,
    known: BTreeMap<String, Known>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    receivers: Receivers,
    description: Option<String>,
    /// Names of the columns that group its table.
    groups: Vec<String>,
}

/// Who hears of an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receivers {
    /// Secrets with the addresses of webhooks.
    pub webhooks: Vec<String>,
    /// Topics.
    pub topics: Vec<String>,
}

/// What is said of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The alert.
    pub alert: String,
    /// Of two messages with one key a receiver takes the first: `<pipeline>/<epoch>/<version>`.
    pub key: String,
    /// JSON.
    pub body: Vec<u8>,
}

impl Alerts {
    /// Those of the manifest; `plan` has their tables.
    #[must_use]
    pub fn new(plan: &Plan, spec: &PipelineSpec) -> Self {
        let known = spec.alerts.iter().map(|alert| {
            let planned = plan.alerts.iter().find(|planned| planned.name == alert.name);
            let groups = planned.into_iter().flat_map(|planned| &plan.tables[planned.table].group_by);
            let webhooks = alert.notify.iter().filter_map(|notify| Some(notify.webhook.as_ref()?.url_secret.clone()));
            let topics = alert.notify.iter().filter_map(|notify| notify.topic.clone());
            let receivers = Receivers { webhooks: webhooks.collect(), topics: topics.collect() };
            let groups = groups.map(|group| group.column.name.clone()).collect();
            (alert.name.clone(), Known { receivers, description: alert.description.clone(), groups })
        });
        Self { pipeline: plan.pipeline.clone(), known: known.collect() }
    }

    /// Who hears of `alert`.
    #[must_use]
    pub fn receivers(&self, alert: &str) -> Option<&Receivers> {
        self.known.get(alert).map(|known| &known.receivers)
    }

    /// What is said of a row of `_alerts` with this version, an epoch and an offset of its results. `None` for rows that nobody
    /// hears of.
    #[must_use]
    pub fn message(&self, (epoch, offset): (u32, u64), document: &[u8]) -> Option<Message> {
        let row: Value = serde_json::from_slice(document).ok()?;
        let alert = row["group"]["alert"].as_str()?;
        let known = self.known.get(alert).filter(|known| known.receivers != Receivers::default())?;
        // A row that is gone has none: what it said was said.
        let state = row["values"]["state"].as_str()?;
        let values: Vec<Value> = serde_json::from_str(row["group"]["group"].as_str()?).unwrap_or_default();
        let group: Map<String, Value> = known.groups.iter().cloned().zip(values).collect();
        let detail = row["values"]["detail"].as_str().unwrap_or("null").to_owned();
        let message = json!({
            "pipeline": self.pipeline, "alert": alert, "state": state, "description": known.description,
            "window_start": row["window_start"], "window_end": row["window_end"], "group": group, "epoch": epoch,
            "version": offset,
        });
        // Spliced in as text: parsing it would turn exact decimals into doubles.
        let mut body = message.to_string().into_bytes();
        body.pop();
        let detail = RawValue::from_string(detail).ok()?;
        body.extend_from_slice(format!(",\"row\":{}}}", detail.get()).as_bytes());
        Some(Message { alert: alert.to_owned(), key: format!("{}/{epoch}/{offset}", self.pipeline), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_say_nothing_to_anybody_are_not_told() {
        let text = include_str!("../../../examples/medallion.yaml");
        let checked = crds::check(text, &[]).unwrap();
        let alerts = Alerts::new(&checked.plan, &checked.manifest.spec);
        let row = |alert: &str, values: Value| {
            let group = json!({"alert": alert, "group": "[\"p1\",\"Home\"]"});
            json!({"table": "_alerts", "window_start": "2025-03-01T09:00:00Z", "group": group, "values": values})
                .to_string()
        };
        let values = json!({"state": "raised", "for_windows": 2, "detail": "{\"revenue\":0.10}"});
        let told = alerts.message((3, 7), row("high-interest-low-conversion", values.clone()).as_bytes()).unwrap();
        assert_eq!((told.alert.as_str(), told.key.as_str()), ("high-interest-low-conversion", "medallion/3/7"));
        let body = String::from_utf8(told.body).unwrap();
        assert!(body.contains("\"product_id\":\"p1\"") && body.ends_with("\"row\":{\"revenue\":0.10}}"), "{body}");
        assert_eq!(alerts.receivers(&told.alert).unwrap().topics, ["shop-alerts"]);
        // A row that is gone, an alert that names nobody, one that there is none of, what is no row.
        assert!(alerts.message((3, 8), row("high-interest-low-conversion", json!({})).as_bytes()).is_none());
        assert!(alerts.message((3, 9), row("unusual-revenue", values.clone()).as_bytes()).is_none());
        assert!(alerts.message((3, 10), row("another", values).as_bytes()).is_none());
        assert!(alerts.message((3, 11), b"{").is_none());
    }
}
