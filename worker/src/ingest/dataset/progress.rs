//! How far a dataset was read: the bytes that are committed with its rows.

use engine::{
    codec::{Corrupt, Reader, put_bytes, put_i64, put_u64},
    time::Millis,
};

use super::block::Place;

/// First byte of the progress of a dataset: kind and version.
const TAG: u8 = 0x11;

/// A file, its rows before a place, and the place.
pub type At = (String, u64, Place);

/// Where a dataset stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Times that all files were read before.
    pub pass: u64,
    /// Rows that were delivered, of all passes.
    pub rows: u64,
    /// What is added to the times of this pass, once its first row was seen.
    pub shift: Option<Millis>,
    /// The file at hand and the place behind its last delivered row.
    pub file: Option<(String, Place)>,
}

impl Progress {
    /// Writes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![TAG];
        put_u64(self.pass, &mut out);
        put_u64(self.rows, &mut out);
        out.push(u8::from(self.shift.is_some()));
        put_i64(self.shift.unwrap_or(0), &mut out);
        if let Some((name, place)) = &self.file {
            put_bytes(name.as_bytes(), &mut out);
            put_u64(place.byte, &mut out);
            put_u64(place.line, &mut out);
        }
        out
    }

    /// Reads it.
    ///
    /// # Errors
    /// Where the bytes are not the progress of a dataset.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != TAG {
            return Err(Corrupt("not the progress of a dataset"));
        }
        let (pass, rows) = (reader.u64()?, reader.u64()?);
        let shifted = reader.u8()? == 1;
        let shift = reader.i64()?;
        let file = match reader.is_empty() {
            true => None,
            false => Some((reader.str()?.into(), Place { byte: reader.u64()?, line: reader.u64()? })),
        };
        Ok(Self { pass, rows, shift: shifted.then_some(shift), file })
    }
}

/// First byte of the progress of a share: kind and version.
const SHARE_TAG: u8 = 0x12;

/// How far a share of a dataset was read: everything before this place that belongs to it was delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareProgress {
    /// Rows of the share that were delivered.
    pub rows: u64,
    /// Blocks of all shares before this place: how far it is, compared with others.
    pub blocks: u64,
    /// Every row was delivered, as the files were then.
    pub done: bool,
    /// File, rows of it before this place, and the place.
    pub at: Option<At>,
}

impl ShareProgress {
    /// Writes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![SHARE_TAG];
        put_u64(self.rows, &mut out);
        put_u64(self.blocks, &mut out);
        out.push(u8::from(self.done));
        if let Some((name, row, place)) = &self.at {
            put_bytes(name.as_bytes(), &mut out);
            put_u64(*row, &mut out);
            put_u64(place.byte, &mut out);
            put_u64(place.line, &mut out);
        }
        out
    }

    /// Reads it.
    ///
    /// # Errors
    /// Where the bytes are not the progress of a share.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != SHARE_TAG {
            return Err(Corrupt("not the progress of a dataset's share"));
        }
        let (rows, blocks, done) = (reader.u64()?, reader.u64()?, reader.u8()? == 1);
        let at = match reader.is_empty() {
            true => None,
            false => {
                let (name, row) = (reader.str()?.to_owned(), reader.u64()?);
                Some((name, row, Place { byte: reader.u64()?, line: reader.u64()? }))
            }
        };
        Ok(Self { rows, blocks, done, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let file = Some(("data/a.csv".to_owned(), Place { byte: 1 << 40, line: 12 }));
        for progress in [Progress::default(), Progress { pass: 3, rows: 17, shift: Some(-5), file }] {
            assert_eq!(Progress::from_bytes(&progress.to_bytes()), Ok(progress));
        }
        let at = Some(("data/a.csv".to_owned(), 4, Place { byte: 1 << 40, line: 12 }));
        for progress in [ShareProgress::default(), ShareProgress { rows: 1, blocks: 2, done: true, at }] {
            assert_eq!(ShareProgress::from_bytes(&progress.to_bytes()), Ok(progress.clone()));
            assert!(Progress::from_bytes(&progress.to_bytes()).is_err());
        }
        assert!(Progress::from_bytes(b"").is_err() && Progress::from_bytes(b"\x12").is_err());
    }
}
