//! When someone must be told.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A condition on the rows of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Name of the alert.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::spec::patterns::OBJECT_NAME))]
    pub name: String,
    /// The table whose rows are judged.
    #[schemars(length(min = 1, max = 63))]
    pub table: String,
    /// A boolean expression over the table's columns; `zscore(column, n)` compares with the n windows before.
    #[schemars(length(min = 1, max = 4096))]
    pub when: String,
    /// Consecutive windows for which it must hold.
    #[serde(default = "one", rename = "for")]
    #[schemars(range(min = 1, max = 1000))]
    pub for_windows: u32,
    /// Who is told. Alerts stand in the table `_alerts` as well, which the API and the dashboard show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub notify: Vec<Notify>,
    /// What it means and what to do, for the person who is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

/// Who is told. Exactly one of `webhook` and `topic`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.webhook) != has(self.topic)").message("exactly one of webhook, topic"))]
pub struct Notify {
    /// An HTTP address that the alert is posted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// A topic that a fleet writes the alert to. One that spec.topics does not name is made where it is missing, and left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = crate::spec::patterns::TOPIC_NAME))]
    pub topic: Option<String>,
}

/// An HTTP address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Secret with `url`.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub url_secret: String,
}

const fn one() -> u32 {
    1
}
