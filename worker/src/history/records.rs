//! The records of a partition as its archive has them: whole rolls, one after the other, in the order of offsets.

use std::{collections::VecDeque, fs::File, ops::Range, path::Path};

use anyhow::{Context, ensure};
use engine::{batch::RawBatch, time::Millis};
use parquet::{
    basic::Type,
    column::reader::{ColumnReaderImpl, get_typed_column_reader},
    data_type::{ByteArray, ByteArrayType, DataType, Int64Type},
    file::reader::{FileReader as _, SerializedFileReader},
};

use super::archive::{Archive, Readable, Roll};
use crate::low;

/// Rows of a file that are in memory at a time, beside the pages of its row group.
const ROWS_AHEAD: usize = 1_024;

/// Bytes of a batch, but for its last record: partitions take turns.
const BATCH_BYTES: usize = 256 << 10;

/// The columns of raw records that are read, and what they are.
const COLUMNS: [(&str, Type); 3] = [("payload", Type::BYTE_ARRAY), ("arrival", Type::INT64), ("_offset", Type::INT64)];

/// One more, which archives of older versions do not have.
const KEY: (&str, Type) = ("key", Type::BYTE_ARRAY);

/// Reads a partition.
pub struct Records<'a> {
    archive: &'a Archive,
    rolls: VecDeque<Roll>,
    open: Vec<OpenFile>,
    /// Behind the last record that was handed out.
    next: u64,
    /// Offset and arrival of the first record.
    pub first: Option<(u64, Millis)>,
    /// Arrival of the last record.
    pub last: Option<Millis>,
    /// Offsets between files that no file covers. Ends of transactions have offsets too.
    pub gaps: Vec<Range<u64>>,
}

impl<'a> Records<'a> {
    pub(super) fn new(archive: &'a Archive, rolls: VecDeque<Roll>) -> Self {
        Self { archive, rolls, open: Vec::new(), next: 0, first: None, last: None, gaps: Vec::new() }
    }

    /// Behind the last record that was handed out.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Fills `batch` with what comes next; empty at the end. A batch ends before a record that arrived `pause_ms` or more after
    /// the one before it, so that the caller sees the pause.
    ///
    /// # Errors
    /// Where a file cannot be read, or is no archive of raw records.
    pub fn fill(&mut self, batch: &mut RawBatch, pause_ms: Option<Millis>) -> anyhow::Result<()> {
        while batch.bytes.len() < BATCH_BYTES {
            let Some(at) = self.nearest()? else {
                if !self.turn()? {
                    return Ok(());
                }
                continue;
            };
            let file = &mut self.open[at];
            let (offset, arrival) = file.peek().context("bug: a file without a record is nearest")?;
            let paused = |last: Millis| pause_ms.is_some_and(|pause| arrival - last >= pause);
            if !batch.records.is_empty() && self.last.is_some_and(paused) {
                return Ok(());
            }
            // Two files may overlap where a sink was killed between writing and committing: each record counts once.
            if offset >= self.next {
                batch.push(file.payloads[file.at].data(), offset, arrival);
                if let Some((field, low)) = file.keys.get(file.at).and_then(|key| low::read(key.as_ref()?.data())) {
                    batch.bound(field, low);
                }
                self.next = offset + 1;
                self.first.get_or_insert((offset, arrival));
                self.last = Some(arrival);
            }
            file.at += 1;
        }
        Ok(())
    }

    /// The open file with the lowest offset; files that were read are closed.
    fn nearest(&mut self) -> anyhow::Result<Option<usize>> {
        let mut nearest: Option<(u64, usize)> = None;
        let mut at = 0;
        while at < self.open.len() {
            let file = &mut self.open[at];
            if !file.advance()? {
                self.open.swap_remove(at);
                continue;
            }
            if let Some((offset, _)) = file.peek()
                && nearest.is_none_or(|(lowest, _)| offset < lowest)
            {
                nearest = Some((offset, at));
            }
            at += 1;
        }
        Ok(nearest.map(|(_, at)| at))
    }

    /// Opens the next roll; false at the end.
    fn turn(&mut self) -> anyhow::Result<bool> {
        let Some(roll) = self.rolls.pop_front() else { return Ok(false) };
        if self.first.is_some() && roll.first > self.next {
            self.gaps.push(self.next..roll.first);
        }
        for name in &roll.names {
            let file = self.archive.readable(name)?;
            self.open.push(OpenFile::open(file)?);
        }
        Ok(true)
    }
}

struct OpenFile {
    file: Readable,
    reader: SerializedFileReader<File>,
    /// The row group after the one that is read.
    group: usize,
    columns: Option<Columns>,
    payloads: Vec<ByteArray>,
    arrivals: Vec<i64>,
    offsets: Vec<i64>,
    /// None in an archive without keys.
    keys: Vec<Option<ByteArray>>,
    at: usize,
}

struct Columns {
    payload: ColumnReaderImpl<ByteArrayType>,
    arrival: ColumnReaderImpl<Int64Type>,
    offset: ColumnReaderImpl<Int64Type>,
    key: Option<ColumnReaderImpl<ByteArrayType>>,
}

impl OpenFile {
    fn open(file: Readable) -> anyhow::Result<Self> {
        let failed = || format!("failed to read {}", file.path.display());
        let opened = File::open(&file.path).with_context(failed)?;
        let reader = SerializedFileReader::new(opened).with_context(failed)?;
        Ok(Self {
            file,
            reader,
            group: 0,
            columns: None,
            payloads: Vec::new(),
            arrivals: Vec::new(),
            offsets: Vec::new(),
            keys: Vec::new(),
            at: 0,
        })
    }

    fn peek(&self) -> Option<(u64, Millis)> {
        let (offset, arrival) = (self.offsets.get(self.at)?, self.arrivals.get(self.at)?);
        Some((offset.unsigned_abs(), *arrival))
    }

    /// Makes sure that a record waits; false at the file's end.
    fn advance(&mut self) -> anyhow::Result<bool> {
        while self.at >= self.offsets.len() {
            if self.columns.is_none() {
                if self.group >= self.reader.num_row_groups() {
                    return Ok(false);
                }
                self.columns = Some(columns(&self.reader, self.group, &self.file.path)?);
                self.group += 1;
            }
            self.read().with_context(|| format!("failed to read {}", self.file.path.display()))?;
        }
        Ok(true)
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let Some(columns) = &mut self.columns else { return Ok(()) };
        self.at = 0;
        take(&mut columns.payload, &mut self.payloads)?;
        take(&mut columns.arrival, &mut self.arrivals)?;
        take(&mut columns.offset, &mut self.offsets)?;
        self.keys.clear();
        if let Some(column) = &mut columns.key {
            let mut keys = Vec::new();
            let present = take(column, &mut keys)?;
            let mut keys = keys.into_iter();
            self.keys.extend(present.into_iter().map(|present| if present == 0 { None } else { keys.next() }));
            ensure!(self.keys.len() == self.offsets.len(), "a record without a key or its absence");
        }
        let (payloads, arrivals, offsets) = (self.payloads.len(), self.arrivals.len(), self.offsets.len());
        ensure!(payloads == offsets && arrivals == offsets, "a record without bytes, arrival or offset");
        if offsets == 0 {
            self.columns = None;
        }
        Ok(())
    }
}

/// Replaces `values` by what comes next of a column, and says of each row whether it has one: 1, or 0.
fn take<T: DataType>(column: &mut ColumnReaderImpl<T>, values: &mut Vec<T::T>) -> anyhow::Result<Vec<i16>> {
    values.clear();
    let (mut present, mut taken) = (Vec::new(), 0);
    while taken < ROWS_AHEAD {
        let (rows, ..) = column.read_records(ROWS_AHEAD - taken, Some(&mut present), None, values)?;
        if rows == 0 {
            break;
        }
        taken += rows;
    }
    Ok(present)
}

fn columns(reader: &SerializedFileReader<File>, group: usize, path: &Path) -> anyhow::Result<Columns> {
    let place = || format!("failed to read {}", path.display());
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let place_of = |(name, ty): (&str, Type)| {
        schema.columns().iter().position(|column| column.name() == name && column.physical_type() == ty)
    };
    let find = |column: (&str, Type)| {
        place_of(column)
            .with_context(|| format!("{} is no archive of raw records: no column {}", path.display(), column.0))
    };
    let [payload, arrival, offset] = COLUMNS;
    let (payload, arrival, offset) = (find(payload)?, find(arrival)?, find(offset)?);
    let group = reader.get_row_group(group).with_context(place)?;
    let column = |at| group.get_column_reader(at).with_context(place);
    Ok(Columns {
        payload: get_typed_column_reader(column(payload)?),
        arrival: get_typed_column_reader(column(arrival)?),
        offset: get_typed_column_reader(column(offset)?),
        key: place_of(KEY).map(column).transpose()?.map(get_typed_column_reader),
    })
}
