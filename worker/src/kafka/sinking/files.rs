//! Parquet files of a fleet's sink: a source for each partition that the group gave us.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::Context;
use crds::spec::{Parquet, Sink};
use engine::{plan::StreamPlan, value::Value};
use tempfile::TempDir;

use super::{Record, listed::Listed};
use crate::{
    cli::Mistake,
    kafka::{catalogue::View, names::Names},
    log::record::read_silver,
    objects::Objects,
    secrets::Secrets,
    sink::{
        cells::{Wanted, members},
        limits::OBJECT_RETRY_MAX,
        parquet::{self, FileError, ParquetFiles, Rolling, Shelf},
    },
};

/// Topics and partitions with the offset behind what is safe.
pub(super) type Offsets = BTreeMap<(String, i32), u64>;

/// Where files go.
pub(super) enum Place {
    /// They are made there and stay there.
    Directory(PathBuf),
    /// They are made in a temporary directory, and put into a bucket.
    Bucket(TempDir, Objects),
}

impl Place {
    /// The bucket that a path means.
    ///
    /// # Errors
    /// A [`Mistake`](crate::cli::Mistake) where it means none, or the secret cannot be used.
    pub(super) fn bucket(parquet: &Parquet, secrets: &Secrets) -> anyhow::Result<Self> {
        let secret = parquet.credentials_secret.as_deref();
        let objects = Objects::open_for(OBJECT_RETRY_MAX, &parquet.path, secret, secrets)?;
        let made = tempfile::Builder::new().prefix("clickstream-objects").tempdir();
        Ok(Self::Bucket(made.context("failed to make a temporary directory")?, objects))
    }

    /// Directory of a source, or of the only one.
    fn directory(&self, source: Option<&String>) -> PathBuf {
        let all = match self {
            Self::Directory(directory) => directory,
            Self::Bucket(made, _) => made.path(),
        };
        source.map_or(all.to_owned(), |name| all.join(name))
    }

    /// Its shelf, as long as partitions are ours.
    fn shelf(&self, source: Option<&String>) -> Option<Arc<dyn Shelf>> {
        let Self::Bucket(_, objects) = self else { return None };
        Some(Arc::new(Listed::new(source.map_or(objects.clone(), |name| objects.below(name)))))
    }
}

/// Whose offsets are moved once files are whole.
pub(super) trait Positions {
    /// The offset of a partition that is written down, or nothing.
    ///
    /// # Errors
    /// Where nobody says it, however long that is asked.
    fn committed(&self, topic: &str, partition: i32) -> anyhow::Result<Option<u64>>;

    /// Writes down how far a partition is; whether the group took that, which it does from its members only.
    fn write_down(&self, topic: &str, partition: i32, offset: u64) -> bool;

    /// How people name the group.
    fn group(&self) -> &str;
}

/// Open files by partition.
pub(super) struct Files {
    parquet: Parquet,
    place: Place,
    /// Whether sources have a directory each.
    several: bool,
    /// Streams by the topic of their accepted events, with the epoch that tells them.
    streams: BTreeMap<String, (StreamPlan, u32, Wanted)>,
    open: BTreeMap<(String, i32), ParquetFiles>,
    /// Shelves by source, while partitions are ours.
    shelves: BTreeMap<Option<String>, Option<Arc<dyn Shelf>>>,
    /// Records of the batch that were taken before the bucket failed.
    taken: usize,
    /// Behind the files that were closed since.
    closed: Offsets,
}

/// Whether it is the bucket that failed: it may be there again later.
pub(super) fn is_away(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(FileError::Shelf { .. }))
}

impl Files {
    pub(super) fn new(view: &View, sink: &Sink, names: &Names, place: Place) -> anyhow::Result<Self> {
        let parquet = sink.parquet.clone().context("no Parquet sink")?;
        let wanted = view.plan.streams.iter().filter(|stream| sink.streams.contains(&stream.name));
        let streams = wanted.map(|stream| {
            let wanted = Wanted::events(stream, sink.filter.as_deref()).map_err(anyhow::Error::msg)?;
            let epoch = view.streams.get(&stream.name).copied().unwrap_or(1);
            Ok((view.silver(names, &stream.name), (stream.clone(), epoch, wanted)))
        });
        let streams = streams.collect::<anyhow::Result<_>>()?;
        let several = sink.streams.len() + sink.topics.len() > 1;
        let (open, shelves, closed) = (BTreeMap::new(), BTreeMap::new(), Offsets::new());
        Ok(Self { parquet, place, several, streams, open, shelves, taken: 0, closed })
    }

    /// Forgets what is not in whole files: it is read again, by us or by another.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.shelves.clear();
        self.closed.clear();
        self.taken = 0;
    }

    /// Takes a batch and closes files that are due; returns the offsets behind those.
    ///
    /// # Errors
    /// When the disk fails. Where the bucket does ([`is_away`]), this may be called again with the same batch.
    pub(super) fn take(&mut self, batch: &[Record], positions: &impl Positions) -> anyhow::Result<Offsets> {
        let mut row = Vec::new();
        while let Some(record) = batch.get(self.taken) {
            self.add(record, &mut row, positions)?;
            self.taken += 1;
        }
        self.close(positions, ParquetFiles::is_due)?;
        self.taken = 0;
        Ok(std::mem::take(&mut self.closed))
    }

    /// Takes a record, or nothing of it.
    fn add(&mut self, record: &Record, row: &mut Vec<Value>, positions: &impl Positions) -> anyhow::Result<()> {
        let key = (record.topic.clone(), record.partition);
        if !self.open.contains_key(&key) {
            let files = self.source(record, positions)?;
            self.open.insert(key.clone(), files);
        }
        let files = self.open.get_mut(&key).expect("opened above");
        let Some((.., wanted)) = self.streams.get_mut(&record.topic) else {
            let (offset, partition) = (record.offset, u64::from(record.partition.unsigned_abs()));
            let (topic, bytes) = (record.topic.as_str(), record.value.len());
            let place = parquet::Place { offset, time: record.time, topic, partition, source_offset: offset, bytes };
            return Ok(files.raw(place, &record.key, &record.value)?);
        };
        let event = read_silver(&record.value).context("damaged events")?;
        let pairs = members(event.json).context("damaged events")?;
        if !wanted.takes_event(&pairs, row) {
            files.pass(record.offset);
            return Ok(());
        }
        let place = parquet::Place {
            offset: record.offset,
            time: event.event_time.unwrap_or(record.time),
            topic: event.topic,
            partition: event.partition,
            source_offset: event.offset,
            bytes: record.value.len(),
        };
        Ok(files.event(place, row.drain(..))?)
    }

    /// Closes all files. What a bucket does not take now is read again by whoever comes next.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn finish(&mut self, positions: &impl Positions) -> anyhow::Result<Offsets> {
        match self.close(positions, |_| true) {
            Err(error) if is_away(&error) => {
                tracing::warn!(error = format!("{error:#}"), "leaving the rest to be read again")
            }
            closed => closed?,
        }
        Ok(std::mem::take(&mut self.closed))
    }

    /// Gives files their names. Whoever slept may have a successor, who has begun where it began itself: the group says so by not
    /// taking that position again, and the files are forgotten with the membership, or tried again.
    fn close(&mut self, positions: &impl Positions, is_due: impl Fn(&ParquetFiles) -> bool) -> anyhow::Result<()> {
        for (key, files) in self.open.iter_mut().filter(|(_, files)| is_due(files)) {
            let Some(first) = files.begins_at() else { continue };
            if !positions.write_down(&key.0, key.1, first) {
                continue;
            }
            if let Some(next) = files.finish()? {
                self.closed.insert(key.clone(), next);
            }
        }
        Ok(())
    }

    /// Files of the record's partition: it is the first since the group's offset. Files behind that are leftovers of a roll that
    /// does not count; without it, or before it, they are somebody's whom we know nothing of.
    fn source(&mut self, record: &Record, positions: &impl Positions) -> anyhow::Result<ParquetFiles> {
        let (topic, partition, offset) = (&record.topic, record.partition, record.offset);
        let stream = self.streams.get(topic).map(|(stream, epoch, _)| (stream, *epoch));
        let name = stream.map_or(topic, |(stream, _)| &stream.name);
        let below = self.several.then_some(name);
        let shelf = self.shelves.entry(below.cloned()).or_insert_with(|| self.place.shelf(below));
        let rolling = Rolling {
            directory: self.place.directory(below),
            shelf: shelf.clone(),
            partition_by: self.parquet.partition_by,
            every: self.parquet.roll_every.to_std(),
            bytes_max: self.parquet.roll_size.bytes,
        };
        let source = match stream {
            Some((stream, epoch)) => parquet::source_of_events(&stream.name, epoch),
            None => parquet::source_of_raw(name, partition.unsigned_abs()),
        };
        let (group, path) = (positions.group(), &self.parquet.path);
        let position = match positions.committed(topic, partition)? {
            Some(committed) if offset < committed => {
                return Err(Mistake(format!(
                    "{topic}/{partition} begins again at {offset}, and {path} has what it was up to {committed}: a topic made anew \
                     needs another `path`, or its files moved away and the group {group} deleted"
                ))
                .into());
            }
            Some(committed) => committed,
            None => {
                if let Some(end) = parquet::end_of(&rolling, &source)? {
                    return Err(Mistake(format!(
                        "the group {group} does not know how far {topic}/{partition} is written, and {path} has files of it up \
                         to {end}: if they are of this topic, say so by kafka-consumer-groups --group {group} --topic \
                         {topic}:{partition} --reset-offsets --to-offset {end} --execute; else move them away, or use another `path`"
                    ))
                    .into());
                }
                // If it is not taken, nothing gets its name.
                let _taken = positions.write_down(topic, partition, offset);
                offset
            }
        };
        Ok(match stream {
            Some((stream, epoch)) => ParquetFiles::of_events(rolling, stream, epoch, position)?,
            None => ParquetFiles::of_raw(rolling, name, partition.unsigned_abs(), position)?,
        })
    }
}
