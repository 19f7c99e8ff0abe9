//! What is shown: of each table and stream the newest epoch that has caught up.

use std::collections::{BTreeMap, BTreeSet};

use crds::Checked;
use engine::plan::Plan;

use super::{Catalogue, Epoch, epochs};
use crate::{kafka::names::Names, store::Document};

/// Tables as they are shown, and where their rows come from.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The plan of the manifest, each table as the epoch that is shown defines it.
    pub plan: Plan,
    /// Epochs whose results are read.
    pub epochs: BTreeSet<u32>,
    /// The epoch of each table.
    pub tables: BTreeMap<String, u32>,
    /// Raw topics that each of these epochs reads.
    pub topics: BTreeMap<u32, Vec<String>>,
    /// The epoch of each stream, joins among them.
    pub streams: BTreeMap<String, u32>,
    /// The table of each alert.
    alerts: BTreeMap<String, String>,
}

impl View {
    /// What `catalogue` shows of the manifest.
    ///
    /// # Errors
    /// Where the catalogue is damaged.
    pub fn new(catalogue: &Catalogue, current: &Checked) -> anyhow::Result<Self> {
        let revision = catalogue.revision.clone().unwrap_or_default();
        let shown = |all: &BTreeMap<String, super::Assigned>| -> BTreeMap<String, u32> {
            all.iter().map(|(name, of)| (name.clone(), catalogue.shown(of))).collect()
        };
        let (tables, mut streams) = (shown(&revision.tables), shown(&revision.streams));
        let spec = &current.manifest.spec;
        for stream in &spec.streams {
            let Some(join) = &stream.join else { continue };
            let reader = spec.tables.iter().find(|table| table.from == stream.name);
            let epoch = reader.and_then(|table| tables.get(&table.name)).or_else(|| streams.get(&join.left));
            if let Some(epoch) = epoch.copied() {
                streams.insert(stream.name.clone(), epoch);
            }
        }
        let all = epochs(catalogue, current)?;
        let mut plan = current.plan.clone();
        for table in &mut plan.tables {
            let Some(epoch) = tables.get(&table.name) else { continue };
            let of = all.iter().find(|of| of.number == *epoch);
            let defined = of.and_then(|of| of.checked.plan.tables.iter().find(|other| other.name == table.name));
            if let Some(defined) = defined {
                *table = defined.clone();
            }
        }
        let epochs: BTreeSet<u32> = tables.values().chain(streams.values()).copied().collect();
        let topics = |of: &Epoch| of.checked.plan.topics.iter().map(|topic| topic.name.clone()).collect();
        let read = all.iter().filter(|of| epochs.contains(&of.number)).map(|of| (of.number, topics(of))).collect();
        let alerts = spec.alerts.iter().map(|alert| (alert.name.clone(), alert.table.clone())).collect();
        Ok(Self { plan, epochs, tables, topics: read, streams, alerts })
    }

    /// The topic of the accepted events of a stream.
    #[must_use]
    pub fn silver(&self, names: &Names, stream: &str) -> String {
        names.epoch(self.streams.get(stream).copied().unwrap_or(1)).silver(stream)
    }

    /// Whether a row from the results of `epoch` is shown.
    #[must_use]
    pub fn shows(&self, epoch: u32, row: &Document<'_>) -> bool {
        let first = || row.group.0.first().and_then(|(_, value)| serde_json::from_str::<String>(value.get()).ok());
        let of = match &*row.table {
            "_ledger_streams" | "_quality" | "_watermarks" => first().and_then(|name| self.streams.get(&name)),
            "_ledger_tables" => first().and_then(|name| self.tables.get(&name)),
            "_alerts" => first().and_then(|name| self.alerts.get(&name)).and_then(|table| self.tables.get(table)),
            name => self.tables.get(name),
        };
        of == Some(&epoch)
    }
}
