//! Events that are made up: what each field looks like.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Any, Duration, Ordered};

/// A generator of events. The same seed gives the same events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Synthetic {
    /// Events a second, all replicas together; as fast as possible unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 100_000_000.0))]
    pub events_per_second: Option<f64>,
    /// How many events; with `duration`, whatever comes first ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub count: Option<u64>,
    /// How long; for ever unless `duration` or `count` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Seed of all choices.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub seed: u64,
    /// RFC 3339 time at which the generator's clock starts; it then runs by `eventsPerSecond`. Without it the clock is
    /// the real one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 40))]
    pub start_at: Option<String>,
    /// Share of events that are sent a second time.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub duplicates: f64,
    /// Events that arrive late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
    /// Share of events that are broken: cut JSON, wrong types, missing fields.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub malformed: f64,
    /// Shape the load like a shop's: a daily curve, visits with several pages, a few popular products. Fields that
    /// are not given are filled sensibly from the streams that read the topic.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub realistic: bool,
    /// Field → how its values are made. A nested field has dots. Fields may use each other, in any order.
    #[serde(default, skip_serializing_if = "Ordered::is_empty")]
    pub fields: Ordered<Generator>,
}

/// Lateness of made-up events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Late {
    /// Share of events.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// How late they are.
    pub by: Duration,
}

/// How the values of a field are made. Exactly one way; `fixedPer` and `cases` modify it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Generator {
    /// A random UUID (version 4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// A number that counts up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// One of many names made by a format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_of: Option<OneOf>,
    /// One of a list, each as likely.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub choice: Option<Vec<Any>>,
    /// One of a list by weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighted: Option<Ordered<f64>>,
    /// The present time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Now>,
    /// A decimal with two fraction digits, each as likely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal: Option<DecimalRange>,
    /// A whole number, each as likely; both ends included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integer: Option<IntegerRange>,
    /// Always the same value.
    #[serde(rename = "const", skip_serializing_if = "Option::is_none")]
    pub constant: Option<Any>,
    /// Text with other fields in braces: `/product/{product_id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub template: Option<String>,
    /// An SQL expression over the other fields and over the row of a lookup that a `from` field chose
    /// (`products.price`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub expression: Option<String>,
    /// The number of a visit: it changes when the key has been idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_of: Option<SessionOf>,
    /// A key of a lookup, each as likely.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub from: Option<String>,
    /// Other ways for events that meet a condition; the first that holds counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub cases: Vec<GeneratorCase>,
    /// The value depends on this other field alone: one price for each product.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub fixed_per: Option<String>,
}

/// Options of `uuid`: none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uuid {}

/// A number that counts up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sequence {
    /// `printf`-like: one `%d` or `%08d`. Without it the field is an integer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub format: Option<String>,
    /// The first number.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub start: u64,
}

/// One of `count` names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OneOf {
    /// `printf`-like: one `%d` or `%04d`, from 1 to `count`.
    #[schemars(length(min = 1, max = 256))]
    pub format: String,
    /// How many there are.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub count: u64,
    /// Names that come more often: name → share of all events.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 100))]
    pub share: BTreeMap<String, f64>,
}

/// The present time, as RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Now {
    /// Up to this much earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
}

/// A range of decimals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecimalRange {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Fraction digits.
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 9))]
    pub digits: u8,
}

/// A range of whole numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntegerRange {
    /// The least.
    pub min: i64,
    /// The greatest.
    pub max: i64,
}

/// Visits of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionOf {
    /// The field that tells visitors apart.
    #[schemars(length(min = 1, max = 63))]
    pub key: String,
    /// A visit ends after this long without an event.
    pub idle: Duration,
    /// `printf`-like, with the number of the visit.
    #[schemars(length(min = 1, max = 256))]
    pub format: String,
}

/// Another way to make a value, under a condition. Exactly one of `weighted`, `choice`, `const`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GeneratorCase {
    /// A boolean expression over the other fields.
    #[schemars(length(min = 1, max = 4096))]
    pub when: String,
    /// One of a list by weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighted: Option<Ordered<f64>>,
    /// One of a list, each as likely.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub choice: Option<Vec<Any>>,
    /// Always the same value.
    #[serde(rename = "const", skip_serializing_if = "Option::is_none")]
    pub constant: Option<Any>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

const fn two() -> u8 {
    2
}
