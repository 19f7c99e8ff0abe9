//! The times of rows: read for the pace, and moved to now where the manifest wants an old dataset to look alive.

use engine::{
    decode::{epoch, timestamp},
    time::{Millis, write_rfc3339},
};

use super::block::{Block, Row};
use crate::ingest::{json, now};

/// Where the times of a row lie.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// The event time.
    pub event: Option<Vec<String>>,
    /// All timestamp fields, if they are to be moved so that the first event of each pass is now.
    pub shifted: Vec<Vec<String>>,
    rows: Vec<Option<Millis>>,
    bytes: Vec<u8>,
}

impl Times {
    /// Makes it.
    #[must_use]
    pub fn new(event: Option<Vec<String>>, shifted: Vec<Vec<String>>) -> Self {
        Self { event, shifted, rows: Vec::new(), bytes: Vec::new() }
    }

    /// Moves the times of `block` by `shift`, which the first event of a pass decides, and reads them if `wanted`.
    pub fn apply(&mut self, block: &mut Block, shift: &mut Option<Millis>, wanted: bool) {
        self.rows.clear();
        if !self.shifted.is_empty() {
            if shift.is_none() {
                let first = block.rows.iter().find_map(|row| self.event_time(block.payload(row)));
                *shift = first.map(|first| now() - first);
            }
            self.shift(block, shift.unwrap_or(0));
        }
        if wanted {
            let times = block.rows.iter().map(|row| self.event_time(block.payload(row))).collect();
            self.rows = times;
        }
    }

    /// The times of the rows from `from` on, as far as they were read.
    #[must_use]
    pub fn of_rows(&self, from: usize) -> &[Option<Millis>] {
        self.rows.get(from..).unwrap_or_default()
    }

    fn event_time(&self, payload: &[u8]) -> Option<Millis> {
        time(json::find(payload, self.event.as_ref()?)?)
    }

    fn shift(&mut self, block: &mut Block, shift: Millis) {
        let mut out = std::mem::take(&mut self.bytes);
        out.clear();
        for row in &mut block.rows {
            let payload = &block.bytes[row.start as usize..row.end as usize];
            let start = out.len() as u32;
            let mut found: Vec<_> = self.shifted.iter().filter_map(|path| json::find(payload, path)).collect();
            found.sort_by_key(|value| value.as_ptr());
            let mut at = 0;
            for value in found {
                let Some(time) = time(value) else { continue };
                let from = value.as_ptr().addr() - payload.as_ptr().addr();
                out.extend_from_slice(&payload[at..from]);
                out.push(b'"');
                write_rfc3339(time.saturating_add(shift), &mut out);
                out.push(b'"');
                at = from + value.len();
            }
            out.extend_from_slice(&payload[at..]);
            *row = Row { start, end: out.len() as u32, ..*row };
        }
        self.bytes = std::mem::replace(&mut block.bytes, out);
    }
}

/// Reads a time as the decoder does; `None` where it would refuse it.
#[must_use]
pub fn time(value: &[u8]) -> Option<Millis> {
    match value.first()? {
        b'"' => timestamp(&json::text(value)?),
        _ => epoch(value),
    }
}
