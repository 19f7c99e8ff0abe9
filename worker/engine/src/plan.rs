//! What to compute, already checked: names resolved to indices, expressions typed, bounds known.
//!
//! Only `crds::lower` makes a [`Plan`]; the engine trusts it. Everything users see is reached by index; names are
//! kept for output alone. Lists keep the manifest's order.

use crate::{
    expr::{ColumnId, Expr},
    time::Millis,
    value::Type,
};

/// A whole pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The pipeline's name.
    pub pipeline: String,
    /// Raw topics; a source partition is (index here, partition).
    pub topics: Vec<TopicPlan>,
    /// Lookup tables for enrichment.
    pub lookups: Vec<LookupPlan>,
    /// Streams read from topics.
    pub streams: Vec<StreamPlan>,
    /// Streams made by joining two of `streams`.
    pub joins: Vec<JoinPlan>,
    /// Result tables.
    pub tables: Vec<TablePlan>,
    /// Conditions on tables.
    pub alerts: Vec<AlertPlan>,
    /// Partitions of the shuffle, fixed within an epoch. At least one.
    pub shuffle_partitions: u32,
}

/// A raw topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Name of the topic.
    pub name: String,
    /// Number of partitions, at least one.
    pub partitions: u32,
}

/// A named and typed column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPlan {
    /// What users call it.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// A table of facts, loaded by the driver: rows are looked up by a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupPlan {
    /// Name of the lookup.
    pub name: String,
    /// Field of the file that holds the key.
    pub key: String,
    /// Columns that some stream takes, in the order they are stored.
    pub columns: Vec<ColumnPlan>,
}

/// A stream of events. Its columns are: decoded fields, then what lookups add, then `is_bot` if asked for, then
/// what `derive` adds; [`StreamPlan::columns`] names all of them in that order.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamPlan {
    /// Name of the stream.
    pub name: String,
    /// Topics it reads, as indices into [`Plan::topics`].
    pub topics: Vec<usize>,
    /// The field whose value keys the raw records, if the manifest says.
    pub key: Option<ColumnId>,
    /// Decoded fields; field `i` is column `i`.
    pub fields: Vec<FieldPlan>,
    /// Every column, in order.
    pub columns: Vec<ColumnPlan>,
    /// Event time; `None` for a stream that no window, join or session reads.
    pub event_time: Option<EventTimePlan>,
    /// Deduplication.
    pub deduplicate: Option<DeduplicatePlan>,
    /// Rules, over decoded fields.
    pub rules: Vec<RulePlan>,
    /// Lookups, in order; each appends its columns.
    pub enrich: Vec<EnrichPlan>,
    /// Bot marking; appends the boolean column `is_bot`.
    pub bots: Option<BotPlan>,
    /// Derived columns, in order; each may read all columns before it.
    pub derive: Vec<Expr>,
    /// Quality target in millionths (0.95 is 950,000) over a window of milliseconds.
    pub quality: Option<QualityPlan>,
    /// Whether accepted events are written to the stream's own topic (something reads the stream).
    pub silver: bool,
}

/// A field of the JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPlan {
    /// What users call it.
    pub name: String,
    /// Where it lies: object keys from the outside in. A plain field has one.
    pub path: Vec<String>,
    /// Its type. Not [`Type::List`].
    pub ty: Type,
    /// Null or absent is invalid.
    pub required: bool,
    /// Replace the value by a keyed hash before anything else sees it.
    pub hashed: bool,
}

/// Event time and how far it may be out of order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTimePlan {
    /// The timestamp column. Events without it are invalid.
    pub column: ColumnId,
    /// The watermark trails the latest event time by this.
    pub out_of_orderness_ms: Millis,
    /// A partition that has been read to its end for this long no longer holds the others back.
    pub idle_after_ms: Millis,
}

/// Deduplication by id within a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeduplicatePlan {
    /// The id column. Events without an id are not deduplicated.
    pub column: ColumnId,
    /// An id is forgotten once the partition's watermark is later than max(event time, watermark) at its
    /// first sighting by more than this.
    pub within_ms: Millis,
}

/// A rule. Only `false` fails; null passes.
#[derive(Clone, Debug, PartialEq)]
pub struct RulePlan {
    /// Name, which becomes the reason of the dead letter.
    pub name: String,
    /// A boolean expression over the decoded fields.
    pub check: Expr,
}

/// A lookup that adds columns to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrichPlan {
    /// Index into [`Plan::lookups`].
    pub lookup: usize,
    /// The stream's string column that is looked up. No match gives nulls.
    pub key: ColumnId,
    /// Columns of the lookup that are appended, in order.
    pub take: Vec<usize>,
}

/// Marking of robots by their user agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BotPlan {
    /// The string column with the user agent.
    pub column: ColumnId,
    /// Drop robots (they count as filtered in every table's ledger) instead of only flagging them.
    pub drop: bool,
}

/// A quality target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QualityPlan {
    /// Accepted share below which an alert is raised, in millionths.
    pub target_ppm: u32,
    /// Length of the window judged, in event time.
    pub over_ms: Millis,
}

/// An inner join of two streams, bounded in time. A left row at `t` pairs with the right rows of the same key
/// whose start ≤ t ≤ end, where end is at most start + `within_ms` (a longer right row is invalid).
#[derive(Clone, Debug, PartialEq)]
pub struct JoinPlan {
    /// Name of the resulting stream.
    pub name: String,
    /// Index of the left stream; its event time is the pair's event time.
    pub left: usize,
    /// Index of the right stream; its event time is `start`.
    pub right: usize,
    /// Key expression over the left stream's columns.
    pub left_key: Expr,
    /// Key expression over the right stream's columns, of the same type.
    pub right_key: Expr,
    /// The right column with the start.
    pub start: ColumnId,
    /// The right column with the end.
    pub end: ColumnId,
    /// Bound on state.
    pub within_ms: Millis,
    /// The pair's columns: which side and column each comes from.
    pub columns: Vec<JoinColumnPlan>,
}

/// A column of a joined stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinColumnPlan {
    /// Name and type in the joined stream.
    pub column: ColumnPlan,
    /// Side it comes from.
    pub side: Side,
    /// Column of that side.
    pub source: ColumnId,
}

/// A side of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The stream whose events are paired.
    Left,
    /// The stream with validity intervals.
    Right,
}

/// What a table reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Index into [`Plan::streams`].
    Stream(usize),
    /// Index into [`Plan::joins`].
    Join(usize),
}

/// A result table.
#[derive(Clone, Debug, PartialEq)]
pub struct TablePlan {
    /// Name of the table.
    pub name: String,
    /// Raised whenever the definition or anything upstream of it changes; documents and checkpoints carry it.
    pub epoch: u32,
    /// Hash of the definition and of everything upstream of it.
    pub fingerprint: u64,
    /// What it reads.
    pub input: Input,
    /// Rows for which this is not true are counted as filtered.
    pub filter: Option<Expr>,
    /// The window.
    pub window: Window,
    /// A window is kept for corrections until the watermark passes its end by this.
    pub lateness_ms: Millis,
    /// Grouping, over the input's columns.
    pub group_by: Vec<GroupPlan>,
    /// What is computed.
    pub kind: TableKind,
    /// Columns of a row behind the group columns, over the "result columns": group columns first, then, for
    /// aggregates, one column for each aggregate; for funnels, the columns of [`FunnelPlan`].
    pub outputs: Vec<OutputPlan>,
    /// Without a window: a group without events for this long (by the watermark) is dropped.
    pub keep_for_ms: Option<Millis>,
    /// Without a window: at most so many groups; the one longest without events goes first.
    pub max_groups: Option<u64>,
    /// When rows leave.
    pub emit: Emit,
}

/// A group column.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupPlan {
    /// Name and type.
    pub column: ColumnPlan,
    /// Its value, over the input's columns.
    pub expr: Expr,
}

/// An output column.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputPlan {
    /// Name and type; the type may be [`Type::List`].
    pub column: ColumnPlan,
    /// Its value, over the result columns. A list is only ever a plain [`Expr::Column`].
    pub expr: Expr,
}

/// When rows leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emit {
    /// Changed rows leave at most this often; `None` means only final rows do.
    pub every_ms: Option<Millis>,
}

/// Windows. Sizes are positive milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// One running total.
    None,
    /// `[k·size, (k+1)·size)`.
    Tumbling {
        /// Length.
        size_ms: Millis,
    },
    /// `[k·every, k·every + size)`; kept as panes of gcd(size, every).
    Hopping {
        /// Length.
        size_ms: Millis,
        /// Distance between starts; at most the size.
        every_ms: Millis,
    },
    /// Events of a group no further apart than the gap belong together; the window is `[first, last + gap]`.
    Session {
        /// The gap.
        gap_ms: Millis,
    },
}

/// What a table computes.
#[derive(Clone, Debug, PartialEq)]
pub enum TableKind {
    /// Aggregates per window and group.
    Aggregate(Vec<AggregatePlan>),
    /// How far entities get through ordered steps.
    Funnel(FunnelPlan),
}

/// One aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregatePlan {
    /// The function.
    pub function: Aggregate,
    /// Its argument over the input's columns; `None` only for `count()`.
    pub argument: Option<Expr>,
    /// Only rows for which this is true count.
    pub filter: Option<Expr>,
}

impl AggregatePlan {
    /// The type of the result.
    #[must_use]
    pub fn type_of(&self) -> Type {
        let argument = || self.argument.as_ref().map_or(Type::Integer, Expr::type_of);
        match self.function {
            Aggregate::Count | Aggregate::CountDistinct | Aggregate::ApproxDistinct => Type::Integer,
            Aggregate::Sum | Aggregate::Min | Aggregate::Max | Aggregate::First | Aggregate::Last => argument(),
            Aggregate::Average | Aggregate::ApproxPercentile { .. } => Type::Decimal,
            Aggregate::BoolOr | Aggregate::BoolAnd => Type::Boolean,
            Aggregate::Top { .. } | Aggregate::LastN { .. } | Aggregate::LastDistinct { .. } => Type::List,
        }
    }
}

/// Aggregate functions. Nulls of the argument are skipped by all of them; over no values at all `count`s are 0
/// and the others null (lists are empty).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// `count()` or `count(x)`.
    Count,
    /// `sum(x)` of integers or decimals, exact.
    Sum,
    /// `avg(x)`: exact sum over count, a decimal.
    Average,
    /// `min(x)`.
    Min,
    /// `max(x)`.
    Max,
    /// `count(distinct x)`, exact.
    CountDistinct,
    /// `approx_distinct(x)` by HyperLogLog with 2^12 registers: standard error 1.6 %.
    ApproxDistinct,
    /// `approx_percentile(x, q)` by DDSketch with relative error 1 %; `q` in millionths.
    ApproxPercentile {
        /// The quantile in millionths.
        quantile_ppm: u32,
    },
    /// `first(x)`: by event time, then id, then value bytes.
    First,
    /// `last(x)`.
    Last,
    /// `last_n(n, x)`: the newest first.
    LastN {
        /// How many.
        count: u32,
    },
    /// `last_distinct(n, x)`: the newest first, each value once, at its newest.
    LastDistinct {
        /// How many.
        count: u32,
    },
    /// `top(n, x)`: pairs `[value, count]`, most frequent first; ties by value, ascending.
    Top {
        /// How many.
        count: u32,
    },
    /// `bool_or(x)`.
    BoolOr,
    /// `bool_and(x)`.
    BoolAnd,
}

/// A funnel. The result columns behind the group columns are: one integer for each step (entities that stand at
/// it or beyond), then `conversion` (decimal: last step by first step, null over zero) and
/// `seconds_to_convert` (decimal: mean time from first to last step of those that stand at the last).
#[derive(Clone, Debug, PartialEq)]
pub struct FunnelPlan {
    /// The entity, over the input's columns. Events where it is null are filtered.
    pub by: Expr,
    /// The last step must be reached within this of the first.
    pub within_ms: Millis,
    /// All events of one passage share this value.
    pub same_key: Option<Expr>,
    /// Two to sixteen steps in order.
    pub steps: Vec<FunnelStepPlan>,
    /// Without a window: an entity without events for this long is forgotten; its counts stay.
    pub forget_after_ms: Millis,
}

/// A step of a funnel.
#[derive(Clone, Debug, PartialEq)]
pub struct FunnelStepPlan {
    /// Name, which becomes the column.
    pub name: String,
    /// Which events reach it.
    pub when: Expr,
    /// Which events undo it for those that stand exactly at it.
    pub undone_by: Option<Expr>,
}

/// A condition on the rows of a windowed or unwindowed table.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertPlan {
    /// Name of the alert.
    pub name: String,
    /// Index into [`Plan::tables`].
    pub table: usize,
    /// Boolean over the "alert columns": group columns, then output columns, then one decimal column for each of
    /// `zscores`.
    pub when: Expr,
    /// The `zscore(column, n)` calls in `when`.
    pub zscores: Vec<ZScorePlan>,
    /// Consecutive windows for which `when` must hold; at least one.
    pub for_windows: u32,
}

/// `zscore(column, windows)`: how many standard deviations the value lies from the mean of the windows before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZScorePlan {
    /// Output column it judges, as an index into [`TablePlan::outputs`].
    pub output: usize,
    /// How many windows before this one.
    pub windows: u32,
    /// A window without a row counts as zero (counts and sums of events) instead of being skipped.
    pub missing_is_zero: bool,
}
