//! A dead letter as it lies in the log; see [`crate::log::record::write_dead_letter`].

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::view::DeadLetterView;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Stored {
    pub stream: String,
    #[serde(default)]
    pub table: Option<String>,
    pub topic: String,
    pub partition: u32,
    pub offset: u64,
    pub arrival: String,
    pub reason: String,
    pub detail: String,
    #[serde(default)]
    pub truncated: bool,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    base64: Option<String>,
}

impl Stored {
    /// The bytes that the letter holds.
    pub fn bytes(&self) -> Vec<u8> {
        let decoded = self.base64.as_ref().and_then(|text| BASE64_STANDARD.decode(text).ok());
        decoded.unwrap_or_else(|| self.text.clone().unwrap_or_default().into_bytes())
    }

    /// About how many bytes it takes in memory.
    pub fn size(&self) -> usize {
        self.text.as_ref().or(self.base64.as_ref()).map_or(0, String::len)
    }

    /// As people see it.
    pub fn view(self, id: u64, replayed: bool) -> DeadLetterView {
        let text = match &self.text {
            Some(text) => text.clone(),
            None => String::from_utf8_lossy(&self.bytes()).into_owned(),
        };
        let Self { stream, table, topic, partition, offset, arrival, reason, detail, truncated, .. } = self;
        let source = format!("{topic}/{partition}");
        DeadLetterView {
            id: id.to_string(),
            stream,
            table,
            source,
            offset,
            arrival,
            reason,
            detail,
            text,
            truncated,
            replayed,
        }
    }
}
