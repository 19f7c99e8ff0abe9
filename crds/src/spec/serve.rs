//! The query interface and the dashboard.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{process::Resources, values::Duration};

/// Serving of tables to people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Serve {
    /// How many pods answer.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 16))]
    pub replicas: u32,
    /// The dashboard.
    #[serde(default)]
    pub dashboard: Dashboard,
    /// An address outside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
    /// Secret whose values are the accepted tokens: as bearer, or as the password that a browser asks for. Without it
    /// everybody who reaches the port may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub tokens_secret: Option<String>,
    /// Processor and memory of a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl Default for Serve {
    fn default() -> Self {
        Self { replicas: one(), dashboard: Dashboard::default(), ingress: None, tokens_secret: None, resources: None }
    }
}

/// The dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    /// How often the page asks for news.
    #[serde(default = "two_seconds")]
    pub refresh: Duration,
    /// Leave it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self { refresh: two_seconds(), disabled: false }
    }
}

/// An address outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// Host name.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub host: String,
    /// Ingress class; the cluster's default unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub class_name: Option<String>,
    /// Secret with the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub tls_secret: Option<String>,
}

const fn one() -> u32 {
    1
}

const fn two_seconds() -> Duration {
    Duration::seconds(2)
}
