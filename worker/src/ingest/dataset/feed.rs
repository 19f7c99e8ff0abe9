//! Reads the files of a dataset in order and commits their rows.

use std::{
    io::{BufReader, Read},
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    time::Instant,
};

use engine::plan::FieldPlan;

use super::{
    DatasetError,
    block::{Block, BlockReader, Place},
    csv::CsvSplitter,
    files::{self, DataFile},
    header,
    pace::{Pace, Pacer},
    progress::Progress,
    shares,
    splitter::{ArrayState, Splitter},
    times::Times,
};
use crate::ingest::{
    IngestError,
    control::Control,
    outbox::{Outbox, Topics},
};

/// How the rows stand in the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a header.
    Csv,
    /// An array of objects.
    Json,
    /// An object on each line.
    JsonLines,
}

impl Format {
    /// The endings of such files in a directory.
    #[must_use]
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Csv => &[".csv"],
            Self::Json => &[".json"],
            Self::JsonLines => &[".jsonl", ".ndjson", ".json"],
        }
    }
}

/// A dataset, after checking.
pub struct Feed {
    /// The path in the manifest.
    pub path: String,
    /// Its files, in order.
    pub files: Vec<DataFile>,
    /// How the rows stand in them.
    pub format: Format,
    /// What separates the columns of CSV.
    pub delimiter: u8,
    /// Columns of CSV by field.
    pub columns: Vec<(String, String)>,
    /// The fields of the streams that read the rows.
    pub fields: Vec<FieldPlan>,
    /// How fast.
    pub pace: Pace,
    /// Begin again at the end.
    pub repeat: bool,
    /// Where the times lie, and whether they are moved.
    pub times: Times,
    /// Those who read are told how far all shares are, by this field's times: the event time of all streams, its path with dots.
    pub low_field: Option<String>,
    /// When to end, whatever is left.
    pub until: Option<Instant>,
}

/// What became of a file.
#[derive(PartialEq, Eq)]
enum Outcome {
    Ended,
    Stopped,
}

impl Feed {
    /// Looks at the beginning of every file, so that what is plainly wrong is said before anything runs.
    ///
    /// # Errors
    /// Where a file cannot be opened or has no header.
    pub fn check(&self) -> Result<(), DatasetError> {
        for file in &self.files {
            match self.format {
                Format::Csv => drop(self.header(file)?),
                Format::Json | Format::JsonLines => drop(files::open(file, Arc::default())?),
            }
        }
        Ok(())
    }

    /// Reads from the committed progress to the end, or until asked to end.
    ///
    /// # Errors
    /// Where a file or the log fails; what came before is committed.
    pub fn run(mut self, topics: &mut Topics, outbox: &mut Outbox, control: &Control) -> Result<(), IngestError> {
        if outbox.is_shared() {
            return shares::run(&mut self, topics, outbox, control);
        }
        let committed = outbox.progress()?.map(|bytes| Progress::from_bytes(&bytes)).transpose();
        let mut progress = committed.map_err(|source| outbox.foreign(source))?.unwrap_or_default();
        control.bytes_total.store(self.files.iter().map(|file| file.bytes).sum(), Ordering::Relaxed);
        control.begin(progress.rows);
        let mut pacer = Pacer::new(self.pace);
        loop {
            let rows_before = progress.rows;
            let first = self.first_file(&progress)?;
            for at in first..self.files.len() {
                if self.file(at, &mut progress, &mut pacer, topics, outbox, control)? == Outcome::Stopped {
                    return Ok(());
                }
            }
            if progress.rows == 0 && self.format == Format::JsonLines {
                return Err(DatasetError::Empty { path: self.path }.into());
            }
            // A dataset without rows would be read for ever in vain.
            if !self.repeat || (first == 0 && progress.file.is_none() && progress.rows == rows_before) {
                return Ok(());
            }
            progress = Progress { pass: progress.pass + 1, shift: None, file: None, rows: progress.rows };
            pacer.rewind();
            control.bytes.store(0, Ordering::Relaxed);
        }
    }

    fn first_file(&self, progress: &Progress) -> Result<usize, DatasetError> {
        let Some((name, _)) = &progress.file else { return Ok(0) };
        let found = self.files.iter().position(|file| file.name == *name);
        found.ok_or_else(|| DatasetError::Gone { file: name.clone() })
    }

    fn file(
        &mut self,
        at: usize,
        progress: &mut Progress,
        pacer: &mut Pacer,
        topics: &mut Topics,
        outbox: &mut Outbox,
        control: &Control,
    ) -> Result<Outcome, IngestError> {
        let file = self.files[at].clone();
        let known = progress.file.as_ref().filter(|(name, _)| *name == file.name).map(|(_, place)| *place);
        let mut reader = self.open(&file, known, &control.bytes)?;
        let mut block = Block::default();
        loop {
            reader.next(&mut block)?;
            if block.rows.is_empty() {
                return Ok(Outcome::Ended);
            }
            let wanted = pacer.wants_times();
            self.times.apply(&mut block, &mut progress.shift, wanted);
            let targets = topics.route(block.rows.iter().map(|row| block.payload(row)));
            let mut from = 0;
            while from < block.rows.len() {
                let times = self.times.of_rows(from);
                let Some(ready) = pacer.next(block.rows.len() - from, times, control) else {
                    return Ok(Outcome::Stopped);
                };
                if self.until.is_some_and(|until| Instant::now() >= until) {
                    return Ok(Outcome::Stopped);
                }
                let rows = &block.rows[from..from + ready];
                let records: Vec<_> = rows
                    .iter()
                    .zip(from..)
                    .map(|(row, at)| topics.record(targets.of(at), block.payload(row)))
                    .collect();
                let last = rows[ready - 1];
                progress.rows += ready as u64;
                progress.file = Some((file.name.clone(), Place { byte: last.after, line: last.line_after }));
                outbox.commit(&records, &progress.to_bytes())?;
                drop(records);
                topics.turn();
                control.count(ready as u64);
                from += ready;
            }
        }
    }

    fn header(&self, file: &DataFile) -> Result<(super::csv::Columns, Place), DatasetError> {
        let mut input = files::open(file, Arc::default())?;
        let (names, place) = header::read(&file.name, self.delimiter, &mut input)?;
        let columns = header::columns(&file.name, &names, &self.columns, &self.fields)?;
        Ok((columns, place))
    }

    pub(super) fn open(
        &self,
        file: &DataFile,
        known: Option<Place>,
        taken: &Arc<AtomicU64>,
    ) -> Result<BlockReader, DatasetError> {
        let (splitter, place) = match self.format {
            Format::JsonLines => (Splitter::Lines, known.unwrap_or(Place::START)),
            Format::Json => (Splitter::Array(array_state(file, known)?), known.unwrap_or(Place::START)),
            Format::Csv => {
                let (columns, behind) = self.header(file)?;
                (
                    Splitter::Csv(Box::new(CsvSplitter::new(&file.name, self.delimiter, columns))),
                    known.unwrap_or(behind),
                )
            }
        };
        let input = files::open_at(file, place.byte, taken.clone())?;
        Ok(BlockReader::new(&file.name, input, splitter, place))
    }
}

/// Behind its first row, a file is an array or not as its first byte says.
fn array_state(file: &DataFile, known: Option<Place>) -> Result<ArrayState, DatasetError> {
    if known.is_none() {
        return Ok(ArrayState::Start);
    }
    let input = files::open(file, Arc::default())?;
    let mut bytes = BufReader::new(input).bytes().filter_map(Result::ok);
    let first = bytes.find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte));
    Ok(if first == Some(b'{') { ArrayState::Objects } else { ArrayState::Inside })
}
