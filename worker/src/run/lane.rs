//! One partition of the log on its way into one sink, and how far it has come.

use std::collections::BTreeMap;

use anyhow::Context;
use engine::batch::RawBatch;

use crate::{
    log::{
        EmbeddedLog,
        record::{read_result, read_silver},
    },
    ports::{Commit, Log, Position, Records, Topic, TopicPartition, partition_of},
    sink::{
        cells::{Wanted, WantedTables, members},
        parquet::{ParquetFiles, Place},
        select,
    },
};

/// A partition, its reader's position, and where it goes.
pub(super) struct Lane {
    pub consumer: String,
    pub at: TopicPartition,
    /// The offset that is taken next.
    pub next: u64,
    pub source: Source,
    pub target: Target,
}

/// What the records are, and which of them are wanted.
pub(super) enum Source {
    /// Accepted events of a stream.
    Events(Box<Wanted>),
    /// Raw records of a topic.
    Raw { topic: String },
    /// Rows of these tables.
    Rows(WantedTables),
}

/// Where they go.
pub(super) enum Target {
    Files(Box<ParquetFiles>),
    Topic(Topic),
}

impl Lane {
    /// Takes a batch. What goes to a topic is committed with the position.
    ///
    /// # Errors
    /// When the disk fails, or the log is damaged.
    pub(super) fn take(&mut self, log: &EmbeddedLog, batch: &RawBatch) -> anyhow::Result<()> {
        let Some(last) = batch.records.last() else { return Ok(()) };
        match &mut self.target {
            Target::Files(files) => into_files(&mut self.source, files, self.at.partition, batch)?,
            Target::Topic(topic) => {
                let records = into_topic(&mut self.source, *topic, batch)?;
                let appends: Vec<(TopicPartition, &Records)> =
                    records.iter().map(|(partition, records)| (topic.partition(*partition), records)).collect();
                let position = Position { consumer: &self.consumer, at: self.at, next: last.offset + 1 };
                log.commit(&Commit { appends: &appends, position: Some(position), progress: None })?;
            }
        }
        self.next = last.offset + 1;
        Ok(())
    }

    /// Closes files that are due, or all of them, and moves the position behind them.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn close(&mut self, log: &EmbeddedLog, all: bool) -> anyhow::Result<()> {
        let Target::Files(files) = &mut self.target else { return Ok(()) };
        if !all && !files.is_due() {
            return Ok(());
        }
        let Some(next) = files.finish()? else { return Ok(()) };
        let position = Some(Position { consumer: &self.consumer, at: self.at, next });
        Ok(log.commit(&Commit { appends: &[], position, progress: None })?)
    }
}

fn into_files(source: &mut Source, files: &mut ParquetFiles, partition: u32, batch: &RawBatch) -> anyhow::Result<()> {
    let mut row = Vec::new();
    for record in &batch.records {
        let (offset, payload) = (record.offset, batch.payload(record));
        match source {
            Source::Raw { topic } => {
                let partition = partition.into();
                let bytes = payload.len();
                let place = Place { offset, time: record.arrival, topic, partition, source_offset: offset, bytes };
                files.raw(place, &[], payload)?;
            }
            Source::Events(wanted) => {
                let event = read_silver(payload).context("damaged events")?;
                let pairs = members(event.json).context("damaged events")?;
                if !wanted.takes_event(&pairs, &mut row) {
                    files.pass(offset);
                    continue;
                }
                let place = Place {
                    offset,
                    time: event.event_time.unwrap_or(record.arrival),
                    topic: event.topic,
                    partition: event.partition,
                    source_offset: event.offset,
                    bytes: payload.len(),
                };
                files.event(place, row.drain(..))?;
            }
            Source::Rows(_) => unreachable!("bug: rows for files; the manifest's check refuses them"),
        }
    }
    Ok(())
}

/// Records by partition of the topic, placed by their key as every producer of ours does.
fn into_topic(source: &mut Source, topic: Topic, batch: &RawBatch) -> anyhow::Result<BTreeMap<u32, Records>> {
    let mut records: BTreeMap<u32, Records> = BTreeMap::new();
    for record in &batch.records {
        let payload = batch.payload(record);
        let (key, json) = match source {
            Source::Events(wanted) => {
                let Some(event) = select::event(wanted, payload)? else { continue };
                (event.key, event.json)
            }
            Source::Rows(tables) => {
                let (key, document) = read_result(payload).context("damaged results")?;
                if select::row(tables, document)?.is_none() {
                    continue;
                }
                (key, document)
            }
            Source::Raw { .. } => unreachable!("bug: raw records for a topic; the manifest's check refuses them"),
        };
        records.entry(partition_of(key, topic.partitions)).or_default().push(json);
    }
    Ok(records)
}
