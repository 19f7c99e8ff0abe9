//! Rows of one file, a block at a time: bytes side by side, positions apart.

use std::{
    io::{self, Read},
    mem,
};

use super::{DatasetError, files::Bytes, splitter::Splitter};
use crate::ingest::limits::{READ_BYTES, ROW_BYTES_MAX};

/// Rows as they will stand in the log.
#[derive(Debug, Default)]
pub struct Block {
    /// Payloads, and what lies between them.
    pub bytes: Vec<u8>,
    /// The rows, in the order of the file.
    pub rows: Vec<Row>,
}

/// One row of a [`Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// First byte of the payload in [`Block::bytes`].
    pub start: u32,
    /// Place behind its last byte.
    pub end: u32,
    /// Place in the file behind the row, in decompressed bytes: what a restart goes on from.
    pub after: u64,
    /// Line behind the row, from one: what a restart counts on from.
    pub line_after: u64,
}

impl Block {
    /// Returns the payload of `row`.
    #[must_use]
    pub fn payload(&self, row: &Row) -> &[u8] {
        &self.bytes[row.start as usize..row.end as usize]
    }
}

/// Reads one file from a position on.
pub struct BlockReader {
    file: String,
    input: Bytes,
    splitter: Splitter,
    /// Bytes that were read and are no row yet; the first lies at `place`.
    pending: Vec<u8>,
    place: Place,
    ended: bool,
    failed: Option<io::Error>,
    /// What stands at `place` and is no row.
    stuck: Option<String>,
    read_bytes: usize,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In decompressed bytes.
    pub byte: u64,
    /// From one.
    pub line: u64,
}

impl Place {
    /// The beginning of a file.
    pub const START: Self = Self { byte: 0, line: 1 };
}

impl BlockReader {
    /// Reads `input`, which is at `place` of `file`, as `splitter` says.
    #[must_use]
    pub fn new(file: &str, input: Bytes, splitter: Splitter, place: Place) -> Self {
        Self {
            file: file.into(),
            input,
            splitter,
            pending: Vec::new(),
            place,
            ended: false,
            failed: None,
            stuck: None,
            read_bytes: READ_BYTES,
        }
    }

    /// Fills `block` with the next rows; none means that the file has ended.
    ///
    /// # Errors
    /// Where the file cannot be read on, ends too early or has a row that is too long, always with the line, and
    /// always after all rows before it were handed over.
    pub fn next(&mut self, block: &mut Block) -> Result<(), DatasetError> {
        block.rows.clear();
        block.bytes.clear();
        loop {
            if let Some(message) = self.stuck.take() {
                return Err(self.wrong(message));
            }
            if let Some(source) = self.failed.take() {
                return Err(DatasetError::Read { file: self.file.clone(), line: self.line_of_end(), source });
            }
            if !self.ended {
                self.read();
            }
            self.split(block);
            if !block.rows.is_empty() {
                return Ok(());
            }
            if self.stuck.is_some() {
                continue;
            }
            if self.ended && self.failed.is_none() {
                return self.finish();
            }
            if self.pending.len() > ROW_BYTES_MAX {
                return Err(
                    self.wrong(format!("the row is longer than {} MiB; is a quote never closed?", ROW_BYTES_MAX >> 20))
                );
            }
        }
    }

    fn read(&mut self) {
        let before = self.pending.len();
        let read = (&mut self.input).take(self.read_bytes as u64).read_to_end(&mut self.pending);
        // `read_to_end` keeps what it read before an error, so that the rows before it are not lost.
        match read {
            Ok(_) => self.ended = self.pending.len() - before < self.read_bytes,
            Err(error) => {
                self.failed = Some(error);
                self.ended = true;
            }
        }
    }

    fn split(&mut self, block: &mut Block) {
        let last = self.ended && self.failed.is_none();
        let place = self.place;
        let split = self.splitter.split(&self.pending, last, place, block);
        if split.verbatim {
            let rest = self.pending[split.place.byte as usize - place.byte as usize..].to_vec();
            block.bytes = mem::replace(&mut self.pending, mem::take(&mut block.bytes));
            self.pending.clear();
            self.pending.extend_from_slice(&rest);
        } else {
            self.pending.drain(..(split.place.byte - place.byte) as usize);
        }
        self.place = split.place;
        self.stuck = split.wrong;
    }

    fn finish(&self) -> Result<(), DatasetError> {
        match self.splitter.unfinished(&self.pending) {
            Some(message) => Err(self.wrong(message)),
            None => Ok(()),
        }
    }

    fn wrong(&self, message: String) -> DatasetError {
        DatasetError::Row { file: self.file.clone(), line: self.place.line, message }
    }

    fn line_of_end(&self) -> u64 {
        self.place.line + memchr::memchr_iter(b'\n', &self.pending).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use engine::{plan::FieldPlan, value::Type};
    use proptest::prelude::*;

    use super::{
        super::{csv::CsvSplitter, header, splitter::ArrayState},
        *,
    };

    /// Reads a file `read_bytes` at a time, from `resume` rows on as a restart would, and returns its rows.
    fn rows(kind: &str, text: &[u8], read_bytes: usize, resume: usize) -> Result<Vec<String>, String> {
        let mut reader = open(kind, text, None).map_err(|error| error.to_string())?;
        reader.read_bytes = read_bytes;
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        let read = drain(&mut reader, &mut rows, &mut places);
        if resume > 0 && resume <= places.len() {
            let mut reader = open(kind, text, Some(places[resume - 1])).map_err(|error| error.to_string())?;
            reader.read_bytes = read_bytes;
            let again = rows.split_off(resume);
            let resumed = drain(&mut reader, &mut rows, &mut places);
            assert_eq!((&rows[resume..], &resumed), (&again[..], &read), "resumed after {resume}");
        }
        read.map(|()| rows)
    }

    fn drain(reader: &mut BlockReader, rows: &mut Vec<String>, places: &mut Vec<Place>) -> Result<(), String> {
        let mut block = Block::default();
        loop {
            reader.next(&mut block).map_err(|error| error.to_string())?;
            if block.rows.is_empty() {
                return Ok(());
            }
            for row in &block.rows {
                rows.push(String::from_utf8_lossy(block.payload(row)).into_owned());
                places.push(Place { byte: row.after, line: row.line_after });
            }
        }
    }

    fn open(kind: &str, text: &[u8], known: Option<Place>) -> Result<BlockReader, DatasetError> {
        let field = |name: &str, ty| FieldPlan {
            name: name.into(),
            path: vec![name.into()],
            ty,
            required: false,
            hashed: false,
        };
        let (splitter, start) = match kind {
            "jsonl" => (Splitter::Lines, Place::START),
            "json" => {
                let inside =
                    if text.trim_ascii_start().starts_with(b"{") { ArrayState::Objects } else { ArrayState::Inside };
                (Splitter::Array(if known.is_some() { inside } else { ArrayState::Start }), Place::START)
            }
            _ => {
                let (names, behind) = header::read("x.csv", b',', &mut &*text)?;
                let fields = [field("a", Type::Integer), field("b", Type::String)];
                let columns = header::columns("x.csv", &names, &[], &fields)?;
                (Splitter::Csv(Box::new(CsvSplitter::new("x.csv", b',', columns))), behind)
            }
        };
        let place = known.unwrap_or(start);
        let input = Box::new(io::Cursor::new(text[place.byte as usize..].to_vec()));
        Ok(BlockReader::new(&format!("x.{kind}"), input, splitter, place))
    }

    fn check(kind: &str, text: &str, expected: &[&str]) {
        for read_bytes in 1..=text.len() + 1 {
            for resume in [0, 1, expected.len() / 2, expected.len()] {
                let rows = rows(kind, text.as_bytes(), read_bytes, resume);
                assert_eq!(
                    rows.as_deref(),
                    Ok(&expected.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>()[..]),
                    "{text}"
                );
            }
        }
    }

    fn refused(kind: &str, text: &str, message: &str) {
        for read_bytes in [1, 3, 1_000] {
            assert_eq!(rows(kind, text.as_bytes(), read_bytes, 0), Err(message.into()), "{text}");
        }
    }

    #[test]
    fn lines_are_passed_as_they_stand() {
        check("jsonl", "{\"a\":1}\n{ \"a\" : 2 }\n", &["{\"a\":1}", "{ \"a\" : 2 }"]);
        check("jsonl", "{\"a\":1}\r\n\r\n  \n{\"a\":2}", &["{\"a\":1}", "{\"a\":2}"]);
        check("jsonl", "\u{feff}{}\nnot json\n{\"cut", &["{}", "not json", "{\"cut"]);
        check("jsonl", "", &[]);
    }

    #[test]
    fn elements_of_an_array_are_passed_as_they_stand() {
        check("json", "[{\"a\":1},\n {\"a\": [\"]\", {}]}\n]\n", &["{\"a\":1}", "{\"a\": [\"]\", {}]}"]);
        check("json", "[12, true,\"x\"]", &["12", "true", "\"x\""]);
        check("json", " [] ", &[]);
        check("json", "{\"a\":1}\n{\"a\":2}", &["{\"a\":1}", "{\"a\":2}"]);
        refused("json", "", "x.json:1: the file is empty; expected a JSON array of objects");
        refused("json", "\nabc", "x.json:2: expected a JSON array of objects, found `a`");
        refused("json", "[{},\n{\"a\":", "x.json:2: the file ends before the array is closed by `]`");
        refused("json", "[{}", "x.json:1: the file ends before the array is closed by `]`");
        refused("json", "[{}]\n x", "x.json:2: there is text behind the end of the array");
        refused("json", "[{},\n}]", "x.json:2: expected a JSON object, found `}`");
    }

    #[test]
    fn records_of_csv_become_objects() {
        check("csv", "a,b\n1,x\n2,\n", &[r#"{"a":1,"b":"x"}"#, r#"{"a":2,"b":null}"#]);
        check(
            "csv",
            "\u{feff}b,a\r\n\"x, \"\"y\"\"\r\nz\",1\r\n\r\nw,2",
            &[r#"{"a":1,"b":"x, \"y\"\u000d\nz"}"#, r#"{"a":2,"b":"w"}"#],
        );
        check("csv", "a,b\n", &[]);
    }

    #[test]
    fn records_that_do_not_fit_the_header_say_where_they_stand() {
        check(
            "csv",
            "a,b\n1\n\n2,\"x\ny\"\n3,x,y\n4,\"x\n",
            &[
                "x.csv:2: 1 columns where the header has 2: 1",
                r#"{"a":2,"b":"x\ny"}"#,
                "x.csv:6: 3 columns where the header has 2: 3,x,y",
                "x.csv:7: a quote is never closed: 4,\"x",
            ],
        );
    }

    #[test]
    fn a_row_without_end_is_refused() {
        let text = format!("a,b\n1,x\n2,\"{}", "x".repeat(ROW_BYTES_MAX + 2 * READ_BYTES));
        let read = rows("csv", text.as_bytes(), READ_BYTES, 0).map(|rows| rows.len());
        assert!(read.as_ref().is_err_and(|error| error.starts_with("x.csv:3: the row is longer than")), "{read:?}");
    }

    #[test]
    fn a_compressed_file_that_was_cut_gives_its_rows_and_then_an_error() {
        let lines = "{\"a\":1}\n".repeat(10_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(lines.as_bytes()).unwrap();
        let whole = gzip.finish().unwrap();
        let cut = whole[..whole.len() / 2].to_vec();
        let input = Box::new(flate2::read::MultiGzDecoder::new(io::Cursor::new(cut)));
        let mut reader = BlockReader::new("x.jsonl.gz", input, Splitter::Lines, Place::START);
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        let error = drain(&mut reader, &mut rows, &mut places).unwrap_err();
        assert!(rows.len() > 1_000 && rows.iter().all(|row| row == "{\"a\":1}"), "{}", rows.len());
        assert!(error.starts_with(&format!("x.jsonl.gz:{}: failed to read on", rows.len() + 1)), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_are_lost_however_they_are_read(
            text in "[a-c,\"\n\r{}\\[\\]\\\\ ]{0,60}", kind in "jsonl|json|csv", read_bytes in 1_usize..20, resume in 0_usize..10
        ) {
            let text = if kind == "csv" { format!("a,b\n{text}") } else { text };
            let whole = rows(&kind, text.as_bytes(), 1_000, 0);
            prop_assert_eq!(&rows(&kind, text.as_bytes(), read_bytes, resume), &whole);
        }
    }
}
