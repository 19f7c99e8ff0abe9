//! What leaves a task at a commit, and the shape of result documents.
//!
//! Everything in one [`Output`] is committed together with the input offset, or not at all.

use crate::{
    plan::{ColumnPlan, Plan, Window},
    time::{Millis, write_rfc3339},
    value::{Type, Value, write_json_string},
};

/// What a task has to say since its last commit.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// One message for each shuffle partition, by index; an empty one is not sent.
    pub shuffle: Vec<Vec<u8>>,
    /// Changed rows, sorted by table, window and group.
    pub rows: Vec<Row>,
    /// Records that could not be counted, in offset order.
    pub dead_letters: Vec<DeadLetter>,
    /// Accepted events of streams that something reads, in offset order.
    pub silver: Vec<SilverEvent>,
}

impl Output {
    /// Whether there is nothing to commit but the offset.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shuffle.iter().all(Vec::is_empty)
            && self.rows.is_empty()
            && self.dead_letters.is_empty()
            && self.silver.is_empty()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.shuffle.iter_mut().for_each(Vec::clear);
        self.rows.clear();
        self.dead_letters.clear();
        self.silver.clear();
    }
}

/// A source partition: a raw topic of the plan and a partition of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// Index into [`Plan::topics`], or [`Source::REPAIRED`].
    pub topic: u32,
    /// Partition.
    pub partition: u32,
}

impl Source {
    /// The topic index of repaired dead letters: one more source partition that never holds a watermark back.
    pub const REPAIRED: u32 = u32::MAX;

    /// Returns `topic/partition` by name.
    #[must_use]
    pub fn name(self, plan: &Plan) -> String {
        match plan.topics.get(self.topic as usize) {
            Some(topic) => format!("{}/{}", topic.name, self.partition),
            None => format!("repaired/{}", self.partition),
        }
    }
}

/// A record that could not be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Index of the stream that refused it.
    pub stream: usize,
    /// Name of the table for which it was late, or `None` where the stream refused it.
    pub table: Option<String>,
    /// Where it lies.
    pub source: Source,
    /// Its offset there.
    pub offset: u64,
    /// When it arrived.
    pub arrival: Millis,
    /// Why, as a word that can be counted: `not-json`, `wrong-type`, `missing-field`, `late`, a rule's name, …
    pub reason: String,
    /// Field and what was found, for people.
    pub detail: String,
    /// The bytes, at most [`crate::limits::DEAD_LETTER_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// Whether `bytes` was cut.
    pub truncated: bool,
}

/// An accepted event: deduplicated, enriched, with derived columns and hashed secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilverEvent {
    /// Index of the stream.
    pub stream: usize,
    /// Where the raw record lies.
    pub source: Source,
    /// Its offset there.
    pub offset: u64,
    /// Its event time, if the stream has one.
    pub event_time: Option<Millis>,
    /// The value of the stream's key field, or empty.
    pub key: Vec<u8>,
    /// The event as a JSON object, columns in plan order.
    pub json: Vec<u8>,
}

/// One changed row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index into [`schemas`].
    pub table: usize,
    /// Start and end of the window, if the table has one.
    pub window: Option<(Millis, Millis)>,
    /// Values of the group columns.
    pub group: Vec<Value>,
    /// Values of the other columns; empty for a deleted row.
    pub values: Vec<Value>,
    /// No event within the declared bounds can change it any more.
    pub is_final: bool,
    /// The row is gone: a session was merged into another, a group was dropped.
    pub deleted: bool,
}

/// The columns of a table as they appear in documents and databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Name; system tables begin with an underscore.
    pub name: String,
    /// Epoch.
    pub epoch: u32,
    /// Whether rows have a window.
    pub windowed: bool,
    /// Group columns: with the window they are the primary key.
    pub group: Vec<ColumnPlan>,
    /// The other columns.
    pub values: Vec<ColumnPlan>,
}

/// System tables behind the user's own, in the order of [`schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemTable {
    /// `_ledger_streams`: (stream, source) → read, accepted, duplicate, invalid, expired.
    LedgerStreams,
    /// `_ledger_tables`: (table, task) → accepted, filtered, late, counted; tasks of MAP fill the first three, tasks
    /// of MERGE `late` and `counted`. accepted = counted + late + filtered holds for the sum over tasks.
    LedgerTables,
    /// `_quality`: window × (stream, source) → accepted, duplicate, invalid.
    Quality,
    /// `_alerts`: window × (alert, group as JSON) → state (`raised` or `withdrawn`), for_windows, detail (JSON of the row).
    Alerts,
    /// `_watermarks`: (stream, task) → watermark (null until there is one).
    Watermarks,
}

impl SystemTable {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::LedgerStreams, Self::LedgerTables, Self::Quality, Self::Alerts, Self::Watermarks];

    /// Index into [`schemas`].
    #[must_use]
    pub fn index(self, plan: &Plan) -> usize {
        plan.tables.len() + self as usize
    }
}

/// Returns the schema of every table of the plan, then of the system tables.
#[must_use]
pub fn schemas(plan: &Plan) -> Vec<TableSchema> {
    let user = plan.tables.iter().map(|table| TableSchema {
        name: table.name.clone(),
        epoch: table.epoch,
        windowed: table.window != Window::None,
        group: table.group_by.iter().map(|group| group.column.clone()).collect(),
        values: table.outputs.iter().map(|output| output.column.clone()).collect(),
    });
    user.chain(SystemTable::ALL.map(system_schema)).collect()
}

fn system_schema(table: SystemTable) -> TableSchema {
    let text = |name: &str| ColumnPlan { name: name.into(), ty: Type::String };
    let count = |name: &str| ColumnPlan { name: name.into(), ty: Type::Integer };
    let (name, windowed, group, values) = match table {
        SystemTable::LedgerStreams => (
            "_ledger_streams",
            false,
            vec![text("stream"), text("source")],
            ["read", "accepted", "duplicate", "invalid", "expired"].map(count).to_vec(),
        ),
        SystemTable::LedgerTables => (
            "_ledger_tables",
            false,
            vec![text("table"), text("task")],
            ["accepted", "filtered", "late", "counted"].map(count).to_vec(),
        ),
        SystemTable::Quality => (
            "_quality",
            true,
            vec![text("stream"), text("source")],
            ["accepted", "duplicate", "invalid"].map(count).to_vec(),
        ),
        SystemTable::Alerts => (
            "_alerts",
            true,
            vec![text("alert"), text("group")],
            vec![text("state"), count("for_windows"), text("detail")],
        ),
        SystemTable::Watermarks => (
            "_watermarks",
            false,
            vec![text("stream"), text("task")],
            vec![ColumnPlan { name: "watermark".into(), ty: Type::Timestamp }],
        ),
    };
    TableSchema { name: name.into(), epoch: 1, windowed, group, values }
}

impl Row {
    /// Writes the key of the row in the results topic: a JSON array of table, epoch, window start (or null) and
    /// group values. Equal keys are the same row.
    pub fn write_key(&self, schema: &TableSchema, out: &mut Vec<u8>) {
        out.push(b'[');
        write_json_string(&schema.name, out);
        out.push(b',');
        Value::Integer(i64::from(schema.epoch)).write_json(out);
        out.push(b',');
        match self.window {
            Some((start, _)) => Value::Timestamp(start).write_json(out),
            None => out.extend_from_slice(b"null"),
        }
        for value in &self.group {
            out.push(b',');
            value.write_json(out);
        }
        out.push(b']');
    }

    /// Writes the document: `table`, `epoch`, `window_start`, `window_end` (windowed tables), `final`, `deleted`
    /// (only when true), then `group` and `values` as objects.
    pub fn write_document(&self, schema: &TableSchema, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"table\":");
        write_json_string(&schema.name, out);
        out.extend_from_slice(b",\"epoch\":");
        Value::Integer(i64::from(schema.epoch)).write_json(out);
        if let Some((start, end)) = self.window {
            out.extend_from_slice(b",\"window_start\":\"");
            write_rfc3339(start, out);
            out.extend_from_slice(b"\",\"window_end\":\"");
            write_rfc3339(end, out);
            out.push(b'"');
        }
        out.extend_from_slice(if self.is_final { b",\"final\":true" } else { b",\"final\":false" });
        if self.deleted {
            out.extend_from_slice(b",\"deleted\":true");
        }
        out.extend_from_slice(b",\"group\":");
        write_object(&schema.group, &self.group, out);
        out.extend_from_slice(b",\"values\":");
        write_object(&schema.values, &self.values, out);
        out.push(b'}');
    }
}

fn write_object(columns: &[ColumnPlan], values: &[Value], out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (column, value)) in columns.iter().zip(values).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_json_string(&column.name, out);
        out.push(b':');
        value.write_json(out);
    }
    out.push(b'}');
}
