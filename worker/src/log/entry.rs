//! An entry of the embedded log: some records of one partition, side by side.
//!
//! ```text
//! version │ flags │ records │ arrival │ bytes │ length of each record… │ payloads (lz4 if flagged)
//! ```
//! Its key is (partition, offset behind its last record), big-endian, so that the first key above an offset is the
//! entry that holds it, and the last key of a partition tells where it ends.

use engine::{
    batch::RawBatch,
    codec::{Corrupt, Reader, put_i64, put_u64},
    time::Millis,
};

/// Version of the format.
const VERSION: u8 = 1;

/// Flag: the payloads are compressed.
const LZ4: u8 = 1;

/// Bytes of an entry's key.
pub const KEY_BYTES: usize = 12;

/// The key of the entry of `partition` that ends before `end`.
#[must_use]
pub fn key(partition: u32, end: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..4].copy_from_slice(&partition.to_be_bytes());
    key[4..].copy_from_slice(&end.to_be_bytes());
    key
}

/// The offset behind the last record of the entry with this key.
///
/// # Errors
/// On a key of another length.
pub fn end_of(key: &[u8]) -> Result<u64, Corrupt> {
    let end = key.get(4..KEY_BYTES).ok_or(Corrupt("key of another length"))?;
    Ok(u64::from_be_bytes(end.try_into().expect("eight bytes were taken")))
}

/// Encodes records.
#[must_use]
pub fn encode(bytes: &[u8], lengths: &[u32], arrival: Millis, compress: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + lengths.len() * 2 + bytes.len() / if compress { 3 } else { 1 });
    out.extend_from_slice(&[VERSION, if compress { LZ4 } else { 0 }]);
    put_u64(lengths.len() as u64, &mut out);
    put_i64(arrival, &mut out);
    put_u64(bytes.len() as u64, &mut out);
    lengths.iter().for_each(|length| put_u64(u64::from(*length), &mut out));
    if compress {
        append_compressed(bytes, &mut out)
    } else {
        out.extend_from_slice(bytes)
    }
    out
}

fn append_compressed(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + lz4_flex::block::get_maximum_output_size(bytes.len()), 0);
    let written = lz4_flex::block::compress_into(bytes, &mut out[start..]).expect("the output has the maximum size");
    out.truncate(start + written);
}

/// The head of an entry.
pub struct Head<'a> {
    /// How many records it holds.
    pub records: u64,
    /// When they arrived.
    pub arrival: Millis,
    flags: u8,
    bytes: usize,
    rest: Reader<'a>,
}

/// Reads the head of an entry.
///
/// # Errors
/// On bytes that [`encode`] did not write.
pub fn head(entry: &[u8]) -> Result<Head<'_>, Corrupt> {
    let mut rest = Reader::new(entry);
    if rest.u8()? != VERSION {
        return Err(Corrupt("another version of the entry format"));
    }
    let flags = rest.u8()?;
    let records = rest.count()? as u64;
    let arrival = rest.i64()?;
    let bytes = usize::try_from(rest.u64()?).map_err(|_| Corrupt("entry too large"))?;
    Ok(Head { records, arrival, flags, bytes, rest })
}

/// Appends the records of the entry that lie in `from..to` to a batch; `end` is the offset behind its last record.
///
/// # Errors
/// On bytes that [`encode`] did not write; the batch must then be thrown away.
pub fn decode(entry: &[u8], end: u64, from: u64, to: u64, batch: &mut RawBatch) -> Result<(), Corrupt> {
    let Head { records, arrival, flags, bytes, mut rest } = head(entry)?;
    let first = end.checked_sub(records).ok_or(Corrupt("more records than offsets"))?;
    let mut start = batch.bytes.len();
    for offset in first..end {
        let len = rest.u64()? as usize;
        if (from..to).contains(&offset) {
            let narrow = |value: usize| u32::try_from(value).map_err(|_| Corrupt("entry too large"));
            let record = engine::batch::RawRecord { start: narrow(start)?, len: narrow(len)?, offset, arrival };
            batch.records.push(record);
        }
        start = start.checked_add(len).ok_or(Corrupt("entry too large"))?;
    }
    if start - batch.bytes.len() != bytes {
        return Err(Corrupt("lengths do not add up"));
    }
    append_payloads(rest.rest(), flags, bytes, &mut batch.bytes)
}

fn append_payloads(payloads: &[u8], flags: u8, bytes: usize, out: &mut Vec<u8>) -> Result<(), Corrupt> {
    if flags & LZ4 == 0 {
        out.extend_from_slice(payloads);
        return if payloads.len() == bytes { Ok(()) } else { Err(Corrupt("entry cut short")) };
    }
    // LZ4 cannot say more than 255 bytes with one: a corrupt size must not make us reserve the world.
    if bytes > payloads.len().saturating_mul(255) {
        return Err(Corrupt("counts more than there is"));
    }
    let start = out.len();
    out.resize(start + bytes, 0);
    match lz4_flex::block::decompress_into(payloads, &mut out[start..]) {
        Ok(written) if written == bytes => Ok(()),
        _ => Err(Corrupt("payloads do not decompress")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(compress: bool) -> Vec<u8> {
        encode(b"onetwothree", &[3, 3, 5], 42, compress)
    }

    fn texts(batch: &RawBatch) -> Vec<(u64, String)> {
        let text = |record| String::from_utf8(batch.payload(record).to_vec()).unwrap();
        batch.records.iter().map(|record| (record.offset, text(record))).collect()
    }

    #[test]
    fn records_come_back_with_their_offsets() {
        for compress in [false, true] {
            let mut batch = RawBatch::default();
            decode(&entry(compress), 13, 0, u64::MAX, &mut batch).unwrap();
            decode(&entry(compress), 16, 0, u64::MAX, &mut batch).unwrap();
            let expected = [(10, "one"), (11, "two"), (12, "three"), (13, "one"), (14, "two"), (15, "three")];
            assert_eq!(texts(&batch), expected.map(|(offset, text)| (offset, text.to_owned())));
            assert!(batch.records.iter().all(|record| record.arrival == 42));
        }
    }

    #[test]
    fn a_reader_may_begin_and_end_within_an_entry() {
        let mut batch = RawBatch::default();
        decode(&entry(true), 13, 11, 12, &mut batch).unwrap();
        assert_eq!(texts(&batch), [(11, "two".to_owned())]);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        for compress in [false, true] {
            let whole = entry(compress);
            for cut in 0..whole.len() {
                assert!(decode(&whole[..cut], 13, 0, u64::MAX, &mut RawBatch::default()).is_err(), "cut at {cut}");
            }
            for at in 0..whole.len() {
                let mut torn = whole.clone();
                torn[at] ^= 0xff;
                let _ = decode(&torn, 13, 0, u64::MAX, &mut RawBatch::default());
            }
        }
    }
}
