//! Cuts the bytes of a file into rows: lines, elements of a JSON array, CSV records.

use super::{
    block::{Block, Place, Row},
    csv::CsvSplitter,
};
use crate::ingest::json;

/// How a file is cut.
pub enum Splitter {
    /// A row is a line, as it stands. Blank lines are none.
    Lines,
    /// A row is an element of an array, as it stands; or an object of several in a row.
    Array(ArrayState),
    /// A row is a CSV record, made into a JSON object.
    Csv(Box<CsvSplitter>),
}

/// Where in the array the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayState {
    /// Nothing but space was seen.
    Start,
    /// Behind `[`, a comma or an element.
    Inside,
    /// There is no array: objects follow one another.
    Objects,
    /// Behind `]`.
    Closed,
}

/// What a cut took.
pub struct Split {
    /// Behind the last whole row.
    pub place: Place,
    /// Whether the rows point into the bytes that were cut, rather than into [`Block::bytes`].
    pub verbatim: bool,
    /// What stands at `place` that no later byte can mend.
    pub wrong: Option<String>,
}

const BOM: &[u8] = b"\xef\xbb\xbf";

impl Splitter {
    /// Cuts `bytes`, which begin at `place`; they are the file's last if `last`.
    pub fn split(&mut self, bytes: &[u8], last: bool, place: Place, block: &mut Block) -> Split {
        // A mark may itself be cut in two by a short read.
        let mark = place.byte == 0 && bytes.starts_with(BOM);
        let from = if mark { BOM.len() } else { 0 };
        match self {
            Self::Lines => lines(bytes, from, last, place, block),
            Self::Array(state) => elements(bytes, from, last, place, state, block),
            Self::Csv(splitter) => splitter.split(bytes, last, place, block),
        }
    }

    /// What is missing at the end of a file whose last bytes are `rest`, if anything is.
    #[must_use]
    pub fn unfinished(&self, rest: &[u8]) -> Option<String> {
        match self {
            Self::Array(ArrayState::Closed | ArrayState::Objects) if rest.trim_ascii().is_empty() => None,
            Self::Array(ArrayState::Start) => Some("the file is empty; expected a JSON array of objects".into()),
            Self::Array(ArrayState::Inside) => Some("the file ends before the array is closed by `]`".into()),
            Self::Array(_) => Some("the file ends in the middle of an object".into()),
            Self::Lines | Self::Csv(_) => None,
        }
    }
}

fn lines(bytes: &[u8], from: usize, last: bool, place: Place, block: &mut Block) -> Split {
    let (mut start, mut line) = (from, place.line);
    let mut push = |start: usize, end: usize, after: usize, line_after: u64| {
        let end = if end > start && bytes[end - 1] == b'\r' { end - 1 } else { end };
        // Looking at one byte is enough for nearly all: a record begins with `{`.
        let blank =
            bytes[start..end].first().is_none_or(u8::is_ascii_whitespace) && bytes[start..end].trim_ascii().is_empty();
        if !blank {
            let after = place.byte + after as u64;
            block.rows.push(Row { start: start as u32, end: end as u32, after, line_after });
        }
    };
    for newline in memchr::memchr_iter(b'\n', &bytes[from..]) {
        let end = from + newline;
        line += 1;
        push(start, end, end + 1, line);
        start = end + 1;
    }
    if last && start < bytes.len() {
        push(start, bytes.len(), bytes.len(), line + 1);
        start = bytes.len();
    }
    Split { place: Place { byte: place.byte + start as u64, line }, verbatim: true, wrong: None }
}

fn elements(bytes: &[u8], from: usize, last: bool, place: Place, state: &mut ArrayState, block: &mut Block) -> Split {
    let (mut at, mut taken, mut line, mut wrong) = (from, 0, place.line, None);
    let count = |from: usize, to: usize| memchr::memchr_iter(b'\n', &bytes[from..to]).count() as u64;
    loop {
        while bytes
            .get(at)
            .is_some_and(|byte| byte.is_ascii_whitespace() || (*byte == b',' && *state == ArrayState::Inside))
        {
            at += 1;
        }
        let Some(first) = bytes.get(at) else { break };
        match (*state, first) {
            (ArrayState::Start, b'[') => {
                *state = ArrayState::Inside;
                at += 1;
                continue;
            }
            (ArrayState::Start, b'{') => *state = ArrayState::Objects,
            (ArrayState::Inside, b']') => {
                *state = ArrayState::Closed;
                at += 1;
                continue;
            }
            (ArrayState::Start, byte) => {
                wrong = Some(format!("expected a JSON array of objects, found `{}`", char::from(*byte)));
                break;
            }
            (ArrayState::Closed, _) => {
                wrong = Some("there is text behind the end of the array".into());
                break;
            }
            (ArrayState::Inside | ArrayState::Objects, _) => {}
        }
        match json::value_end(bytes, at) {
            // A number that touches the end may go on in the next bytes.
            Some(end) if end < bytes.len() || last => {
                line += count(taken, end);
                block.rows.push(Row {
                    start: at as u32,
                    end: end as u32,
                    after: place.byte + end as u64,
                    line_after: line,
                });
                (at, taken) = (end, end);
            }
            None if matches!(first, b'}' | b']' | b',') => {
                wrong = Some(format!("expected a JSON object, found `{}`", char::from(*first)));
                break;
            }
            _ => break,
        }
    }
    // Space and brackets are taken too, so that what is left is the beginning of an element.
    let rest = at.min(bytes.len());
    line += count(taken, rest);
    Split { place: Place { byte: place.byte + rest as u64, line }, verbatim: true, wrong }
}
