//! The body of a request: decompressed, and cut into events.

use std::{io::Read, ops::Range};

use crate::ingest::{json, limits::REQUEST_EVENTS_MAX};

/// Why a body holds no events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More bytes than the manifest allows, before or after decompression.
    #[error("the body is longer than {0} bytes; send fewer events at a time, or raise maxBodySize")]
    TooLong(usize),
    /// More events than one request may have.
    #[error("the body holds more than {REQUEST_EVENTS_MAX} events; send fewer at a time")]
    TooMany,
    /// It says gzip and is not.
    #[error("the body is not the gzip that content-encoding says")]
    Gzip,
    /// Another encoding.
    #[error("content-encoding {0:?} is not known; accepted are gzip and identity")]
    Encoding(String),
    /// Another type.
    #[error("content-type {0:?} is not known; accepted are application/json and application/x-ndjson")]
    Type(String),
    /// No event.
    #[error("the body is empty; send a JSON object, an array of them, or one on each line")]
    Empty,
    /// Neither object nor array.
    #[error("the body is not JSON at byte {0}; send an object, an array of them, or one on each line")]
    NotJson(usize),
}

/// How the events stand in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An object or an array; or one object on each line, if the first does not end with the body.
    Json,
    /// One on each line.
    Lines,
}

impl Form {
    /// Reads a content type; none means JSON.
    ///
    /// # Errors
    /// On one that cannot be JSON. Beacons of browsers say `text/plain`.
    pub fn of(content_type: Option<&str>) -> Result<Self, BodyError> {
        let Some(whole) = content_type else { return Ok(Self::Json) };
        match whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "application/json" | "text/plain" => Ok(Self::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                Ok(Self::Lines)
            }
            _ => Err(BodyError::Type(whole.into())),
        }
    }
}

/// Decompresses a body by its content encoding.
///
/// # Errors
/// On another encoding, broken gzip, or more than `bytes_max` bytes.
pub fn decompress(body: Vec<u8>, encoding: Option<&str>, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    match encoding.map(str::trim).unwrap_or_default() {
        "" | "identity" => Ok(body),
        "gzip" => {
            let mut plain = Vec::new();
            let limited = flate2::read::MultiGzDecoder::new(&*body).take(bytes_max as u64 + 1);
            { limited }.read_to_end(&mut plain).map_err(|_| BodyError::Gzip)?;
            if plain.len() > bytes_max { Err(BodyError::TooLong(bytes_max)) } else { Ok(plain) }
        }
        other => Err(BodyError::Encoding(other.into())),
    }
}

/// Returns where each event lies in `body`. Whether each is valid is checked one by one, later.
///
/// # Errors
/// Where there is none, or where an array does not hold together.
pub fn events(body: &[u8], form: Form) -> Result<Vec<Range<usize>>, BodyError> {
    let start = body.len() - body.trim_ascii_start().len();
    let found = match body.get(start) {
        None => return Err(BodyError::Empty),
        Some(b'[') if form == Form::Json => elements(body, start)?,
        Some(b'{') if form == Form::Json => match json::value_end(body, start) {
            Some(end) if !body[end..].trim_ascii().is_empty() => lines(body),
            _ => std::iter::once(start..body.trim_ascii_end().len()).collect(),
        },
        Some(_) if form == Form::Json => return Err(BodyError::NotJson(start)),
        Some(_) => lines(body),
    };
    match found.len() {
        0 => Err(BodyError::Empty),
        count if count > REQUEST_EVENTS_MAX => Err(BodyError::TooMany),
        _ => Ok(found),
    }
}

fn lines(body: &[u8]) -> Vec<Range<usize>> {
    let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
    let starts = [0].into_iter().chain(memchr::memchr_iter(b'\n', body).map(|at| at + 1));
    let trimmed = starts.zip(ends).map(|(start, end)| {
        let line = &body[start..end];
        let start = start + line.len() - line.trim_ascii_start().len();
        start..(start + body[start..end].trim_ascii_end().len())
    });
    trimmed.filter(|line| !line.is_empty()).collect()
}

fn elements(body: &[u8], start: usize) -> Result<Vec<Range<usize>>, BodyError> {
    let space = |at: usize| at + body[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let mut found = Vec::new();
    let mut at = space(start + 1);
    if body.get(at) == Some(&b']') {
        return Ok(found);
    }
    loop {
        let end = json::value_end(body, at).ok_or(BodyError::NotJson(at))?;
        found.push(at..end);
        if found.len() > REQUEST_EVENTS_MAX {
            return Err(BodyError::TooMany);
        }
        at = space(end);
        match body.get(at) {
            Some(b',') => at = space(at + 1),
            Some(b']') if body[at + 1..].trim_ascii().is_empty() => return Ok(found),
            _ => return Err(BodyError::NotJson(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check(body: &str, form: Form, expected: &[&str]) {
        let found = events(body.as_bytes(), form).unwrap();
        assert_eq!(found.into_iter().map(|event| &body[event]).collect::<Vec<_>>(), expected, "{body}");
    }

    #[test]
    fn events_are_found_in_every_form() {
        check(" {\"a\":\n1} ", Form::Json, &["{\"a\":\n1}"]);
        check("[{\"a\":1} , {\"b\":[2]},3]", Form::Json, &["{\"a\":1}", "{\"b\":[2]}", "3"]);
        check("{\"a\":1}\n\n{\"b\":2}\r\n", Form::Json, &["{\"a\":1}", "{\"b\":2}"]);
        check("{\"a\":1}\nnonsense\n{\"b\":2}", Form::Lines, &["{\"a\":1}", "nonsense", "{\"b\":2}"]);
        check("{\"a\":", Form::Json, &["{\"a\":"]);
        check("[1]\n[2]", Form::Lines, &["[1]", "[2]"]);
    }

    #[test]
    fn what_holds_no_events_is_refused() {
        let refused =
            |body: &str, error: BodyError| assert_eq!(events(body.as_bytes(), Form::Json), Err(error), "{body}");
        refused("", BodyError::Empty);
        refused(" \n", BodyError::Empty);
        refused("[]", BodyError::Empty);
        refused("nonsense", BodyError::NotJson(0));
        refused("[{\"a\":1} {\"b\":1}]", BodyError::NotJson(9));
        refused("[{\"a\":1},]", BodyError::NotJson(9));
        refused("[{\"a\":1}", BodyError::NotJson(8));
        refused("[{\"a\":1}] x", BodyError::NotJson(8));
        refused(&format!("[{}1]", "1,".repeat(REQUEST_EVENTS_MAX)), BodyError::TooMany);
    }

    #[test]
    fn a_small_body_cannot_become_a_large_one() {
        let gzip = |bytes: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        };
        assert_eq!(decompress(gzip(b"{}"), Some("gzip"), 10), Ok(b"{}".to_vec()));
        assert_eq!(decompress(gzip(&[b' '; 1 << 20]), Some("gzip"), 1_000), Err(BodyError::TooLong(1_000)));
        assert_eq!(decompress(b"{}".to_vec(), Some("gzip"), 10), Err(BodyError::Gzip));
        assert_eq!(decompress(b"{}".to_vec(), Some("br"), 10), Err(BodyError::Encoding("br".into())));
        assert_eq!(decompress(b"{}".to_vec(), None, 10), Ok(b"{}".to_vec()));
    }

    #[test]
    fn types_that_cannot_be_json_are_refused() {
        assert_eq!(Form::of(None), Ok(Form::Json));
        assert_eq!(Form::of(Some("Application/JSON; charset=utf-8")), Ok(Form::Json));
        assert_eq!(Form::of(Some("application/x-ndjson")), Ok(Form::Lines));
        assert!(Form::of(Some("application/x-www-form-urlencoded")).is_err());
    }
}
