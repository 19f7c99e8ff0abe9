//! The fast scanner: one flat object, strings without escapes, numbers, literals. Anything else is "not mine".
//!
//! It accepts nothing that the general parser refuses. Keys are guessed: producers write the same keys in the same order,
//! so the key seen at this place in the record before is compared first.

use super::Found;
use crate::{column::Span, plan::FieldPlan};

/// Keys that are guessed; later ones are looked up.
const GUESSES_MAX: usize = 128;

/// A scanner for flat records of one stream.
#[derive(Debug)]
pub(super) struct FlatScanner {
    names: Vec<Box<[u8]>>,
    /// The key seen at each place of the last record, and its field.
    guesses: Vec<(Box<[u8]>, Option<usize>)>,
}

impl FlatScanner {
    pub(super) fn new(fields: &[FieldPlan]) -> Self {
        Self { names: fields.iter().map(|field| field.path[0].as_bytes().into()).collect(), guesses: Vec::new() }
    }

    /// Scans `text`, which is UTF-8 and lies at `base` of the arena. Returns false where the record is not of the common
    /// shape, valid or not.
    pub(super) fn scan(&mut self, text: &[u8], base: u32, found: &mut [Found]) -> bool {
        self.members(&mut Cursor { text, at: 0 }, base, found).is_some()
    }

    /// `None` leaves the record to the other scanner.
    fn members(&mut self, cursor: &mut Cursor<'_>, base: u32, found: &mut [Found]) -> Option<()> {
        cursor.skip_space();
        cursor.expect(b'{')?;
        cursor.skip_space();
        if cursor.peek()? == b'}' {
            cursor.at += 1;
        } else {
            let mut place = 0;
            loop {
                let key = cursor.string()?;
                let field = self.field(place, &cursor.text[key.0..key.1]);
                cursor.skip_space();
                cursor.expect(b':')?;
                cursor.skip_space();
                let value = cursor.value(base)?;
                if let Some(field) = field {
                    found[field] = value;
                }
                cursor.skip_space();
                place += 1;
                match cursor.next()? {
                    b',' => cursor.skip_space(),
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        cursor.skip_space();
        (cursor.at == cursor.text.len()).then_some(())
    }

    #[inline]
    fn field(&mut self, place: usize, key: &[u8]) -> Option<usize> {
        match self.guesses.get(place) {
            Some((guess, field)) if **guess == *key => *field,
            _ => self.look_up(place, key),
        }
    }

    #[cold]
    fn look_up(&mut self, place: usize, key: &[u8]) -> Option<usize> {
        let field = self.names.iter().position(|name| **name == *key);
        if place < self.guesses.len() {
            self.guesses[place] = (key.into(), field);
        } else if place == self.guesses.len() && place < GUESSES_MAX {
            self.guesses.push((key.into(), field));
        }
        field
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Reads a string without escapes and returns its bounds without the quotes.
    #[inline]
    fn string(&mut self) -> Option<(usize, usize)> {
        self.expect(b'"')?;
        let start = self.at;
        let end = find_special(self.text, start)?;
        self.at = end;
        self.expect(b'"')?;
        Some((start, end))
    }

    #[inline]
    fn value(&mut self, base: u32) -> Option<Found> {
        match self.peek()? {
            b'"' => {
                let (start, end) = self.string()?;
                Some(Found::String(Span { start: base + start as u32, len: (end - start) as u32 }))
            }
            b'-' | b'0'..=b'9' => {
                let start = self.at;
                self.number()?;
                Some(Found::Number(Span { start: base + start as u32, len: (self.at - start) as u32 }))
            }
            b't' => self.literal(b"true", Found::Boolean(true)),
            b'f' => self.literal(b"false", Found::Boolean(false)),
            b'n' => self.literal(b"null", Found::Null),
            _ => None,
        }
    }

    fn literal(&mut self, word: &[u8], found: Found) -> Option<Found> {
        let read = self.text.get(self.at..self.at + word.len())?;
        self.at += word.len();
        (read == word).then_some(found)
    }

    /// JSON's grammar: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`.
    #[inline]
    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    #[inline]
    fn digits(&mut self) -> Option<()> {
        self.next()?.is_ascii_digit().then(|| self.skip_digits())
    }

    #[inline]
    fn skip_digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }
}

/// The first quote, backslash or control character at or behind `from`, eight bytes at a time.
///
/// The lowest hit of each word is exact: a borrow can only come from a byte that is itself a hit.
#[inline]
fn find_special(text: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut at = from;
    while let Some(chunk) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes were taken"));
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let hits = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let hits = hits & HIGH;
        if hits != 0 {
            return Some(at + (hits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = text.get(at..)?;
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).map(|found| at + found)
}
