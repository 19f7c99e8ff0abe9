//! Where the topics are, and what they look like.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeletionPolicy, values::Duration};

/// The Kafka cluster. On a laptop nothing connects to it: the embedded log takes its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// Brokers to start from, as `host:port`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub bootstrap_servers: Vec<String>,
    /// TLS. Without it the connection is in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// TLS towards a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Secret with `ca.crt`. Without it the system's authorities count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub ca_secret: Option<String>,
    /// Secret with `tls.crt` and `tls.key`, for brokers that ask clients for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub certificate_secret: Option<String>,
}

/// Authentication: by user and password, or by tokens of an identity provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.mechanism == 'OAUTHBEARER') == has(self.oauth)")
    .message("oauth belongs to the mechanism OAUTHBEARER, and OAUTHBEARER needs it"))]
pub struct Sasl {
    /// How the password travels, or that tokens do.
    pub mechanism: SaslMechanism,
    /// Secret with `username` and `password`; for OAUTHBEARER with `clientId` and `clientSecret`.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub credentials_secret: String,
    /// Where tokens come from. For OAUTHBEARER only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth: Option<Oauth>,
}

/// SASL mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// Salted challenge, SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// Salted challenge, SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// In the clear: use it with TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Tokens, which an identity provider gives for credentials: use it with TLS.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

/// Where tokens come from: the client credentials grant of RFC 6749, section 4.4.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Oauth {
    /// The identity provider's token endpoint, by https. Kafka's own name for it is `sasl.oauthbearer.token.endpoint.url`.
    #[schemars(length(min = 1, max = 1024))]
    pub token_url: String,
    /// What the token is asked to allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub scope: Option<String>,
    /// Whom the token is for, where the provider asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub audience: Option<String>,
    /// SASL extensions that brokers ask for, such as `logicalCluster`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 16))]
    pub extensions: BTreeMap<String, String>,
    /// Secret with `ca.crt` for the token endpoint. Without it that of `tls` counts, and else the public authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::spec::patterns::RESOURCE_NAME))]
    pub ca_secret: Option<String>,
    /// The client's secret may travel to `tokenUrl` in the clear.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_plain_http: bool,
}

/// A topic of raw events, or one that a sink writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.partitions >= oldSelf.partitions")
    .message("partitions can only grow: a topic with fewer is a new topic")
    .field_path(".partitions"))]
#[x_kube(validation = Rule::new("has(self.replicationFactor) == has(oldSelf.replicationFactor) && (!has(self.replicationFactor) || self.replicationFactor == oldSelf.replicationFactor)")
    .message("replicationFactor cannot change here: reassign the partitions with Kafka's own tools")
    .field_path(".replicationFactor"))]
pub struct Topic {
    /// Name of the topic: letters, digits, dots, underscores and hyphens.
    #[schemars(length(min = 1, max = 200), regex(pattern = crate::spec::patterns::TOPIC_NAME))]
    pub name: String,
    /// Number of partitions. It can only grow.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub partitions: u32,
    /// Copies of each partition; the broker's default unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 15))]
    pub replication_factor: Option<u16>,
    /// How long events are kept; the broker's default unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
    /// Further topic configuration, as Kafka names it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 64))]
    pub config: BTreeMap<String, String>,
    /// Take over a topic that was there before the pipeline, instead of refusing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
    /// Whether the pipeline creates, grows and sets the topic as said here, or only looks at one that is there.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// What becomes of the topic with the pipeline; the pipeline's `deletionPolicy` unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Who looks after a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManagementPolicy {
    /// `setup` and the operator create it, grow it, and set what is named.
    #[default]
    Manage,
    /// It is only looked at: never created, grown or set. It has to be there, with as many partitions as are said.
    Observe,
}

const fn one() -> u32 {
    1
}
