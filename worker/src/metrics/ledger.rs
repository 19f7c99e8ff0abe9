//! The ledger as figures: read off the ledger's tables when somebody asks for metrics.

use std::sync::{Mutex, PoisonError};

use prometheus::{
    IntGaugeVec,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use serde_json::Value;

use super::Figure;
use crate::{
    serve::Shown,
    store::{Bounds, Format},
};

const STREAMS: &str = "select stream as name, sum(read) as read, sum(accepted) as accepted, sum(duplicate) as duplicate, \
     sum(invalid) as invalid, sum(expired) as expired from _ledger_streams group by stream";

const TABLES: &str = "select \"table\" as name, sum(accepted) as accepted, sum(filtered) as filtered, sum(late) as late, \
     sum(counted) as counted from _ledger_tables group by \"table\"";

/// Reads the ledger when it is asked.
pub struct Ledger {
    shown: Shown,
    streams: IntGaugeVec,
    tables: IntGaugeVec,
    unaccounted: IntGaugeVec,
    /// One request at a time fills the gauges and reads them out.
    turn: Mutex<()>,
}

impl Ledger {
    /// Of these tables.
    #[must_use]
    pub fn new(shown: Shown) -> Self {
        Self {
            shown,
            streams: Figure::StreamEvents.integers(),
            tables: Figure::TableEvents.integers(),
            unaccounted: Figure::Unaccounted.integers(),
            turn: Mutex::new(()),
        }
    }

    fn all(&self) -> [&dyn Collector; 3] {
        [&self.streams, &self.tables, &self.unaccounted]
    }

    /// What the tables say; where they cannot be read, the figures stay as they were.
    fn fill(&self) {
        let (mut unaccounted, reader) = (0, self.shown.reader());
        for (sql, gauge, whole_is) in [(STREAMS, &self.streams, "read"), (TABLES, &self.tables, "accepted")] {
            let Ok(outcome) = reader.sql(sql, Format::JsonLines, Bounds::default()) else { return };
            for line in outcome.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let Ok(Value::Object(sums)) = serde_json::from_slice(line) else { continue };
                let Some(name) = sums.get("name").and_then(Value::as_str) else { continue };
                for (outcome, count) in sums.iter().filter_map(|(name, count)| Some((name, count.as_i64()?))) {
                    gauge.with_label_values(&[name, outcome.as_str()]).set(count);
                    unaccounted += if outcome == whole_is { count } else { -count };
                }
            }
        }
        self.unaccounted.with_label_values::<&str>(&[]).set(unaccounted);
    }
}

impl Collector for Ledger {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _mine = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill();
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}
