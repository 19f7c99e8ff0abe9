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
    /// The identity as it was before it was shortened; `None` where it was not.
    pub long_id: Option<String>,
}

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A row is as the columns say, unless a newer version is known.
    Row {
        /// Identity, see [`row_key`] and [`short_id`].
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
        let (full, version) = (row_key(&row), Version { epoch: row.epoch, offset });
        let id = short_id(&full);
        let long_id = (id != full).then_some(full);
        let is_gone = row.deleted || !wanted.takes_row(&row);
        let bounds = [("window_start", row.window_start), ("window_end", row.window_end)];
        let mut columns: Vec<(String, String)> = Vec::new();
        columns.extend(bounds.iter().filter_map(|(name, bound)| Some(((*name).into(), format!("\"{}\"", (*bound)?)))));
        columns.extend(row.group.0.iter().map(|(name, value)| (name.to_string(), value.get().to_owned())));
        if is_gone {
            return Ok(Some(Change { target, key: Key::Gone { id, version }, columns, long_id }));
        }
        columns.extend(row.values.0.iter().map(|(name, value)| (name.to_string(), value.get().to_owned())));
        columns.push(("final".into(), row.is_final.to_string()));
        Ok(Some(Change { target, key: Key::Row { id, version }, columns, long_id }))
    }

    /// The deletion of a row that another epoch of its table wrote, under a version of the newer one; `None` for rows of
    /// other tables and epochs. The sink's condition is not asked: it may have been another then.
    ///
    /// # Errors
    /// As [`Reader::row`].
    pub fn gone(
        &self,
        (table, older): (&str, u32),
        version: Version,
        document: &[u8],
    ) -> Result<Option<Change>, RecordError> {
        let offset = version.offset;
        let row: Document<'_> =
            serde_json::from_slice(document).map_err(|source| RecordError::Document { offset, source })?;
        let target = self.schemas.iter().position(|schema| schema.name == table);
        let Some(target) = target.filter(|_| row.table == table && row.epoch == older && !row.deleted) else {
            return Ok(None);
        };
        let full = row_key(&row);
        let id = short_id(&full);
        let long_id = (id != full).then_some(full);
        Ok(Some(Change { target, key: Key::Gone { id, version }, columns: Vec::new(), long_id }))
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
        Ok(Some(Change { target, key, columns, long_id: None }))
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

/// `{table}::{window_start}::{group…}`: `%` and `:` in group values are `%25` and `%3A`, null is `%N`.
#[must_use]
pub fn row_key(row: &Document<'_>) -> String {
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
    id
}

/// The key itself; one longer than [`ID_BYTES_MAX`] keeps its beginning and ends in `::~` and a hash of the whole.
#[must_use]
pub fn short_id(key: &str) -> String {
    if key.len() <= ID_BYTES_MAX {
        return key.to_owned();
    }
    let tail = format!("::~{:032x}", xxh3_128(key.as_bytes()));
    format!("{}{tail}", &key[..key.floor_char_boundary(ID_BYTES_MAX - tail.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_unique_readable_and_never_too_long() {
        let id = |group: &str, window: &str| {
            let json = format!(r#"{{"table":"t",{window}"epoch":1,"final":false,"group":{{{group}}},"values":{{}}}}"#);
            short_id(&row_key(&serde_json::from_str::<Document<'_>>(&json).unwrap()))
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

    /// A row of a table without a window; `None` is null.
    fn key_of(groups: &[Option<String>]) -> String {
        let group: serde_json::Map<String, serde_json::Value> =
            groups.iter().enumerate().map(|(at, value)| (format!("g{at}"), value.clone().into())).collect();
        let json =
            serde_json::json!({"table": "t", "epoch": 1, "final": false, "group": group, "values": {}}).to_string();
        row_key(&serde_json::from_str::<Document<'_>>(&json).unwrap())
    }

    /// Takes a key apart again, as somebody would who only has the document's id.
    fn groups_of(key: &str) -> Vec<Option<String>> {
        let group = |text: &str| (text != "%N").then(|| text.replace("%3A", ":").replace("%25", "%"));
        key.split("::").skip(1).map(group).collect()
    }

    proptest::proptest! {
        #[test]
        fn a_key_can_be_taken_apart_and_its_identity_is_its_own(
            groups in proptest::collection::vec(proptest::option::of("[%:N~a\u{fc}\u{1F600}\"\\\\ ]{0,90}"), 1..4),
            others in proptest::collection::vec(proptest::option::of("[%:N~a\u{fc}]{0,4}"), 1..4),
        ) {
            let key = key_of(&groups);
            proptest::prop_assert_eq!(&groups_of(&key), &groups);
            let id = short_id(&key);
            proptest::prop_assert!(id.len() <= ID_BYTES_MAX);
            proptest::prop_assert_eq!(id == key, key.len() <= ID_BYTES_MAX);
            proptest::prop_assert_eq!(id == short_id(&key_of(&others)), groups == others);
            let longer = format!("{key}a");
            proptest::prop_assert_ne!(id, short_id(&longer));
        }
    }
}
