//! Tables of a fleet, fed from the results of every epoch that is shown; built anew beside the old ones when that changes.

use std::{sync::Arc, time::Duration};

use crds::Checked;

use super::{
    catalogue::{CatalogueFeed, View, agree},
    client::Cluster,
    feed::{Feed, FeedRecord},
    names::Names,
};
use crate::{
    serve::Shown,
    store::{Document, Reader, ResultRecord, TableStore},
};

/// One set of tables, and where their rows come from.
struct Tables {
    view: View,
    store: TableStore,
    feeds: Vec<(u32, Feed)>,
    batch: Vec<FeedRecord>,
}

impl Tables {
    fn open(cluster: &Cluster, names: &Names, view: View) -> anyhow::Result<Self> {
        let store = TableStore::open(None, &view.plan)?;
        let open = |epoch: &u32| anyhow::Ok((*epoch, Feed::open(cluster, &names.epoch(*epoch).results(), 0, 0)?));
        let feeds = view.epochs.iter().map(open).collect::<anyhow::Result<_>>()?;
        Ok(Self { view, store, feeds, batch: Vec::new() })
    }

    /// Moves what is there into the tables, waiting for it at most for `wait`.
    fn step(&mut self, wait: Duration) -> anyhow::Result<()> {
        let wait = wait / self.feeds.len().max(1) as u32;
        for (epoch, feed) in &mut self.feeds {
            self.batch.clear();
            feed.read(wait, &mut self.batch)?;
            let view = &self.view;
            let is_shown = |document: &[u8]| match serde_json::from_slice::<Document<'_>>(document) {
                Ok(row) => view.shows(*epoch, &row),
                // The store says what is wrong with it.
                Err(_) => true,
            };
            let records = self.batch.iter().filter_map(|record| {
                let document = record.value.as_deref().filter(|document| is_shown(document))?;
                Some(ResultRecord { offset: record.offset, key: &record.key, document })
            });
            self.store.apply_from_one(&records.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn is_caught_up(&self) -> bool {
        self.feeds.iter().all(|(_, feed)| feed.is_caught_up())
    }

    /// Rows that are not in the tables yet; nothing where a broker does not answer.
    fn behind(&self) -> Option<u64> {
        self.feeds.iter().map(|(_, feed)| feed.behind()).sum()
    }
}

/// Feeds what is shown, and what will be.
pub struct Feeding {
    cluster: Cluster,
    names: Names,
    checked: Checked,
    catalogue: CatalogueFeed,
    now: Tables,
    next: Option<Tables>,
    shown: Shown,
}

impl Feeding {
    /// Opens the tables that the catalogue shows. `checked` is settled and agrees with it.
    ///
    /// # Errors
    /// Where Kafka or the disk refuses.
    pub fn open(cluster: &Cluster, names: &Names, checked: Checked, catalogue: CatalogueFeed) -> anyhow::Result<Self> {
        let view = View::new(&catalogue.catalogue, &checked)?;
        let now = Tables::open(cluster, names, view)?;
        let shown = Shown::new(Arc::new(Reader::open(now.store.path())?), now.store.changes());
        let (cluster, names) = (cluster.clone(), names.clone());
        Ok(Self { cluster, names, checked, catalogue, now, next: None, shown })
    }

    /// What requests see.
    #[must_use]
    pub fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// What is shown, and by which epochs.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.now.view
    }

    /// Moves what is there into the tables, waiting for it at most for `wait`.
    ///
    /// # Errors
    /// Where Kafka or the disk refuses.
    pub fn step(&mut self, wait: Duration) -> anyhow::Result<()> {
        let Some(next) = &mut self.next else { return self.now.step(wait) };
        self.now.step(wait / 2)?;
        next.step(wait / 2)?;
        Ok(())
    }

    /// Looks whether other epochs are to be shown, and shows them once their tables are there. Whether that was now.
    ///
    /// # Errors
    /// Where Kafka or the disk refuses.
    pub fn turn(&mut self) -> anyhow::Result<bool> {
        // A catalogue that is already another manifest's is for who comes after us.
        if self.catalogue.look(Duration::ZERO)? && agree(&self.catalogue.catalogue, &self.checked).is_ok() {
            let view = View::new(&self.catalogue.catalogue, &self.checked)?;
            let expected = self.next.as_ref().map_or(&self.now.view, |next| &next.view);
            if *expected != view {
                self.next = Some(Tables::open(&self.cluster, &self.names, view)?);
            }
        }
        let Some(next) = self.next.take_if(|next| next.is_caught_up()) else { return Ok(false) };
        self.shown.replace(Arc::new(Reader::open(next.store.path())?), next.store.changes());
        tracing::info!(epochs = ?next.view.epochs, "other epochs are shown");
        self.now = next;
        Ok(true)
    }

    /// Whether everything that was there is in the tables.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.now.is_caught_up()
    }

    /// Rows that are not in the tables yet; nothing where a broker does not answer.
    #[must_use]
    pub fn behind(&self) -> Option<u64> {
        self.now.behind()
    }
}
