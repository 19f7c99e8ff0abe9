//! What is computed: windows, groups, aggregates, funnels.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Duration, Ordered};

/// A result table, kept up to date. Either `select` or `funnel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.select) != has(self.funnel)").message("either select or funnel"))]
pub struct Table {
    /// Name of the table.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::spec::patterns::TABLE_NAME))]
    pub name: String,
    /// The stream it is made from.
    #[schemars(length(min = 1, max = 40))]
    pub from: String,
    /// Only events for which this boolean expression is true count.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub filter: Option<String>,
    /// How time is divided. Without it the table holds running totals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Columns to group by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub group_by: Vec<String>,
    /// Column → expression over aggregates, group columns and other columns of this table.
    #[serde(default, skip_serializing_if = "Ordered::is_empty")]
    pub select: Ordered<String>,
    /// How far people get through ordered steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub funnel: Option<Funnel>,
    /// Without a window: a group without events for this long is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_for: Option<Duration>,
    /// Without a window: at most so many groups; the one longest without events goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_groups: Option<u64>,
    /// When rows are shown.
    #[serde(default)]
    pub emit: Emit,
}

/// How time is divided. Exactly one of `tumbling`, `hopping`, `session`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.tumbling), has(self.hopping), has(self.session)].filter(x, x).size() == 1").message("exactly one of tumbling, hopping, session"))]
pub struct Window {
    /// Windows of this length, one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tumbling: Option<Duration>,
    /// Windows that overlap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hopping: Option<Hopping>,
    /// Visits: events of a group no further apart than a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// How long after its end a window still takes late events and corrects its row.
    #[serde(default)]
    pub allowed_lateness: Duration,
}

/// Windows that overlap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hopping {
    /// Length of a window.
    pub size: Duration,
    /// Distance between the starts of two.
    pub every: Duration,
}

/// Visits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Longest pause inside a visit.
    pub gap: Duration,
}

/// When rows are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Emit {
    /// A changed row is shown at most this often.
    #[serde(default = "second")]
    pub every: Duration,
    /// Show final rows only, once nothing in the declared bounds can change them.
    #[serde(default, rename = "final", skip_serializing_if = "std::ops::Not::not")]
    pub final_only: bool,
}

impl Default for Emit {
    fn default() -> Self {
        Self { every: second(), final_only: false }
    }
}

/// How far entities get through ordered steps. The columns are one count for each step, `conversion` and
/// `seconds_to_convert`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Funnel {
    /// Who goes through it: a column.
    #[schemars(length(min = 1, max = 63))]
    pub by: String,
    /// All steps happen within this of the first.
    pub within: Duration,
    /// All steps of one passage share this column's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub same_key: Option<String>,
    /// The steps, in order.
    #[schemars(length(min = 1, max = 16))]
    pub steps: Vec<FunnelStep>,
}

/// A step of a funnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunnelStep {
    /// Name of the step, which is its column.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::spec::patterns::COLUMN_NAME))]
    pub name: String,
    /// Which events reach it.
    #[serde(rename = "where")]
    #[schemars(length(min = 1, max = 4096))]
    pub filter: String,
    /// Which events undo it for those that stand exactly at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub undone_by: Option<String>,
}

const fn second() -> Duration {
    Duration::seconds(1)
}
