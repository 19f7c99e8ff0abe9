//! Parquet files: written under a temporary name, renamed once they are whole, named after the offsets of their records.
//!
//! ```text
//!  path/[date=2026-11-21/[hour=09/]]events-0-00000000000000000000-00000000000000041999.parquet
//! ```
//! All files of one roll cover the same offsets, a file for each day or hour; the reader's position moves behind them once
//! all have their name. After a kill in between, files at or behind the position are the leftovers of a roll that does not
//! count: they go, and their records are written again. So every record is in one file, and no file is half. Where files
//! belong on a shelf (objects of a bucket), whole ones are put there under the same names, by the same rules.

mod columns;

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crds::spec::PartitionBy;
use engine::{
    plan::{ColumnPlan, StreamPlan},
    time::{Millis, rfc3339},
    value::{Type, Value},
};
use parquet::{errors::ParquetError, file::writer::SerializedFileWriter};
use tempfile::TempPath;

use self::columns::{Cells, Layout, write_group};
use super::limits::{OPEN_FILES_MAX, ROW_GROUP_BYTES};

/// Why files cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk says no.
    #[error("failed to {action} {path}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The object store says no.
    #[error("failed to {action} {name}")]
    Shelf {
        /// What was tried.
        action: &'static str,
        /// Which object.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The format says no.
    #[error("failed to write Parquet to {path}")]
    Format {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: ParquetError,
    },
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Disk { action, path, source }
}

fn format(path: &Path) -> impl FnOnce(ParquetError) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Format { path, source }
}

/// Where whole files go, if they do not stay where they are made. Names are paths below the shelf, with `/`.
pub trait Shelf: std::fmt::Debug + Send + Sync {
    /// Puts a copy of a file there; it is there whole or not at all.
    ///
    /// # Errors
    /// When it is not.
    fn put(&self, name: &str, file: &Path) -> Result<(), FileError>;

    /// Names of everything that is there.
    ///
    /// # Errors
    /// When it does not answer.
    fn names(&self) -> Result<Vec<String>, FileError>;

    /// Takes something away.
    ///
    /// # Errors
    /// When it is still there.
    fn remove(&self, name: &str) -> Result<(), FileError>;
}

/// When files are closed, and into which directories they go.
#[derive(Clone, Debug)]
pub struct Rolling {
    /// Directory of all files.
    pub directory: PathBuf,
    /// Directories below it.
    pub partition_by: PartitionBy,
    /// Longest time that a record waits for its file.
    pub every: Duration,
    /// Bytes of records after which files are closed.
    pub bytes_max: u64,
    /// Where whole files go; without one they stay in the directory.
    pub shelf: Option<Arc<dyn Shelf>>,
}

/// Digits of an offset in a name.
const OFFSET_DIGITS: usize = 20;

/// What names of files end with that are not whole yet.
const TEMPORARY: &str = ".tmp";

/// Letters that make such a name one of its own.
const NONCE_LETTERS: usize = 8;

/// What a record brings besides its columns.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Offset in what the sink reads.
    pub offset: u64,
    /// Decides on the directory.
    pub time: Millis,
    /// Raw topic it came from.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u64,
    /// Its offset there.
    pub source_offset: u64,
    /// Length of the record.
    pub bytes: usize,
}

/// The files of one source: a stream, or a partition of a raw topic.
pub struct ParquetFiles {
    rolling: Rolling,
    /// What names of files begin with.
    source: String,
    layout: Layout,
    parts: BTreeMap<String, Part>,
    /// Whole files that are not on the shelf yet, with the names that they get there.
    whole: Vec<(String, TempPath)>,
    /// First and last offset of the open files.
    reach: Option<(u64, u64)>,
    opened: Instant,
    bytes: u64,
    waiting_bytes: usize,
}

struct Part {
    directory: PathBuf,
    /// Gone with the value that stands for it, unless it got a name.
    temporary: TempPath,
    writer: SerializedFileWriter<File>,
    cells: Vec<Cells>,
}

/// Columns of accepted events: those of the stream, then where the event came from.
fn event_columns(stream: &StreamPlan) -> Vec<ColumnPlan> {
    let mut columns = stream.columns.clone();
    let source = [("_topic", Type::String), ("_partition", Type::Integer), ("_offset", Type::Integer)];
    columns.extend(source.map(|(name, ty)| ColumnPlan { name: name.into(), ty }));
    columns
}

/// Columns of raw records: their bytes, when they arrived, their key, and where they lie.
fn raw_columns() -> Vec<ColumnPlan> {
    let columns = [
        ("payload", Type::String),
        ("arrival", Type::Timestamp),
        ("key", Type::String),
        ("_topic", Type::String),
        ("_partition", Type::Integer),
        ("_offset", Type::Integer),
    ];
    columns.map(|(name, ty)| ColumnPlan { name: name.into(), ty }).to_vec()
}

/// What names of a stream's files begin with: offsets of each epoch begin with 0.
#[must_use]
pub fn source_of_events(stream: &str, epoch: u32) -> String {
    match epoch {
        0 | 1 => format!("{stream}-0"),
        epoch => format!("{stream}.e{epoch}-0"),
    }
}

/// What names of a partition's files begin with.
#[must_use]
pub fn source_of_raw(topic: &str, partition: u32) -> String {
    format!("{topic}-{partition}")
}

/// The offset behind the last that files of a source are named after; nothing if there is no file.
///
/// # Errors
/// Where the directory or the shelf cannot be read.
pub fn end_of(rolling: &Rolling, source: &str) -> Result<Option<u64>, FileError> {
    let mut names = Vec::new();
    match &rolling.shelf {
        Some(shelf) => names = shelf.names()?,
        None if rolling.directory.exists() => list(&rolling.directory, &mut names)?,
        None => {}
    }
    let ends = names.iter().filter_map(|name| Some(reach(name.rsplit('/').next()?, source)?.1 + 1));
    Ok(ends.max())
}

fn list(directory: &Path, names: &mut Vec<String>) -> Result<(), FileError> {
    for entry in fs::read_dir(directory).map_err(disk("read", directory))? {
        let path = entry.map_err(disk("read", directory))?.path();
        if path.is_dir() {
            list(&path, names)?;
        } else {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(())
}

impl ParquetFiles {
    /// Files of accepted events of an epoch, from `position` on: leftovers at or behind it go. It must be one that was written
    /// down, by whoever made these files: whatever lies behind it is lost.
    ///
    /// # Errors
    /// Where the directory cannot be used.
    pub fn of_events(rolling: Rolling, stream: &StreamPlan, epoch: u32, position: u64) -> Result<Self, FileError> {
        Self::open(rolling, source_of_events(&stream.name, epoch), &event_columns(stream), position)
    }

    /// Files of the raw records of a partition, as [`ParquetFiles::of_events`].
    ///
    /// # Errors
    /// Where the directory cannot be used.
    pub fn of_raw(rolling: Rolling, topic: &str, partition: u32, position: u64) -> Result<Self, FileError> {
        Self::open(rolling, source_of_raw(topic, partition), &raw_columns(), position)
    }

    fn open(rolling: Rolling, source: String, columns: &[ColumnPlan], position: u64) -> Result<Self, FileError> {
        let layout = Layout::new(columns).map_err(format(&rolling.directory))?;
        fs::create_dir_all(&rolling.directory).map_err(disk("make", &rolling.directory))?;
        remove_leftovers(&rolling.directory, &source, position)?;
        if let Some(shelf) = &rolling.shelf {
            clear(&**shelf, &source, position)?;
        }
        Ok(Self {
            rolling,
            source,
            layout,
            parts: BTreeMap::new(),
            whole: Vec::new(),
            reach: None,
            opened: Instant::now(),
            bytes: 0,
            waiting_bytes: 0,
        })
    }

    /// Takes an accepted event with the values of its columns.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn event(&mut self, place: Place<'_>, values: impl Iterator<Item = Value>) -> Result<(), FileError> {
        let cells = self.cells(place)?;
        for (cell, value) in cells.iter_mut().zip(values) {
            cell.push(value);
        }
        self.origin(place);
        Ok(())
    }

    /// Takes a raw record; one with an empty key has none.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn raw(&mut self, place: Place<'_>, key: &[u8], payload: &[u8]) -> Result<(), FileError> {
        let cells = self.cells(place)?;
        cells[0].push_bytes(Some(payload));
        cells[1].push(Value::Timestamp(place.time));
        cells[2].push_bytes(Some(key).filter(|key| !key.is_empty()));
        self.origin(place);
        Ok(())
    }

    /// Passes an offset whose record is not wanted.
    pub fn pass(&mut self, offset: u64) {
        let (first, _) = *self.reach.get_or_insert((offset, offset));
        self.reach = Some((first, offset));
    }

    /// Whether files should be closed now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let is_full = self.bytes >= self.rolling.bytes_max || self.parts.len() >= OPEN_FILES_MAX;
        self.reach.is_some() && (is_full || !self.whole.is_empty() || self.opened.elapsed() >= self.rolling.every)
    }

    /// The first offset of the open files; nothing if nothing was taken.
    #[must_use]
    pub fn begins_at(&self) -> Option<u64> {
        self.reach.map(|(first, _)| first)
    }

    /// Makes the open files whole and gives them their names; returns the position behind them, if anything was taken.
    ///
    /// # Errors
    /// When the disk fails: nothing counts then. Where the shelf does, this may be called again, before anything else is taken.
    pub fn finish(&mut self) -> Result<Option<u64>, FileError> {
        let Some((first, last)) = self.reach else { return Ok(None) };
        self.write_groups()?;
        for part in std::mem::take(&mut self.parts).into_values() {
            let path = part.directory.join(format!("{}-{first:020}-{last:020}.parquet", self.source));
            let file = part.writer.into_inner().map_err(format(&part.temporary))?;
            file.sync_all().map_err(disk("write", &part.temporary))?;
            if self.rolling.shelf.is_some() {
                self.whole.push((name_of(&path, &self.rolling.directory), part.temporary));
                continue;
            }
            part.temporary.persist(&path).map_err(|failed| disk("name", &path)(failed.error))?;
            sync_directory(&part.directory)?;
        }
        sync_directory(&self.rolling.directory)?;
        while let (Some(shelf), Some((name, file))) = (&self.rolling.shelf, self.whole.last()) {
            shelf.put(name, file)?;
            self.whole.pop();
        }
        (self.reach, self.bytes) = (None, 0);
        Ok(Some(last + 1))
    }

    /// The cells that a record goes to.
    fn cells(&mut self, place: Place<'_>) -> Result<&mut Vec<Cells>, FileError> {
        if self.waiting_bytes >= ROW_GROUP_BYTES {
            self.write_groups()?;
        }
        if self.reach.is_none() {
            self.opened = Instant::now();
        }
        self.pass(place.offset);
        self.bytes += place.bytes as u64;
        self.waiting_bytes += place.bytes;
        let below = below(self.rolling.partition_by, place.time);
        if !self.parts.contains_key(&below) {
            let part = self.part(&below)?;
            self.parts.insert(below.clone(), part);
        }
        Ok(&mut self.parts.get_mut(&below).expect("inserted above").cells)
    }

    /// Ends a row with the columns that say where it came from.
    fn origin(&mut self, place: Place<'_>) {
        let below = below(self.rolling.partition_by, place.time);
        let cells = &mut self.parts.get_mut(&below).expect("the row's cells are there").cells;
        let at = cells.len() - 3;
        cells[at].push(Value::String(place.topic.into()));
        cells[at + 1].push(Value::Integer(place.partition as i64));
        cells[at + 2].push(Value::Integer(place.source_offset as i64));
    }

    fn part(&self, below: &str) -> Result<Part, FileError> {
        let directory = self.rolling.directory.join(below);
        fs::create_dir_all(&directory).map_err(disk("make", &directory))?;
        // Of two that believe a source theirs neither touches what the other writes.
        let prefix = format!(".{}.", self.source);
        let made = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(TEMPORARY)
            .rand_bytes(NONCE_LETTERS)
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&directory);
        let (file, temporary) = made.map_err(disk("make a file in", &directory))?.into_parts();
        let writer = self.layout.writer(file).map_err(format(&temporary))?;
        Ok(Part { directory, temporary, writer, cells: self.layout.cells() })
    }

    fn write_groups(&mut self) -> Result<(), FileError> {
        for part in self.parts.values_mut() {
            let group = part.writer.next_row_group().map_err(format(&part.temporary))?;
            write_group(group, &mut part.cells).map_err(format(&part.temporary))?;
        }
        self.waiting_bytes = 0;
        Ok(())
    }
}

/// `date=2026-11-21/hour=09`.
fn below(by: PartitionBy, time: Millis) -> String {
    let text = rfc3339(time);
    match by {
        PartitionBy::None => String::new(),
        PartitionBy::Date => format!("date={}", &text[..10]),
        PartitionBy::Hour => format!("date={}/hour={}", &text[..10], &text[11..13]),
    }
}

fn sync_directory(directory: &Path) -> Result<(), FileError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(disk("write", directory))
}

/// Removes what a roll left behind that was never counted.
fn remove_leftovers(directory: &Path, source: &str, position: u64) -> Result<(), FileError> {
    for entry in fs::read_dir(directory).map_err(disk("read", directory))? {
        let path = entry.map_err(disk("read", directory))?.path();
        if path.is_dir() {
            remove_leftovers(&path, source, position)?;
        } else if path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| is_leftover(name, source, position))
        {
            fs::remove_file(&path).map_err(disk("remove", &path))?;
        }
    }
    Ok(())
}

/// The same for files on a shelf.
fn clear(shelf: &dyn Shelf, source: &str, position: u64) -> Result<(), FileError> {
    let names = shelf.names()?;
    let last = |name: &str| name.rsplit('/').next().is_some_and(|name| is_leftover(name, source, position));
    names.iter().filter(|name| last(name)).try_for_each(|name| shelf.remove(name))
}

/// The name of a file below a directory, with `/`.
fn name_of(file: &Path, directory: &Path) -> String {
    let below = file.strip_prefix(directory).unwrap_or(file);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

fn is_leftover(name: &str, source: &str, position: u64) -> bool {
    let temporary = name.strip_prefix('.').and_then(|name| name.strip_suffix(TEMPORARY)?.strip_prefix(source));
    if temporary.is_some_and(|nonce| nonce.is_empty() || is_nonce(nonce)) {
        return true;
    }
    reach(name, source).is_some_and(|(first, _)| first >= position)
}

/// What makes the name of a temporary file one that no other process uses. Earlier versions did without.
fn is_nonce(text: &str) -> bool {
    let nonce = text.strip_prefix('.').unwrap_or_default();
    nonce.len() == NONCE_LETTERS && nonce.bytes().all(|letter| letter.is_ascii_alphanumeric())
}

/// First and last offset of a source's file, by its name.
fn reach(name: &str, source: &str) -> Option<(u64, u64)> {
    let reach = name.strip_prefix(source)?.strip_prefix('-')?.strip_suffix(".parquet")?;
    let (first, last) = reach.split_once('-')?;
    let offset = |digits: &str| (digits.len() == OFFSET_DIGITS).then(|| digits.parse().ok()).flatten();
    Some((offset(first)?, offset(last)?))
}

#[cfg(test)]
mod tests;
