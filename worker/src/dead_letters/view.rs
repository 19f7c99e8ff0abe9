//! Dead letters as people and the API see them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

/// Which dead letters are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterQuery {
    /// Only of this stream.
    pub stream: Option<String>,
    /// Only with this reason.
    pub reason: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl DeadLetterQuery {
    /// Whether a letter of `stream` with `reason` is wanted.
    #[must_use]
    pub fn wants(&self, stream: &str, reason: &str) -> bool {
        let fits = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        fits(&self.stream, stream) && fits(&self.reason, reason)
    }
}

/// Dead letters, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterPage {
    /// How many there are by stream and reason, before the query's filters.
    pub reasons: Vec<ReasonCount>,
    /// The newest that were asked for, newest first.
    pub letters: Vec<DeadLetterView>,
}

/// How many dead letters share a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// The stream that refused them.
    pub stream: String,
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// A dead letter as people see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// What `clickstream dead-letters show` calls it.
    pub id: String,
    /// The stream that refused it.
    pub stream: String,
    /// The table for which it was late, if it was.
    pub table: Option<String>,
    /// Where the raw record lies: `topic/partition`.
    pub source: String,
    /// Its offset there.
    pub offset: u64,
    /// When it arrived, in RFC 3339.
    pub arrival: String,
    /// Why it was refused, as a word.
    pub reason: String,
    /// What was found.
    pub detail: String,
    /// The bytes as text; what is not UTF-8 is replaced.
    pub text: String,
    /// Whether the text was cut.
    pub truncated: bool,
    /// Whether it was repaired and sent through the pipeline again.
    #[serde(default)]
    pub replayed: bool,
}

/// A dead letter with everything that is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterDetail {
    /// The letter; `text` is not cut if the raw record is still there.
    #[serde(flatten)]
    pub letter: DeadLetterView,
    /// How many bytes there are.
    pub size: usize,
    /// The bytes, where they are no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl DeadLetterDetail {
    /// Puts the bytes into the letter.
    #[must_use]
    pub fn new(letter: DeadLetterView, bytes: &[u8]) -> Self {
        let base64 = std::str::from_utf8(bytes).is_err().then(|| BASE64_STANDARD.encode(bytes));
        let text = String::from_utf8_lossy(bytes).into_owned();
        Self { letter: DeadLetterView { text, ..letter }, size: bytes.len(), base64 }
    }

    /// The record's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let decoded = self.base64.as_ref().and_then(|text| BASE64_STANDARD.decode(text).ok());
        decoded.unwrap_or_else(|| self.letter.text.clone().into_bytes())
    }
}
