//! Rows as documents, and what a document says of its version.

use anyhow::bail;
use engine::value::write_json_string;
use serde::Deserialize;

use super::super::row::{Change, Key, Version};

/// What a document that is there says of its version.
#[derive(Deserialize)]
pub(super) struct Known {
    #[serde(rename = "_epoch")]
    epoch: u32,
    #[serde(rename = "_version")]
    offset: u64,
}

impl Known {
    pub(super) fn version(&self) -> Version {
        Version { epoch: self.epoch, offset: self.offset }
    }
}

pub(super) fn id_of(change: &Change) -> &str {
    match &change.key {
        Key::Row { id, .. } | Key::Gone { id, .. } => id,
        Key::Event { .. } => "",
    }
}

/// The version of a row; events have none, and never get here.
pub(super) fn version_of(change: &Change) -> Version {
    match change.key {
        Key::Row { version, .. } | Key::Gone { version, .. } => version,
        Key::Event { .. } => Version { epoch: 0, offset: 0 },
    }
}

/// `{"_key":…,"_epoch":1,"_version":42,…columns}`; `"deleted":true` where the row is gone.
///
/// # Errors
/// For events, which the manifest's check refuses for Couchbase.
pub(super) fn document(change: &Change) -> anyhow::Result<String> {
    if matches!(change.key, Key::Event { .. }) {
        bail!("bug: events for Couchbase; the manifest's check refuses them");
    }
    let mut out = b"{\"_key\":".to_vec();
    write_json_string(change.long_id.as_deref().unwrap_or_else(|| id_of(change)), &mut out);
    let Version { epoch, offset } = version_of(change);
    out.extend_from_slice(format!(",\"_epoch\":{epoch},\"_version\":{offset}").as_bytes());
    for (name, literal) in &change.columns {
        out.push(b',');
        write_json_string(name, &mut out);
        out.push(b':');
        out.extend_from_slice(literal.as_bytes());
    }
    if matches!(change.key, Key::Gone { .. }) {
        out.extend_from_slice(b",\"deleted\":true");
    }
    out.push(b'}');
    Ok(String::from_utf8(out).expect("JSON of texts is UTF-8"))
}
