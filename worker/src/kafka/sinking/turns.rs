//! What a sink does when other epochs are shown: it reads their results instead, and deletes what only older ones wrote.

use std::{collections::BTreeMap, time::Duration};

use crds::{Checked, spec::Sink};

use crate::{
    kafka::{
        admin::Admin,
        catalogue::{self, CatalogueFeed, Entry, View},
        client::Cluster,
        compacted::read_all,
        names::Names,
    },
    ports::LogError,
    sink::{
        limits::BATCH_RECORDS_MAX,
        row::{Change, Reader, Version},
    },
};

/// Follows which epochs are shown.
pub(super) struct Turns {
    pub names: Names,
    pub view: View,
    cluster: Cluster,
    checked: Checked,
    catalogue: CatalogueFeed,
    /// Partitions that gave nothing although there was something, with their offsets, when a session was begun anew for it.
    pub silent: Silent,
}

/// Topics, partitions, and offsets.
pub(super) type Silent = Vec<(String, i32, i64)>;

/// A table whose rows of an older epoch are still where the sink writes.
pub(super) struct Leftover {
    sink: String,
    table: String,
    older: u32,
    newer: u32,
}

impl Turns {
    /// Reads the catalogue, which must be that of the manifest.
    pub(super) fn open(cluster: &Cluster, names: &Names, checked: &Checked) -> anyhow::Result<Self> {
        let there = catalogue::read(cluster, names)?;
        let checked = catalogue::settle(&there, checked.clone());
        catalogue::agree(&there, &checked)?;
        let mut feed = CatalogueFeed::open(cluster, names)?;
        feed.whole()?;
        let view = View::new(&feed.catalogue, &checked)?;
        Ok(Self {
            names: names.clone(),
            view,
            cluster: cluster.clone(),
            checked,
            catalogue: feed,
            silent: Silent::new(),
        })
    }

    /// Whether other epochs are shown now.
    pub(super) fn turn(&mut self) -> anyhow::Result<bool> {
        let is_ours = |turns: &Self| catalogue::agree(&turns.catalogue.catalogue, &turns.checked).is_ok();
        if !self.catalogue.look(Duration::ZERO)? || !is_ours(self) {
            return Ok(false);
        }
        let view = View::new(&self.catalogue.catalogue, &self.checked)?;
        let before = std::mem::replace(&mut self.view, view);
        Ok(before != self.view)
    }

    /// When an epoch came to be shown; nothing of one that has not caught up.
    pub(super) fn ready_at(&self, epoch: u32) -> Option<i64> {
        self.catalogue.ready_at(epoch)
    }

    /// Older epochs of the sink's tables whose results are still there and were not cleared yet.
    pub(super) fn leftovers(&self, sink: &Sink) -> anyhow::Result<Vec<Leftover>> {
        let mut found = Vec::new();
        for table in &sink.tables {
            let newer = self.view.tables.get(table).copied().unwrap_or(1);
            for older in 1..newer {
                let leftover = Leftover { sink: sink.name.clone(), table: table.clone(), older, newer };
                if !self.catalogue.catalogue.cleared.contains(&leftover.name()) {
                    found.push(leftover);
                }
            }
        }
        let topics: Vec<String> = found.iter().map(|leftover| self.topic(leftover)).collect();
        let asked: Vec<&str> = topics.iter().map(String::as_str).collect();
        let there = Admin::new(&self.cluster)?.facts(&asked)?;
        found.retain(|leftover| there.contains_key(&self.topic(leftover)));
        Ok(found)
    }

    /// Deletions of every row of the older epoch. They are older than any row of the newer one, so that those stay.
    pub(super) fn gone(&self, leftover: &Leftover, reader: &Reader) -> anyhow::Result<Vec<Vec<Change>>> {
        let version = Version { epoch: leftover.newer, offset: 0 };
        let of = (leftover.table.as_str(), leftover.older);
        // A row that changed often is there as often, until Kafka compacts the topic.
        let (mut rows, mut wrong) = (BTreeMap::new(), None);
        read_all(&self.cluster, &self.topic(leftover), &[0], |_, key, value| {
            let (Some(value), false) = (value, rows.contains_key(key)) else { return };
            match reader.gone(of, version, value) {
                Ok(gone) => rows.extend(gone.map(|gone| (key.to_vec(), gone))),
                Err(error) => wrong = Some(error),
            }
        })?;
        if let Some(error) = wrong {
            return Err(error.into());
        }
        let gone: Vec<Change> = rows.into_values().collect();
        Ok(gone.chunks(BATCH_RECORDS_MAX).map(<[Change]>::to_vec).collect())
    }

    /// Remembers that nothing is left.
    pub(super) fn cleared(&self, leftover: &Leftover) -> Result<(), LogError> {
        let Leftover { sink, table, older, newer } = leftover;
        tracing::info!(sink, table, older, newer, "rows of an older epoch are gone");
        catalogue::write(&self.cluster, &self.names, &[Entry::Cleared(leftover.name())])
    }

    /// The results that take a leftover's place.
    pub(super) fn successor(&self, leftover: &Leftover) -> String {
        self.names.epoch(leftover.newer).results()
    }

    fn topic(&self, leftover: &Leftover) -> String {
        self.names.epoch(leftover.older).results()
    }
}

impl Leftover {
    fn name(&self) -> String {
        let Self { sink, table, older, newer } = self;
        format!("{sink}.{table}.{older}.{newer}")
    }
}
