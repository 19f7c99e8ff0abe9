//! Frames of the key-value protocol: a header of 24 bytes, then framing extras, extras, key and value.

use std::io::{self, BufRead};

/// Bytes of a header.
const HEADER: usize = 24;

/// Largest body that is taken: a document of 20 MiB and its key, as the server has it.
const BODY_MAX: usize = 21 << 20;

pub(super) mod opcode {
    //! Operations that are answered.
    pub const GET: u8 = 0x00;
    pub const ADD: u8 = 0x02;
    pub const REPLACE: u8 = 0x03;
    pub const NOOP: u8 = 0x0a;
    pub const HELLO: u8 = 0x1f;
    pub const SASL_LIST_MECHS: u8 = 0x20;
    pub const SASL_AUTH: u8 = 0x21;
    pub const SASL_STEP: u8 = 0x22;
    pub const SELECT_BUCKET: u8 = 0x89;
    pub const GET_CLUSTER_CONFIG: u8 = 0xb5;
    pub const GET_COLLECTION_ID: u8 = 0xbb;
    pub const GET_ERROR_MAP: u8 = 0xfe;
}

pub(super) mod status {
    //! Answers that are given, besides 0 for success.
    pub const KEY_NOT_FOUND: u16 = 0x01;
    pub const KEY_EXISTS: u16 = 0x02;
    pub const NOT_MY_VBUCKET: u16 = 0x07;
    pub const NO_BUCKET: u16 = 0x08;
    pub const AUTH_ERROR: u16 = 0x20;
    pub const AUTH_CONTINUE: u16 = 0x21;
    pub const ACCESS: u16 = 0x24;
    pub const UNKNOWN_COMMAND: u16 = 0x81;
    pub const TEMPORARY_FAILURE: u16 = 0x86;
    pub const UNKNOWN_COLLECTION: u16 = 0x88;
    pub const WRITE_IN_PROGRESS: u16 = 0xa2;
    pub const AMBIGUOUS: u16 = 0xa3;
}

/// A request. Of a flexible one, framing extras are there.
pub(super) struct Request {
    pub opcode: u8,
    pub vbucket: u16,
    pub opaque: u32,
    pub cas: u64,
    pub framing: Vec<u8>,
    pub extras: Vec<u8>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// What a request is answered.
#[derive(Default)]
pub(super) struct Answer {
    pub status: u16,
    pub cas: u64,
    pub extras: Vec<u8>,
    pub value: Vec<u8>,
}

impl Answer {
    pub(super) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: value.into(), ..Self::default() }
    }
}

/// Reads a request; `None` at the end of the connection.
pub(super) fn read_request(from: &mut impl BufRead) -> io::Result<Option<Request>> {
    if from.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut header = [0; HEADER];
    from.read_exact(&mut header)?;
    let (framing, key) = match header[0] {
        0x80 => (0, usize::from(u16::from_be_bytes([header[2], header[3]]))),
        0x08 => (usize::from(header[2]), usize::from(header[3])),
        other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("magic {other:#x}"))),
    };
    let extras = usize::from(header[4]);
    let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    let value = body.checked_sub(framing + extras + key).filter(|_| body <= BODY_MAX);
    let value = value.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "lengths that do not fit"))?;
    let mut part = |length: usize| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    Ok(Some(Request {
        opcode: header[1],
        vbucket: u16::from_be_bytes([header[6], header[7]]),
        opaque: u32::from_be_bytes([header[12], header[13], header[14], header[15]]),
        cas: u64::from_be_bytes(header[16..].try_into().expect("eight bytes of a header of 24")),
        framing: part(framing)?,
        extras: part(extras)?,
        key: part(key)?,
        value: part(value)?,
    }))
}

/// Appends the answer to a request.
pub(super) fn write_answer(request: &Request, answer: &Answer, out: &mut Vec<u8>) {
    let body = answer.extras.len() + answer.value.len();
    out.extend_from_slice(&[0x81, request.opcode, 0, 0, answer.extras.len() as u8, 0]);
    out.extend_from_slice(&answer.status.to_be_bytes());
    out.extend_from_slice(&(body as u32).to_be_bytes());
    out.extend_from_slice(&request.opaque.to_be_bytes());
    out.extend_from_slice(&answer.cas.to_be_bytes());
    out.extend_from_slice(&answer.extras);
    out.extend_from_slice(&answer.value);
}

/// Splits a key into the collection's number (LEB128) and the document's id.
pub(super) fn collection_and_id(key: &[u8]) -> Option<(u32, &[u8])> {
    let mut collection = 0;
    for (at, byte) in key.iter().take(5).enumerate() {
        collection |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((collection, &key[at + 1..]));
        }
    }
    None
}

/// The level in the framing extras of a durable write; 0 for one that is not.
pub(super) fn durability(framing: &[u8]) -> u8 {
    let mut rest = framing;
    while let [head, tail @ ..] = rest {
        let (kind, length) = (head >> 4, usize::from(head & 0xf));
        if kind == 1 {
            return tail.first().copied().unwrap_or_default();
        }
        rest = tail.get(length..).unwrap_or_default();
    }
    0
}
