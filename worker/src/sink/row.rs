//! Rows and events on their way into a database: named literals with an identity and a version.

use std::fmt::Write as _;

use crds::spec::Sink;
use engine::{
    codec::Corrupt,
    output::{self, TableSchema},
    plan::{ColumnPlan, Plan},
};
use xxhash_rust::xxh3::xxh3_128;

use super::cells::{Wanted, WantedTables, members};
use crate::{log::record::read_silver, store::Document};

/// Bytes of an identity: Couchbase takes 250, and leaves room for what a person adds before it.
pub const ID_BYTES_MAX: usize = 240;

/// Why a record cannot be read: a bug of the writer, or a damaged log.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Bytes of an event.
    #[error("damaged event at offset {offset}")]
    Event {
        /// Where.
        offset: u64,
        /// How.
        source: Corrupt,
    },
    /// A document.
    #[error("damaged document at offset {offset}")]
    Document {
        /// Where.
        offset: u64,
        /// How.
        source: serde_json::Error,
    },
    /// An event's JSON.
    #[error("the event at offset {offset} is no JSON object")]
    NoObject {
        /// Where.
        offset: u64,
    },
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Table or stream, as an index into [`Reader::targets`].
    pub target: usize,
    /// Which row, or which event.
    pub key: Key,
    /// Columns with their JSON literals; for a deletion, those of the key.
    pub columns: Vec<(String, String)>,
}

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A row is as the columns say, unless a newer version is known.
    Row {
        /// Identity, see [`row_id`].
        id: String,
        /// Version.
        version: Version,
    },
    /// A row is gone, unless a newer version is known.
    Gone {
        /// Identity.
        id: String,
        /// Version.
        version: Version,
    },
    /// An event, which never changes.
    Event {
        /// Raw topic.
        topic: String,
        /// Partition.
        partition: u64,
        /// Offset.
        offset: u64,
    },
}

/// What is newer: a higher epoch, then a higher offset of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Epoch of the table.
    pub epoch: u32,
    /// Offset.
    pub offset: u64,
}

/// A table or stream that a sink takes, as a database needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Columns in order; `window_start`, `window_end` and `final` among them for a table.
    pub columns: Vec<ColumnPlan>,
    /// How many of them identify a row to people.
    pub keys: usize,
    /// Whether it is a stream.
    pub is_stream: bool,
}

/// Reads records of the results and of streams into changes.
pub struct Reader {
    /// What the sink takes: tables, then streams.
    pub targets: Vec<Target>,
    tables: WantedTables,
    streams: Vec<Wanted>,
    schemas: Vec<TableSchema>,
}

impl Reader {
    /// Everything that `sink` takes of tables and streams.
    ///
    /// # Errors
    /// What is wrong with its condition.
    pub fn new(plan: &Plan, sink: &Sink) -> Result<Self, String> {
        let mut schemas = output::schemas(plan);
        let tables = Wanted::tables(&schemas, &sink.tables, sink.filter.as_deref())?;
        schemas.retain(|schema| tables.contains_key(&schema.name));
        let mut targets: Vec<Target> = schemas.iter().map(table_target).collect();
        let mut streams = Vec::new();
        for stream in plan.streams.iter().filter(|stream| sink.streams.contains(&stream.name)) {
            streams.push(Wanted::events(stream, sink.filter.as_deref())?);
            let (name, columns) = (stream.name.clone(), stream.columns.clone());
            targets.push(Target { name, columns, keys: 0, is_stream: true });
        }
        Ok(Self { targets, tables, streams, schemas })
    }

    /// Reads a result; `None` for a table that the sink does not take. A row that no longer meets the condition is gone.
    ///
    /// # Errors
    /// On bytes that the engine did not write.
    pub fn row(&mut self, offset: u64, document: &[u8]) -> Result<Option<Change>, RecordError> {
        let row: Document<'_> =
            serde_json::from_slice(document).map_err(|source| RecordError::Document { offset, source })?;
        let Some(wanted) = self.tables.get_mut(&*row.table) else { return Ok(None) };
        let target = self.schemas.iter().position(|schema| schema.name == *row.table);
        let target = target.expect("bug: a wanted table without a schema");
        let (id, version) = (row_id(&row), Version { epoch: row.epoch, offset });
        let is_gone = row.deleted || !wanted.takes_row(&row);
        let bounds = [("window_start", row.window_start), ("window_end", row.window_end)];
        let mut columns: Vec<(String, String)> = Vec::new();
        columns.extend(bounds.iter().filter_map(|(name, bound)| Some(((*name).into(), format!("\"{}\"", (*bound)?)))));
        columns.extend(row.group.0.iter().map(|(name, value)| (name.to_string(), value.get().to_owned())));
        if is_gone {
            return Ok(Some(Change { target, key: Key::Gone { id, version }, columns }));
        }
        columns.extend(row.values.0.iter().map(|(name, value)| (name.to_string(), value.get().to_owned())));
        columns.push(("final".into(), row.is_final.to_string()));
        Ok(Some(Change { target, key: Key::Row { id, version }, columns }))
    }

    /// Reads an accepted event of a stream that the sink takes; `None` where it is not wanted.
    ///
    /// # Errors
    /// On bytes that the engine did not write.
    pub fn event(&mut self, stream: &str, offset: u64, record: &[u8]) -> Result<Option<Change>, RecordError> {
        let event = read_silver(record).map_err(|source| RecordError::Event { offset, source })?;
        let pairs = members(event.json).ok_or(RecordError::NoObject { offset })?;
        let target = self.targets.iter().position(|target| target.is_stream && target.name == stream);
        let target = target.expect("bug: an event of a stream that was not asked for");
        let wanted = &mut self.streams[target - self.schemas.len()];
        if !wanted.takes_event(&pairs, &mut Vec::new()) {
            return Ok(None);
        }
        let key = Key::Event { topic: event.topic.into(), partition: event.partition, offset: event.offset };
        let columns = pairs.0.iter().map(|(name, value)| (name.to_string(), value.get().to_owned())).collect();
        Ok(Some(Change { target, key, columns }))
    }
}

fn table_target(schema: &TableSchema) -> Target {
    let column = |name: &str, ty| ColumnPlan { name: name.into(), ty };
    let mut columns = Vec::new();
    if schema.windowed {
        columns.extend(["window_start", "window_end"].map(|name| column(name, engine::value::Type::Timestamp)));
    }
    columns.extend(schema.group.iter().cloned());
    let keys = columns.len();
    columns.extend(schema.values.iter().cloned());
    columns.push(column("final", engine::value::Type::Boolean));
    Target { name: schema.name.clone(), columns, keys, is_stream: false }
}

/// `{table}::{window_start}::{group…}`: `%` and `:` in group values are `%25` and `%3A`, null is `%N`. What is longer than
/// [`ID_BYTES_MAX`] keeps its beginning and ends in `::~` and a hash of the whole.
#[must_use]
pub fn row_id(row: &Document<'_>) -> String {
    let mut id = row.table.to_string();
    if let Some(start) = row.window_start {
        write!(id, "::{start}").expect("a string takes all text");
    }
    for (_, value) in &row.group.0 {
        id.push_str("::");
        match value.get() {
            "null" => id.push_str("%N"),
            literal => {
                let text = serde_json::from_str::<String>(literal).unwrap_or_else(|_| literal.to_owned());
                id.push_str(&text.replace('%', "%25").replace(':', "%3A"));
            }
        }
    }
    if id.len() <= ID_BYTES_MAX {
        return id;
    }
    let tail = format!("::~{:032x}", xxh3_128(id.as_bytes()));
    let mut end = ID_BYTES_MAX - tail.len();
    while !id.is_char_boundary(end) {
        end -= 1;
    }
    id.truncate(end);
    id + &tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_unique_readable_and_never_too_long() {
        let id = |group: &str, window: &str| {
            let json = format!(r#"{{"table":"t",{window}"epoch":1,"final":false,"group":{{{group}}},"values":{{}}}}"#);
            row_id(&serde_json::from_str::<Document<'_>>(&json).unwrap())
        };
        let window = r#""window_start":"2026-01-01T00:00:00Z","window_end":"2026-01-01T00:01:00Z","#;
        assert_eq!(id(r#""a":"x","b":3"#, window), "t::2026-01-01T00:00:00Z::x::3");
        assert_eq!(id("", ""), "t");
        assert_eq!(id(r#""a":null,"b":"%N""#, ""), "t::%N::%25N");
        assert_ne!(id(r#""a":"x::y","b":"z""#, ""), id(r#""a":"x","b":"y::z""#, ""));
        let long = "ü".repeat(200);
        let (one, other) = (id(&format!(r#""a":"{long}1""#), ""), id(&format!(r#""a":"{long}2""#), ""));
        assert!(one.len() <= ID_BYTES_MAX && one != other && one.contains("::~"), "{one}");
    }
}
