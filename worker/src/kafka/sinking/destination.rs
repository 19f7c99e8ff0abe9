//! Where a sink's batches go, and what it reads for that.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::Context;
use crds::spec::Sink;

use super::{
    Record,
    alerts::AlertSink,
    console::ConsoleSink,
    files::{Files, Offsets, Place, Positions},
    topic::{Producers, TopicSink},
};
use crate::{
    kafka::{admin::Admin, catalogue::View, client::Cluster, names::Names},
    objects::Objects,
    secrets::Secrets,
    sink::{
        database::{Connector, Database},
        row::{Change, Reader},
    },
};

/// Where a batch goes.
pub(super) enum Destination {
    Database(Box<Store>),
    Files(Files),
    Topic(TopicSink),
    Console(ConsoleSink),
    Alerts(AlertSink),
}

impl Destination {
    /// Whatever was taken and is not written belongs to a membership that is over: it is read again.
    pub(super) fn forget(&mut self) {
        match self {
            Self::Files(files) => files.forget(),
            Self::Console(console) => console.forget(),
            Self::Database(_) | Self::Topic(_) | Self::Alerts(_) => {}
        }
    }

    /// Writes what waits, and says how far that is.
    pub(super) fn finish(&mut self, positions: &impl Positions) -> anyhow::Result<Offsets> {
        match self {
            Self::Files(files) => files.finish(positions),
            Self::Console(console) => console.finish(),
            Self::Database(_) | Self::Topic(_) | Self::Alerts(_) => Ok(Offsets::new()),
        }
    }
}

/// A database that is connected whenever something is to be written.
pub(super) struct Store {
    pub reader: Reader,
    pub connector: Connector,
    pub connected: Option<Database>,
}

/// Decides by the kind of the sink.
///
/// # Errors
/// A [`Mistake`](crate::cli::Mistake) where the manifest asks for what cannot be had.
pub(super) fn destination(
    view: &View,
    sink: &Sink,
    cluster: &Cluster,
    names: &Names,
    secrets: &Secrets,
) -> anyhow::Result<Destination> {
    if let Some(to) = &sink.kafka {
        let facts = Admin::new(cluster)?.facts(&[&to.topic])?;
        let partitions = facts.get(&to.topic).map_or(0, |fact| fact.partitions);
        let producers = Arc::new(Producers::new(cluster, names.sink_group(&sink.name)));
        return Ok(Destination::Topic(TopicSink::new(view, sink, to, names, partitions, producers)?));
    }
    if let Some(console) = &sink.console {
        return Ok(Destination::Console(ConsoleSink::new(view, sink, console, names)?));
    }
    if let Some(parquet) = &sink.parquet {
        let place = match Objects::is_url(&parquet.path) {
            true => Place::bucket(parquet, secrets)?,
            false => Place::Directory(PathBuf::from(&parquet.path)),
        };
        return Ok(Destination::Files(Files::new(view, sink, names, place)?));
    }
    let reader = Reader::new(&view.plan, sink).map_err(anyhow::Error::msg)?;
    let connector = Connector::of(sink, &reader.targets, secrets)?.context("bug: a sink without a kind")?;
    Ok(Destination::Database(Box::new(Store { reader, connector, connected: None })))
}

/// What lies in a topic that a sink reads.
#[derive(Clone)]
pub(super) enum Input {
    /// Rows of this epoch.
    Rows(u32),
    /// Accepted events of a stream.
    Events(String),
    /// Raw records.
    Raw,
}

/// Topics to read, as other epochs are shown or not.
pub(super) fn topics(sink: &Sink, names: &Names, view: &View) -> BTreeMap<String, Input> {
    let mut topics = BTreeMap::new();
    // A console shows the ledger of the streams as well, which any epoch may tell.
    let shown =
        |epoch: &&u32| sink.console.is_some() || sink.tables.iter().any(|table| view.tables.get(table) == Some(*epoch));
    let epochs = view.epochs.iter().filter(shown);
    topics.extend(epochs.map(|epoch| (names.epoch(*epoch).results(), Input::Rows(*epoch))));
    topics.extend(sink.topics.iter().map(|topic| (topic.clone(), Input::Raw)));
    topics.extend(sink.streams.iter().map(|stream| (view.silver(names, stream), Input::Events(stream.clone()))));
    topics
}

/// Reads records into changes; a tombstone says nothing that the row before it did not say.
///
/// # Errors
/// On bytes that the engine did not write.
pub(super) fn changes(
    reader: &mut Reader,
    topics: &BTreeMap<String, Input>,
    batch: &[Record],
) -> anyhow::Result<Vec<Change>> {
    let mut changes = Vec::with_capacity(batch.len());
    for record in batch.iter().filter(|record| !record.value.is_empty()) {
        let change = match topics.get(&record.topic).context("a record of a topic that was not asked for")? {
            Input::Events(stream) => reader.event(stream, record.offset, &record.value)?,
            Input::Rows(_) | Input::Raw => reader.row(record.offset, &record.value)?,
        };
        changes.extend(change);
    }
    Ok(changes)
}
