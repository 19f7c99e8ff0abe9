//! A repaired record: which stream refused it, then what it should have been.
//!
//! The stream is told by its name: epochs know different streams, and number them differently. Records of earlier versions have
//! its number in the plan of their time.

use crate::codec::{Corrupt, Reader, put_bytes, put_u64};

/// Where a stream's number stood: its name follows. No plan has so many streams.
const NAMED: u64 = 1 << 20;

/// The stream that a repaired record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of<'a> {
    /// By its name.
    Name(&'a str),
    /// By its number in the plan.
    Number(u64),
}

impl Of<'_> {
    /// Whether this is the stream `name`, which has this number in the plan.
    #[must_use]
    pub fn is(&self, name: &str, number: usize) -> bool {
        match self {
            Self::Name(named) => *named == name,
            Self::Number(at) => *at == number as u64,
        }
    }
}

/// Writes a repaired record of a stream.
pub fn write(stream: &str, payload: &[u8], out: &mut Vec<u8>) {
    put_u64(NAMED, out);
    put_bytes(stream.as_bytes(), out);
    out.extend_from_slice(payload);
}

/// Reads one.
///
/// # Errors
/// On bytes that [`write`] did not write.
pub fn read(record: &[u8]) -> Result<(Of<'_>, &[u8]), Corrupt> {
    let mut reader = Reader::new(record);
    let of = match reader.u64()? {
        NAMED => Of::Name(reader.str()?),
        number => Of::Number(number),
    };
    Ok((of, reader.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_its_stream_and_earlier_ones_number_it() {
        let mut record = Vec::new();
        write("orders", b"{}", &mut record);
        let (of, rest) = read(&record).unwrap();
        assert!(rest == b"{}" && of.is("orders", 7) && !of.is("clicks", 0), "{of:?}");
        let mut earlier = Vec::new();
        put_u64(1, &mut earlier);
        earlier.extend_from_slice(b"[]");
        let (of, rest) = read(&earlier).unwrap();
        assert!(rest == b"[]" && of.is("orders", 1) && !of.is("orders", 0), "{of:?}");
        assert!(read(b"").is_err());
    }
}
