//! Rows and events as lines on the standard output: the newest of each row, at once or after so many events.

use std::{collections::BTreeMap, io};

use anyhow::Context;
use crds::spec::{Console, ConsoleFormat};
use serde_json::Value;

use super::{cells::WantedTables, select};
use crate::tell;

/// What waits to be printed, and when it is.
pub struct Lines {
    console: Console,
    tables: WantedTables,
    /// The latest document of each row that was not printed yet.
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Events as lines: none replaces another.
    events: Vec<String>,
    printed_at: u64,
}

impl Lines {
    /// Lines about these tables.
    #[must_use]
    pub fn new(console: Console, tables: WantedTables) -> Self {
        Self { console, tables, rows: BTreeMap::new(), events: Vec::new(), printed_at: 0 }
    }

    /// Takes a changed row, if the sink wants it.
    ///
    /// # Errors
    /// On bytes that the engine did not write.
    pub fn take_row(&mut self, key: &[u8], document: &[u8]) -> anyhow::Result<()> {
        if select::row(&mut self.tables, document)?.is_some() {
            self.rows.insert(key.to_vec(), document.to_vec());
        }
        Ok(())
    }

    /// Takes an event of a stream.
    pub fn take_event(&mut self, stream: &str, json: &[u8]) {
        let json = String::from_utf8_lossy(json);
        self.events.push(match self.console.format {
            ConsoleFormat::Json => json.into_owned(),
            ConsoleFormat::Table => format!("{stream}  {json}"),
        });
    }

    /// Forgets what waits: it is read again.
    pub fn forget(&mut self) {
        self.rows.clear();
        self.events.clear();
    }

    /// Whether it is time to print, `events` events having been processed so far.
    #[must_use]
    pub fn is_due(&self, events: u64) -> bool {
        self.console.every.is_none_or(|every| events >= self.printed_at + every)
    }

    /// Prints everything that waits.
    ///
    /// # Errors
    /// On bytes that the engine did not write, or where nothing can be printed.
    pub fn print(&mut self, events: u64) -> anyhow::Result<()> {
        self.printed_at = events;
        let mut text = String::new();
        for document in std::mem::take(&mut self.rows).into_values() {
            match self.console.format {
                ConsoleFormat::Json => text += &String::from_utf8_lossy(&document),
                ConsoleFormat::Table => text += &line(&serde_json::from_slice(&document).context("damaged results")?),
            }
            text.push('\n');
        }
        for event in self.events.drain(..) {
            text += &event;
            text.push('\n');
        }
        let printed: io::Result<()> = tell::out(text.as_bytes());
        printed.context("failed to write to the standard output")
    }
}

/// `table  window  group=…  value=…`.
fn line(row: &Value) -> String {
    let mut parts = vec![row["table"].as_str().unwrap_or_default().to_owned()];
    parts.extend(row["window_start"].as_str().map(str::to_owned));
    for columns in [&row["group"], &row["values"]] {
        let pairs = columns.as_object().into_iter().flatten();
        parts.extend(pairs.map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            value => format!("{name}={value}"),
        }));
    }
    if row["deleted"] == Value::Bool(true) {
        parts.push("(deleted)".into());
    }
    parts.join("  ")
}
