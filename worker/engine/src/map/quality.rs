//! Counts of good and bad records for each span of arrival time: what the quality score is made of.

use std::collections::BTreeMap;

use crate::{
    codec::{Corrupt, Reader, put_i64, put_u64},
    output::{Row, SystemTable},
    plan::Plan,
    time::{Millis, window_start},
    value::Value,
};

/// Spans kept after the newest: earlier ones were told and get no more records.
const SPANS_KEPT: usize = 2;

/// Length of a span where the manifest does not say.
const SPAN_MS: Millis = 60_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) duplicate: u64,
    pub(super) invalid: u64,
}

/// Counts by span of arrival.
pub(super) struct Quality {
    over_ms: Millis,
    spans: BTreeMap<Millis, (Counts, bool)>,
}

impl Quality {
    pub(super) fn new(over_ms: Option<Millis>) -> Self {
        Self { over_ms: over_ms.unwrap_or(SPAN_MS), spans: BTreeMap::new() }
    }

    /// The counts of the span that holds `arrival`, marked as changed.
    pub(super) fn at(&mut self, arrival: Millis) -> &mut Counts {
        let span = window_start(arrival, self.over_ms);
        let (counts, changed) = self.spans.entry(span).or_default();
        *changed = true;
        counts
    }

    /// Moves changed spans into `rows` and forgets old ones.
    pub(super) fn drain(&mut self, plan: &Plan, stream: &str, source: &str, rows: &mut Vec<Row>) {
        for (span, (counts, changed)) in &mut self.spans {
            if !std::mem::take(changed) {
                continue;
            }
            let values = [counts.accepted, counts.duplicate, counts.invalid];
            rows.push(Row {
                table: SystemTable::Quality.index(plan),
                window: Some((*span, *span + self.over_ms)),
                group: vec![Value::String(stream.into()), Value::String(source.into())],
                values: values.map(|count| Value::Integer(count as i64)).to_vec(),
                is_final: false,
                deleted: false,
            });
        }
        self.forget();
    }

    /// Marks everything as told.
    pub(super) fn discard(&mut self) {
        self.spans.values_mut().for_each(|(_, changed)| *changed = false);
        self.forget();
    }

    fn forget(&mut self) {
        while self.spans.len() > SPANS_KEPT {
            self.spans.pop_first();
        }
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        put_u64(self.spans.len() as u64, out);
        for (span, (counts, _)) in &self.spans {
            put_i64(*span, out);
            let counts = [counts.accepted, counts.duplicate, counts.invalid];
            counts.iter().for_each(|count| put_u64(*count, out));
        }
    }

    pub(super) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        for _ in 0..reader.count()? {
            let span = reader.i64()?;
            let counts = Counts { accepted: reader.u64()?, duplicate: reader.u64()?, invalid: reader.u64()? };
            self.spans.insert(span, (counts, false));
        }
        Ok(())
    }
}
