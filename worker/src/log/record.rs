//! What the records of our own topics look like. Raw topics hold what came in, the shuffle what the engine says.
//!
//! | topic | record |
//! |---|---|
//! | `_results` | length of the key, key, document |
//! | `_silver.<stream>` | topic, partition, offset and event time of the source, key, JSON object |
//! | `_dead_letters` | a JSON object, see [`write_dead_letter`] |
//! | `_repaired` | name of the stream, the repaired bytes: see [`engine::repaired`] |

use base64::{Engine, prelude::BASE64_STANDARD};
use engine::{
    codec::{Corrupt, Reader, put_bytes, put_i64, put_u64},
    output::{DeadLetter, Row, SilverEvent, TableSchema},
    plan::Plan,
    time::{Millis, write_rfc3339},
    value::write_json_string,
};

/// Writes a changed row. `key` is scratch space.
pub fn write_result(row: &Row, schema: &TableSchema, key: &mut Vec<u8>, out: &mut Vec<u8>) {
    key.clear();
    row.write_key(schema, key);
    put_bytes(key, out);
    row.write_document(schema, out);
}

/// Key and document of a changed row.
///
/// # Errors
/// On bytes that [`write_result`] did not write.
pub fn read_result(record: &[u8]) -> Result<(&[u8], &[u8]), Corrupt> {
    let mut reader = Reader::new(record);
    Ok((reader.bytes()?, reader.rest()))
}

/// Writes an accepted event.
pub fn write_silver(event: &SilverEvent, plan: &Plan, out: &mut Vec<u8>) {
    let topic = plan.topics.get(event.source.topic as usize).map_or("repaired", |topic| topic.name.as_str());
    put_bytes(topic.as_bytes(), out);
    put_u64(u64::from(event.source.partition), out);
    put_u64(event.offset, out);
    put_i64(event.event_time.unwrap_or(Millis::MIN), out);
    put_bytes(&event.key, out);
    out.extend_from_slice(&event.json);
}

/// An accepted event, as it lies in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silver<'a> {
    /// Topic of the raw record.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u64,
    /// Its offset.
    pub offset: u64,
    /// Event time, if the stream has one.
    pub event_time: Option<Millis>,
    /// Value of the stream's key field, or empty.
    pub key: &'a [u8],
    /// The event.
    pub json: &'a [u8],
}

/// Reads an accepted event.
///
/// # Errors
/// On bytes that [`write_silver`] did not write.
pub fn read_silver(record: &[u8]) -> Result<Silver<'_>, Corrupt> {
    let mut reader = Reader::new(record);
    let (topic, partition, offset) = (reader.str()?, reader.u64()?, reader.u64()?);
    let event_time = Some(reader.i64()?).filter(|time| *time != Millis::MIN);
    Ok(Silver { topic, partition, offset, event_time, key: reader.bytes()?, json: reader.rest() })
}

/// Writes a dead letter as a JSON object: `stream`, `table` (where it was late for one), `topic`, `partition`, `offset`,
/// `arrival`, `reason`, `detail`, `truncated` (only when true), and the bytes as `text` or, where they are no UTF-8, as
/// `base64`.
pub fn write_dead_letter(letter: &DeadLetter, plan: &Plan, out: &mut Vec<u8>) {
    let topic = plan.topics.get(letter.source.topic as usize).map_or("repaired", |topic| topic.name.as_str());
    let member = |name: &str, text: &str, out: &mut Vec<u8>| {
        out.push(b',');
        write_json_string(name, out);
        out.push(b':');
        write_json_string(text, out);
    };
    out.extend_from_slice(b"{\"stream\":");
    write_json_string(&plan.streams[letter.stream].name, out);
    if let Some(table) = &letter.table {
        member("table", table, out);
    }
    member("topic", topic, out);
    out.extend_from_slice(
        format!(",\"partition\":{},\"offset\":{}", letter.source.partition, letter.offset).as_bytes(),
    );
    out.extend_from_slice(b",\"arrival\":\"");
    write_rfc3339(letter.arrival, out);
    out.push(b'"');
    member("reason", &letter.reason, out);
    member("detail", &letter.detail, out);
    if letter.truncated {
        out.extend_from_slice(b",\"truncated\":true");
    }
    match std::str::from_utf8(&letter.bytes) {
        Ok(text) => member("text", text, out),
        Err(_) => member("base64", &BASE64_STANDARD.encode(&letter.bytes), out),
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use engine::output::Source;

    use super::*;

    fn plan() -> Plan {
        Plan {
            pipeline: "p".into(),
            topics: Vec::new(),
            lookups: Vec::new(),
            streams: Vec::new(),
            joins: Vec::new(),
            tables: Vec::new(),
            alerts: Vec::new(),
            shuffle_partitions: 1,
        }
    }

    #[test]
    fn a_silver_event_comes_back() {
        let source = Source { topic: Source::REPAIRED, partition: 3 };
        let (key, json) = (b"k".to_vec(), br#"{"a":1}"#.to_vec());
        let event = SilverEvent { stream: 0, source, offset: 7, event_time: None, key, json };
        let mut record = Vec::new();
        write_silver(&event, &plan(), &mut record);
        let read = read_silver(&record).unwrap();
        assert_eq!((read.topic, read.partition, read.offset, read.event_time), ("repaired", 3, 7, None));
        assert_eq!((read.key, read.json), (&b"k"[..], &br#"{"a":1}"#[..]));
    }
}
