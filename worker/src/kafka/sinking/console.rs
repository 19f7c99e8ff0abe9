//! The console sink of a fleet: what it prints, and how far that is.

use std::collections::BTreeMap;

use anyhow::Context;
use crds::spec::{Console, Sink};
use engine::output::{self, SystemTable};
use serde_json::Value;

use super::{Record, files::Offsets};
use crate::{
    kafka::{catalogue::View, names::Names},
    sink::{cells::Wanted, console::Lines, select},
};

/// Lines that wait, and the events that the ledger knows of.
pub(super) struct ConsoleSink {
    lines: Lines,
    /// By the topic of their accepted events.
    streams: BTreeMap<String, (String, Wanted)>,
    ledger: String,
    /// Events read, by the key of the ledger's row.
    read: BTreeMap<Vec<u8>, u64>,
    /// Offsets behind what waits.
    behind: Offsets,
}

impl ConsoleSink {
    /// Nothing waits yet.
    ///
    /// # Errors
    /// Where the sink's condition is wrong.
    pub(super) fn new(view: &View, sink: &Sink, console: &Console, names: &Names) -> anyhow::Result<Self> {
        let (plan, filter) = (&view.plan, sink.filter.as_deref());
        let schemas = output::schemas(plan);
        let tables = Wanted::tables(&schemas, &sink.tables, filter).map_err(anyhow::Error::msg)?;
        let wanted = plan.streams.iter().filter(|stream| sink.streams.contains(&stream.name));
        let streams = wanted.map(|stream| {
            let wanted = Wanted::events(stream, filter).map_err(anyhow::Error::msg)?;
            Ok((view.silver(names, &stream.name), (stream.name.clone(), wanted)))
        });
        Ok(Self {
            lines: Lines::new(console.clone(), tables),
            streams: streams.collect::<anyhow::Result<_>>()?,
            ledger: schemas[SystemTable::LedgerStreams.index(plan)].name.clone(),
            read: BTreeMap::new(),
            behind: Offsets::new(),
        })
    }

    /// Forgets what waits: it is read again, by us or by another.
    pub(super) fn forget(&mut self) {
        self.lines.forget();
        self.behind.clear();
    }

    /// Takes a batch, prints if it is time to, and says how far printing is.
    ///
    /// # Errors
    /// On bytes that the engine did not write, or where nothing can be printed.
    pub(super) fn take(&mut self, batch: &[Record]) -> anyhow::Result<Offsets> {
        for record in batch {
            self.behind.insert((record.topic.clone(), record.partition), record.offset + 1);
            if let Some((stream, wanted)) = self.streams.get_mut(&record.topic) {
                if let Some(event) = select::event(wanted, &record.value)? {
                    self.lines.take_event(stream, event.json);
                }
            } else if !record.value.is_empty() {
                self.count(record)?;
                self.lines.take_row(&record.key, &record.value)?;
            }
        }
        match self.lines.is_due(self.read.values().sum()) {
            true => self.finish(),
            false => Ok(Offsets::new()),
        }
    }

    /// Prints what waits.
    ///
    /// # Errors
    /// As [`ConsoleSink::take`].
    pub(super) fn finish(&mut self) -> anyhow::Result<Offsets> {
        self.lines.print(self.read.values().sum())?;
        Ok(std::mem::take(&mut self.behind))
    }

    /// Counts events as the ledger of the streams tells them.
    fn count(&mut self, record: &Record) -> anyhow::Result<()> {
        // Cheaper than reading every row: the table's name is at the beginning of each.
        if memchr::memmem::find(&record.value, self.ledger.as_bytes()).is_none() {
            return Ok(());
        }
        let row: Value = serde_json::from_slice(&record.value).context("damaged results")?;
        if row["table"] == self.ledger.as_str() {
            self.read.insert(record.key.clone(), row["values"]["read"].as_u64().unwrap_or(0));
        }
        Ok(())
    }
}
